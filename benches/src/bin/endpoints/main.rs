//! What many endpoints cost, in memory and on one thread: streams side by side, idle connections, opening them, and SYN
//! floods (rows 15 to 20 of the table in docs/performance.md).
//!
//! Two stacks exchange frames as two devices would: cut to the MTU, one buffer a frame, checksums on. Ratios are taken in
//! turns within one run, and time is the thread's processor time, so that a busy machine measures the same.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use netstack::MacAddr;
use netstack::packet::Packet;
use netstack::wire::seq::SeqNum;
use netstack::wire::tcp::{TcpFlags, TcpOptions, TcpRepr};
use netstack_sim::forge;
use nix::time::ClockId;

mod pair;

use pair::Pair;

fn main() {
    let filter = std::env::args().nth(1);
    let rows: [(&str, fn()); 5] =
        [("streams", streams), ("idle", idle), ("open", open), ("flood", flood), ("cookies", cookies)];
    for (name, row) in rows {
        if filter.as_deref().is_none_or(|filter| name.contains(filter)) {
            row();
        }
    }
}

/// Row 15: the sum of 64 streams against one.
fn streams() {
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let one = Pair::new().bulk(1);
        let many = Pair::new().bulk(64);
        println!("15 streams: 1: {one:.2} Gbit/s, 64: {many:.2} Gbit/s");
        ratios.push(many / one);
    }
    println!("15 streams: ratio {:.2}", median(ratios));
}

/// Rows 16 to 18: opening connections, what they take, and what they cost the busy one.
fn idle() {
    let mut pair = Pair::new();
    let busy = pair.connect(80);
    let before = resident_bytes();
    let mut ratios = Vec::new();
    let alone = (0..ROUNDS).map(|_| pair.round_trips(&busy)).collect();
    let alone = median(alone);
    let held = pair.open(IDLE);
    pair.pass(Duration::from_secs(5));
    let grown = resident_bytes().saturating_sub(before);
    for _ in 0..ROUNDS {
        ratios.push(pair.round_trips(&busy) / alone);
    }
    println!("16 round trips: {alone:.0}/s alone; beside {IDLE} idle connections x {:.2}", median(ratios));
    println!("18 memory: {} bytes for each of {} idle endpoints", grown / (2 * IDLE), 2 * IDLE);
    let gauges = pair.hosts[1].stack.gauges();
    println!("18 memory: gauges {gauges:?}");
    drop(held);
}

/// Row 17.
fn open() {
    for count in [10_000, 100_000] {
        let mut pair = Pair::new();
        let start = Stopwatch::start();
        let held = pair.open(count);
        println!("17 open: {count} connections in {:.2} s", start.elapsed().as_secs_f64());
        drop(held);
    }
}

/// Row 19: connections of real clients beside SYNs from everywhere.
fn flood() {
    for rate in [100_000, 250_000] {
        let (mut ratios, mut grown) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            let alone = Pair::new().connections_beside(0);
            let mut pair = Pair::new();
            let before = resident_bytes();
            ratios.push(pair.connections_beside(rate) / alone);
            grown = grown.max(resident_bytes().saturating_sub(before));
        }
        println!("19 flood: {rate} SYNs/s: x {:.2}, {} KiB more", median(ratios), grown >> 10);
    }
}

/// Row 20: SYNs answered with cookies, frames in and frames out.
fn cookies() {
    let pair = Pair::new();
    let victim = &pair.hosts[1];
    let mut random = Random(1);
    let syns: Vec<_> = (0..1 << 16).map(|_| random.syn()).collect();
    let (mut count, start) = (0_u32, Stopwatch::start());
    let mut frames = Vec::new();
    let mut answers = Vec::new();
    while start.elapsed() < RUN * 2 {
        for batch in syns.chunks(64) {
            frames.extend(batch.iter().map(|syn| Packet::from_frame(syn.clone())));
            victim.stack.deliver(victim.nic, &mut frames);
            victim.link.take_into(&mut answers);
            answers.clear();
        }
        count += 1 << 16;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    let stats = victim.stack.stats();
    println!("20 cookies: {:.2}M SYNs/s ({} cookies of {count})", rate / 1e6, stats.tcp_cookies_sent);
}

/// Processor time of this thread.
struct Stopwatch(Duration);

impl Stopwatch {
    fn start() -> Self {
        Self(Self::now())
    }

    fn elapsed(&self) -> Duration {
        Self::now() - self.0
    }

    fn now() -> Duration {
        let time = nix::time::clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
        Duration::from(time.expect("every thread has this clock"))
    }
}

/// SYNs from all over the internet.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }

    fn syn(&mut self) -> bytes::Bytes {
        let [_, _, a, b, c, d, e, f] = self.next().to_be_bytes();
        let source = SocketAddr::new(Ipv4Addr::new(44, a, b, c).into(), u16::from_be_bytes([d, e]) | 1);
        let options = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            ..TcpOptions::default()
        };
        let seq = SeqNum(u32::from_be_bytes([f, e, d, c]));
        let repr = TcpRepr { seq, flags: TcpFlags::SYN, window: 64_240, options, ..TcpRepr::default() };
        forge::tcp((MacAddr([2, 9, 9, 9, 9, 9]), pair::mac(2)), (source, pair::address(2, 80)), &repr, b"")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

const IDLE: usize = 100_000;
const ROUNDS: usize = 3;
const RUN: Duration = Duration::from_millis(500);
