//! What `mmap(2)` needs from a file: the pages behind its offsets.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use crate::errno::Errno;

/// Where the bytes of a page range live on the host.
#[derive(Debug, Clone)]
pub enum Backing {
    /// In the sentry's memory file, at this offset. The file keeps the pages allocated as long as the mapping
    /// holds the `Mappable`.
    Memory(u64),
    /// In a host file donated by the gofer, at this offset; mapped straight into the guest.
    Host(Arc<OwnedFd>, u64),
}

/// The answer to [`Mappable::translate`].
#[derive(Debug, Clone)]
pub struct MappedRange {
    /// Where the first byte of the range is.
    pub backing: Backing,
    /// How many bytes from there are contiguous in `backing`, at least one page, a multiple of the page size.
    pub len: u64,
}

/// A file whose contents can be mapped into guest memory.
pub trait Mappable: Any + Send + Sync {
    /// Finds (for tmpfs: allocates, when `write`) the pages at file offset `offset`, which is page-aligned, for up
    /// to `len` bytes.
    ///
    /// # Errors
    /// `ENXIO` beyond the end of the file (the guest gets `SIGBUS`), `ENOMEM`, `EIO`.
    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<MappedRange, Errno>;

    /// The current size of the file in bytes.
    fn size(&self) -> u64;

    /// Whether these pages may be mapped together.
    ///
    /// # Errors
    /// `EINVAL` of what is mapped as a whole.
    fn accepts(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let _ = (offset, len);
        Ok(())
    }

    /// Asks to be told when the file shrinks; each owner is told once however often it asks. Files whose lost pages
    /// the host takes away by itself ignore it.
    fn watch_shrinking(&self, owner: Weak<dyn MappingOwner>) {
        let _ = owner;
    }

    /// Names the file among those that tell of shrinking.
    fn shrinking_id(&self) -> Option<usize> {
        None
    }
}

/// What has mapped files: an address space.
pub trait MappingOwner: Send + Sync {
    /// The file with this [`Mappable::shrinking_id`] has no pages from offset `from` (page-aligned) on any more: the
    /// guest must not see those it had. Called with no lock of the file held.
    fn forget_pages(&self, id: usize, from: u64);
}
