//! Page faults: finding, making and copying the pages behind addresses.

use std::ops::Range;
use std::os::fd::AsFd;

use sentry_platform::{Access, MapOp, Piece, Populate};

use crate::errno::Errno;
use crate::mm::layout::{Layout, STACK_GUARD_GAP};
use crate::mm::pma::{Pma, PmaSource};
use crate::mm::vma::{Vma, VmaFlags, VmaSource};
use crate::mm::{MemoryManager, PAGE_SIZE, Prot, ahead};
use crate::vfs::Backing;

/// Why an access to guest memory fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Nothing is mapped there (`SEGV_MAPERR`).
    #[error("nothing is mapped")]
    NotMapped,
    /// The protection forbids the access (`SEGV_ACCERR`).
    #[error("access denied")]
    Denied,
    /// Beyond the end of a mapped file, or an I/O error (`SIGBUS`).
    #[error("no page behind the mapping")]
    NoPage,
    /// The sandbox is out of memory; the process is killed.
    #[error("out of memory")]
    OutOfMemory,
    /// The host refused; the process is killed.
    #[error("the host refused a mapping")]
    Host,
}

/// Anonymous memory is made in pieces of this size around the first touch.
pub(super) const FAULT_AROUND: u64 = 16 * PAGE_SIZE;
/// Once this much is there in one piece, the next pieces are `LARGE_PIECE` long and filled by the host on touch.
const SEQUENTIAL: u64 = 256 << 10;
const LARGE_PIECE: u64 = 2 << 20;
/// Pages copied at once on a write to memory shared by `fork(2)`.
const COPY_AROUND: u64 = 4 * PAGE_SIZE;
/// The same for private pages of files: a program that writes to its data is about to write to all of it.
const COPY_FILE_AROUND: u64 = 8 * PAGE_SIZE;

/// What becomes of a range in the host's mappings when it gets other pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostPages {
    /// The new ones are mapped.
    Map,
    /// None are: a fault will tell.
    Forget,
}

/// What a look at the areas asks for.
pub(super) enum Step {
    /// The page is there and may be accessed.
    Ready,
    /// Also in the host's mappings.
    Installed,
    /// A mapped file has to be asked, without the lock.
    Translate {
        mappable: std::sync::Arc<dyn crate::vfs::Mappable>,
        gap: Range<u64>,
        offset: u64,
        write: bool,
    },
}

impl MemoryManager {
    /// Handles a fault of guest code: afterwards the access can be repeated.
    ///
    /// # Errors
    /// [`FaultError`]: the signal that the thread gets.
    pub fn handle_fault(&self, addr: u64, access: Access) -> Result<(), FaultError> {
        self.make_present(addr, access, true)
    }

    /// Makes the page of `addr` accessible for the sentry's copies.
    pub(crate) fn fault_in(&self, addr: u64, access: Access) -> Result<(), Errno> {
        self.make_present(addr, access, false).map_err(|e| match e {
            FaultError::OutOfMemory => Errno::ENOMEM,
            _ => Errno::EFAULT,
        })
    }

