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
use std::collections::{BTreeSet, HashMap};
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
        }
    }
}

/// The table of them. The sum of its parts is what the gauges show, so nothing can leak from one into the other.
#[derive(Debug)]
pub(super) struct HalfOpenTable {
    by_flow: HashMap<Flow, HalfOpen, Keyed>,
    by_deadline: BTreeSet<(Instant, Flow)>,
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
        Self { by_flow: HashMap::with_hasher(Keyed(secret)), by_deadline: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_flow.len()
    }

    pub(super) fn contains(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(flow)
    }

    pub(super) fn get_mut(&mut self, flow: &Flow) -> Option<&mut HalfOpen> {
        self.by_flow.get_mut(flow)
    }

    /// Enters a record that is to be looked at again at `deadline`.
    pub(super) fn insert(&mut self, flow: Flow, mut half: HalfOpen, deadline: Instant) {
        half.deadline = deadline;
        if let Some(old) = self.by_flow.insert(flow, half) {
            self.by_deadline.remove(&(old.deadline, flow));
        }
        self.by_deadline.insert((deadline, flow));
    }

    pub(super) fn remove(&mut self, flow: &Flow) -> Option<HalfOpen> {
        let half = self.by_flow.remove(flow)?;
        self.by_deadline.remove(&(half.deadline, *flow));
        Some(half)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(at, _)| *at)
    }

    /// Takes one record out whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Flow, HalfOpen)> {
        let (at, flow) = *self.by_deadline.first()?;
        if at > now {
            return None;
        }
        self.by_deadline.pop_first();
        self.by_flow.remove(&flow).map(|half| (flow, half))
    }

    /// Takes all records out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Flow, HalfOpen)> {
        self.by_deadline.clear();
        self.by_flow.drain()
    }
}
