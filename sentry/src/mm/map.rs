//! Changing what is mapped: `mmap(2)`, `munmap(2)`, `mprotect(2)`, `brk(2)`.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_platform::MapOp;

use crate::errno::Errno;
use crate::mm::fault::{FAULT_AROUND, host_prot};
use crate::mm::layout::Layout;
use crate::mm::vma::{Vma, VmaFlags, VmaSource};
use crate::mm::{MemoryManager, PAGE_SIZE, Prot};
use crate::vfs::{File, Mappable};

/// Where a mapping shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere; at this address if it is free and not 0.
    Hint(u64),
    /// Exactly there; what is there goes (`MAP_FIXED`).
    Fixed(u64),
    /// Exactly there, or `EEXIST` (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(u64),
}

/// A mapping to make.
#[derive(Clone)]
pub struct MapRequest {
    /// Where.
    pub placement: Placement,
    /// How long, in bytes; rounded up to pages.
    pub len: u64,
    /// The access wanted.
    pub prot: Prot,
    /// The access that `mprotect(2)` may give later.
    pub max_prot: Prot,
    /// Properties.
    pub flags: VmaFlags,
    /// What is mapped and from which offset; `None` for anonymous memory.
    pub source: Option<MapFile>,
}

/// What a mapping shows.
#[derive(Clone)]
pub struct MapFile {
    /// Its pages.
    pub mappable: Arc<dyn Mappable>,
    /// From where on, page-aligned.
    pub offset: u64,
    /// The open file to keep, or `None` for objects of the kernel.
    pub file: Option<Arc<File>>,
    /// What `/proc/PID/maps` prints for objects of the kernel.
    pub name: Cow<'static, str>,
}

impl MapRequest {
    /// Private anonymous memory.
    #[must_use]
    pub fn anonymous(placement: Placement, len: u64, prot: Prot) -> Self {
        let flags = VmaFlags::empty();
        Self { placement, len, prot, max_prot: Prot::all(), flags, source: None }
    }
}

/// Rounds up to pages.
///
/// # Errors
/// `ENOMEM` on overflow.
pub(crate) fn round_up(len: u64) -> Result<u64, Errno> {
    len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)
}

