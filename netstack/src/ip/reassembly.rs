//! Reassembly of fragments (RFC 791 section 3.2, RFC 8200 section 4.5), bounded in memory and time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::Mutex;
use bytes::Bytes;
use netstack_wire::ip::Protocol;

use crate::ip::icmp_error;
use crate::outbox::Outbox;
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// What identifies the fragments of one packet (RFC 791: "source, destination, protocol, and identification"; IPv6 has
/// no protocol there).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FragmentKey {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) ident: u32,
}

/// One fragment.
#[derive(Debug, Clone)]
pub(crate) struct Fragment {
    /// Where it belongs.
    pub(crate) offset: usize,
    pub(crate) more: bool,
    pub(crate) data: Bytes,
    /// The headers that precede the fragmentable part, from the IP header on.
    pub(crate) header: Bytes,
}

/// What a fragment led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More are missing.
    Pending,
    /// The packet is whole: the headers of its first fragment and the data.
    Complete { header: Bytes, data: Bytes },
    /// The fragment contradicts the others; all of them are dropped.
    Overlap,
    /// The packet would be larger than IP allows, or the fragment is malformed.
    Invalid,
}

/// Packets being put together: a plain value.
#[derive(Default)]
pub(crate) struct Reassembler {
    packets: HashMap<FragmentKey, Partial>,
    /// Bytes held, with an allowance for bookkeeping.
    memory: usize,
    /// Packets dropped for want of room since [`take_evicted`](Self::take_evicted) was called.
    evicted: u64,
}

struct Partial {
    /// Sorted, disjoint.
    pieces: Vec<Piece>,
    /// Known once the last fragment came.
    total: Option<usize>,
    first_header: Option<Bytes>,
    expires: Instant,
    /// Set after an overlap: RFC 5722 section 4 wants later fragments dropped as well.
    is_poisoned: bool,
}

struct Piece {
    offset: usize,
    data: Bytes,
}

impl Reassembler {
    /// Adds a fragment.
    pub(crate) fn add(&mut self, now: Instant, key: FragmentKey, fragment: Fragment) -> Progress {
        let end = fragment.offset + fragment.data.len();
        let is_ragged = fragment.more && !fragment.data.len().is_multiple_of(8);
        if end > MAX_TOTAL || is_ragged || fragment.data.is_empty() {
            return Progress::Invalid;
        }
        if self.memory > HIGH_MEMORY {
            self.shrink();
        }
        let lifetime = if key.source.is_ipv4() { LIFETIME_V4 } else { LIFETIME_V6 };
        let memory = &mut self.memory;
        let partial = self.packets.entry(key).or_insert_with(|| {
            *memory += PARTIAL_OVERHEAD;
            Partial {
                pieces: Vec::new(),
                total: None,
                first_header: None,
                expires: now + lifetime,
                is_poisoned: false,
            }
        });
        if partial.is_poisoned {
            return Progress::Overlap;
        }
        let added = fragment.data.len() + PIECE_OVERHEAD;
        match partial.insert(fragment) {
            Inserted::Yes => self.memory += added,
            Inserted::Duplicate => return Progress::Pending,
            Inserted::Overlap => {
                let freed = partial.memory();
                partial.pieces.clear();
                partial.is_poisoned = true;
                // It stays, and so does what it costs.
                self.memory -= freed - PARTIAL_OVERHEAD;
                return Progress::Overlap;
            }
        }
        if !partial.is_complete() {
            return Progress::Pending;
        }
        let Some(partial) = self.packets.remove(&key) else { return Progress::Pending };
        self.memory -= partial.memory();
        let Some(header) = partial.first_header else { return Progress::Invalid };
        let data: Vec<u8> = partial.pieces.iter().flat_map(|piece| piece.data.iter().copied()).collect();
        Progress::Complete { header, data: Bytes::from(data) }
    }

    /// Drops what took too long. Returns, for packets whose first fragment came, its headers and data.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(Bytes, Bytes)> {
        let mut reports = Vec::new();
        let memory = &mut self.memory;
        self.packets.retain(|_, partial| {
            let keep = now < partial.expires;
            if !keep {
                *memory -= partial.memory();
                let first = partial.pieces.first().filter(|piece| piece.offset == 0);
                if let (Some(header), Some(first)) = (&partial.first_header, first) {
                    reports.push((header.clone(), first.data.clone()));
                }
            }
            keep
        });
        reports
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        // Bounded: HIGH_MEMORY over PARTIAL_OVERHEAD packets, and asked for by the timer only.
        self.packets.values().map(|partial| partial.expires).min()
    }

    /// How many packets were dropped for want of room since the last call.
    fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Drops the oldest packets until there is room again.
    fn shrink(&mut self) {
        let mut ages: Vec<_> = self.packets.iter().map(|(key, partial)| (partial.expires, *key)).collect();
        ages.sort_unstable_by_key(|(expires, _)| *expires);
        for (_, key) in ages {
            if self.memory <= LOW_MEMORY {
                break;
            }
            if let Some(partial) = self.packets.remove(&key) {
                self.memory -= partial.memory();
                self.evicted += 1;
            }
        }
    }
}

