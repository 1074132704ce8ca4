//! The bytes between the user and the network: written, perhaps sent, not yet acknowledged.
//!
//! Sending, retransmitting and segmentation offload all hand out ranges of the same blocks; nothing is copied after the
//! user's bytes have come in. Blocks are allocated when data comes and freed when the last reference goes, so an idle
//! queue owns no memory.

use super::num::{sat_u32, usize_of};
use super::segment::Payload;
use bytes::{Bytes, BytesMut};
use netstack_wire::seq::SeqNum;
use std::collections::VecDeque;

/// Bytes by sequence number, from the first unacknowledged one on.
#[derive(Debug)]
pub(super) struct SendQueue {
    /// The sequence number of the first byte held.
    start: SeqNum,
    /// The sequence number after the last byte held.
    end: SeqNum,
    /// Blocks that can be handed out, contiguous and in order.
    frozen: VecDeque<Block>,
    /// Bytes at the end of the queue that nobody else refers to, with room to grow.
    growing: BytesMut,
}

#[derive(Debug)]
struct Block {
    start: SeqNum,
    bytes: Bytes,
}

impl SendQueue {
    pub(super) fn new(start: SeqNum) -> Self {
        Self { start, end: start, frozen: VecDeque::new(), growing: BytesMut::new() }
    }

    pub(super) fn end(&self) -> SeqNum {
        self.end
    }

    pub(super) fn len(&self) -> u32 {
        self.end - self.start
    }

    /// Appends a copy of `data`.
    pub(super) fn push_copy(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let mut room = self.growing.capacity() - self.growing.len();
            if room == 0 {
                self.freeze();
                let block = data.len().max(usize_of(self.len())).clamp(MIN_BLOCK, MAX_BLOCK);
                self.growing = BytesMut::with_capacity(block);
                room = self.growing.capacity();
            }
            let (now, later) = data.split_at(room.min(data.len()));
            self.growing.extend_from_slice(now);
            self.end += sat_u32(now.len());
            data = later;
        }
    }

    /// Appends `data` by reference; small pieces are copied, as they would pin and fragment more than they save.
    pub(super) fn push_shared(&mut self, data: Bytes) {
        if data.len() < SHARE_FROM {
            return self.push_copy(&data);
        }
        self.freeze();
        let start = self.end;
        self.end += sat_u32(data.len());
        self.frozen.push_back(Block { start, bytes: data });
    }

    /// Hands out the bytes `[from, from + len)`, which the queue must hold (what it does not hold is left out).
    pub(super) fn range(&mut self, from: SeqNum, len: u32) -> Payload {
        let mut payload = Payload::new();
        let mut left = usize_of(len);
        if self.frozen.back().is_none_or(|last| (from + len).gt(last.start + sat_u32(last.bytes.len()))) {
            self.freeze();
        }
        let first = self.frozen.partition_point(|block| block.start.le(from)).saturating_sub(1);
        let mut at = from;
        for block in self.frozen.range(first..) {
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
    pub(super) fn advance(&mut self, to: SeqNum) {
        let to = to.min(self.end);
        if to.le(self.start) {
            return;
        }
        while let Some(block) = self.frozen.front() {
            if (block.start + sat_u32(block.bytes.len())).gt(to) {
                break;
            }
            self.frozen.pop_front();
        }
        self.start = to;
        if to == self.end {
            // Everything is acknowledged; give the memory back. `growing` holds nothing unsent here, since only sent
            // bytes are acknowledged and sending freezes.
            self.growing = BytesMut::new();
            if self.frozen.capacity() > IDLE_BLOCKS {
                self.frozen = VecDeque::new();
            }
        }
    }

    /// Makes what was written so far available to `range`.
    fn freeze(&mut self) {
        if self.growing.is_empty() {
            return;
        }
        let bytes = self.growing.split().freeze();
        let start = self.end - sat_u32(bytes.len());
        self.frozen.push_back(Block { start, bytes });
    }
}

/// The smallest block: a few requests of an interactive connection.
const MIN_BLOCK: usize = 2 << 10;
/// The largest block: one super-segment; a few of them stay within the L2 cache.
const MAX_BLOCK: usize = 64 << 10;
/// Shorter shared pieces are copied.
const SHARE_FROM: usize = 4 << 10;
/// The most slots for blocks that an idle queue keeps.
const IDLE_BLOCKS: usize = 4;

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
        assert!(queue.frozen.is_empty() && queue.growing.capacity() == 0);
    }
}
