//! Transfers over bad networks: every byte arrives once and in order, both ends close, and nothing stays behind.

use super::super::{Algorithm, CloseReason, Config, EcnMode, Options, RecvError, SendError, Shutdown, State};
use super::network::{Link, Network, stream_byte};
use core::time::Duration;
use std::sync::Arc;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::NewReno, Algorithm::Cubic, Algorithm::Bbr];

/// One direction of a transfer as its applications see it.
#[derive(Debug, Default)]
struct Stream {
    total: usize,
    written: usize,
    read: usize,
    is_shut: bool,
    is_ended: bool,
}

impl Stream {
    fn new(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    fn is_done(&self) -> bool {
        self.is_ended && self.read == self.total
    }
}

/// Lets the application at `end` write and read a little.
fn run_app(network: &mut Network, end: usize, streams: &mut [Stream; 2], lazy: u32) {
    if network.rng.chance(lazy) {
        return;
    }
    let chunk = 1 + usize::try_from(network.rng.below(40_000)).unwrap();
    let now = network.now;
    let Some(connection) = &mut network.ends[end].connection else { return };
    let outgoing = &mut streams[end];
    if outgoing.written < outgoing.total {
        let len = chunk.min(outgoing.total - outgoing.written);
        let data: Vec<u8> = (outgoing.written..outgoing.written + len).map(stream_byte).collect();
        let result = if chunk % 3 == 0 {
            connection.send_bytes(now, &data.into())
        } else {
            connection.send(now, &data)
        };
        match result {
            Ok(count) => outgoing.written += count,
            Err(SendError::WouldBlock) => {}
            Err(error) => panic!("send: {error} in {:?}", connection.state()),
        }
    } else if !outgoing.is_shut && connection.state() != State::SynSent {
        let _ = connection.shutdown(now, Shutdown::Write).expect("connected");
        outgoing.is_shut = true;
    }
    let incoming = &mut streams[1 - end];
    while !incoming.is_ended {
        let mut buf = vec![0; chunk];
        match connection.recv(now, &mut buf) {
            Ok(0) => incoming.is_ended = true,
            Ok(count) => {
                for (i, byte) in buf[..count].iter().enumerate() {
                    assert_eq!(*byte, stream_byte(incoming.read + i), "byte {}", incoming.read + i);
                }
                incoming.read += count;
            }
            Err(RecvError::WouldBlock) => break,
            Err(error) => panic!("recv: {error} in {:?}", connection.state()),
        }
        if chunk % 7 == 0 {
            break;
        }
    }
}

/// Carries both streams to their ends and both connections to CLOSED.
fn run(network: &mut Network, mut streams: [Stream; 2], lazy: u32) {
    let (mut steps, mut silence) = (0_u64, 0);
    while !streams.iter().all(Stream::is_done) {
        for end in 0..2 {
            run_app(network, end, &mut streams, lazy);
        }
        // The applications may be lazy, or read but a little, several times in a row; nothing else stops a transfer.
        silence = if network.step() { 0 } else { silence + 1 };
        assert!(silence < 100, "the transfer is stuck: {streams:?}");
        steps += 1;
        assert!(steps < 2_000_000, "too many steps: {streams:?}, {:?}", network.now);
    }
    for end in 0..2 {
        let now = network.now;
        let _ = network.ends[end].connection.as_mut().unwrap().close(now);
    }
    while network.step() {}
    for (end, other) in [(0, 1), (1, 0)].map(|(end, other)| (&network.ends[end], &network.ends[other])) {
        let connection = end.connection.as_ref().unwrap();
        assert_eq!(connection.state(), State::Closed);
        // If all acknowledgments of a FIN are lost until its repetitions are further apart than TIME-WAIT lasts (as with
        // Linux, whose RTO_MAX is twice its TIME-WAIT), the next one finds nobody and is answered with a reset: RFC 9293
        // section 3.10.7.4 has LAST-ACK enter CLOSED then. Both streams have arrived whole.
        let is_orphaned = other.resets_when_closed > 0;
        let reason = connection.close_reason();
        assert!(reason == Some(CloseReason::Done) || is_orphaned && reason.is_some(), "{reason:?}");
        assert_eq!(connection.next_deadline(), None);
        assert_eq!(end.resets, 0);
    }
    assert!(network.is_quiet());
}

/// Settings that depend on the seed only.
fn random_setup(seed: u64) -> (Network, [Stream; 2], u32) {
    let mut rng = super::network::Rng::new(seed ^ 0xabcd);
    let mut config = |_: usize| {
        let mut config = Config {
            sack: !rng.chance(200),
            timestamps: !rng.chance(300),
            window_scaling: !rng.chance(200),
            rack: !rng.chance(200),
            frto: !rng.chance(300),
            tail_loss_probe: !rng.chance(300),
            dsack: !rng.chance(300),
            // A tenth of the segments lost each way may take more than eight attempts.
            orphan_retries: 12,
            congestion: ALGORITHMS[usize::try_from(rng.below(3)).unwrap()],
            ecn: if rng.chance(500) { EcnMode::On } else { EcnMode::Off },
            ..Config::default()
        };
        if rng.chance(300) {
            config.receive_buffer.default = 4096 + rng.below(60_000);
            config.receive_buffer.max = config.receive_buffer.default;
        }
        Arc::new(config)
    };
    let configs = [config(0), config(1)];
    let options = [0, 1].map(|_| Options { no_delay: rng.chance(500), ..Options::default() });
    let link = Link {
        delay: Duration::from_micros(u64::from(1 + rng.below(40_000))),
        jitter: Duration::from_micros(u64::from(rng.below(10_000))),
        loss: [0, 5, 50, 100][usize::try_from(rng.below(4)).unwrap()],
        duplicate: [0, 0, 50][usize::try_from(rng.below(3)).unwrap()],
        late: [0, 0, 50][usize::try_from(rng.below(3)).unwrap()],
        rate: [0, 0, 1_000_000][usize::try_from(rng.below(3)).unwrap()],
        queue: Duration::from_millis(u64::from(20 + rng.below(200))),
        keeps_super_segments: rng.chance(300),
        mark: [0, 0, 50][usize::try_from(rng.below(3)).unwrap()],
    };
    let mss = u16::try_from(100 + rng.below(1400)).unwrap();
    let size = |rng: &mut super::network::Rng| {
        let log = 4 + rng.below(14);
        usize::try_from(rng.below(1 << log)).unwrap()
    };
    let streams = [Stream::new(size(&mut rng)), Stream::new(size(&mut rng))];
    let lazy = [0, 0, 500][usize::try_from(rng.below(3)).unwrap()];
    let mut network = Network::new(seed, link, [&configs[0], &configs[1]], options, mss);
    if rng.chance(300) {
        network.max_payload = 3 * u32::from(mss);
    }
    (network, streams, lazy)
}

#[test]
fn every_byte_arrives_once_in_order_on_bad_networks() {
    let count = std::env::var("TCP_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(3000);
    let first = std::env::var("TCP_FIRST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + count {
        let result = std::panic::catch_unwind(|| {
            let (mut network, streams, lazy) = random_setup(seed);
            run(&mut network, streams, lazy);
        });
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Moves `total` bytes one way and returns how long that took.
fn one_way(config: &Config, link: Link, total: usize) -> (Duration, Network) {
    let config = Arc::new(config.clone());
    let mut network = Network::new(7, link, [&config, &config], [Options::default(); 2], 1460);
    network.establish();
    let start = network.now;
    let data: Vec<u8> = (0..total).map(stream_byte).collect();
    let (mut written, mut read) = (0, 0);
    let mut buf = vec![0; 1 << 20];
    let mut steps = 0_u64;
    while read < total {
        let now = network.now;
        while let Ok(count) = network.client().send(now, &data[written..])
            && count > 0
        {
            written += count;
        }
        while let Ok(count) = network.server().recv(now, &mut buf) {
            assert!(count > 0 && buf[..count] == data[read..read + count], "byte {read} on");
            read += count;
        }
        assert!(network.step() || read == total, "stuck at {read}");
        steps += 1;
        assert!(steps < 3_000_000);
    }
    (network.now - start, network)
}

#[test]
fn clean_path_is_filled() {
    let rate = 12_500_000;
    let link = Link { rate, queue: Duration::from_millis(40), ..Link::ideal(Duration::from_millis(10)) };
    let total = 10_000_000;
    for algorithm in ALGORITHMS {
        let config = Config { congestion: algorithm, ..Config::default() };
        let (took, network) = one_way(&config, link, total);
        let ideal = Duration::from_secs_f64(total as f64 / rate as f64);
        assert!(took < ideal.mul_f64(1.4), "{algorithm:?} took {took:?}, the link needs {ideal:?}");
        let info = network.ends[0].connection.as_ref().unwrap().info(network.now).unwrap();
        // NewReno leaves slow start by a loss only: a queue's worth is gone by then.
        assert!(info.total_retransmits < 600, "{algorithm:?}: {}", info.total_retransmits);
    }
}

/// A queue of half a round trip: slow start overshoots once, and neither the end of its repair nor what the application
/// then writes at once overflows the queue again.
#[test]
fn shallow_queue_overflows_once() {
    let rate = 62_500_000;
    let link = Link { rate, queue: Duration::from_millis(12), ..Link::ideal(Duration::from_millis(10)) };
    let total = 40_000_000;
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let config = Config { congestion: algorithm, ..Config::default() };
        let (took, network) = one_way(&config, link, total);
        let ideal = Duration::from_secs_f64(total as f64 / rate as f64);
        assert!(took < ideal.mul_f64(1.35), "{algorithm:?} took {took:?}, the link needs {ideal:?}");
        let info = network.ends[0].connection.as_ref().unwrap().info(network.now).unwrap();
        assert!(info.total_retransmits < 1500, "{algorithm:?}: {}", info.total_retransmits);
    }
}

/// One segment in a hundred is lost, without congestion: BBR fills most of the path, where the others get a tenth.
#[test]
fn bbr_does_not_mind_random_loss() {
    let rate = 12_500_000;
    let queue = Duration::from_millis(40);
    let link = Link { rate, queue, loss: 10, ..Link::ideal(Duration::from_millis(10)) };
    let total = 10_000_000;
    let config = Config { congestion: Algorithm::Bbr, ..Config::default() };
    let (took, network) = one_way(&config, link, total);
    let ideal = Duration::from_secs_f64(total as f64 / rate as f64);
    assert!(took < ideal.mul_f64(1.5), "took {took:?}, the link needs {ideal:?}");
    let info = network.ends[0].connection.as_ref().unwrap().info(network.now).unwrap();
    let lost = network.ends[0].sent_segments / 100;
    // STARTUP, which losses do not end, overflows the queue by half of what the path holds.
    let overflow = rate * 20 / 1000 / 1460 / 2;
    assert!(
        info.total_retransmits < lost * 2 + overflow,
        "{} for {lost} losses and {overflow}",
        info.total_retransmits
    );
    let pacing = info.pacing_rate.unwrap();
    assert!((rate * 7 / 10..=rate * 14 / 10).contains(&pacing), "{pacing}");
}

/// `SO_MAX_PACING_RATE` holds whatever the algorithm: 2 MB take two seconds at 1 MB/s.
#[test]
fn pacing_limit_is_kept() {
    for algorithm in ALGORITHMS {
        let config = Arc::new(Config { congestion: algorithm, ..Config::default() });
        let options = Options { max_pacing_rate: Some(1_000_000), ..Options::default() };
        let link = Link::ideal(Duration::from_micros(500));
        let mut network = Network::new(7, link, [&config, &config], [options, Options::default()], 1460);
        network.establish();
        let mut read = 0;
        let mut buf = vec![0; 1 << 20];
        let start = network.now;
        while network.now - start < Duration::from_secs(2) {
            let now = network.now;
            while network.client().send(now, &[7; 50_000]).is_ok_and(|count| count > 0) {}
            while let Ok(count) = network.server().recv(now, &mut buf) {
                read += count;
            }
            assert!(network.step());
        }
        assert!((1_900_000..2_050_000).contains(&read), "{algorithm:?}: {read}");
    }
}

/// No timeouts where SACK, RACK and the tail loss probe can do without: 1 % loss, 20 ms.
#[test]
fn random_loss_is_recovered_without_timeouts() {
    let link = Link { loss: 10, ..Link::ideal(Duration::from_millis(10)) };
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let config = Config { congestion: algorithm, ..Config::default() };
        let (took, network) = one_way(&config, link, 4_000_000);
        // Mathis: MSS / RTT * 1.22 / sqrt(0.01) = 880 kB/s; anything near that took no timeouts.
        assert!(took < Duration::from_secs(9), "{algorithm:?}: {took:?}");
        let info = network.ends[0].connection.as_ref().unwrap().info(network.now).unwrap();
        let lost = network.ends[0].sent_segments / 100;
        assert!(info.total_retransmits < lost * 2 + 10, "{algorithm:?}: {}", info.total_retransmits);
    }
}

#[test]
fn reordering_alone_causes_few_retransmissions() {
    let link = Link { jitter: Duration::from_millis(4), ..Link::ideal(Duration::from_millis(20)) };
    let (_, network) = one_way(&Config::default(), link, 3_000_000);
    let info = network.ends[0].connection.as_ref().unwrap().info(network.now).unwrap();
    let sent = network.ends[0].sent_segments;
    assert!(info.total_retransmits * 20 < sent, "{} of {sent}", info.total_retransmits);
}
