//! Connections that carry nothing: one begins and ends at rest, the other is woken before each step, and both must say the same,
//! send the same segments and be the same in every field.

use super::super::{
    Algorithm, Config, Connection, IcmpError, ListenOutcome, Listener, Options, PathInfo, Secret, SegmentIn,
    Shutdown, State,
};
use super::network::{Rng, flow, seeds};
use super::peer::segment;
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, TcpFlags, TcpOptions, Timestamps};
use std::sync::Arc;

/// The two connections and what their peer knows.
struct Pair {
    brief: Connection,
    woken: Connection,
    now: Instant,
    /// What the peer sends next, and acknowledges.
    seq: SeqNum,
    got: SeqNum,
    has_timestamps: bool,
}

const PEER_ISS: SeqNum = SeqNum(u32::MAX);

impl Pair {
    /// After an active open; the last step of the handshake may not have been sent.
    fn active(seed: u64, config: &Arc<Config>, options: Options) -> Self {
        let now = Instant::from_millis(5000);
        let flow = flow(1000, 80);
        let own = seeds(seed).seed(now, &flow);
        let open = || {
            let mut connection =
                Connection::connect(now, config, options, &flow, PathInfo::with_mss(1460), own);
            let syn = connection.poll_transmit(now, 65_000).expect("SYN");
            let mut answer = segment(&flow, PEER_ISS, own.iss + 1, TcpFlags::SYN | TcpFlags::ACK, b"");
            answer.repr.options = TcpOptions {
                mss: Some(1460),
                window_scale: syn.repr.options.window_scale,
                sack_permitted: syn.repr.options.sack_permitted,
                timestamps: syn
                    .repr
                    .options
                    .timestamps
                    .map(|ours| Timestamps { value: 100, echo: ours.value }),
                ..TcpOptions::default()
            };
            let _ = connection.on_segment(now + Duration::from_millis(20), answer);
            connection
        };
        let (brief, woken, has_timestamps) = (open(), open(), config.timestamps);
        let (seq, got) = (PEER_ISS + 1, own.iss + 1);
        Self { brief, woken, now: now + Duration::from_millis(20), seq, got, has_timestamps }
    }

    /// After a passive open. The second connection has never rested: an option that means nothing came with its last step.
    fn passive(seed: u64, config: &Arc<Config>, options: Options) -> Self {
        let now = Instant::from_millis(5000);
        let flow = flow(80, 1000);
        let open = |is_odd: bool| {
            let mut listener = Listener::new(config, options, 8, Secret([seed, 1]), seeds(seed));
            let timestamps = |value, echo| config.timestamps.then_some(Timestamps { value, echo });
            let mut syn = segment(&flow, PEER_ISS, SeqNum(0), TcpFlags::SYN, b"");
            syn.repr.options = TcpOptions {
                mss: Some(1460),
                window_scale: config.window_scaling.then_some(7),
                sack_permitted: config.sack,
                timestamps: timestamps(99, 0),
                ..TcpOptions::default()
            };
            let path = PathInfo::with_mss(1460);
            let ListenOutcome::Reply(reply) = listener.on_segment(now, &flow, path, syn) else {
                panic!("no SYN-ACK")
            };
            let iss = reply.repr.seq;
            let mut ack = segment(&flow, PEER_ISS + 1, iss + 1, TcpFlags::ACK, b"");
            ack.repr.options.timestamps =
                reply.repr.options.timestamps.map(|ours| Timestamps { value: 100, echo: ours.value });
            if is_odd {
                ack.repr.options.sack.push(SackBlock { start: iss, end: iss });
            }
            let later = now + Duration::from_millis(20);
            match listener.on_segment(later, &flow, path, ack) {
                ListenOutcome::Ready(connection) => (connection, iss),
                other => panic!("{other:?}"),
            }
        };
        let ((brief, iss), (woken, _)) = (open(false), open(true));
        let now = now + Duration::from_millis(20);
        Self { brief, woken, now, seq: PEER_ISS + 1, got: iss + 1, has_timestamps: config.timestamps }
    }

