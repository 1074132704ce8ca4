//! Where things are in a stub's address space.

use std::io;
use std::ptr;

/// The lowest address that guests may use (`vm.mmap_min_addr`).
pub(crate) const GUEST_START: u64 = 0x1_0000;
/// Addresses from here on belong to the host kernel (x86-64, four-level page tables), less its guard page.
pub(crate) const TASK_SIZE: u64 = (1 << 47) - 4096;

/// How many stub processes there can be at a time.
pub(crate) const SLOTS: usize = 8192;
/// The size of one control page.
pub(crate) const PAGE: u64 = 4096;

const TEXT: u64 = 0;
const COMMANDS: u64 = 0x10_0000;
const REPLIES: u64 = COMMANDS + SLOTS as u64 * PAGE;
const SPAN: u64 = 1 << 30;

/// The stub's area: the same in the template and in every stub.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    base: u64,
}

impl Layout {
    /// Finds and reserves an area as high as possible that is free in the sentry (the template starts as a copy of
    /// it) and leaves the rest of the address space to guests.
    ///
    /// # Errors
    /// When nothing is free.
    pub(crate) fn reserve() -> io::Result<Self> {
        let top = (1 << 47) - SPAN;
        for base in (0..1024).map(|n| top - n * SPAN) {
            // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping; nothing refers to the new one.
            let at = unsafe {
                libc::mmap(
                    ptr::without_provenance_mut(base as usize),
                    SPAN as usize - PAGE as usize,
                    libc::PROT_NONE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
                    -1,
                    0,
                )
            };
            if at.addr() as u64 == base {
                return Ok(Self { base });
            }
            if at != libc::MAP_FAILED {
                // A kernel that does not know the flag took the address for a hint.
                // SAFETY: unmaps what was mapped just now.
                unsafe { libc::munmap(at, SPAN as usize - PAGE as usize) };
            }
        }
        Err(io::Error::other("no free gigabyte at the top of the address space"))
    }

    /// One past the last address that guests may use.
    pub(crate) fn guest_end(self) -> u64 {
        self.base
    }

    /// One past the stub's area.
    pub(crate) fn end(self) -> u64 {
        self.base + SPAN - PAGE
    }

    /// Where the stub text is.
    pub(crate) fn text(self) -> u64 {
        self.base + TEXT
    }

    /// The command page of a slot, read-only in the stub.
    pub(crate) fn command(self, slot: usize) -> u64 {
        self.base + COMMANDS + slot as u64 * PAGE
    }

    /// The reply page of a slot.
    pub(crate) fn reply(self, slot: usize) -> u64 {
        self.base + REPLIES + slot as u64 * PAGE
    }
}
