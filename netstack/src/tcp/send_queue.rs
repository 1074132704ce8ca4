//! The bytes between the user and the network: written, perhaps sent, not yet acknowledged.
//!
//! Sending, retransmitting and segmentation offload all hand out ranges of the same blocks; nothing is copied after the
//! user's bytes have come in. Blocks are allocated when data comes; a few that nobody refers to any more are kept for the
//! next data until [`SendQueue::release`], so that a busy queue allocates nothing and an idle one owns nothing.

use super::num::{sat_u32, usize_of};
use super::segment::Payload;
use crate::hint::unlikely;
use bytes::{Buf, Bytes, BytesMut};
use netstack_wire::seq::SeqNum;
use std::collections::VecDeque;

/// Bytes by sequence number, from the first unacknowledged one on.
#[derive(Debug)]
pub(super) struct SendQueue {
    /// The sequence number of the first byte held.
    start: SeqNum,
    /// The sequence number after the last byte held.
    end: SeqNum,
    /// Absent while idle.
    store: Option<Box<Store>>,
}

/// The memory of a queue that is in use.
#[derive(Debug, Default)]
struct Store {
    /// Blocks that can be handed out, contiguous and in order.
    frozen: VecDeque<Block>,
    /// Bytes at the end of the queue that nobody else refers to, with room to grow.
    growing: BytesMut,
    /// Handles of earlier blocks; each can be used again once the frozen parts of its block are gone.
    retired: VecDeque<BytesMut>,
}

#[derive(Debug)]
struct Block {
    start: SeqNum,
    bytes: Bytes,
}

impl SendQueue {
    pub(super) fn new(start: SeqNum) -> Self {
        Self { start, end: start, store: None }
    }

    pub(super) fn end(&self) -> SeqNum {
        self.end
    }

    pub(super) fn len(&self) -> u32 {
        self.end - self.start
    }

    /// Appends a copy of `data`.
    pub(super) fn push_copy(&mut self, mut data: &[u8]) {
        let store = self.store.get_or_insert_default();
        while !data.is_empty() {
            let mut room = store.growing.capacity() - store.growing.len();
            if room == 0 {
                store.freeze(self.end);
                store.next_block(data.len().max(usize_of(self.end - self.start)));
                room = store.growing.capacity();
            }
            let (now, later) = data.split_at(room.min(data.len()));
            store.growing.extend_from_slice(now);
            self.end += sat_u32(now.len());
            data = later;
        }
    }

    /// Whether that many bytes fit behind what was copied last, in the same block.
    #[inline]
    pub(super) fn has_room_behind(&self, len: usize) -> bool {
        self.store.as_ref().is_some_and(|store| store.growing.capacity() - store.growing.len() >= len)
    }

    /// Appends a copy of `data`, for which there is [room](Self::has_room_behind).
    #[inline]
    pub(super) fn push_behind(&mut self, data: &[u8]) {
        if let Some(store) = &mut self.store {
            store.growing.extend_from_slice(data);
            self.end += sat_u32(data.len());
        }
    }

    /// Appends `data` by reference; small pieces are copied, as they would pin and fragment more than they save.
    pub(super) fn push_shared(&mut self, data: Bytes) {
        if data.len() < SHARE_FROM {
            return self.push_copy(&data);
        }
        let store = self.store.get_or_insert_default();
        store.freeze(self.end);
        let start = self.end;
        self.end += sat_u32(data.len());
        store.frozen.push_back(Block { start, bytes: data });
    }

    /// Hands out the bytes `[from, from + len)`, which the queue must hold (what it does not hold is left out).
    pub(super) fn range(&mut self, from: SeqNum, len: u32) -> Payload {
        let mut payload = Payload::new();
        let Some(store) = &mut self.store else { return payload };
        if let Some(bytes) = store.few_unfrozen(self.end, from, usize_of(len)) {
            return Payload::small(bytes);
        }
        let mut left = usize_of(len);
        if store.frozen.back().is_none_or(|last| (from + len).gt(last.end())) {
            store.freeze(self.end);
        }
        let first = store.frozen.partition_point(|block| block.start.le(from)).saturating_sub(1);
        let mut at = from;
        for block in store.frozen.range(first..) {
            if left == 0 {
                break;
            }
            let skip = usize_of(at - block.start);
            let Some(available) = block.bytes.len().checked_sub(skip) else { break };
            let take = available.min(left);
            payload.push(block.bytes.slice(skip..skip + take));
            at += sat_u32(take);
            left -= take;
        }
        payload
    }

