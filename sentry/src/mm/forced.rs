//! Access to guest memory by debuggers (`ptrace(2)`, `/proc/PID/mem`): protection does not count, and what the platform
//! changed in the code is not seen.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_platform::Access;

use crate::errno::Errno;
use crate::mm::fault::{HostPages, Step};
use crate::mm::layout::Layout;
use crate::mm::manager::read_host;
use crate::mm::pma::PmaSource;
use crate::mm::{MemoryManager, PAGE_SIZE, Prot, UserAddr};

/// A debugger looks at the address space: as long as one does, its code is what the guest made it.
#[derive(Debug)]
pub(crate) struct Debugged(Arc<MemoryManager>);

impl Debugged {
    pub(crate) fn new(mm: &Arc<MemoryManager>) -> Self {
        // Before the code is put back: what is rewritten meanwhile is put back, too, under the lock of the layout.
        mm.debuggers.fetch_add(1, Ordering::SeqCst);
        mm.restore_calls();
        Self(mm.clone())
    }
}

impl Drop for Debugged {
    fn drop(&mut self) {
        self.0.debuggers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl MemoryManager {
    /// Copies guest memory whatever its protection, and returns how much of it is there.
    pub(crate) fn read_forced(&self, addr: UserAddr, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.0.wrapping_add(done as u64);
            let rest = usize::try_from(PAGE_SIZE - at % PAGE_SIZE).unwrap_or(0);
            let end = buf.len().min(done + rest);
            if self.read_page_forced(at, &mut buf[done..end]).is_err() {
                break;
            }
            done = end;
        }
        done
    }

    /// Stores to guest memory, except to shared memory that it cannot write itself, and returns how much was stored.
    pub(crate) fn write_forced(&self, addr: UserAddr, data: &[u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let at = addr.0.wrapping_add(done as u64);
            let rest = usize::try_from(PAGE_SIZE - at % PAGE_SIZE).unwrap_or(0);
            let end = data.len().min(done + rest);
            if self.write_page_forced(at, &data[done..end]).is_err() {
                break;
            }
            done = end;
        }
        done
    }

    fn read_page_forced(&self, at: u64, buf: &mut [u8]) -> Result<(), Errno> {
        // A page that is inaccessible may still be there.
        let _ = self.fault_in(at, Access::Read);
        let layout = self.layout.read();
        layout.vmas.get(at).ok_or(Errno::EFAULT)?;
        let (range, pma) = layout.pmas.get(at).ok_or(Errno::EFAULT)?;
        let by = at - range.start;
        match &pma.source {
            PmaSource::Frames(from) | PmaSource::Shared(from) => {
                self.memory_file().read(from + by, buf).map_err(|_| Errno::EFAULT)
            }
            PmaSource::Host(fd, from) => read_host(fd, from + by, buf),
        }
    }

    fn write_page_forced(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        let is_shared = {
            let layout = self.layout.read();
            let (_, vma) = layout.vmas.get(at).ok_or(Errno::EFAULT)?;
            vma.is_shared()
        };
        if is_shared {
            return self.write_bytes(UserAddr(at), data);
        }
        let _ = self.fault_in(at, Access::Read);
        let mut layout = self.layout.write();
        let to = self.own_page(&mut layout, at & !(PAGE_SIZE - 1)).ok_or(Errno::EFAULT)?;
        self.memory_file().write(to + at % PAGE_SIZE, data).map_err(|_| Errno::EFAULT)
    }

    /// Gives a page of private memory that is there to this address space alone, whatever its protection. Returns where
    /// it is in the memory file.
    pub(super) fn own_page(&self, layout: &mut Layout, page: u64) -> Option<u64> {
        let (area, vma) = layout.vmas.get(page)?;
        // The pages of a shared mapping belong to the file.
        if vma.is_shared() {
            return None;
        }
        let (range, pma) = layout.pmas.get(page)?;
        let limit = range.start.max(area.start)..range.end.min(area.end);
        let step = if pma.writable {
            Ok(Step::Ready)
        } else {
            self.break_copy_on_write(layout, page, &limit, HostPages::Map)
        };
        match step {
            Ok(Step::Installed) => {}
            Ok(_) if self.install(layout, page).is_ok() => {}
            Ok(_) | Err(_) => return None,
        }
        let (range, pma) = layout.pmas.get(page)?;
        match pma.source {
            PmaSource::Frames(at) => Some(at + (page - range.start)),
            PmaSource::Shared(_) | PmaSource::Host(..) => None,
        }
    }

    /// Puts the code back that the platform has rewritten.
    pub(crate) fn restore_calls(&self) {
        let calls = self.aspace.rewritten_calls();
        if calls.is_empty() {
            return;
        }
        let mut layout = self.layout.write();
        for call in calls {
            let page = call.saturating_sub(1) & !(PAGE_SIZE - 1);
            let may_be_rewritten = layout
                .vmas
                .get(page)
                .is_some_and(|(_, vma)| vma.prot.contains(Prot::EXEC))
                && layout.pmas.get(page).is_some_and(|(_, pma)| matches!(pma.source, PmaSource::Frames(_)));
            if may_be_rewritten && let Some(at) = self.own_page(&mut layout, page) {
                // An error means that the process is gone.
                let _ = self.aspace.restore_call(call, at);
            }
        }
    }
}