    fn make_present(&self, addr: u64, access: Access, install: bool) -> Result<(), FaultError> {
        let page = addr & !(PAGE_SIZE - 1);
        let mut layout = self.layout.write();
        loop {
            if layout.vmas.get(page).is_none() {
                self.grow_stack(&mut layout, page)?;
            }
            let host = if install { HostPages::Map } else { HostPages::Forget };
            let step = self.step(&mut layout, page, access, host)?;
            let (mappable, gap, offset, write) = match step {
                Step::Ready => {
                    return if install { self.install(&mut layout, page) } else { Ok(()) };
                }
                Step::Installed => return Ok(()),
                Step::Translate { mappable, gap, offset, write } => (mappable, gap, offset, write),
            };
            // A file system may take locks or do I/O here; it never runs under the lock of the address space.
            let generation = layout.generation;
            let neighbours = if install { ahead::absent_neighbours(&layout, page) } else { Vec::new() };
            drop(layout);
            let beside = ahead::translate(neighbours);
            let from_start = mappable.translate(offset, gap.end - gap.start, write);
            let covers = |r: &crate::vfs::MappedRange| gap.start + r.len > page;
            let (start, found) = match from_start {
                Ok(found) if covers(&found) => (gap.start, found),
                _ => {
                    let at = offset + (page - gap.start);
                    let found = mappable.translate(at, gap.end - page, write).map_err(|e| match e {
                        Errno::ENOMEM | Errno::ENOSPC => FaultError::OutOfMemory,
                        _ => FaultError::NoPage,
                    })?;
                    (page, found)
                }
            };
            layout = self.layout.write();
            if layout.generation != generation {
                continue;
            }
            let end = gap.end.min(start + found.len.max(PAGE_SIZE));
            self.replace_with_mapped(&mut layout, start..end, found.backing, write);
            for (range, backing) in beside {
                // Another thread may have been there meanwhile.
                if layout.pmas.is_vacant(range.clone()) {
                    self.replace_with_mapped(&mut layout, range, backing, false);
                }
            }
        }
    }

    /// `MAP_GROWSDOWN`: an access below the stack extends it, within `RLIMIT_STACK` and not into the guard gap.
    fn grow_stack(&self, layout: &mut Layout, page: u64) -> Result<(), FaultError> {
        let Some((range, vma)) = layout.vmas.next_from(page) else { return Err(FaultError::NotMapped) };
        if !vma.flags.contains(VmaFlags::GROWS_DOWN) || range.end - page > self.stack_limit() {
            return Err(FaultError::NotMapped);
        }
        let floor = layout.vmas.last_before(range.start).map_or(self.range.start, |(r, _)| r.end);
        if page < floor.saturating_add(STACK_GUARD_GAP) {
            return Err(FaultError::NotMapped);
        }
        let grown = vma.clone();
        // The new part takes over the flag; the old one merges with it.
        layout.vmas.update(range.clone(), |_, v| v.flags.remove(VmaFlags::GROWS_DOWN));
        layout.add(page..range.start, grown).map_err(|_| FaultError::OutOfMemory)
    }