impl MemoryManager {
    /// Makes a mapping and returns its address.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn map(&self, request: &MapRequest) -> Result<u64, Errno> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = round_up(request.len)?;
        if len > self.range.end - self.range.start {
            return Err(Errno::ENOMEM);
        }
        if let Some(file) = &request.source {
            self.watch(&*file.mappable);
        }
        let mut layout = self.layout.write();
        let addr = self.place(&layout, request.placement, len)?;
        self.check_limits(&layout, len, request)?;
        let range = addr..addr + len;
        if matches!(request.placement, Placement::Fixed(_)) {
            self.unmap_locked(&mut layout, range.clone())?;
        }
        let source = match &request.source {
            None => VmaSource::Anonymous,
            Some(MapFile { mappable, offset, file, name }) => VmaSource::Mapped {
                mappable: mappable.clone(),
                offset: *offset,
                file: file.clone(),
                name: name.clone(),
            },
        };
        let mut flags = request.flags;
        flags.set(VmaFlags::LOCKED, layout.lock_future || flags.contains(VmaFlags::LOCKED));
        let is_fresh = !matches!(request.placement, Placement::Fixed(_)) && flags.is_empty();
        let is_plain = matches!(source, VmaSource::Anonymous) && request.prot.contains(Prot::WRITE);
        layout.add(range, Vma { prot: request.prot, max_prot: request.max_prot, flags, source })?;
        if is_fresh && is_plain && len <= FAULT_AROUND {
            // It is about to be used, and its first touch would bring all of it: save the fault. Failing is harmless.
            let _ = self.make_all_present(&mut layout, addr, len);
        }
        Ok(addr)
    }

    fn place(&self, layout: &Layout, placement: Placement, len: u64) -> Result<u64, Errno> {
        let is_inside =
            |at: u64| at >= self.range.start && at.checked_add(len).is_some_and(|e| e <= self.range.end);
        match placement {
            Placement::Fixed(at) | Placement::FixedNoReplace(at) if !at.is_multiple_of(PAGE_SIZE) => {
                Err(Errno::EINVAL)
            }
            // Below vm.mmap_min_addr: EPERM (mmap(2)); above the top: ENOMEM.
            Placement::Fixed(at) | Placement::FixedNoReplace(at) if at < self.range.start => {
                Err(Errno::EPERM)
            }
            Placement::Fixed(at) if is_inside(at) => Ok(at),
            Placement::FixedNoReplace(at) if is_inside(at) => {
                if layout.vmas.is_vacant(at..at + len) {
                    Ok(at)
                } else {
                    Err(Errno::EEXIST)
                }
            }
            Placement::Fixed(_) | Placement::FixedNoReplace(_) => Err(Errno::ENOMEM),
            Placement::Hint(at) => {
                let at = at & !(PAGE_SIZE - 1);
                if at != 0 && is_inside(at) && layout.vmas.is_vacant(at..at + len) {
                    return Ok(at);
                }
                let below = layout.find_gap(len, self.range.start);
                below
                    .or_else(|| layout.find_gap_above(len, self.range.start, self.range.end))
                    .ok_or(Errno::ENOMEM)
            }
        }
    }

    fn check_limits(&self, layout: &Layout, len: u64, request: &MapRequest) -> Result<(), Errno> {
        if layout.total.saturating_add(len) > self.size_limit.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        let data_limit = self.data_limit.load(Ordering::Relaxed);
        let is_data = request.prot.contains(Prot::WRITE) && !request.flags.contains(VmaFlags::SHARED);
        if is_data && data_limit != u64::MAX && layout.data_bytes().saturating_add(len) > data_limit {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Removes what is mapped in a range; holes are fine.
    ///
    /// # Errors
    /// `EINVAL` for a misaligned address or an empty or impossible range.
    pub fn unmap(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let len = round_up(len).map_err(|_| Errno::EINVAL)?;
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        if !addr.is_multiple_of(PAGE_SIZE) || len == 0 || end > self.range.end {
            return Err(Errno::EINVAL);
        }
        let mut layout = self.layout.write();
        self.unmap_locked(&mut layout, addr..end)
    }

    pub(crate) fn unmap_locked(&self, layout: &mut Layout, range: Range<u64>) -> Result<(), Errno> {
        self.drop_pages(layout, range.clone())?;
        let removed = layout.vmas.remove(range);
        layout.total -= removed.iter().map(|(r, _)| r.end - r.start).sum::<u64>();
        layout.touch();
        Ok(())
    }

    /// Forgets the pages of a range: the host first, so that the guest cannot reach pages that are free again.
    pub(crate) fn drop_pages(&self, layout: &mut Layout, range: Range<u64>) -> Result<(), Errno> {
        let installed: Vec<Range<u64>> = layout
            .pmas
            .overlapping(range.clone())
            .filter(|(_, p)| p.installed)
            .map(|(r, _)| r.start.max(range.start)..r.end.min(range.end))
            .collect();
        if let (Some(first), Some(last)) = (installed.first(), installed.last()) {
            // One operation over everything: holes cost nothing.
            let op = MapOp::Unmap { addr: first.start, len: last.end - first.start };
            self.apply(&[op])?;
        }
        for (r, pma) in layout.pmas.remove(range) {
            pma.release(r.end - r.start, &self.frames);
        }
        Ok(())
    }

    pub(crate) fn apply(&self, ops: &[MapOp]) -> Result<(), Errno> {
        if ops.is_empty() {
            return Ok(());
        }
        self.aspace.apply(ops).map_err(|error| {
            tracing::warn!("changing guest mappings: {error}");
            Errno::ENOMEM
        })
    }

    /// Changes the protection of a range, which must be mapped throughout.
    ///
    /// # Errors
    /// As `mprotect(2)`.
    pub fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let len = round_up(len)?;
        let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
        if len == 0 {
            return Ok(());
        }
        let mut layout = self.layout.write();
        // As Linux, areas before a hole are changed although the call fails.
        let mut covered_to = addr;
        let mut refused = None;
        for (r, vma) in layout.vmas.overlapping(addr..end) {
            if r.start > covered_to {
                break;
            }
            if !vma.max_prot.contains(prot) {
                refused = Some(Errno::EACCES);
                break;
            }
            covered_to = r.end;
        }
        let done = addr..end.min(covered_to);
        if done.start < done.end {
            layout.vmas.update(done.clone(), |_, v| v.prot = prot);
            layout.touch();
            let ops = protect_ops(&layout, &done, prot);
            self.apply(&ops)?;
        }
        match refused {
            Some(error) => Err(error),
            None if covered_to < end => Err(Errno::ENOMEM),
            None => Ok(()),
        }
    }

    /// Moves the program break and returns the new one, or the old one where that is impossible (`brk(2)`).
    pub fn set_brk(&self, to: u64) -> u64 {
        let mut layout = self.layout.write();
        let (start, old) = (layout.brk.start, layout.brk.end);
        let (Ok(old_top), Ok(new_top)) = (round_up(old), round_up(to)) else { return old };
        if to < start || new_top > self.range.end {
            return old;
        }
        if new_top < old_top {
            if self.unmap_locked(&mut layout, new_top..old_top).is_err() {
                return old;
            }
        } else if new_top > old_top {
            let prot = Prot::READ | Prot::WRITE;
            let request = MapRequest::anonymous(Placement::FixedNoReplace(old_top), new_top - old_top, prot);
            let fits = layout.vmas.is_vacant(old_top..new_top)
                && self.check_limits(&layout, new_top - old_top, &request).is_ok();
            let mut vma = Vma::anonymous(prot);
            vma.flags.insert(VmaFlags::HEAP);
            vma.flags.set(VmaFlags::LOCKED, layout.lock_future);
            if !fits || layout.add(old_top..new_top, vma).is_err() {
                return old;
            }
        }
        layout.brk.end = to;
        to
    }
}

/// The host operations that give the installed pages of a range their protection.
fn protect_ops(layout: &Layout, range: &Range<u64>, prot: Prot) -> Vec<MapOp> {
    let mut ops: Vec<MapOp> = Vec::new();
    for (r, pma) in layout.pmas.overlapping(range.clone()).filter(|(_, p)| p.installed) {
        let mut prot = prot;
        if !pma.writable {
            prot.remove(Prot::WRITE);
        }
        let (start, end) = (r.start.max(range.start), r.end.min(range.end));
        ops.push(MapOp::Protect { addr: start, len: end - start, prot: host_prot(prot) });
    }
    ops
}
