//! Bytes in order, waiting for the reader.
//!
//! Large payloads are kept by reference; those far smaller than the block behind them are copied together, so that a
//! stream of one-byte segments cannot pin a frame for each.

use super::num::{sat_u32, usize_of};
use super::segment::{Payload, PlainSegment};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct ReceiveQueue {
    len: u32,
    /// Absent while idle.
    store: Option<Box<Store>>,
}

/// The memory of a queue that is in use.
#[derive(Debug, Default)]
struct Store {
    ranges: VecDeque<Bytes>,
    /// Copies of small payloads, behind `ranges`.
    small: BytesMut,
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
        let store = self.store.get_or_insert_default();
        if is_worth_copying(len, true_size) {
            payload.slices().for_each(|slice| store.push_small(slice));
            return;
        }
        store.freeze();
        store.ranges.extend(payload.into_ranges());
    }

    /// Appends a copy of a few bytes.
    pub(super) fn push_copy(&mut self, bytes: &[u8]) {
        self.len += sat_u32(bytes.len());
        self.store.get_or_insert_default().push_small(bytes);
    }

    /// Moves up to `buf.len()` bytes into `buf`.
    #[inline]
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        let Some(store) = &mut self.store else { return 0 };
        if store.ranges.is_empty() {
            let count = store.small.len().min(buf.len());
            buf[..count].copy_from_slice(&store.small[..count]);
            if count == store.small.len() {
                // The room is there again for what comes next.
                store.small.clear();
            } else {
                store.small.advance(count);
            }
            self.len -= sat_u32(count);
            return count;
        }
        self.read_ranges(buf)
    }

    /// The same where there is more than a few bytes.
    #[inline(never)]
    fn read_ranges(&mut self, buf: &mut [u8]) -> usize {
        let Some(store) = &mut self.store else { return 0 };
        let mut done = 0;
        while done < buf.len() {
            let Some(front) = store.front() else { break };
            let count = front.len().min(buf.len() - done);
            buf[done..done + count].copy_from_slice(&front[..count]);
            if count == front.len() {
                store.ranges.pop_front();
            } else {
                front.advance(count);
            }
            done += count;
        }
        self.len -= sat_u32(done);
        done
    }

    /// Copies bytes from `offset` on into `buf`.
    pub(super) fn peek(&self, offset: usize, buf: &mut [u8]) -> usize {
        let Some(store) = &self.store else { return 0 };
        let mut skip = offset;
        let mut done = 0;
        for range in store.ranges.iter().map(AsRef::as_ref).chain([store.small.as_ref()]) {
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
        let Some(store) = &mut self.store else { return Bytes::new() };
        let Some(front) = store.front() else { return Bytes::new() };
        let taken = front.split_to(front.len().min(max));
        if front.is_empty() {
            store.ranges.pop_front();
        }
        self.len -= sat_u32(taken.len());
        taken
    }

    /// Puts bytes that were taken back in front.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += sat_u32(bytes.len());
            self.store.get_or_insert_default().ranges.push_front(bytes);
        }
    }

    /// Whether `release` would free anything.
    pub(super) fn has_spare(&self) -> bool {
        self.store.is_some()
    }

    /// Gives back what an empty queue keeps for the next data.
    pub(super) fn release(&mut self) {
        if self.len == 0 {
            self.store = None;
        }
    }
}

impl Store {
    /// The first range, after the small payloads have become one if need be.
    fn front(&mut self) -> Option<&mut Bytes> {
        if self.ranges.is_empty() {
            self.freeze();
        }
        self.ranges.front_mut()
    }

    #[inline]
    fn push_small(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.small.capacity() - self.small.len() {
            self.small.extend_from_slice(bytes);
        } else {
            self.push_in_parts(bytes);
        }
    }

    /// The same where they do not fit the block.
    #[inline(never)]
    fn push_in_parts(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.small.capacity() - self.small.len();
            if room == 0 {
                self.freeze();
                // The block again if its readers are done with it.
                if !self.small.try_reclaim(MIN_BLOCK) {
                    self.small = BytesMut::with_capacity(bytes.len().max(MIN_BLOCK));
                }
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
const _: () = assert!(PlainSegment::MAX_PAYLOAD < COPY_BELOW as usize);
/// The block into which small payloads are copied.
const MIN_BLOCK: usize = 1 << 10;

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
            queue.release();
            assert!(!queue.has_spare());
        }
    }
}