    fn step(
        &self,
        layout: &mut Layout,
        page: u64,
        access: Access,
        host: HostPages,
    ) -> Result<Step, FaultError> {
        let (area, vma) = layout.vmas.get(page).ok_or(FaultError::NotMapped)?;
        if !permits(vma.prot, access) {
            return Err(FaultError::Denied);
        }
        let wants_write = access == Access::Write;
        let (shared, vma) = (vma.is_shared(), vma.clone());
        if let Some((range, pma)) = layout.pmas.get(page) {
            if !wants_write || pma.writable {
                return Ok(Step::Ready);
            }
            if !shared {
                let limit = range.start.max(area.start)..range.end.min(area.end);
                return self.break_copy_on_write(layout, page, &limit, host);
            }
            // A shared page that was only read so far: the file has to hear of the write.
            let gap = page..page + PAGE_SIZE;
            return Ok(self.translate_step(&area, &vma, gap, true));
        }
        let gap = gap_around(layout, page, &area);
        match vma.source {
            VmaSource::Anonymous => {
                self.make_anonymous(layout, page, &gap)?;
                Ok(Step::Ready)
            }
            VmaSource::Mapped { .. } => Ok(self.translate_step(&area, &vma, gap, wants_write && shared)),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as a step of the same walk")]
    fn translate_step(&self, area: &Range<u64>, vma: &Vma, gap: Range<u64>, write: bool) -> Step {
        match &vma.source {
            VmaSource::Mapped { mappable, offset, .. } => {
                let offset = offset + (gap.start - area.start);
                Step::Translate { mappable: mappable.clone(), gap, offset, write }
            }
            VmaSource::Anonymous => Step::Ready,
        }
    }

    fn replace_with_mapped(&self, layout: &mut Layout, range: Range<u64>, backing: Backing, write: bool) {
        for (old, pma) in layout.pmas.remove(range.clone()) {
            pma.release(old.end - old.start, &self.frames);
        }
        let shared = layout.vmas.get(range.start).is_some_and(|(_, v)| v.is_shared());
        let source = match backing {
            Backing::Memory(at) => PmaSource::Shared(at),
            Backing::Host(fd, at) => PmaSource::Host(fd, at),
        };
        layout.pmas.insert(range, Pma { source, writable: shared && write, installed: false });
    }

    /// Makes zeroed pages in `gap` around `page`.
    fn make_anonymous(&self, layout: &mut Layout, page: u64, gap: &Range<u64>) -> Result<(), FaultError> {
        let before = layout.pmas.last_before(page).filter(|(r, _)| r.end == gap.start);
        let after = layout.pmas.next_from(page).filter(|(r, _)| r.start == gap.end);
        let neighbour = [before, after].into_iter().flatten().map(|(r, _)| r.end - r.start).max();
        let sequential = neighbour.unwrap_or(0) >= SEQUENTIAL;
        let size = if sequential { LARGE_PIECE } else { FAULT_AROUND };
        let start = (page - page % size).max(gap.start);
        let end = (page - page % size).saturating_add(size).min(gap.end);
        let allocated = if sequential {
            self.frames.allocate(end - start)
        } else {
            self.frames.allocate_committed(end - start)
        };
        let (range, offset) = match allocated {
            Ok(offset) => (start..end, offset),
            // The last pages below the limit still count.
            Err(_) => {
                let offset = self.frames.allocate(PAGE_SIZE).map_err(|_| FaultError::OutOfMemory)?;
                (page..page + PAGE_SIZE, offset)
            }
        };
        let pma = Pma { source: PmaSource::Frames(offset), writable: true, installed: false };
        layout.pmas.insert(range, pma);
        Ok(())
    }

    /// Makes all pages of a small range of fresh anonymous memory and maps them in the host.
    pub(super) fn make_all_present(
        &self,
        layout: &mut Layout,
        start: u64,
        len: u64,
    ) -> Result<(), FaultError> {
        let offset = self.frames.allocate_committed(len).map_err(|_| FaultError::OutOfMemory)?;
        let pma = Pma { source: PmaSource::Frames(offset), writable: true, installed: false };
        layout.pmas.insert(start..start + len, pma);
        self.install(layout, start)
    }

    /// Gives the pages around `page` to this address space alone. `limit` is the part of the area that may change.
    pub(super) fn break_copy_on_write(
        &self,
        layout: &mut Layout,
        page: u64,
        limit: &Range<u64>,
        host: HostPages,
    ) -> Result<Step, FaultError> {
        let Some((area, pma)) = layout.pmas.get(page) else { return Ok(Step::Ready) };
        let source = pma.source.advanced(page - area.start);
        if let PmaSource::Frames(at) = source
            && self.frames.is_exclusive(at)
        {
            // The other side is gone or has its own copy: take over as many pages as are free.
            let mut end = page + PAGE_SIZE;
            while end < limit.end && self.frames.is_exclusive(at + (end - page)) {
                end += PAGE_SIZE;
            }
            layout.pmas.update(page..end, |_, p| p.writable = true);
            return Ok(Step::Ready);
        }
        let around = if let PmaSource::Host(..) = source { COPY_FILE_AROUND } else { COPY_AROUND };
        let start = (page - page % around).max(limit.start);
        let end = (page - page % around + around).min(limit.end);
        let (range, offset) = match self.frames.allocate(end - start) {
            Ok(offset) => (start..end, offset),
            Err(_) => {
                let offset = self.frames.allocate(PAGE_SIZE).map_err(|_| FaultError::OutOfMemory)?;
                (page..page + PAGE_SIZE, offset)
            }
        };
        let len = range.end - range.start;
        let from = pma.source.advanced(range.start - area.start);
        if let Err(error) = self.copy_pages(&from, offset, len) {
            self.frames.release(offset, len);
            return Err(error);
        }
        let replaced = layout.pmas.remove(range.clone());
        let was_installed = replaced.iter().any(|(_, pma)| pma.installed);
        let pma = Pma { source: PmaSource::Frames(offset), writable: true, installed: false };
        layout.pmas.insert(range.clone(), pma);
        // The host still shows the old pages there: it must not keep them, whoever asked for the copy. They may be
        // somebody else's once they are released, so that comes last.
        let step = match host {
            HostPages::Map => self.install(layout, page).map(|()| Step::Installed),
            HostPages::Forget if was_installed => {
                let unmapped = self.aspace.unmap(range.start, len);
                unmapped.map(|()| Step::Ready).map_err(|_| FaultError::Host)
            }
            HostPages::Forget => Ok(Step::Ready),
        };
        if step.is_err() {
            self.aspace.kill();
        }
        for (old, pma) in replaced {
            pma.release(old.end - old.start, &self.frames);
        }
        step
    }

    /// Copies pages into fresh frames; what is beyond the end of a host file stays zero.
    fn copy_pages(&self, from: &PmaSource, to: u64, len: u64) -> Result<(), FaultError> {
        let file = self.frames.memory_file();
        match from {
            PmaSource::Frames(at) | PmaSource::Shared(at) => {
                file.copy_within(*at, to, len).map_err(|_| FaultError::NoPage)
            }
            PmaSource::Host(fd, at) => {
                let mut done = 0;
                while done < len {
                    let piece = Piece { offset: to + done, len: len - done };
                    match file.read_from_fd(fd.as_fd(), at + done, &[piece]) {
                        Ok(0) => break,
                        Ok(n) => done += n as u64,
                        Err(_) => return Err(FaultError::NoPage),
                    }
                }
                if done == 0 { Err(FaultError::NoPage) } else { Ok(()) }
            }
        }
    }

    /// Maps the pages around `page` in the host as far as they are there.
    pub(super) fn install(&self, layout: &mut Layout, page: u64) -> Result<(), FaultError> {
        let Some((area, vma)) = layout.vmas.get(page) else { return Err(FaultError::NotMapped) };
        let Some((range, pma)) = layout.pmas.get(page) else { return Err(FaultError::NoPage) };
        let start = area.start.max(range.start);
        let end = area.end.min(range.end);
        let mut prot = vma.prot;
        if !pma.writable {
            prot.remove(Prot::WRITE);
        }
        let source = pma.source.advanced(start - range.start).in_host();
        let populate = if end - start <= FAULT_AROUND { Populate::Eagerly } else { Populate::OnTouch };
        let op = MapOp::Map { addr: start, len: end - start, source, prot: host_prot(prot), populate };
        let neighbours = ahead::ready_neighbours(layout, page);
        if neighbours.is_empty() {
            self.aspace.apply(&[op]).map_err(|error| {
                tracing::warn!("mapping guest memory: {error}");
                FaultError::Host
            })?;
            layout.pmas.update(start..end, |_, p| p.installed = true);
            return Ok(());
        }
        let mut pieces = vec![(start..end, op)];
        pieces.extend(neighbours);
        self.install_all(layout, pieces)
    }
}

/// The range around `page` in `area` where no pages are yet.
fn gap_around(layout: &Layout, page: u64, area: &Range<u64>) -> Range<u64> {
    let start = layout.pmas.last_before(page).map_or(area.start, |(r, _)| r.end.max(area.start));
    let end = layout.pmas.next_from(page).map_or(area.end, |(r, _)| r.start.min(area.end));
    start..end
}

/// Whether x86-64 allows the access: anything that is accessible at all is readable.
pub(crate) fn permits(prot: Prot, access: Access) -> bool {
    match access {
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Execute => prot.contains(Prot::EXEC),
    }
}

/// As the platform writes it.
pub(crate) fn host_prot(prot: Prot) -> sentry_platform::Prot {
    sentry_platform::Prot {
        read: !prot.is_empty(),
        write: prot.contains(Prot::WRITE),
        execute: prot.contains(Prot::EXEC),
    }
}
