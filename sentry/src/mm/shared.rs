//! Memory shared without a file (`MAP_SHARED | MAP_ANONYMOUS`, `shmget(2)`), and what names a futex.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sentry_platform::Access;

use crate::errno::Errno;
use crate::mm::pma::PmaSource;
use crate::mm::{Frames, MemoryManager, PAGE_SIZE, UserAddr};
use crate::vfs::{Backing, Mappable, MappedRange};

/// An object of shared pages, made when first touched.
#[derive(Debug)]
pub struct SharedMemory {
    frames: Arc<Frames>,
    size: u64,
    /// Offset in the object to (length, offset in the memory file).
    pieces: Mutex<BTreeMap<u64, (u64, u64)>>,
}

/// Pages are made in pieces of this size.
const PIECE: u64 = 16 * PAGE_SIZE;

impl SharedMemory {
    /// An object of `size` bytes, a multiple of the page size.
    #[must_use]
    pub fn new(frames: &Arc<Frames>, size: u64) -> Arc<Self> {
        Arc::new(Self { frames: frames.clone(), size, pieces: Mutex::default() })
    }

    /// Bytes that have pages.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.pieces.lock().values().map(|(len, _)| len).sum()
    }
}

impl Mappable for SharedMemory {
    fn translate(&self, offset: u64, _len: u64, _write: bool) -> Result<MappedRange, Errno> {
        if offset >= self.size {
            return Err(Errno::ENXIO);
        }
        let mut pieces = self.pieces.lock();
        let start = offset - offset % PIECE;
        let (len, at) = match pieces.get(&start) {
            Some(piece) => *piece,
            None => {
                let len = PIECE.min(self.size - start);
                let at = self.frames.allocate(len)?;
                pieces.insert(start, (len, at));
                (len, at)
            }
        };
        let by = offset - start;
        Ok(MappedRange { backing: Backing::Memory(at + by), len: len - by })
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        for (len, at) in self.pieces.get_mut().values() {
            self.frames.release(*at, *len);
        }
    }
}

/// What two futex calls must agree on to meet (`futex(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FutexKey {
    /// An address in one address space.
    Private {
        /// The address space.
        mm: u64,
        /// The address.
        addr: u64,
    },
    /// A place in shared memory, as an offset in the memory file.
    Shared(u64),
}

impl MemoryManager {
    /// The key of the futex at `addr`; `is_private` is `FUTEX_PRIVATE_FLAG`.
    ///
    /// # Errors
    /// `EINVAL` for a misaligned address, `EFAULT`.
    pub fn futex_key(&self, addr: UserAddr, is_private: bool) -> Result<FutexKey, Errno> {
        if !addr.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if addr.0 >= self.range.end {
            return Err(Errno::EFAULT);
        }
        let private = FutexKey::Private { mm: self.id, addr: addr.0 };
        if is_private {
            return Ok(private);
        }
        for _ in 0..8 {
            {
                let layout = self.layout.read();
                let (_, vma) = layout.vmas.get(addr.0).ok_or(Errno::EFAULT)?;
                if !vma.is_shared() {
                    return Ok(private);
                }
                if let Some((range, pma)) = layout.pmas.get(addr.0) {
                    return match pma.source.advanced(addr.0 - range.start) {
                        PmaSource::Frames(at) | PmaSource::Shared(at) => Ok(FutexKey::Shared(at)),
                        PmaSource::Host(..) => Ok(private),
                    };
                }
            }
            self.fault_in(addr.0, Access::Read)?;
        }
        Err(Errno::EFAULT)
    }
}
