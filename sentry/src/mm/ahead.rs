//! Mapping what is about to be used, so that it needs no fault: a fault costs a signal and a hand-over, an operation in a
//! batch a tenth of that.

use std::ops::Range;
use std::sync::Arc;

use sentry_platform::{Access, MapOp, Populate};

use crate::errno::Errno;
use crate::mm::fault::{FAULT_AROUND, FaultError, host_prot};
use crate::mm::layout::Layout;
use crate::mm::pma::{Pma, PmaSource};
use crate::mm::vma::{Vma, VmaFlags, VmaSource};
use crate::mm::{MemoryManager, PAGE_SIZE, Prot};
use crate::vfs::{Backing, Mappable};

/// How far neighbours are looked for, in areas to each side: a library has five.
const REACH: usize = 4;
/// Writable areas of a program up to this size are made at once: it relocates and initialises them.
const MAX_WRITABLE: u64 = FAULT_AROUND;
/// The most ranges that are mapped at once: as many as one batch of the platform's has room for.
const MAX_PIECES: usize = 60;

/// An area without pages yet, of a file.
pub(super) struct Absent {
    range: Range<u64>,
    mappable: Arc<dyn Mappable>,
    offset: u64,
}

/// The areas beside that of `page` which show other parts of the same file, which are only read, and of which no page is
/// there: who uses one part of a library uses the others.
pub(super) fn absent_neighbours(layout: &Layout, page: u64) -> Vec<Absent> {
    let areas =
        neighbours(layout, page).into_iter().filter(|(range, _)| layout.pmas.is_vacant(range.clone()));
    let absent = areas.filter_map(|(range, vma)| match &vma.source {
        VmaSource::Mapped { mappable, offset, .. } => {
            Some(Absent { range, mappable: mappable.clone(), offset: *offset })
        }
        VmaSource::Anonymous => None,
    });
    absent.collect()
}

/// Asks the files, with no lock held. What they refuse is left to faults.
pub(super) fn translate(absent: Vec<Absent>) -> Vec<(Range<u64>, Backing)> {
    let found = absent.into_iter().filter_map(|Absent { range, mappable, offset }| {
        let found = mappable.translate(offset, range.end - range.start, false).ok()?;
        let end = range.end.min(range.start + found.len.max(PAGE_SIZE));
        Some((range.start..end, found.backing))
    });
    found.collect()
}

/// The same areas where their pages are there and the host has them not mapped, with the operation that does.
pub(super) fn ready_neighbours(layout: &Layout, page: u64) -> Vec<(Range<u64>, MapOp)> {
    let ready = neighbours(layout, page).into_iter().filter_map(|(area, vma)| {
        let (range, pma) = layout.pmas.get(area.start)?;
        let is_new = !pma.installed && matches!(pma.source, PmaSource::Host(..));
        is_new.then(|| operation(&area, vma, &range, pma))
    });
    ready.collect()
}

/// The private areas around that of `page` that are only read and show the same file.
fn neighbours(layout: &Layout, page: u64) -> Vec<(Range<u64>, &Vma)> {
    let Some((area, vma)) = layout.vmas.get(page) else { return Vec::new() };
    let VmaSource::Mapped { mappable, .. } = &vma.source else { return Vec::new() };
    let is_same = |vma: &Vma| matches!(&vma.source, VmaSource::Mapped { mappable: other, .. } if Arc::ptr_eq(mappable, other));
    let mut found = Vec::new();
    let mut take = |range: Range<u64>, vma| {
        if is_only_read(vma) {
            found.push((range, vma));
        }
    };
    let mut at = area.end;
    for _ in 0..REACH {
        let Some((range, vma)) = layout.vmas.get(at).filter(|(_, vma)| is_same(vma)) else { break };
        at = range.end;
        take(range, vma);
    }
    let mut at = area.start;
    for _ in 0..REACH {
        let below = at.checked_sub(1).and_then(|at| layout.vmas.get(at));
        let Some((range, vma)) = below.filter(|(_, vma)| is_same(vma)) else { break };
        at = range.start;
        take(range, vma);
    }
    found
}

fn is_only_read(vma: &Vma) -> bool {
    !vma.is_shared() && !vma.prot.is_empty() && !vma.prot.contains(Prot::WRITE)
}

/// How the host maps the part of `pma` that is in `area`.
fn operation(area: &Range<u64>, vma: &Vma, range: &Range<u64>, pma: &Pma) -> (Range<u64>, MapOp) {
    let (start, end) = (area.start.max(range.start), area.end.min(range.end));
    let mut prot = vma.prot;
    if !pma.writable {
        prot.remove(Prot::WRITE);
    }
    let source = pma.source.advanced(start - range.start).in_host();
    let populate = if end - start <= FAULT_AROUND { Populate::Eagerly } else { Populate::OnTouch };
    (start..end, MapOp::Map { addr: start, len: end - start, source, prot: host_prot(prot), populate })
}

impl MemoryManager {
    /// Maps a program that was just loaded: its code, its data, its stack.
    ///
    /// # Errors
    /// `ENOMEM` where the host refuses a mapping. What a file refuses is left to faults.
    pub(crate) fn map_program(&self) -> Result<(), Errno> {
        let areas: Vec<(Range<u64>, Access)> = {
            let layout = self.layout.read();
            let wanted = layout.vmas.iter().filter_map(|(range, vma)| {
                let is_small = range.end - range.start <= MAX_WRITABLE;
                let is_stack = vma.flags.intersects(VmaFlags::GROWS_DOWN | VmaFlags::STACK);
                match vma.prot.contains(Prot::WRITE) {
                    true if is_small && !is_stack && !vma.is_shared() => Some((range, Access::Write)),
                    false if is_only_read(vma) => Some((range, Access::Read)),
                    _ => None,
                }
            });
            wanted.collect()
        };
        for (area, access) in areas {
            self.make_area_present(&area, access);
        }
        let mut layout = self.layout.write();
        let mut pieces = Vec::new();
        for (area, vma) in layout.vmas.iter().filter(|(_, vma)| !vma.prot.is_empty()) {
            for (range, pma) in layout.pmas.overlapping(area.clone()).filter(|(_, pma)| !pma.installed) {
                pieces.push(operation(&area, vma, &range, pma));
            }
        }
        pieces.truncate(MAX_PIECES);
        self.install_all(&mut layout, pieces).map_err(|_| Errno::ENOMEM)
    }

    /// Makes the pages of an area present for the sentry, as far as that works.
    fn make_area_present(&self, area: &Range<u64>, access: Access) {
        let mut at = area.start;
        while at < area.end {
            if self.fault_in(at, access).is_err() {
                return;
            }
            let layout = self.layout.read();
            match layout.pmas.get(at) {
                Some((range, _)) if range.end > at => at = range.end,
                _ => return,
            }
        }
    }

    /// Maps several ranges in the host in one batch.
    pub(super) fn install_all(
        &self,
        layout: &mut Layout,
        pieces: Vec<(Range<u64>, MapOp)>,
    ) -> Result<(), FaultError> {
        let (ranges, ops): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        if ops.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.aspace.apply(&ops) {
            tracing::warn!("mapping guest memory: {error}");
            // Some of them may be mapped without our knowing, and must not outlive what they show.
            self.aspace.kill();
            return Err(FaultError::Host);
        }
        for range in ranges {
            layout.pmas.update(range, |_, pma| pma.installed = true);
        }
        Ok(())
    }
}
