//! The memory of a ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::errno::Errno;
use crate::mm::{Frames, PAGE_SIZE};
use crate::vfs::{Backing, Mappable, MappedRange};

/// A range of the memory file.
#[derive(Debug)]
pub(in crate::socket::packet) struct RingMemory {
    frames: Arc<Frames>,
    at: u64,
    len: u64,
    mappings: AtomicUsize,
}

impl RingMemory {
    pub(super) fn new(frames: &Arc<Frames>, len: u64) -> Result<Arc<Self>, Errno> {
        let at = frames.allocate(len)?;
        Ok(Arc::new(Self { frames: frames.clone(), at, len, mappings: AtomicUsize::new(0) }))
    }

    /// Whether an application has mapped it.
    pub(in crate::socket::packet) fn is_mapped(&self) -> bool {
        self.mappings.load(Ordering::SeqCst) > 0
    }

    /// Writes bytes; those beyond the end are none of the ring's, and there are none.
    pub(super) fn write(&self, offset: u64, data: &[u8]) {
        if offset.checked_add(data.len() as u64).is_some_and(|end| end <= self.len) {
            // Within the memory that was allocated.
            let _ = self.frames.memory_file().write(self.at + offset, data);
        }
    }

    /// Reads bytes that the application may change; zeros beyond the end.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        if offset.checked_add(out.len() as u64).is_some_and(|end| end <= self.len) {
            // Within the memory that was allocated.
            let _ = self.frames.memory_file().read(self.at + offset, out);
        }
    }

    pub(super) fn write_u32(&self, offset: u64, value: u32) {
        self.write(offset, &value.to_ne_bytes());
    }

    /// Reads a word that the application may change.
    pub(super) fn load(&self, offset: u64) -> u32 {
        match offset.checked_add(4) {
            Some(end) if end <= self.len => {
                self.frames.memory_file().load_u32(self.at + offset).unwrap_or(u32::MAX)
            }
            _ => u32::MAX,
        }
    }

    /// Hands over what was written before: an atomic write, which is not seen before those.
    pub(super) fn publish(&self, offset: u64, value: u32) {
        if offset.checked_add(4).is_some_and(|end| end <= self.len) {
            let _ = self.frames.memory_file().swap_u32(self.at + offset, value);
        }
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        self.frames.release(self.at, self.len);
    }
}

/// The memory as applications map it: that of the ring for receiving, and behind it that of the one for sending.
pub(in crate::socket::packet) struct RingMapping(Vec<Arc<RingMemory>>);

impl RingMapping {
    pub(in crate::socket::packet) fn new(rings: Vec<Arc<RingMemory>>) -> Arc<Self> {
        for memory in &rings {
            memory.mappings.fetch_add(1, Ordering::SeqCst);
        }
        Arc::new(Self(rings))
    }
}

impl Drop for RingMapping {
    fn drop(&mut self) {
        for memory in &self.0 {
            memory.mappings.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Mappable for RingMapping {
    fn translate(&self, offset: u64, len: u64, _: bool) -> Result<MappedRange, Errno> {
        let mut offset = offset;
        for memory in &self.0 {
            match memory.len.checked_sub(offset).filter(|left| *left > 0) {
                Some(left) => {
                    let len = left.min(len.max(1)).next_multiple_of(PAGE_SIZE);
                    return Ok(MappedRange { backing: Backing::Memory(memory.at + offset), len });
                }
                None => offset -= memory.len,
            }
        }
        Err(Errno::ENXIO)
    }

    fn size(&self) -> u64 {
        self.0.iter().map(|memory| memory.len).sum()
    }

    /// All of it, or nothing (`packet_mmap`).
    fn accepts(&self, offset: u64, len: u64) -> Result<(), Errno> {
        if offset == 0 && len == self.size() { Ok(()) } else { Err(Errno::EINVAL) }
    }
}
