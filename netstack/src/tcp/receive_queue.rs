//! Bytes in order, waiting for the reader.
//!
//! Large payloads are kept by reference; those far smaller than the block behind them are copied together, so that a
//! stream of one-byte segments cannot pin a frame for each.

use super::num::{sat_u32, usize_of};
use super::segment::Payload;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct ReceiveQueue {
    ranges: VecDeque<Bytes>,
    /// Copies of small payloads, behind `ranges`.
    small: BytesMut,
    len: u32,
}

impl ReceiveQueue {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `payload`, which pins `true_size` bytes.
    pub(super) fn push(&mut self, payload: Payload, true_size: u32) {
        let len = payload.len_u32();
        self.len += len;
        if is_worth_copying(len, true_size) {
            payload.ranges().iter().for_each(|range| self.push_small(range));
            return;
        }
        self.freeze();
        self.ranges.extend(payload.into_ranges());
    }

    /// Moves up to `buf.len()` bytes into `buf`.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let Some(front) = self.front() else { break };
            let count = front.len().min(buf.len() - done);
            buf[done..done + count].copy_from_slice(&front[..count]);
            if count == front.len() {
                self.ranges.pop_front();
            } else {
                drop(front.split_to(count));
            }
            done += count;
        }
        self.consumed(done);
        done
    }

    /// Copies bytes from `offset` on into `buf`.
    pub(super) fn peek(&self, offset: usize, buf: &mut [u8]) -> usize {
        let mut skip = offset;
        let mut done = 0;
        for range in self.ranges.iter().map(AsRef::as_ref).chain([self.small.as_ref()]) {
            let Some(rest) = range.get(skip..) else {
                skip -= range.len();
                continue;
            };
            skip = 0;
            let count = rest.len().min(buf.len() - done);
            buf[done..done + count].copy_from_slice(&rest[..count]);
            done += count;
        }
        done
    }

    /// Takes the first contiguous bytes, at most `max`.
    pub(super) fn take(&mut self, max: usize) -> Bytes {
        let Some(front) = self.front() else { return Bytes::new() };
        let count = front.len().min(max);
        let taken = front.split_to(count);
        if front.is_empty() {
            self.ranges.pop_front();
        }
        self.consumed(count);
        taken
    }

    /// The first range, after the small payloads have become one if need be.
    fn front(&mut self) -> Option<&mut Bytes> {
        if self.ranges.is_empty() {
            self.freeze();
        }
        self.ranges.front_mut()
    }

    fn consumed(&mut self, count: usize) {
        self.len -= sat_u32(count);
        if self.len == 0 {
            // An idle queue owns no memory.
            self.small = BytesMut::new();
            if self.ranges.capacity() > IDLE_RANGES {
                self.ranges = VecDeque::new();
            }
        }
    }

    fn push_small(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.small.capacity() - self.small.len();
            if room == 0 {
                self.freeze();
                self.small = BytesMut::with_capacity(bytes.len().clamp(MIN_BLOCK, usize::MAX));
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.small.extend_from_slice(now);
            bytes = later;
        }
    }

    fn freeze(&mut self) {
        if !self.small.is_empty() {
            self.ranges.push_back(self.small.split().freeze());
        }
    }
}

/// Whether a payload of `len` bytes that pins `true_size` should be copied (STYLE R63).
pub(super) fn is_worth_copying(len: u32, true_size: u32) -> bool {
    len < COPY_BELOW || usize_of(len) * 2 < usize_of(true_size)
}

/// Below this, the bookkeeping of a range costs as much as the copy.
const COPY_BELOW: u32 = 128;
/// The block into which small payloads are copied.
const MIN_BLOCK: usize = 1 << 10;
/// The most slots for ranges that an idle queue keeps.
const IDLE_RANGES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_sizes_come_out_in_order_however_they_are_read() {
        let data: Vec<u8> = (0..60_000_u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
        for read_size in [1, 7, 100, 1_000, 60_000] {
            let mut queue = ReceiveQueue::default();
            let mut at = 0;
            for size in [1_usize, 5_000, 3, 3, 20_000, 90, 2_000].into_iter().cycle() {
                let end = (at + size).min(data.len());
                let payload = Payload::from(Bytes::copy_from_slice(&data[at..end]));
                queue.push(payload, 2048);
                at = end;
                if at == data.len() {
                    break;
                }
            }
            let mut peeked = vec![0; 10_000];
            assert_eq!(queue.peek(4_990, &mut peeked), 10_000);
            assert_eq!(peeked, &data[4_990..14_990]);
            let mut out = Vec::new();
            while !queue.is_empty() {
                if out.len() % 2 == 0 {
                    let mut buf = vec![0; read_size];
                    let count = queue.read(&mut buf);
                    out.extend_from_slice(&buf[..count]);
                } else {
                    out.extend_from_slice(&queue.take(read_size));
                }
            }
            assert_eq!(out, data);
            assert_eq!(queue.small.capacity(), 0);
        }
    }
}
