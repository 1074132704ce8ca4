//! Moving and resizing mappings (`mremap(2)`).

use std::ops::Range;

use sentry_platform::MapOp;

use crate::errno::Errno;
use crate::mm::layout::Layout;
use crate::mm::map::round_up;
use crate::mm::vma::{VmaFlags, VmaSource};
use crate::mm::{MemoryManager, PAGE_SIZE};

/// Whether and whither a mapping may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// It must stay.
    Never,
    /// Anywhere, if it cannot grow where it is (`MREMAP_MAYMOVE`).
    May,
    /// To this address; what is there goes (`MREMAP_FIXED`).
    To(u64),
}

impl MemoryManager {
    /// Resizes or moves the mapping `[addr, addr + old_len)` and returns its address.
    ///
    /// # Errors
    /// As `mremap(2)`.
    pub fn remap(&self, addr: u64, old_len: u64, new_len: u64, how: Move) -> Result<u64, Errno> {
        if !addr.is_multiple_of(PAGE_SIZE) || new_len == 0 {
            return Err(Errno::EINVAL);
        }
        let old_len = round_up(old_len).map_err(|_| Errno::EINVAL)?;
        let new_len = round_up(new_len).map_err(|_| Errno::EINVAL)?;
        let old_end = addr.checked_add(old_len).ok_or(Errno::EINVAL)?;
        let mut layout = self.layout.write();
        let (area, vma) = layout.vmas.get(addr).ok_or(Errno::EFAULT)?;
        let (area, shared) = (area.clone(), vma.is_shared());
        if let Move::To(to) = how {
            self.check_target(to, new_len, &(addr..old_end))?;
        }
        if old_len == 0 {
            // A second mapping of shared pages; for private ones that makes no sense.
            if !shared || how == Move::Never {
                return Err(Errno::EINVAL);
            }
        } else if old_end > area.end {
            return Err(Errno::EFAULT);
        }
        if old_len > 0 && !matches!(how, Move::To(_)) {
            if new_len <= old_len {
                if new_len < old_len {
                    self.unmap_locked(&mut layout, addr + new_len..old_end)?;
                }
                return Ok(addr);
            }
            if old_end == area.end && self.grow_in_place(&mut layout, &area, addr + new_len)? {
                return Ok(addr);
            }
        }
        let to = match how {
            Move::Never => return Err(Errno::ENOMEM),
            Move::May => layout.find_gap(new_len, self.range.start).ok_or(Errno::ENOMEM)?,
            Move::To(to) => {
                self.unmap_locked(&mut layout, to..to + new_len)?;
                to
            }
        };
        if new_len < old_len {
            self.unmap_locked(&mut layout, addr + new_len..old_end)?;
        }
        self.move_area(&mut layout, addr..addr + old_len.min(new_len), to, new_len)?;
        Ok(to)
    }

    fn check_target(&self, to: u64, len: u64, old: &Range<u64>) -> Result<(), Errno> {
        let end = to.checked_add(len).ok_or(Errno::EINVAL)?;
        let overlaps = to < old.end && old.start < end;
        let is_outside = to < self.range.start || end > self.range.end;
        if !to.is_multiple_of(PAGE_SIZE) || overlaps || is_outside { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn grow_in_place(&self, layout: &mut Layout, area: &Range<u64>, end: u64) -> Result<bool, Errno> {
        if end > self.range.end || !layout.vmas.is_vacant(area.end..end) {
            return Ok(false);
        }
        let Some((_, vma)) = layout.vmas.get(area.start) else { return Ok(false) };
        let mut tail = vma.clone();
        tail.flags.remove(VmaFlags::GROWS_DOWN);
        if let VmaSource::Mapped { offset, .. } = &mut tail.source {
            *offset += area.end - area.start;
        }
        self.check_growth(layout, end - area.end)?;
        layout.add(area.end..end, tail)?;
        Ok(true)
    }

    fn check_growth(&self, layout: &Layout, by: u64) -> Result<(), Errno> {
        let limit = self.size_limit.load(std::sync::atomic::Ordering::Relaxed);
        if layout.total.saturating_add(by) > limit { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Moves the area `old` with its pages to `to` and makes it `len` long. An empty `old` is duplicated.
    fn move_area(&self, layout: &mut Layout, old: Range<u64>, to: u64, len: u64) -> Result<(), Errno> {
        let (area, vma) = layout.vmas.get(old.start).ok_or(Errno::EFAULT)?;
        let mut moved = vma.clone();
        if let VmaSource::Mapped { offset, .. } = &mut moved.source {
            *offset += old.start - area.start;
        }
        if len > old.end - old.start {
            self.check_growth(layout, len - (old.end - old.start))?;
        }
        if old.is_empty() {
            return layout.add(to..to + len, moved);
        }
        self.apply(&[MapOp::Unmap { addr: old.start, len: old.end - old.start }])?;
        let pages = layout.pmas.remove(old.clone());
        let removed = layout.vmas.remove(old.clone());
        layout.total -= removed.iter().map(|(r, _)| r.end - r.start).sum::<u64>();
        layout.add(to..to + len, moved)?;
        for (r, mut pma) in pages {
            pma.installed = false;
            layout.pmas.insert(to + (r.start - old.start)..to + (r.end - old.start), pma);
        }
        Ok(())
    }
}
