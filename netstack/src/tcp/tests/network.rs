//! Two ends and a network between them, in virtual time. Everything follows from the seed.

use super::super::{
    Config, Connection, Flow, ListenOutcome, Listener, Options, PathInfo, Payload, Secret, SeedGenerator,
    SegmentIn, State, Transmit, reset_reply,
};
use crate::time::Instant;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{MAX_HEADER_LEN, TcpFlags, TcpRepr, TcpView};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A small generator (xorshift64*): good enough to choose losses.
#[derive(Clone, Debug)]
pub(in crate::tcp) struct Rng(u64);

impl Rng {
    pub(in crate::tcp) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(in crate::tcp) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        u32::try_from(high % u64::from(bound.max(1))).unwrap()
    }

    /// True in `per_mille` of a thousand cases.
    pub(in crate::tcp) fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille
    }
}

/// How the network treats segments. Chances are per mille.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) loss: u32,
    pub(super) duplicate: u32,
    /// Chance of an extra delay of several round trips.
    pub(super) late: u32,
    /// Bytes per second, or 0 for no limit; what would wait longer than `queue` is dropped.
    pub(super) rate: u64,
    pub(super) queue: Duration,
    /// Whether super-segments stay whole (as with GSO and GRO) or are cut.
    pub(super) keeps_super_segments: bool,
    /// Corrupts ECN-capable segments to CE with this chance.
    pub(super) mark: u32,
}

impl Link {
    pub(super) fn ideal(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            late: 0,
            rate: 0,
            queue: Duration::from_millis(100),
            keeps_super_segments: false,
            mark: 0,
        }
    }
}

/// One end: a connection, or a listener until it has one.
pub(super) struct End {
    pub(super) connection: Option<Connection>,
    pub(super) listener: Option<Listener>,
    pub(super) flow: Flow,
    pub(super) path: PathInfo,
    pub(super) sent_segments: u64,
    pub(super) resets: u64,
    /// Answers to segments that came after the end.
    pub(super) resets_when_closed: u64,
}

/// The two ends, the segments on their way, and the clock.
pub(super) struct Network {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) link: Link,
    pub(super) ends: [End; 2],
    on_the_way: BTreeMap<(Instant, u64), (usize, SegmentIn)>,
    order: u64,
    /// When the link of each direction is free again.
    busy_until: [Instant; 2],
    pub(super) max_payload: u32,
    pub(super) steps: u64,
    /// Idle ends rest soon rather than after a while.
    pub(super) always_rest: bool,
}

pub(super) fn flow(local_port: u16, remote_port: u16) -> Flow {
    let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Flow { local_addr: addr, remote_addr: addr, local_port, remote_port, zone: 0 }
}

pub(super) fn seeds(key: u64) -> SeedGenerator {
    SeedGenerator::new(Secret([key, !key]))
}

impl Network {
    /// End 0 connects to end 1, which listens.
    pub(super) fn new(
        seed: u64,
        link: Link,
        configs: [&Arc<Config>; 2],
        options: [Options; 2],
        mss: u16,
    ) -> Self {
        let now = Instant::from_millis(1_000_000 + seed);
        let path = PathInfo::with_mss(mss);
        let flows = [flow(40_000, 80), flow(80, 40_000)];
        let client_seed = seeds(seed).seed(now, &flows[0]);
        let client = Connection::connect(now, configs[0], options[0], &flows[0], path, client_seed);
        let listener = Listener::new(configs[1], options[1], 8, Secret([seed, 5]), seeds(seed ^ 77));
        let end = |connection, listener, flow| End {
            connection,
            listener,
            flow,
            path,
            sent_segments: 0,
            resets: 0,
            resets_when_closed: 0,
        };
        Self {
            now,
            rng: Rng::new(seed),
            link,
            ends: [end(Some(client), None, flows[0]), end(None, Some(listener), flows[1])],
            on_the_way: BTreeMap::new(),
            order: 0,
            busy_until: [now; 2],
            max_payload: 65_000,
            steps: 0,
            always_rest: true,
        }
    }

    pub(super) fn client(&mut self) -> &mut Connection {
        self.ends[0].connection.as_mut().expect("the client exists from the start")
    }

    pub(super) fn server(&mut self) -> &mut Connection {
        self.ends[1].connection.as_mut().expect("the handshake is complete")
    }

    /// Runs until the handshake is complete at both ends.
    #[track_caller]
    pub(super) fn establish(&mut self) {
        while self.ends[1].connection.is_none() || self.client().state() != State::Established {
            assert!(self.step(), "no event left before the handshake was complete");
            assert_ne!(self.client().state(), State::Closed);
        }
    }