    /// Forgets the bytes before `to`.
    #[inline]
    pub(super) fn advance(&mut self, to: SeqNum) {
        let to = to.min(self.end);
        if unlikely(to.le(self.start)) {
            return;
        }
        self.start = to;
        let Some(store) = &mut self.store else { return };
        if !store.frozen.is_empty() {
            store.forget_before(to);
        }
        if to == self.end {
            // The room is there again for what comes next.
            store.growing.clear();
        } else {
            store.growing.advance(usize_of(to.saturating_since(store.unfrozen_from(self.end))));
        }
    }

    /// Whether `release` would free anything.
    pub(super) fn has_spare(&self) -> bool {
        self.store.is_some()
    }

    /// Gives back what an empty queue keeps for the next data.
    pub(super) fn release(&mut self) {
        if self.start == self.end {
            self.store = None;
        }
    }
}

impl Store {
    /// Forgets the blocks that end at `to` or before.
    #[inline(never)]
    fn forget_before(&mut self, to: SeqNum) {
        while self.frozen.front().is_some_and(|block| block.end().le(to)) {
            self.frozen.pop_front();
        }
    }

    /// Where `growing` starts; `end` is the end of the queue.
    fn unfrozen_from(&self, end: SeqNum) -> SeqNum {
        end - sat_u32(self.growing.len())
    }

    /// The bytes `[from, from + len)` if they are few and nobody has been given a reference to them: not worth one.
    fn few_unfrozen(&self, end: SeqNum, from: SeqNum, len: usize) -> Option<&[u8]> {
        let start = self.unfrozen_from(end);
        if len > Payload::SMALL || from.lt(start) {
            return None;
        }
        let skip = usize_of(from - start);
        self.growing.get(skip..skip + len)
    }

    /// Makes what was written so far available to `range`; `end` is the end of the queue.
    fn freeze(&mut self, end: SeqNum) {
        if self.growing.is_empty() {
            return;
        }
        let bytes = self.growing.split().freeze();
        let start = end - sat_u32(bytes.len());
        self.frozen.push_back(Block { start, bytes });
    }

    /// Makes room in `growing`, which is empty and full to its end: with an earlier block if one is free, otherwise with a
    /// new one.
    fn next_block(&mut self, wanted: usize) {
        let size = wanted.clamp(MIN_BLOCK, MAX_BLOCK);
        let full = core::mem::take(&mut self.growing);
        self.retired.push_back(full);
        if let Some(mut oldest) = self.retired.pop_front() {
            if oldest.try_reclaim(size) {
                self.growing = oldest;
                return;
            }
            // Still referred to, or too small.
            if self.retired.len() < MAX_RETIRED {
                self.retired.push_front(oldest);
            }
        }
        self.growing = BytesMut::with_capacity(size);
    }
}

impl Block {
    fn end(&self) -> SeqNum {
        self.start + sat_u32(self.bytes.len())
    }
}

/// The smallest block: a few requests of an interactive connection.
const MIN_BLOCK: usize = 2 << 10;
/// The largest block: one super-segment; a few of them stay within the L2 cache.
const MAX_BLOCK: usize = 64 << 10;
/// Shorter shared pieces are copied.
const SHARE_FROM: usize = 4 << 10;
/// The most earlier blocks to keep: together the hot part of the L2 cache.
const MAX_RETIRED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_match_what_was_written_across_blocks() {
        let data: Vec<u8> = (0..300_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let base = SeqNum(u32::MAX - 70_000);
        let mut queue = SendQueue::new(base);
        queue.push_copy(&data[..10]);
        assert_eq!(queue.range(base, 10).to_vec(), &data[..10]);
        queue.push_copy(&data[10..100_000]);
        queue.push_shared(Bytes::copy_from_slice(&data[100_000..250_000]));
        queue.push_shared(Bytes::copy_from_slice(&data[250_000..250_003]));
        queue.push_copy(&data[250_003..]);
        assert_eq!(queue.len(), 300_000);
        for (from, len) in [(0, 1), (5, 65_536), (99_990, 20), (200_000, 65_536), (249_999, 10), (299_999, 1)]
        {
            let range = queue.range(base + from, len).to_vec();
            let (from, len) = (usize_of(from), usize_of(len));
            assert_eq!(range, &data[from..from + len], "from {from}");
        }
        queue.advance(base + 99_995);
        assert_eq!(queue.range(base + 99_995, 10).to_vec(), &data[99_995..100_005]);
        queue.advance(base + 300_000);
        assert_eq!(queue.len(), 0);
        queue.release();
        assert!(!queue.has_spare());
    }
}
