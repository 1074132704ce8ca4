//! Measures the TCP machine alone: two connections back to back in one thread, without packets, checksums or locks.
//!
//! `cargo run --release -p netstack --example tcp_machine [bulk|small|rr|connect|idle|listen]`

use netstack::tcp::{
    Config, Connection, Flow, ListenOutcome, Listener, Options, PathInfo, Payload, Secret, SeedGenerator,
    SegmentIn, Shutdown, State, Transmit,
};
use netstack::time::Instant;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|arg| arg == name);
    if wants("bulk") {
        bulk("bulk, 64 KiB super-segments", Cut::Whole, 65_000);
    }
    if wants("small") {
        bulk("bulk, 1448 B segments", Cut::Wire, 65_000);
        bulk("bulk, 1448 B segments polled singly", Cut::Wire, 1448);
    }
    if wants("rr") {
        request_response();
    }
    if wants("connect") {
        connect_close();
    }
    if wants("listen") {
        syn_cookies();
    }
    if wants("idle") {
        idle();
    }
}

/// How transmissions reach the peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Whole,
    Wire,
}

/// A clock that can be asked often: real time since the start.
struct Clock(std::time::Instant);

impl Clock {
    fn now(&self) -> Instant {
        let nanos = u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(nanos + 1_000_000_000)
    }
}

fn flow(local_port: u16, remote_port: u16) -> Flow {
    let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Flow { local_addr: addr, remote_addr: addr, local_port, remote_port, zone: 0 }
}

fn deliver(transmit: Transmit, cut: Cut, mut to: impl FnMut(SegmentIn)) {
    let Transmit { repr, payload, gso_size, ecn: _ } = transmit;
    let Some(size) = gso_size.map(|size| usize::from(size.get())) else {
        return to(SegmentIn::new(repr, payload));
    };
    let count = payload.len().div_ceil(size);
    if cut == Cut::Whole {
        let mut segment = SegmentIn::new(repr, payload);
        segment.merged = u16::try_from(count).unwrap_or(u16::MAX);
        return to(segment);
    }
    for i in 0..count {
        let mut piece: Payload = payload.clone();
        piece.truncate((i + 1) * size);
        piece.advance(i * size);
        let mut header = repr;
        header.seq += u32::try_from(i * size).unwrap_or(0);
        to(SegmentIn::new(header, piece));
    }
}

struct Pair {
    a: Connection,
    b: Connection,
    clock: Clock,
}

impl Pair {
    fn new() -> Self {
        let clock = Clock(std::time::Instant::now());
        let config = Arc::new(Config::default());
        let mut listener = Listener::new(
            &config,
            Options::default(),
            16,
            Secret([1, 2]),
            SeedGenerator::new(Secret([3, 4])),
        );
        let (a, b) = handshake(&config, &mut listener, clock.now(), 40_000);
        Self { a, b, clock }
    }

    /// Carries what both have until neither has anything.
    fn exchange(&mut self, cut: Cut, max_payload: u32) {
        loop {
            let mut moved = false;
            let now = self.clock.now();
            while let Some(transmit) = self.a.poll_transmit(now, max_payload) {
                moved = true;
                deliver(transmit, cut, |segment| {
                    let _ = self.b.on_segment(now, segment);
                });
            }
            while let Some(transmit) = self.b.poll_transmit(now, max_payload) {
                moved = true;
                deliver(transmit, cut, |segment| {
                    let _ = self.a.on_segment(now, segment);
                });
            }
            if !moved {
                return;
            }
        }
    }
}

fn handshake(
    config: &Arc<Config>,
    listener: &mut Listener,
    now: Instant,
    port: u16,
) -> (Connection, Connection) {
    let path = PathInfo::with_mss(1460);
    let flows = [flow(port, 80), flow(80, port)];
    let seed = SeedGenerator::new(Secret([5, 6])).seed(now, &flows[0]);
    let mut client = Connection::connect(now, config, Options::default(), &flows[0], path, seed);
    let mut server = None;
    while server.is_none() {
        while let Some(transmit) = client.poll_transmit(now, 65_000) {
            let segment = SegmentIn::new(transmit.repr, transmit.payload);
            match listener.on_segment(now, &flows[1], path, segment) {
                ListenOutcome::Reply(reply) | ListenOutcome::Cookie(reply) => {
                    let _ = client.on_segment(now, SegmentIn::new(reply.repr, reply.payload));
                }
                ListenOutcome::Ready(connection) => {
                    listener.on_accepted();
                    server = Some(connection);
                }
                other => panic!("handshake: {other:?}"),
            }
        }
    }
    (client, server.expect("the loop ends with one"))
}

