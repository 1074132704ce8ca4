//! Letting the platform rewrite hot system call sites in guest code.

use std::sync::atomic::Ordering;

use sentry_platform::CallSite;

use crate::mm::{MemoryManager, PAGE_SIZE, Prot};

impl MemoryManager {
    /// Gives the page of `site` to this address space alone, as a debugger's write would, and has the platform rewrite
    /// the site in it. Nothing depends on success: a site that stays as it is only costs more.
    pub(crate) fn rewrite_call(&self, site: CallSite) {
        let page = site.return_address.saturating_sub(1) & !(PAGE_SIZE - 1);
        let mut layout = self.layout.write();
        if self.debuggers.load(Ordering::SeqCst) != 0 {
            return;
        }
        let Some((_, vma)) = layout.vmas.get(page) else { return };
        // The pages of a shared mapping belong to the file, and code that the guest can write may change any time.
        if vma.is_shared() || vma.prot.contains(Prot::WRITE) || !vma.prot.contains(Prot::EXEC) {
            return;
        }
        if let Some(at) = self.own_page(&mut layout, page) {
            // An error means that the process is gone, which its threads are about to see.
            let _ = self.aspace.rewrite_call(site, at);
        }
    }
}
