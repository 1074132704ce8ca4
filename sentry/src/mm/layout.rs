//! The state of an address space under its lock.

use std::ops::Range;

use crate::errno::Errno;
use crate::mm::pma::Pma;
use crate::mm::range_map::RangeMap;
use crate::mm::vma::{Vma, VmaFlags};
use crate::mm::{PAGE_SIZE, Prot};

/// The most areas (`vm.max_map_count`).
const MAX_AREAS: usize = 65_530;

/// Distance kept below a growing stack (`stack_guard_gap`): 256 pages.
pub(crate) const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;

/// What is mapped where.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) vmas: RangeMap<Vma>,
    pub(crate) pmas: RangeMap<Pma>,
    /// Counts changes of `vmas`, for work that drops the lock in between.
    pub(crate) generation: u64,
    /// The program break: start and current end.
    pub(crate) brk: Range<u64>,
    /// Mappings are placed below this address.
    pub(crate) mmap_top: u64,
    /// `mlockall(MCL_FUTURE)`.
    pub(crate) lock_future: bool,
    /// Bytes in all areas.
    pub(crate) total: u64,
    /// Arguments, environment and auxiliary vector for `/proc`.
    pub(crate) process: ProcessImage,
}

/// Where `execve(2)` put things (`prctl(PR_SET_MM)`, `/proc/PID/cmdline`).
#[derive(Debug, Default, Clone)]
pub(crate) struct ProcessImage {
    pub(crate) args: Range<u64>,
    pub(crate) env: Range<u64>,
    pub(crate) auxv: Vec<u8>,
    pub(crate) code: Range<u64>,
    pub(crate) stack_start: u64,
}

impl Layout {
    /// Notes that the areas changed.
    pub(crate) fn touch(&mut self) {
        self.generation += 1;
    }

    /// Adds an area where nothing is.
    ///
    /// # Errors
    /// `ENOMEM` when there are too many.
    pub(crate) fn add(&mut self, range: Range<u64>, vma: Vma) -> Result<(), Errno> {
        if self.vmas.len() >= MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        self.total += range.end - range.start;
        self.vmas.insert(range, vma);
        self.touch();
        Ok(())
    }

    /// The highest free range of `len` bytes that ends at or below `mmap_top` and starts at or above `floor`.
    pub(crate) fn find_gap(&self, len: u64, floor: u64) -> Option<u64> {
        let mut top = self.mmap_top;
        for (range, vma) in self.vmas.overlapping(floor..self.mmap_top).rev() {
            if range.end <= top && top - range.end >= len {
                return Some(top - len);
            }
            let gap = if vma.flags.contains(VmaFlags::GROWS_DOWN) { STACK_GUARD_GAP } else { 0 };
            top = top.min(range.start.saturating_sub(gap));
        }
        (top >= floor && top - floor >= len).then(|| top - len)
    }

    /// The lowest free range of `len` bytes from `floor` on, for when nothing is left below `mmap_top`.
    pub(crate) fn find_gap_above(&self, len: u64, floor: u64, ceiling: u64) -> Option<u64> {
        let mut at = floor;
        for (range, _) in self.vmas.overlapping(floor..ceiling) {
            if range.start >= at && range.start - at >= len {
                return Some(at);
            }
            at = at.max(range.end);
        }
        (ceiling >= at && ceiling - at >= len).then_some(at)
    }

    /// Bytes in areas for which `which` holds.
    pub(crate) fn bytes_where(&self, which: impl Fn(&Vma) -> bool) -> u64 {
        self.vmas.iter().filter(|(_, v)| which(v)).map(|(r, _)| r.end - r.start).sum()
    }

    /// Bytes that count against `RLIMIT_DATA`: private and writable.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.bytes_where(|v| !v.is_shared() && v.prot.contains(Prot::WRITE))
    }

    /// True where every address of `range` is in an area.
    pub(crate) fn is_covered(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        for (r, _) in self.vmas.overlapping(range.clone()) {
            if r.start > at {
                return false;
            }
            at = r.end;
        }
        at >= range.end
    }
}
