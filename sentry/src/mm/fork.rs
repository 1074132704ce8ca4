//! Copying an address space (`fork(2)`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_platform::{MapOp, Populate};

use crate::errno::Errno;
use crate::mm::fault::host_prot;
use crate::mm::pma::{Pma, PmaSource};
use crate::mm::vma::VmaFlags;
use crate::mm::{MemoryManager, Prot};

/// Ranges that are mapped in a child at once: as many as one batch of the platform's has room for.
const MAX_INHERITED: usize = 60;

impl MemoryManager {
    /// A copy in which private pages are shared until one side writes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<Self>, Errno> {
        let child = self.new_for_fork()?;
        child.set_limits(
            self.stack_limit(),
            self.size_limit.load(Ordering::Relaxed),
            self.data_limit.load(Ordering::Relaxed),
        );
        if let Some(exe) = self.exe() {
            child.set_exe(exe);
        }
        let mut layout = self.layout.write();
        let mut copy = child.layout.write();
        copy.brk = layout.brk.clone();
        copy.mmap_top = layout.mmap_top;
        copy.process = layout.process.clone();
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
}
