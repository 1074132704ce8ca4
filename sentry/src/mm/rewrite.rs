//! Letting the platform rewrite hot system call sites in guest code.

use sentry_platform::CallSite;

use crate::mm::fault::{HostPages, Step};
use crate::mm::pma::PmaSource;
use crate::mm::{MemoryManager, PAGE_SIZE, Prot};

impl MemoryManager {
    /// Gives the page of `site` to this address space alone, as a debugger's write would, and has the platform rewrite
    /// the site in it. Nothing depends on success: a site that stays as it is only costs more.
    pub(crate) fn rewrite_call(&self, site: CallSite) {
        let page = site.return_address.saturating_sub(1) & !(PAGE_SIZE - 1);
        let mut layout = self.layout.write();
        let Some((area, vma)) = layout.vmas.get(page) else { return };
        // The pages of a shared mapping belong to the file, and code that the guest can write may change any time.
        if vma.is_shared() || vma.prot.contains(Prot::WRITE) || !vma.prot.contains(Prot::EXEC) {
            return;
        }
        let Some((range, pma)) = layout.pmas.get(page) else { return };
        let limit = range.start.max(area.start)..range.end.min(area.end);
        let step = if pma.writable {
            Ok(Step::Ready)
        } else {
            self.break_copy_on_write(&mut layout, page, &limit, HostPages::Map)
        };
        match step {
            Ok(Step::Installed) => {}
            Ok(_) if self.install(&mut layout, page).is_ok() => {}
            Ok(_) | Err(_) => return,
        }
        let Some((range, pma)) = layout.pmas.get(page) else { return };
        if let PmaSource::Frames(at) = pma.source {
            // An error means that the process is gone, which its threads are about to see.
            let _ = self.aspace.rewrite_call(site, at + (page - range.start));
        }
    }
}
