//! The ring of completions (`struct aio_ring`), which the program reads and from which it takes without a call.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::Errno;
use crate::mm::{MemoryManager, PAGE_SIZE, UserAddr};
use crate::task::cpu_count;

/// `struct io_event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Event {
    /// What the submitter wants to find (`aio_data`).
    pub(crate) data: u64,
    /// Address of the request.
    pub(crate) block: u64,
    pub(crate) result: i64,
    pub(crate) result2: i64,
}

/// `struct aio_ring` without its events.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    id: u32,
    places: u32,
    head: u32,
    tail: u32,
    magic: u32,
    compatible: u32,
    incompatible: u32,
    header_bytes: u32,
}

const HEADER_BYTES: u64 = 32;
const EVENT_BYTES: u64 = 32;
const HEAD_AT: u64 = 8;
const TAIL_AT: u64 = 12;
/// `AIO_RING_MAGIC`.
const MAGIC: u32 = 0xa10a_10a1;
/// `AIO_RING_COMPAT_FEATURES`.
const COMPATIBLE: u32 = 1;

/// A ring in guest memory. What the guest writes there is only ever taken for the place up to which it has read.
#[derive(Debug)]
pub(super) struct Ring {
    base: u64,
    places: u32,
    tail: u32,
}

impl Ring {
    /// Bytes of a ring with room for `requests`, as Linux makes them: twice as many, at least four per processor, and
    /// what fits into the last page.
    pub(super) fn bytes_for(requests: u32) -> u64 {
        let least = u64::try_from(cpu_count()).unwrap_or(1) * 4;
        let events = u64::from(requests).max(least) * 2 + 2;
        (HEADER_BYTES + events * EVENT_BYTES).next_multiple_of(PAGE_SIZE)
    }

    /// An empty ring in the `bytes` of memory at `base`.
    ///
    /// # Errors
    /// `EFAULT` where there is none.
    pub(super) fn new(mm: &MemoryManager, base: u64, bytes: u64) -> Result<Self, Errno> {
        let places = u32::try_from((bytes - HEADER_BYTES) / EVENT_BYTES).map_err(|_| Errno::EINVAL)?;
        let header = Header {
            id: 0,
            places,
            head: 0,
            tail: 0,
            magic: MAGIC,
            compatible: COMPATIBLE,
            incompatible: 0,
            // 32.
            header_bytes: HEADER_BYTES as u32,
        };
        mm.write_obj(UserAddr(base), &header)?;
        Ok(Self { base, places, tail: 0 })
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// How many events may be in it: one place stays free, so that full and empty differ.
    pub(super) fn capacity(&self) -> u32 {
        self.places - 1
    }

    fn head(&self, mm: &MemoryManager) -> u32 {
        // A guest that unmaps its ring has read everything.
        mm.read_obj::<u32>(UserAddr(self.base + HEAD_AT)).map_or(self.tail, |head| head % self.places)
    }

    /// Events that nobody has taken.
    pub(super) fn len(&self, mm: &MemoryManager) -> u32 {
        (self.tail + self.places - self.head(mm)) % self.places
    }

    /// Adds an event; the caller has made sure that there is room.
    pub(super) fn push(&mut self, mm: &MemoryManager, event: &Event) {
        // A guest without a ring misses it.
        let _ = mm.write_obj(self.place(self.tail), event);
        self.tail = (self.tail + 1) % self.places;
        // After the event: the guest looks at the tail first, and x86-64 keeps the order of stores.
        let _ = mm.write_obj(UserAddr(self.base + TAIL_AT), &self.tail);
    }

    /// Moves up to `most` events to `to`, and tells how many.
    ///
    /// # Errors
    /// `EFAULT` where nothing could be written.
    pub(super) fn take(&self, mm: &MemoryManager, most: u64, to: UserAddr) -> Result<u64, Errno> {
        let mut head = self.head(mm);
        let mut taken = 0;
        while taken < most && head != self.tail {
            let moved = mm.read_obj::<Event>(self.place(head)).and_then(|event| {
                let at = to.0.checked_add(taken * EVENT_BYTES).ok_or(Errno::EFAULT)?;
                mm.write_obj(UserAddr(at), &event)
            });
            match moved {
                Ok(()) => {}
                Err(errno) if taken == 0 => return Err(errno),
                Err(_) => break,
            }
            head = (head + 1) % self.places;
            taken += 1;
        }
        if taken > 0 {
            mm.write_obj(UserAddr(self.base + HEAD_AT), &head)?;
        }
        Ok(taken)
    }

    fn place(&self, at: u32) -> UserAddr {
        UserAddr(self.base + HEADER_BYTES + u64::from(at) * EVENT_BYTES)
    }
}
