//! Hints and queries about ranges: `madvise(2)`, `mincore(2)`, `mlock(2)`, `msync(2)`.

use std::ops::Range;
use std::sync::Arc;

use sentry_platform::Access;

use crate::errno::Errno;
use crate::mm::map::round_up;
use crate::mm::vma::{VmaFlags, VmaSource};
use crate::mm::{MemoryManager, PAGE_SIZE, Prot};
use crate::vfs::File;

impl MemoryManager {
    /// The page-aligned range of a call about memory that must be mapped.
    ///
    /// # Errors
    /// `EINVAL` for a misaligned address, `ENOMEM` on overflow.
    fn page_range(addr: u64, len: u64) -> Result<Range<u64>, Errno> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(round_up(len)?).ok_or(Errno::ENOMEM)?;
        Ok(addr..end)
    }

    /// `MADV_DONTNEED`: private pages read as their source again. Holes give `ENOMEM` after the rest was done.
    ///
    /// # Errors
    /// As `madvise(2)`.
    pub fn discard(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let range = Self::page_range(addr, len).map_err(|_| Errno::EINVAL)?;
        let mut layout = self.layout.write();
        if layout.vmas.overlapping(range.clone()).any(|(_, v)| v.flags.contains(VmaFlags::LOCKED)) {
            return Err(Errno::EINVAL);
        }
        self.drop_pages(&mut layout, range.clone())?;
        if layout.is_covered(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Sets or clears a flag of the areas in a range that must be mapped throughout.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn set_flag(&self, addr: u64, len: u64, flag: VmaFlags, on: bool) -> Result<(), Errno> {
        let range = Self::page_range(addr, len)?;
        let mut layout = self.layout.write();
        let covered = layout.is_covered(range.clone());
        layout.vmas.update(range, |_, v| v.flags.set(flag, on));
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Checks that a range is mapped throughout.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn check_mapped(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let range = Self::page_range(addr, len)?;
        if self.layout.read().is_covered(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Makes the pages of a range present, as far as that works (`MAP_POPULATE`, `mlock(2)`).
    pub fn populate(&self, addr: u64, len: u64) {
        let Ok(range) = Self::page_range(addr, len) else { return };
        for at in range.step_by(PAGE_SIZE as usize) {
            let write = {
                let layout = self.layout.read();
                let Some((_, vma)) = layout.vmas.get(at) else { return };
                if layout.pmas.get(at).is_some() {
                    continue;
                }
                vma.prot.contains(Prot::WRITE)
            };
            let access = if write { Access::Write } else { Access::Read };
            if self.handle_fault(at, access).is_err() {
                return;
            }
        }
    }

    /// The start of the `MAP_GROWSDOWN` area that contains `addr`.
    #[must_use]
    pub fn growing_area_start(&self, addr: u64) -> Option<u64> {
        let layout = self.layout.read();
        let (range, vma) = layout.vmas.get(addr)?;
        vma.flags.contains(VmaFlags::GROWS_DOWN).then_some(range.start)
    }

    /// Which pages of a range are there (`mincore(2)`), one byte for each.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn resident(&self, addr: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let range = Self::page_range(addr, len)?;
        let layout = self.layout.read();
        if !layout.is_covered(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        let pages = range.step_by(PAGE_SIZE as usize);
        Ok(pages.map(|at| u8::from(layout.pmas.get(at).is_some())).collect())
    }

    /// The shared file mappings in a range, for `msync(2)`.
    #[must_use]
    pub fn shared_files(&self, addr: u64, len: u64) -> Vec<Arc<File>> {
        let Ok(range) = Self::page_range(addr, len) else { return Vec::new() };
        let layout = self.layout.read();
        let areas = layout.vmas.overlapping(range).filter(|(_, v)| v.is_shared());
        areas
            .filter_map(|(_, v)| match &v.source {
                VmaSource::Mapped { file, .. } => file.clone(),
                VmaSource::Anonymous => None,
            })
            .collect()
    }

    /// `mlockall(2)`: locks what is mapped now, and what will be.
    pub fn lock_all(&self, current: bool, future: bool) {
        let mut layout = self.layout.write();
        layout.lock_future = future;
        if current {
            let range = self.range.clone();
            layout.vmas.update(range, |_, v| v.flags.insert(VmaFlags::LOCKED));
        }
    }

    /// `munlockall(2)`.
    pub fn unlock_all(&self) {
        let mut layout = self.layout.write();
        layout.lock_future = false;
        let range = self.range.clone();
        layout.vmas.update(range, |_, v| v.flags.remove(VmaFlags::LOCKED));
    }

    /// Bytes locked by `mlock(2)`.
    #[must_use]
    pub fn locked_bytes(&self) -> u64 {
        self.layout.read().bytes_where(|v| v.flags.contains(VmaFlags::LOCKED))
    }
}
