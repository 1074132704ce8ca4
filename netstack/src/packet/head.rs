//! The headers of a packet that is on its way down: a small buffer filled from the back to the front.
//!
//! Packets move a lot, so the buffer is behind a pointer, and received packets have none. A thread keeps the buffers of
//! the packets that it dropped: what sends also drops, and so no allocator is asked for each packet.

use crate::hint::likely;
use std::cell::Cell;

/// Bytes reserved for headers in front of the payload: Ethernet with a VLAN tag (18), IPv6 (40) with one 8-byte
/// extension header, and the longest TCP header (60) fit.
pub const HEADROOM: usize = 128;

/// A payload up to this length is put into the buffer behind its headers: a copy of so little costs less than sharing it.
pub(crate) const INLINE_PAYLOAD: usize = 64;

const CAPACITY: usize = HEADROOM + INLINE_PAYLOAD;

/// Headers, perhaps with a small payload behind them, or none.
#[derive(Default)]
pub(crate) struct Head(Option<Box<Buffer>>);

struct Buffer {
    /// Where the headers start; they end with the buffer.
    start: usize,
    /// Among the spare ones: those below, and how many they are.
    below: Option<Box<Self>>,
    depth: usize,
    bytes: [u8; CAPACITY],
}

impl Head {
    /// A head that is nothing but a payload of at most [`INLINE_PAYLOAD`] bytes, with room for all headers.
    #[inline]
    pub(crate) fn of_payload(payload: &[u8]) -> Self {
        let mut head = Self::default();
        head.push(payload.len()).copy_from_slice(payload);
        head
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        CAPACITY - self.room()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes can be put in front.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.0.as_ref().map_or(CAPACITY, |buffer| buffer.start)
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |buffer| &buffer.bytes[buffer.start..])
    }

    #[inline]
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |buffer| &mut buffer.bytes[buffer.start..])
    }

    /// Makes room for `len` bytes in front and returns it: whatever an earlier packet has left there. Panics if there is
    /// not as much.
    #[inline]
    pub(super) fn push(&mut self, len: usize) -> &mut [u8] {
        let buffer = self.0.get_or_insert_with(take_spare);
        let end = buffer.start;
        buffer.start = end - len;
        &mut buffer.bytes[buffer.start..end]
    }

    /// Removes up to `count` bytes from the front.
    pub(crate) fn pull(&mut self, count: usize) {
        if let Some(buffer) = &mut self.0 {
            buffer.start = (buffer.start + count).min(CAPACITY);
        }
    }
}

impl Clone for Head {
    fn clone(&self) -> Self {
        let mut clone = Self::default();
        if !self.is_empty() {
            clone.push(self.len()).copy_from_slice(self.as_slice());
        }
        clone
    }
}

impl Drop for Head {
    #[inline]
    fn drop(&mut self) {
        if let Some(mut buffer) = self.0.take() {
            buffer.start = CAPACITY;
            // Fails while the thread ends; the buffer is then dropped as any other.
            let _ = SPARE.try_with(|spare| {
                let below = spare.take();
                let depth = below.as_ref().map_or(0, |below| below.depth + 1);
                if likely(depth < MAX_SPARE) {
                    (buffer.below, buffer.depth) = (below, depth);
                    spare.set(Some(buffer));
                } else {
                    spare.set(below);
                }
            });
        }
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Head {}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", self.as_slice())
    }
}

#[inline]
fn take_spare() -> Box<Buffer> {
    let spare = SPARE.try_with(|spare| {
        let mut first = spare.take()?;
        spare.set(first.below.take());
        Some(first)
    });
    spare.ok().flatten().unwrap_or_else(make)
}

#[cold]
#[inline(never)]
fn make() -> Box<Buffer> {
    Box::new(Buffer { start: CAPACITY, below: None, depth: 0, bytes: [0; CAPACITY] })
}

thread_local! {
    /// The spare buffers, the one that came back last in front.
    static SPARE: Cell<Option<Box<Buffer>>> = const { Cell::new(None) };
}

/// Buffers kept by a thread, 200 KiB: what a full window of segments takes until the link has sent it.
const MAX_SPARE: usize = 1024;
