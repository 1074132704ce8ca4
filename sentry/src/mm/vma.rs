//! Virtual memory areas: what the guest mapped where (`mmap(2)`, `/proc/PID/maps`).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::mm::range_map::RangeValue;
use crate::vfs::{File, Mappable};

bitflags::bitflags! {
    /// Access to memory, with the values of `mmap(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[allow(missing_docs, reason = "the names are those of mmap(2)")]
    pub struct Prot: u32 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
    }

    /// Properties of an area.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct VmaFlags: u32 {
        /// `MAP_SHARED`: writes are seen by others.
        const SHARED = 1;
        /// `MAP_GROWSDOWN`: grows when the guest touches the memory below.
        const GROWS_DOWN = 2;
        /// `mlock(2)`.
        const LOCKED = 4;
        /// `MADV_DONTFORK`.
        const DONT_FORK = 8;
        /// `MADV_WIPEONFORK`.
        const WIPE_ON_FORK = 16;
        /// The program break grows here.
        const HEAP = 32;
        /// The stack of the first thread.
        const STACK = 64;
    }
}

/// What an area shows.
#[derive(Clone)]
pub(crate) enum VmaSource {
    /// Zeros until written.
    Anonymous,
    /// A file, or an object that behaves like one.
    Mapped {
        /// Its pages.
        mappable: Arc<dyn Mappable>,
        /// Where the area starts in it, in bytes.
        offset: u64,
        /// Keeps the file open; `None` for objects of the kernel.
        file: Option<Arc<File>>,
        /// What `/proc/PID/maps` prints for objects of the kernel.
        name: Cow<'static, str>,
    },
}

impl fmt::Debug for VmaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Mapped { offset, name, .. } => write!(f, "Mapped({name:?}, {offset:#x})"),
        }
    }
}

/// One area.
#[derive(Debug, Clone)]
pub(crate) struct Vma {
    pub(crate) prot: Prot,
    /// What `mprotect(2)` may ask for: a shared mapping of a file open for reading never becomes writable.
    pub(crate) max_prot: Prot,
    pub(crate) flags: VmaFlags,
    pub(crate) source: VmaSource,
}

impl Vma {
    /// A private anonymous area.
    pub(crate) fn anonymous(prot: Prot) -> Self {
        Self { prot, max_prot: Prot::all(), flags: VmaFlags::empty(), source: VmaSource::Anonymous }
    }

    /// True with `MAP_SHARED`.
    pub(crate) fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }
}

impl RangeValue for Vma {
    fn split_off(&mut self, by: u64) -> Self {
        let mut rest = self.clone();
        if let VmaSource::Mapped { offset, .. } = &mut rest.source {
            *offset += by;
        }
        // Only the lowest part of a stack grows.
        rest.flags.remove(VmaFlags::GROWS_DOWN);
        rest
    }

    fn can_merge(&self, len: u64, next: &Self) -> bool {
        let growth = VmaFlags::GROWS_DOWN;
        self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.flags.difference(growth) == next.flags
            && match (&self.source, &next.source) {
                (VmaSource::Anonymous, VmaSource::Anonymous) => true,
                (
                    VmaSource::Mapped { mappable: a, offset: at, .. },
                    VmaSource::Mapped { mappable: b, offset: bt, .. },
                ) => Arc::ptr_eq(a, b) && at.checked_add(len) == Some(*bt),
                _ => false,
            }
    }
}
