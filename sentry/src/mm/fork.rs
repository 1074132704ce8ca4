//! Copying an address space (`fork(2)`).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_platform::{MapOp, Populate};

use crate::errno::Errno;
use crate::mm::fault::{FAULT_AROUND, host_prot};
use crate::mm::layout::Layout;
use crate::mm::pma::{Pma, PmaSource};
use crate::mm::vma::VmaFlags;
use crate::mm::{MemoryManager, Prot};

/// Ranges that are mapped in a child at once: as many as one batch of the platform's has room for.
const MAX_INHERITED: usize = 60;

/// How much is copied at once rather than when one side writes: data, stack and the start of the heap of a small program,
/// for which both sides would have faults that cost twenty times what the copy of a page does.
const MAX_COPIED: u64 = 256 << 10;

/// Who else may write to the memory meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody: the caller is the only thread that has it.
    None,
    /// Other threads. A page's copy could then show a later store without an earlier one.
    Others,
}

impl MemoryManager {
    /// A copy in which private pages are shared until one side writes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self, writers: Writers) -> Result<Arc<Self>, Errno> {
        let child = self.new_for_fork()?;
        child.set_limits(
            self.stack_limit(),
            self.size_limit.load(Ordering::Relaxed),
            self.data_limit.load(Ordering::Relaxed),
        );
        if let Some(exe) = self.exe() {
            child.set_exe(exe);
        }
        child.set_dumpable(self.is_dumpable());
        child.set_user_ns(self.user_ns());
        let mut layout = self.layout.write();
        let mut copy = child.layout.write();
        copy.brk = layout.brk.clone();
        copy.mmap_top = layout.mmap_top;
        copy.process = layout.process.clone();
        let copied = if writers == Writers::None { small_writable(&layout) } else { Vec::new() };
        let mut ops = Vec::new();
        let mut child_ops = Vec::new();
        let mut became_shared = Vec::new();
        for (range, vma) in layout.vmas.iter() {
            if vma.flags.contains(VmaFlags::DONT_FORK) {
                continue;
            }
            let mut vma = vma.clone();
            // mlock(2): locks are not inherited.
            vma.flags.remove(VmaFlags::LOCKED);
            let (shared, wiped) = (vma.is_shared(), vma.flags.contains(VmaFlags::WIPE_ON_FORK));
            let prot = vma.prot;
            let is_read = !prot.is_empty() && !prot.contains(Prot::WRITE);
            copy.add(range.clone(), vma)?;
            if shared || wiped {
                // Shared pages are found again by faults; wiped ones read as zero.
                continue;
            }
            for (r, pma) in layout.pmas.overlapping(range.clone()) {
                let (start, end) = (r.start.max(range.start), r.end.min(range.end));
                let source = pma.source.advanced(start - r.start);
                if let PmaSource::Frames(at) = source
                    && copied.contains(&start)
                    && let Some(own) = self.copy_frames(at, end - start)
                {
                    let source = PmaSource::Frames(own);
                    let installed = pma.installed && child_ops.len() < MAX_INHERITED;
                    if installed {
                        let (addr, len) = (start, end - start);
                        let (source, prot) = (source.in_host(), host_prot(prot));
                        child_ops.push(MapOp::Map { addr, len, source, prot, populate: Populate::Eagerly });
                    }
                    copy.pmas.insert(start..end, Pma { source, writable: true, installed });
                    continue;
                }
                if let PmaSource::Frames(at) = source {
                    self.frames.share(at, end - start);
                    if pma.writable {
                        became_shared.push(start..end);
                        if pma.installed && prot.contains(Prot::WRITE) {
                            let prot = host_prot(prot.difference(Prot::WRITE));
                            ops.push(MapOp::Protect { addr: start, len: end - start, prot });
                        }
                    }
                }
                // What the parent runs and reads, the child is about to, and a fault for each costs more than all of them
                // in one batch. What it may write it will have to copy anyway.
                let installed = pma.installed && is_read && child_ops.len() < MAX_INHERITED;
                if installed {
                    let (addr, len) = (start, end - start);
                    let source = source.in_host();
                    let populate = Populate::OnTouch;
                    child_ops.push(MapOp::Map { addr, len, source, prot: host_prot(prot), populate });
                }
                copy.pmas.insert(start..end, Pma { source, writable: false, installed });
            }
        }
        for range in became_shared {
            layout.pmas.update(range, |_, p| p.writable = false);
        }
        // Before either side can run: the parent's threads must not write to pages that the child shares.
        self.apply(&ops)?;
        child.apply(&child_ops)?;
        drop(copy);
        drop(layout);
        child.watch_mapped_files();
        Ok(child)
    }

    /// Fresh pages with the same contents.
    fn copy_frames(&self, from: u64, len: u64) -> Option<u64> {
        let own = self.frames.allocate_committed(len).ok()?;
        if self.frames.memory_file().copy_within(from, own, len).is_err() {
            self.frames.release(own, len);
            return None;
        }
        Some(own)
    }
}

/// The starts of the parts of private memory that can be written and were, smallest first, up to [`MAX_COPIED`].
fn small_writable(layout: &Layout) -> Vec<u64> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    for (area, vma) in layout.vmas.iter() {
        if vma.is_shared() || !vma.prot.contains(Prot::WRITE) {
            continue;
        }
        for (range, pma) in layout.pmas.overlapping(area.clone()) {
            if pma.writable && matches!(pma.source, PmaSource::Frames(_)) {
                parts.push(range.start.max(area.start)..range.end.min(area.end));
            }
        }
    }
    parts.retain(|part| part.end - part.start <= FAULT_AROUND);
    parts.sort_unstable_by_key(|part| part.end - part.start);
    let mut left = MAX_COPIED;
    let fits = |part: &Range<u64>| {
        let fits = left.checked_sub(part.end - part.start);
        left = fits.unwrap_or(0);
        fits.is_some()
    };
    parts.into_iter().take_while(fits).map(|part| part.start).collect()
}
