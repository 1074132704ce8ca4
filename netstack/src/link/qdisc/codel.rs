//! FQ-CoDel (RFC 8290): flows take turns by deficit round robin, new ones first; in each, CoDel (RFC 8289) drops or
//! marks what has waited too long for too long.

use std::collections::VecDeque;
use std::time::Duration;

use netstack_wire::checksum;
use netstack_wire::ethernet;

use super::{QdiscStats, flow};
use crate::packet::Packet;
use crate::time::Instant;

/// Fair queues with short delays.
#[derive(Debug)]
pub struct FqCodel {
    flows: Vec<Flow>,
    /// Flows that have just begun to send, and flows that go on.
    new_flows: VecDeque<usize>,
    old_flows: VecDeque<usize>,
    backlog: usize,
    settings: Settings,
    key: [u64; 2],
    stats: QdiscStats,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    target: Duration,
    interval: Duration,
    limit: usize,
    quantum: i64,
    is_ethernet: bool,
}

#[derive(Debug, Default)]
struct Flow {
    queue: VecDeque<(Instant, Packet)>,
    bytes: usize,
    deficit: i64,
    is_listed: bool,
    codel: Codel,
}

/// RFC 8289 section 5.
#[derive(Debug, Default)]
struct Codel {
    first_above: Option<Instant>,
    drop_next: Instant,
    count: u32,
    last_count: u32,
    is_dropping: bool,
}

/// What CoDel says of a packet that comes out.
enum Fate {
    Send,
    Drop,
}

impl FqCodel {
    /// Queues for `flows` flows and at most `limit` packets. `target` is the delay that is fine to stand,
    /// `interval` how long it may be exceeded: about the round-trip time.
    pub fn new(flows: usize, limit: usize, target: Duration, interval: Duration) -> Self {
        let settings =
            Settings { target, interval, limit: limit.max(1), quantum: QUANTUM, is_ethernet: true };
        Self {
            flows: (0..flows.max(1)).map(|_| Flow::default()).collect(),
            new_flows: VecDeque::new(),
            old_flows: VecDeque::new(),
            backlog: 0,
            settings,
            // Collisions are a nuisance, and nobody gains by making them: they share one queue with their victim.
            key: [0x6663_6f64_656c_0001, 0x6663_6f64_656c_0002],
            stats: QdiscStats::default(),
        }
    }

    /// For a link that carries bare IP packets.
    pub fn without_ethernet(mut self) -> Self {
        self.settings.is_ethernet = false;
        self
    }

    pub(super) fn enqueue(&mut self, now: Instant, packet: Packet) {
        let hash = flow::hash(self.key, self.settings.is_ethernet, &packet);
        // Below the number of flows.
        let index = (hash % self.flows.len() as u64) as usize;
        let flow = &mut self.flows[index];
        flow.bytes += packet.len();
        flow.queue.push_back((now, packet));
        self.backlog += 1;
        if !flow.is_listed {
            flow.is_listed = true;
            flow.deficit = self.settings.quantum;
            self.new_flows.push_back(index);
        }
        if self.backlog > self.settings.limit {
            self.drop_from_fattest();
        }
    }

    pub(super) fn dequeue(&mut self, now: Instant) -> Option<Packet> {
        loop {
            let (is_new, index) = match (self.new_flows.front(), self.old_flows.front()) {
                (Some(&index), _) => (true, index),
                (None, Some(&index)) => (false, index),
                (None, None) => return None,
            };
            let flow = &mut self.flows[index];
            if flow.deficit <= 0 {
                flow.deficit += self.settings.quantum;
                self.make_old(is_new, index);
                continue;
            }
            let before = flow.queue.len();
            let packet = flow.next(now, &self.settings, &mut self.stats);
            self.backlog -= before - self.flows[index].queue.len();
            match packet {
                Some(packet) => {
                    // A packet is at most 64 KiB long.
                    self.flows[index].deficit -= packet.len() as i64;
                    self.stats.sent += 1;
                    return Some(packet);
                }
                // RFC 8290 section 4.2: a new flow that is empty goes through the old list once, lest it come first always.
                None if is_new && !self.old_flows.is_empty() => self.make_old(is_new, index),
                None => {
                    let list = if is_new { &mut self.new_flows } else { &mut self.old_flows };
                    list.pop_front();
                    self.flows[index].is_listed = false;
                }
            }
        }
    }

    pub(super) fn stats(&self) -> QdiscStats {
        QdiscStats { backlog: self.backlog, ..self.stats }
    }

