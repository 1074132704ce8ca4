//! Where things are in a stub's address space.
//!
//! ```text
//! 0x7_0000 .. GUEST_END            the guest's
//! base                             stub text, read and execute
//! base + READ_ONLY                 constants of the stub text: seccomp program, descriptor numbers
//! base + COMMANDS                  command page, reply page: read-only here, written by the sentry and by pwrite(2)
//! base + SCRATCH                   results of commands, hints only: the guest can write here
//! base + THREADS + n * THREAD_LEN  one area per guest thread: hand-over page and signal stack
//! ```

use std::io;
use std::ptr;

use crate::host;

/// The lowest address that guests may use. Below it, from `vm.mmap_min_addr` on, is the table of rewritten call sites.
pub(crate) const GUEST_START: u64 = 0x7_0000;
/// One past the last address that guests may use; the stub's area is somewhere in the last four gigabytes.
pub(crate) const GUEST_END: u64 = 0x7fff_0000_0000;
/// One past the last address that a process can map (x86-64, four-level page tables, less the guard page).
const TASK_END: u64 = (1 << 47) - 4096;

/// Offset of the constants.
pub(crate) const READ_ONLY: u64 = 0x1000;
/// Offset of the command page; the reply page follows it.
pub(crate) const COMMANDS: u64 = 0x1_0000;
/// Offset of the page of command results.
pub(crate) const SCRATCH: u64 = COMMANDS + 0x2000;
/// Offset of the first thread area.
const THREADS: u64 = 0x10_0000;
/// The size and alignment of a thread area.
pub(crate) const THREAD_LEN: u64 = 0x8000;
/// Offset of the signal stack in a thread area. It must hold a frame with all vector state (3.5 KiB with AVX-512).
pub(crate) const SIGNAL_STACK: u64 = 0x1000;
/// The size of the stub's area.
const SPAN: u64 = 1 << 30;
/// How many guest threads an address space can have.
pub(crate) const MAX_THREADS: u64 = (SPAN - THREADS) / THREAD_LEN;

/// The stub's area: at the same address in the template and in every stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    base: u64,
}

impl Layout {
    /// Finds and reserves an area that is free in the sentry too: the template starts as a copy of it.
    ///
    /// # Errors
    /// When nothing is free.
    pub(crate) fn reserve() -> io::Result<Self> {
        let places = (TASK_END - GUEST_END - SPAN) / THREAD_LEN;
        for _ in 0..256 {
            let base = GUEST_END + host::random_u64()? % places * THREAD_LEN;
            let flags =
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
            let at = ptr::without_provenance_mut(host::address(base));
            // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping; nothing refers to the new one.
            let got = unsafe { libc::mmap(at, host::address(SPAN), libc::PROT_NONE, flags, -1, 0) };
            if got == at {
                return Ok(Self { base });
            }
            if got != libc::MAP_FAILED {
                // A kernel before 4.17 takes the address for a hint.
                // SAFETY: unmaps what was mapped just now.
                unsafe { libc::munmap(got, host::address(SPAN)) };
            }
        }
        Err(io::Error::other("no free gigabyte at the top of the address space"))
    }

    /// Gives the reservation in the sentry back; the template has its copy.
    pub(crate) fn release(self) {
        let at = ptr::without_provenance_mut(host::address(self.base));
        // SAFETY: unmaps the reservation made in `reserve`, to which nothing refers.
        unsafe { libc::munmap(at, host::address(SPAN)) };
    }

    /// Start of the stub text, and of the area.
    pub(crate) fn text(self) -> u64 {
        self.base
    }

    /// Start of the constants.
    pub(crate) fn read_only(self) -> u64 {
        self.base + READ_ONLY
    }

    /// Start of the page of results.
    pub(crate) fn scratch(self) -> u64 {
        self.base + SCRATCH
    }

    /// Start of the area of a guest thread.
    pub(crate) fn thread(self, index: u64) -> u64 {
        self.base + THREADS + index * THREAD_LEN
    }

    /// The ranges that the template unmaps: everything but the first pages of the area.
    pub(crate) fn others(self) -> [(u64, u64); 2] {
        let kept = self.scratch() + 4096;
        [(0, self.base), (kept, TASK_END - kept)]
    }
}
