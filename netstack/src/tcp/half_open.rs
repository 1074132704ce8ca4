//! Half-open connections of a listener: one small record each, found by flow and by deadline.

use super::flow::Flow;
use super::isn::{Secret, Seed};
use super::negotiated::{Offer, PeerOffer};
use super::path::PathInfo;
use super::rate_limit::RateLimit;
use super::segment::SynHeaders;
use crate::time::Instant;
use core::hash::{BuildHasher, Hasher};
use netstack_wire::seq::SeqNum;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// A connection between SYN and the ACK that completes the handshake.
#[derive(Clone, Debug)]
pub(super) struct HalfOpen {
    pub(super) seed: Seed,
    pub(super) irs: SeqNum,
    pub(super) peer: PeerOffer,
    pub(super) offer: Offer,
    pub(super) path: PathInfo,
    /// When the SYN-ACK was first sent.
    pub(super) sent_at: Instant,
    pub(super) retransmits: u8,
    /// The final ACK has come once: the user's defer-accept or a full queue holds the connection back.
    pub(super) is_acked: bool,
    pub(super) challenge: RateLimit,
    /// The headers of the SYN, if the user wants them.
    pub(super) saved_syn: Option<Arc<SynHeaders>>,
    deadline: Instant,
    turn: Turn,
}

/// Where a record waits for its deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// In the queue, under this number.
    Queued(u64),
    /// In the set.
    Sorted,
}

impl HalfOpen {
    pub(super) fn new(
        now: Instant,
        seed: Seed,
        irs: SeqNum,
        peer: PeerOffer,
        offer: Offer,
        path: PathInfo,
    ) -> Self {
        let challenge = RateLimit::default();
        Self {
            seed,
            irs,
            peer,
            offer,
            path,
            sent_at: now,
            retransmits: 0,
            is_acked: false,
            challenge,
            saved_syn: None,
            deadline: now,
            turn: Turn::Sorted,
        }
    }
}

/// The table of them. The sum of its parts is what the gauges show, so nothing can leak from one into the other.
#[derive(Debug)]
pub(super) struct HalfOpenTable {
    by_flow: HashMap<Flow, HalfOpen, Keyed>,
    /// Those whose deadline is not before that of the one in front of them: all that wait for the first time. Records that
    /// are gone leave their entries behind.
    queue: VecDeque<Queued>,
    /// The others.
    sorted: BTreeSet<(Instant, Flow)>,
    /// How many entries of the queue are of records that are gone.
    stale: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Queued {
    at: Instant,
    number: u64,
    flow: Flow,
}

/// Hashes flows under a secret, so that a peer cannot choose colliding ones. As in the table of connections, a keyed
/// multiplication will do: nobody outside sees which flows share a bucket, and so nobody can learn the key.
#[derive(Clone, Debug)]
struct Keyed(Secret);

#[derive(Debug)]
struct KeyedHasher {
    key: [u64; 2],
    state: u64,
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        let Secret(key) = self.0;
        KeyedHasher { key, state: key[0] }
    }
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.key[1] | 1);
        // The upper and the lower half: every bit of either factor reaches every bit.
        self.state = (product >> 64) as u64 ^ product as u64 ^ self.key[0];
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}