    fn make_old(&mut self, is_new: bool, index: usize) {
        let list = if is_new { &mut self.new_flows } else { &mut self.old_flows };
        list.pop_front();
        self.old_flows.push_back(index);
    }

    /// RFC 8290 section 4.1: packets are dropped from the head of the queue with the most bytes, up to half of it and 64 at
    /// once, so that looking for it is rare.
    fn drop_from_fattest(&mut self) {
        let Some(flow) = self.flows.iter_mut().max_by_key(|flow| flow.bytes) else { return };
        let enough = flow.bytes / 2;
        let mut dropped = 0;
        while dropped < MAX_DROP_BATCH && flow.bytes > enough {
            let Some((_, packet)) = flow.queue.pop_front() else { break };
            flow.bytes -= packet.len();
            dropped += 1;
        }
        self.backlog -= dropped;
        self.stats.overlimit += dropped as u64;
    }
}

impl Default for FqCodel {
    /// As Linux's `fq_codel`: 1024 flows, 10240 packets, 5 ms, 100 ms.
    fn default() -> Self {
        Self::new(1024, 10_240, Duration::from_millis(5), Duration::from_millis(100))
    }
}

impl Flow {
    /// The next packet that CoDel lets out.
    fn next(&mut self, now: Instant, settings: &Settings, stats: &mut QdiscStats) -> Option<Packet> {
        loop {
            let (arrived, mut packet) = self.queue.pop_front()?;
            self.bytes -= packet.len();
            let is_late = now >= arrived + settings.target && self.bytes > MIN_BACKLOG;
            match self.codel.judge(now, is_late, settings.interval) {
                Fate::Send => return Some(packet),
                // RFC 8290 section 5.3: marks what can be marked.
                Fate::Drop if mark(&mut packet, settings.is_ethernet) => {
                    stats.marked += 1;
                    return Some(packet);
                }
                Fate::Drop => stats.dropped_late += 1,
            }
        }
    }
}

impl Codel {
    fn judge(&mut self, now: Instant, is_late: bool, interval: Duration) -> Fate {
        if !is_late {
            self.first_above = None;
            self.is_dropping = false;
            return Fate::Send;
        }
        let is_ripe = match self.first_above {
            Some(since) => now >= since,
            None => {
                self.first_above = Some(now + interval);
                false
            }
        };
        if self.is_dropping {
            if now < self.drop_next {
                return Fate::Send;
            }
            self.count += 1;
            self.drop_next = control_law(self.drop_next, interval, self.count);
            return Fate::Drop;
        }
        if !is_ripe {
            return Fate::Send;
        }
        self.is_dropping = true;
        // RFC 8289 section 5.4: goes on with the rate of the last time, if that was a short while ago.
        let delta = self.count - self.last_count;
        let is_recent = now < self.drop_next + interval * 16;
        self.count = if delta > 1 && is_recent { delta } else { 1 };
        self.last_count = self.count;
        self.drop_next = control_law(now, interval, self.count);
        Fate::Drop
    }
}

/// "the next drop time is decreased in inverse proportion to the square root of the number of drops".
fn control_law(from: Instant, interval: Duration, count: u32) -> Instant {
    from + interval.div_f64(f64::from(count).sqrt())
}

/// Sets "congestion experienced" on a packet that is ECN-capable (RFC 3168 section 5); false if it is not.
fn mark(packet: &mut Packet, is_ethernet: bool) -> bool {
    let start = if is_ethernet { ethernet::HEADER_LEN } else { 0 };
    // Headers of our own packets are in the head; what is not is dropped instead.
    let Some(header) = packet.head_mut().get_mut(start..) else { return false };
    match header.first().map(|byte| byte >> 4) {
        Some(4) if header.len() >= 20 => {
            if header[1] & 3 == 0 {
                return false;
            }
            header[1] |= 3;
            let header_len = (usize::from(header[0] & 0xf) * 4).min(header.len());
            header[10..12].fill(0);
            let sum = !checksum::sum(&header[..header_len]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            true
        }
        Some(6) if header.len() >= 40 => {
            if header[1] & 0x30 == 0 {
                return false;
            }
            header[1] |= 0x30;
            true
        }
        _ => false,
    }
}

/// RFC 8290 section 5.2.3: an Ethernet MTU with its header.
const QUANTUM: i64 = 1514;
/// RFC 8289 section 5.2: with less than one packet in the queue nothing is gained by dropping.
const MIN_BACKLOG: usize = 1514;
/// Linux's `drop_batch`.
const MAX_DROP_BATCH: usize = 64;