    /// Does the same to both and compares what they say.
    #[track_caller]
    fn both<T: core::fmt::Debug>(&mut self, act: impl Fn(&mut Connection, Instant) -> T) {
        self.woken.wake_for_test();
        let (one, other) = (act(&mut self.brief, self.now), act(&mut self.woken, self.now));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    /// Takes what both want to send.
    #[track_caller]
    fn drain(&mut self) {
        for _ in 0..100 {
            self.woken.wake_for_test();
            let one = self.brief.poll_transmit(self.now, 65_000);
            let other = self.woken.poll_transmit(self.now, 65_000);
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
            let Some(sent) = one else { return };
            let fin = u32::from(sent.repr.flags.contains(TcpFlags::FIN));
            self.got = (sent.repr.seq + sent.payload.len_u32() + fin).max(self.got);
            self.seq = sent.repr.ack;
        }
        panic!("it sends for ever");
    }

    #[track_caller]
    fn compare(&mut self) {
        let [one, other] = [&mut self.brief, &mut self.woken].map(Connection::awake_for_test);
        assert_eq!(one, other);
        assert_eq!(self.brief.state(), self.woken.state());
        assert_eq!(self.brief.readiness(), self.woken.readiness());
        assert_eq!(self.brief.send_room(), self.woken.send_room());
        assert_eq!(self.brief.receive_queued(), self.woken.receive_queued());
        assert_eq!(self.brief.info(self.now), self.woken.info(self.now));
    }

    /// The peer's next segment: mostly one of those that a connection without data gets.
    fn segment(&self, rng: &mut Rng) -> SegmentIn {
        let seq = match rng.below(30) {
            0 => self.seq - 1,
            1 => self.seq + 1,
            _ => self.seq,
        };
        let ack = match rng.below(30) {
            0 => self.got - 1,
            1 => self.got + 1,
            _ => self.got,
        };
        let flags = match rng.below(40) {
            0 => TcpFlags::ACK | TcpFlags::URG,
            1 => TcpFlags::ACK | TcpFlags::SYN,
            2 => TcpFlags::ACK | TcpFlags::ECE,
            3 => TcpFlags::ACK | TcpFlags::RST,
            4 => TcpFlags::RST,
            5..=15 => TcpFlags::ACK | TcpFlags::FIN,
            16 => TcpFlags::ACK | TcpFlags::PSH,
            _ => TcpFlags::ACK,
        };
        let data: &[u8] = if rng.chance(50) { b"data" } else { b"" };
        let mut segment = segment(&flow(1000, 80), seq, ack, flags, data);
        if rng.chance(100) {
            segment.repr.window = u16::try_from(rng.below(3)).unwrap();
        }
        if self.has_timestamps && rng.chance(980) {
            let value = 100_u32.wrapping_add(u32::try_from(self.now.as_millis() - 5000).unwrap());
            let value = if rng.chance(20) { value.wrapping_sub(rng.below(1000)) } else { value };
            segment.repr.options.timestamps = Some(Timestamps { value, echo: rng.below(10_000) });
        }
        segment
    }

    /// One step; the user and the peer both tend to close.
    fn step(&mut self, rng: &mut Rng) {
        match rng.below(24) {
            0 => self.both(Connection::close),
            1 => self.both(|connection, now| connection.shutdown(now, Shutdown::Write)),
            2 if rng.chance(300) => self.both(|connection, now| connection.shutdown(now, Shutdown::Both)),
            3 if rng.chance(300) => self.both(|connection, now| connection.shutdown(now, Shutdown::Read)),
            4 if rng.chance(200) => self.both(Connection::abort),
            5 if rng.chance(300) => self.both(|connection, now| connection.send(now, b"hello")),
            6 => self.both(|connection, now| connection.recv(now, &mut [0; 8])),
            7 if rng.chance(200) => self.both(|connection, now| connection.on_pmtu(now, 1000, None)),
            8 if rng.chance(300) => {
                let quoted = self.got - rng.below(3);
                self.both(|connection, now| {
                    connection.on_icmp_error(now, IcmpError::HostUnreachable, quoted)
                });
            }
            9 if rng.chance(200) => self.both(|connection, now| {
                let options = Options { keepalive: true, ..*connection.options() };
                connection.set_options(now, options);
            }),
            10 => self.both(|connection, _| connection.take_error()),
            11 if rng.chance(200) => {
                // Whatever is due, or nothing.
                if let Some(at) = self.brief.next_deadline() {
                    self.now = self.now.max(at);
                }
                self.both(Connection::on_timer);
            }
            12..=15 => self.now += Duration::from_micros(u64::from(rng.below(40_000))),
            _ => {
                let segment = self.segment(rng);
                self.both(|connection, now| connection.on_segment(now, segment.clone()));
            }
        }
        if rng.chance(900) {
            self.drain();
        }
    }
}

/// How the connection ended, and whether it rested until then.
fn run(seed: u64, config: &Arc<Config>, options: Options) -> (State, bool) {
    let mut rng = Rng::new(seed);
    let mut pair = match seed % 2 {
        0 => Pair::active(seed, config, options),
        _ => Pair::passive(seed, config, options),
    };
    let mut has_rested = true;
    for step in 0..40 {
        pair.compare();
        if pair.brief.state() == State::Closed || pair.brief.state() == State::TimeWait {
            break;
        }
        has_rested = format!("{:?}", pair.brief).contains("Resting");
        // A connection that did not rest here is compared in other tests.
        if !has_rested && step > 20 {
            break;
        }
        pair.step(&mut rng);
    }
    (pair.brief.state(), has_rested)
}

#[test]
fn brief_connections_are_what_they_would_be_awake() {
    let configs = [
        Config::default(),
        Config { timestamps: false, ..Config::default() },
        Config { timestamps: false, sack: false, window_scaling: false, ..Config::default() },
        Config { tail_loss_probe: false, fin_timeout: Duration::from_secs(5), ..Config::default() },
    ];
    let configs = configs.map(Arc::new);
    let (mut time_waits, mut closed) = (0, 0);
    for (seed, config) in (0..).zip(configs.iter().cycle()).take(4000) {
        let options = Options {
            keepalive: seed % 7 == 0,
            congestion: (seed % 5 == 0).then(|| Algorithm::ALL[(seed / 5) as usize % Algorithm::ALL.len()]),
            ..Options::default()
        };
        let (state, has_rested) = run(seed, config, options);
        time_waits += u32::from(has_rested && state == State::TimeWait);
        closed += u32::from(has_rested && state == State::Closed);
    }
    assert!(time_waits > 100 && closed > 100, "hardly any ended at rest: {time_waits} and {closed}");
}

#[test]
fn fin_is_repeated_by_the_machine_that_wakes() {
    let config = Arc::new(Config::default());
    let mut pair = Pair::active(1, &config, Options::default());
    pair.drain();
    pair.both(Connection::close);
    pair.drain();
    assert!(format!("{:?}", pair.brief).contains("Resting"));
    let mut fins = 0;
    while pair.brief.state() != State::Closed {
        pair.now = pair.brief.next_deadline().expect("it waits for an answer");
        let _ = pair.brief.on_timer(pair.now);
        while let Some(sent) = pair.brief.poll_transmit(pair.now, 65_000) {
            fins += u32::from(sent.repr.flags.contains(TcpFlags::FIN));
        }
    }
    assert!(fins >= 5, "{fins}");
}