    /// Sends what the ends have, then moves to the next event and runs it. False when nothing is left to happen.
    pub(super) fn step(&mut self) -> bool {
        self.flush(0);
        self.flush(1);
        self.steps += 1;
        let arrival = self.on_the_way.keys().next().map(|(at, _)| *at);
        let deadlines = [0, 1].map(|end| self.deadline(end));
        let Some(next) = deadlines.into_iter().chain([arrival]).flatten().min() else { return false };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let (_, (to, segment)) = self.on_the_way.pop_first().expect("looked at above");
            self.deliver(to, segment);
        }
        for end in 0..2 {
            self.run_timers(end);
        }
        true
    }

    /// Runs for a span of virtual time.
    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.flush(0);
            self.flush(1);
            let arrival = self.on_the_way.keys().next().map(|(at, _)| *at);
            let next = [self.deadline(0), self.deadline(1), arrival].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => self.step(),
                _ => break,
            };
        }
        self.now = end;
    }

    /// The next segment to arrive: where, its sequence number and acknowledgment.
    pub(super) fn peek(&self) -> Option<(usize, SeqNum, SeqNum)> {
        let (to, segment) = self.on_the_way.values().next()?;
        Some((*to, segment.repr.seq, segment.repr.ack))
    }

    /// Holds everything that is on its way back for `span`.
    pub(super) fn stall(&mut self, span: Duration) {
        let held = core::mem::take(&mut self.on_the_way);
        self.on_the_way = held.into_iter().map(|((at, order), item)| ((at + span, order), item)).collect();
        self.busy_until = self.busy_until.map(|at| at.max(self.now) + span);
    }

    /// Whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.on_the_way.is_empty()
    }

    pub(super) fn deadline(&self, end: usize) -> Option<Instant> {
        let End { connection, listener, .. } = &self.ends[end];
        let connection = connection.as_ref().and_then(Connection::next_deadline);
        let listener = listener.as_ref().and_then(Listener::next_deadline);
        connection.into_iter().chain(listener).min()
    }

    /// Puts what an end wants to send on the link.
    pub(super) fn flush(&mut self, from: usize) {
        for _ in 0..10_000 {
            let Some(connection) = &mut self.ends[from].connection else { return };
            let Some(transmit) = connection.poll_transmit(self.now, self.max_payload) else {
                // Whatever a test does, it must not matter whether an idle connection has rested.
                if self.always_rest && self.steps.is_multiple_of(4) {
                    let _ = connection.rest_checked();
                }
                return;
            };
            self.carry(from, transmit);
        }
        panic!("poll_transmit never ends");
    }

    fn run_timers(&mut self, end: usize) {
        let now = self.now;
        if let Some(connection) = &mut self.ends[end].connection {
            let _ = connection.on_timer(now);
            if let Some(at) = connection.next_deadline() {
                assert!(at > now, "a timer stays due: {at:?} at {now:?} in {:?}", connection.state());
            }
        }
        while let Some((_, transmit)) =
            self.ends[end].listener.as_mut().and_then(|listener| listener.on_timer(now))
        {
            self.carry(end, transmit);
        }
    }

    fn deliver(&mut self, to: usize, segment: SegmentIn) {
        let now = self.now;
        let end = &mut self.ends[to];
        if end.connection.as_ref().is_some_and(|connection| connection.state() == State::Closed) {
            // RFC 9293 section 3.10.7.1, as the shell does it for segments without a connection.
            if let Some(reset) = reset_reply(&segment) {
                end.resets_when_closed += 1;
                self.carry(to, reset);
            }
            return;
        }
        if let Some(connection) = &mut end.connection {
            let seen = (segment.repr.flags, segment.repr.seq, segment.payload.len());
            let outcome = connection.on_segment(now, segment);
            if std::env::var_os("TCP_TRACE").is_some() {
                eprintln!("{now:?} {to} got {seen:?}: {outcome:?}");
            }
            return;
        }
        let Some(listener) = &mut end.listener else { return };
        match listener.on_segment(now, &end.flow, end.path, segment) {
            ListenOutcome::Ready(connection) | ListenOutcome::FastOpen(connection) => {
                end.connection = Some(connection);
                listener.on_accepted();
            }
            ListenOutcome::Reply(transmit)
            | ListenOutcome::Cookie(transmit)
            | ListenOutcome::Challenge(transmit, _)
            | ListenOutcome::Reset(transmit, _) => self.carry(to, transmit),
            ListenOutcome::Drop(_) => {}
        }
    }

    /// Treats one transmission as the link does.
    fn carry(&mut self, from: usize, transmit: Transmit) {
        // What answers stray duplicates once the connection is gone does not count.
        let is_alive = self.ends[from].connection.as_ref().is_some_and(|c| c.state() != State::Closed);
        if transmit.repr.flags.contains(TcpFlags::RST) && is_alive {
            self.ends[from].resets += 1;
        }
        let mss = self.ends[from].path.path_mss;
        if std::env::var_os("TCP_TRACE").is_some() {
            let state = self.ends[from].connection.as_ref().map(Connection::state);
            let Transmit { repr: r, payload, gso_size, .. } = &transmit;
            eprintln!(
                "{:?} {from} {state:?} {:?} seq {} ack {} len {} gso {gso_size:?} win {} sack {:?}",
                self.now,
                r.flags,
                r.seq,
                r.ack,
                payload.len(),
                r.window,
                r.options.sack
            );
        }
        for mut segment in wire_segments(transmit, self.link.keeps_super_segments, mss) {
            self.ends[from].sent_segments += u64::from(segment.merged);
            let Link { delay, jitter, loss, duplicate, late, mark, .. } = self.link;
            let Some(departs) = self.depart(from, &segment) else { continue };
            if self.rng.chance(loss) {
                continue;
            }
            if segment.ecn != super::super::Ecn::NotCapable && self.rng.chance(mark) {
                segment.ecn = super::super::Ecn::CongestionExperienced;
            }
            let copies = 1 + u32::from(self.rng.chance(duplicate));
            for _ in 0..copies {
                let jitter_us = u32::try_from(jitter.as_micros()).unwrap() + 1;
                let mut at = departs + delay + Duration::from_micros(u64::from(self.rng.below(jitter_us)));
                if self.rng.chance(late) {
                    at += delay * (1 + self.rng.below(6));
                }
                self.order += 1;
                self.on_the_way.insert((at, self.order), (1 - from, segment.clone()));
            }
        }
    }

    /// When the segment has left a link of limited rate; `None` if its queue is full.
    fn depart(&mut self, from: usize, segment: &SegmentIn) -> Option<Instant> {
        let Link { rate, queue, .. } = self.link;
        if rate == 0 {
            return Some(self.now);
        }
        let start = self.busy_until[from].max(self.now);
        if start - self.now > queue {
            return None;
        }
        let bytes = u64::from(segment.payload.len_u32()) + 66 * u64::from(segment.merged);
        let done = start + Duration::from_nanos(bytes * 1_000_000_000 / rate);
        self.busy_until[from] = done;
        Some(done)
    }
}