enum Inserted {
    Yes,
    Duplicate,
    Overlap,
}

impl Partial {
    fn insert(&mut self, fragment: Fragment) -> Inserted {
        let Fragment { offset, more, data, header } = fragment;
        let end = offset + data.len();
        let index = self.pieces.partition_point(|piece| piece.offset < offset);
        let previous_end = index.checked_sub(1).map_or(0, |before| {
            let piece = &self.pieces[before];
            piece.offset + piece.data.len()
        });
        if let Some(next) = self.pieces.get(index) {
            // RFC 8200 section 4.5 allows to ignore exact duplicates: they occur in real networks.
            if next.offset == offset && next.data == data {
                return Inserted::Duplicate;
            }
            if next.offset < end {
                return Inserted::Overlap;
            }
        }
        let contradicts_end = match (self.total, more) {
            (Some(total), true) => end > total,
            (Some(total), false) => end != total,
            (None, true) => false,
            (None, false) => self.pieces.last().is_some_and(|last| last.offset + last.data.len() > end),
        };
        if previous_end > offset || contradicts_end {
            return Inserted::Overlap;
        }
        if !more {
            self.total = Some(end);
        }
        if offset == 0 {
            self.first_header = Some(header);
        }
        self.pieces.insert(index, Piece { offset, data });
        Inserted::Yes
    }

    fn is_complete(&self) -> bool {
        let held: usize = self.pieces.iter().map(|piece| piece.data.len()).sum();
        // The pieces are disjoint and within the total.
        self.total == Some(held)
    }

    fn memory(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| piece.data.len() + PIECE_OVERHEAD).sum();
        PARTIAL_OVERHEAD + pieces
    }
}

/// The reassembler of a stack with its lock and timer.
#[derive(Default)]
pub(crate) struct ReassemblyShell {
    machine: Mutex<Reassembler>,
    slot: TimerSlot,
}

impl ReassemblyShell {
    pub(crate) fn add(
        self: &Arc<Self>,
        core: &Arc<Core>,
        now: Instant,
        key: FragmentKey,
        fragment: Fragment,
    ) -> Progress {
        let (progress, evicted) = {
            let mut machine = self.machine.lock();
            (machine.add(now, key, fragment), machine.take_evicted())
        };
        core.counters.ip_reasm_fails.add(evicted);
        // At most too early for packets that began before; the timer then looks for the real one.
        core.timers.arm(self, Some(now + LIFETIME_V4));
        progress
    }

    /// How many packets are incomplete, and the memory they take.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let machine = self.machine.lock();
        (machine.packets.len(), machine.memory)
    }
}

impl TimerTarget for ReassemblyShell {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        let (reports, deadline) = {
            let mut machine = self.machine.lock();
            (machine.expire(now), machine.next_deadline())
        };
        for (header, data) in reports {
            core.counters.ip_reasm_timeout.increment();
            icmp_error::report_reassembly_timeout(core, &header, &data, outbox);
        }
        core.timers.arm(&self, deadline);
    }
}

/// The largest fragmentable part.
const MAX_TOTAL: usize = 65_535;
/// Linux's `net.ipv4.ipfrag_high_thresh`, beyond which the oldest packets go.
const HIGH_MEMORY: usize = 4 << 20;
/// Linux's `net.ipv4.ipfrag_low_thresh`.
const LOW_MEMORY: usize = 3 << 20;
/// What a fragment costs beyond its data, roughly; also bounds the number of tiny fragments.
const PIECE_OVERHEAD: usize = 256;
/// What an incomplete packet costs beyond its fragments, roughly; also bounds the number of those that keep none because
/// their fragments overlapped.
const PARTIAL_OVERHEAD: usize = 256;
/// Linux's `net.ipv4.ipfrag_time`.
const LIFETIME_V4: Duration = Duration::from_secs(30);
/// RFC 8200 section 4.5: "within 60 seconds of the reception of the first-arriving fragment".
const LIFETIME_V6: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "reassembly_tests.rs"]
mod tests;