impl HalfOpenTable {
    pub(super) fn new(secret: Secret) -> Self {
        Self {
            by_flow: HashMap::with_hasher(Keyed(secret)),
            queue: VecDeque::new(),
            sorted: BTreeSet::new(),
            stale: 0,
            next_number: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_flow.len()
    }

    pub(super) fn contains(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(flow)
    }

    pub(super) fn get(&self, flow: &Flow) -> Option<&HalfOpen> {
        self.by_flow.get(flow)
    }

    pub(super) fn get_mut(&mut self, flow: &Flow) -> Option<&mut HalfOpen> {
        self.by_flow.get_mut(flow)
    }

    /// Enters a record that is to be looked at again at `deadline`.
    pub(super) fn insert(&mut self, flow: Flow, mut half: HalfOpen, deadline: Instant) {
        half.deadline = deadline;
        half.turn = if self.queue.back().is_none_or(|last| last.at <= deadline) {
            let number = self.next_number;
            self.next_number += 1;
            self.queue.push_back(Queued { at: deadline, number, flow });
            Turn::Queued(number)
        } else {
            self.sorted.insert((deadline, flow));
            Turn::Sorted
        };
        let turn = half.turn;
        if let Some(old) = self.by_flow.insert(flow, half) {
            let is_same_entry = old.turn == Turn::Sorted && turn == Turn::Sorted && old.deadline == deadline;
            if !is_same_entry {
                self.leave(&flow, &old);
            }
        }
    }

    pub(super) fn remove(&mut self, flow: &Flow) -> Option<HalfOpen> {
        let half = self.by_flow.remove(flow)?;
        self.leave(flow, &half);
        Some(half)
    }

    /// Takes a record that is gone out of where it waits. Handshakes mostly end in the order in which they began.
    fn leave(&mut self, flow: &Flow, half: &HalfOpen) {
        let Turn::Queued(number) = half.turn else {
            self.sorted.remove(&(half.deadline, *flow));
            return;
        };
        if self.queue.front().is_some_and(|first| first.number == number) {
            self.queue.pop_front();
            return;
        }
        self.stale += 1;
        if self.stale > FEW && self.stale > self.queue.len() / 2 {
            // A constant cost for each.
            let by_flow = &self.by_flow;
            let is_current = |entry: &Queued| {
                by_flow.get(&entry.flow).is_some_and(|half| half.turn == Turn::Queued(entry.number))
            };
            self.queue.retain(is_current);
            self.stale = 0;
        }
    }

    /// The first deadline, or that of a record that is gone.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let queued = self.queue.front().map(|entry| entry.at);
        let sorted = self.sorted.first().map(|(at, _)| *at);
        queued.into_iter().chain(sorted).min()
    }

    /// Takes one record out whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Flow, HalfOpen)> {
        while self.queue.front().is_some_and(|first| first.at <= now) {
            let Some(entry) = self.queue.pop_front() else { break };
            let half = self.by_flow.get(&entry.flow);
            if half.is_some_and(|half| half.turn == Turn::Queued(entry.number)) {
                return self.by_flow.remove_entry(&entry.flow);
            }
            self.stale = self.stale.saturating_sub(1);
        }
        let (at, flow) = *self.sorted.first()?;
        if at > now {
            return None;
        }
        self.sorted.pop_first();
        self.by_flow.remove_entry(&flow)
    }

    /// Takes all records out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Flow, HalfOpen)> {
        self.queue.clear();
        self.sorted.clear();
        self.stale = 0;
        self.by_flow.drain()
    }
}

/// So few entries of records that are gone are not worth a sweep.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::tests::Rng;
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};
    use core::time::Duration;

    fn flow(port: u32) -> Flow {
        let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let remote_port = u16::try_from(port).unwrap();
        Flow { local_addr: addr, remote_addr: addr, local_port: 80, remote_port, zone: 0 }
    }

    fn half(now: Instant) -> HalfOpen {
        let seed = Seed { iss: SeqNum(1), timestamp_offset: 0 };
        let peer = PeerOffer { mss: 536, window_shift: None, sack: false, timestamps: None };
        let offer =
            Offer { mss: 536, window: 1, window_shift: None, sack: false, timestamps: false, ecn: false };
        HalfOpen::new(now, seed, SeqNum(2), peer, offer, PathInfo { link_mss: 536, path_mss: 536 })
    }

    /// Against a plain map, in which the next one due is looked for.
    #[test]
    fn records_come_due_in_order_whatever_happens_to_the_others() {
        let mut rng = Rng::new(3);
        let (mut table, mut model) = (HalfOpenTable::new(Secret([1, 2])), HashMap::new());
        let mut now = Instant::from_millis(1);
        for _ in 0..20_000 {
            let key = rng.below(300);
            match rng.below(10) {
                0..=4 => {
                    let wait = if rng.chance(800) { 1000 } else { rng.below(4000) };
                    let at = now + Duration::from_millis(wait.into());
                    table.insert(flow(key), half(now), at);
                    model.insert(flow(key), at);
                }
                5..=7 => {
                    assert_eq!(table.remove(&flow(key)).is_some(), model.remove(&flow(key)).is_some());
                }
                8 => now += Duration::from_millis(rng.below(100).into()),
                _ => {
                    while let Some((flow, _)) = table.pop_due(now) {
                        assert!(model.remove(&flow).is_some_and(|at| at <= now));
                    }
                    assert!(model.values().all(|at| *at > now));
                }
            }
            assert_eq!(table.len(), model.len());
            let first = model.values().min();
            assert!(first.is_none_or(|first| table.next_deadline().is_some_and(|at| at <= *first)));
            assert!(table.queue.len() <= 2 * model.len() + 2 * FEW);
        }
    }
}