/// Cuts a transmission as segmentation offload would, through the bytes of its header. The pieces fit the path.
pub(super) fn wire_segments(transmit: Transmit, keep: bool, mss: u16) -> Vec<SegmentIn> {
    let Transmit { repr, payload, gso_size, ecn } = transmit;
    let size = gso_size.map_or(payload.len().max(1), |size| usize::from(size.get()));
    let count = payload.len().div_ceil(size).max(1);
    let options = repr.header_len() - 20;
    assert!(size.min(payload.len()) + options <= usize::from(mss), "a wire segment exceeds the MSS");
    if keep {
        let mut segment = SegmentIn::new(through_bytes(&repr), payload);
        segment.merged = u16::try_from(count).unwrap();
        segment.ecn = ecn;
        return vec![segment];
    }
    (0..count)
        .map(|i| {
            let mut piece: Payload = payload.clone();
            piece.truncate((i + 1) * size);
            piece.advance(i * size);
            let mut header = repr;
            header.seq += u32::try_from(i * size).unwrap();
            if i + 1 < count {
                header.flags.remove(TcpFlags::PSH | TcpFlags::FIN);
            }
            if i > 0 {
                header.flags.remove(TcpFlags::CWR);
            }
            let mut segment = SegmentIn::new(through_bytes(&header), piece);
            segment.ecn = ecn;
            segment
        })
        .collect()
}

/// Emits and parses a header: nothing may be lost on the way.
fn through_bytes(repr: &TcpRepr) -> TcpRepr {
    let mut buf = [0; MAX_HEADER_LEN];
    let len = repr.emit(&mut buf).expect("fits the longest header");
    let parsed = TcpRepr::parse(&TcpView::new(&buf[..len]).expect("just emitted"));
    assert_eq!(parsed, *repr);
    parsed
}

/// The byte at `at` of the test streams.
pub(super) fn stream_byte(at: usize) -> u8 {
    let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    u8::try_from(mixed).unwrap()
}