fn bulk(name: &str, cut: Cut, max_payload: u32) {
    let mut pair = Pair::new();
    let data = vec![7_u8; 256 << 10];
    let mut buf = vec![0_u8; 256 << 10];
    let mut best = 0.0_f64;
    let mut rates = Vec::new();
    for _ in 0..9 {
        let start = std::time::Instant::now();
        let mut total = 0_usize;
        while start.elapsed() < Duration::from_millis(300) {
            let now = pair.clock.now();
            let _ = pair.a.send(now, &data);
            pair.exchange(cut, max_payload);
            let now = pair.clock.now();
            while let Ok(count) = pair.b.recv(now, &mut buf) {
                total += count;
            }
        }
        let rate = total as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9;
        best = best.max(rate);
        rates.push(rate);
    }
    rates.sort_by(f64::total_cmp);
    let info = pair.a.info(pair.clock.now()).expect("open");
    println!(
        "{name}: median {:.1} best {best:.1} Gbit/s (cwnd {} window {} queued {} retransmits {})",
        rates[rates.len() / 2],
        info.cwnd,
        info.snd_wnd,
        info.send_queued,
        info.total_retransmits
    );
}

fn request_response() {
    let mut pair = Pair::new();
    let mut buf = [0; 64];
    let start = std::time::Instant::now();
    let rounds = 1_000_000;
    for _ in 0..rounds {
        let now = pair.clock.now();
        let _ = pair.a.send(now, b"?");
        pair.exchange(Cut::Whole, 65_000);
        let _ = pair.b.recv(now, &mut buf);
        let _ = pair.b.send(now, b"!");
        pair.exchange(Cut::Whole, 65_000);
        let _ = pair.a.recv(now, &mut buf);
    }
    println!("request/response: {:.0} per second", f64::from(rounds) / start.elapsed().as_secs_f64());
}

fn connect_close() {
    let config = Arc::new(Config::default());
    let seeds = SeedGenerator::new(Secret([3, 4]));
    let mut listener = Listener::new(&config, Options::default(), 16, Secret([1, 2]), seeds);
    let clock = Clock(std::time::Instant::now());
    let start = std::time::Instant::now();
    let rounds = 300_000_u32;
    for i in 0..rounds {
        let port = u16::try_from(i % 50_000).unwrap_or(0) + 1;
        let (a, b) = handshake(&config, &mut listener, clock.now(), port);
        let mut pair = Pair { a, b, clock: Clock(clock.0) };
        let _ = pair.a.shutdown(clock.now(), Shutdown::Write);
        pair.exchange(Cut::Whole, 65_000);
        let _ = pair.b.close(clock.now());
        pair.exchange(Cut::Whole, 65_000);
        assert_eq!((pair.a.state(), pair.b.state()), (State::TimeWait, State::Closed));
    }
    println!("connect+close: {:.0} per second", f64::from(rounds) / start.elapsed().as_secs_f64());
}

fn syn_cookies() {
    let config = Arc::new(Config { syn_cookies: netstack::tcp::SynCookies::Always, ..Config::default() });
    let seeds = SeedGenerator::new(Secret([3, 4]));
    let mut listener = Listener::new(&config, Options::default(), 16, Secret([1, 2]), seeds);
    let clock = Clock(std::time::Instant::now());
    let path = PathInfo::with_mss(1460);
    let syn_flow = flow(1, 80);
    let seed = SeedGenerator::new(Secret([5, 6])).seed(clock.now(), &syn_flow);
    let mut client = Connection::connect(clock.now(), &config, Options::default(), &syn_flow, path, seed);
    let syn = client.poll_transmit(clock.now(), 0).expect("a SYN");
    let start = std::time::Instant::now();
    let rounds = 2_000_000_u32;
    for i in 0..rounds {
        let from = flow(80, u16::try_from(i % 65_000).unwrap_or(0));
        let segment = SegmentIn::new(syn.repr, Payload::new());
        let outcome = listener.on_segment(clock.now(), &from, path, segment);
        assert!(matches!(outcome, ListenOutcome::Cookie(_)));
    }
    println!(
        "SYNs answered with cookies: {:.0} per second",
        f64::from(rounds) / start.elapsed().as_secs_f64()
    );
}

/// Resident memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4096
}

fn idle() {
    let config = Arc::new(Config::default());
    let seeds = SeedGenerator::new(Secret([3, 4]));
    let mut listener = Listener::new(&config, Options::default(), 16, Secret([1, 2]), seeds);
    let clock = Clock(std::time::Instant::now());
    let before = resident();
    let start = std::time::Instant::now();
    let count = 50_000_usize;
    let mut held = Vec::with_capacity(2 * count);
    for i in 0..count {
        let (a, b) = handshake(&config, &mut listener, clock.now(), u16::try_from(i).unwrap_or(0));
        let mut pair = Pair { a, b, clock: Clock(clock.0) };
        let mut buf = [0; 64];
        let _ = pair.a.send(clock.now(), b"hello");
        pair.exchange(Cut::Whole, 65_000);
        let _ = pair.b.recv(clock.now(), &mut buf);
        pair.exchange(Cut::Whole, 65_000);
        // As if a while had passed.
        let later = clock.now() + Duration::from_secs(3);
        let _ = pair.a.on_timer(later);
        let _ = pair.b.on_timer(later);
        held.push(Box::new(pair.a));
        held.push(Box::new(pair.b));
    }
    let each = (resident() - before) / held.len();
    println!(
        "idle connections: {} B each after one exchange ({} opened in {:.2} s)",
        each,
        held.len(),
        start.elapsed().as_secs_f64()
    );
}
