//! `set_robust_list(2)`, `get_robust_list(2)`, and what happens to held mutexes when a thread ends.

use std::sync::atomic::Ordering;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::CurrentTask;
use crate::task::trace::{AccessMode, check_access};

/// `struct robust_list_head`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    list: u64,
    futex_offset: i64,
    pending: u64,
}

const HEAD_SIZE: u64 = size_of::<Head>() as u64;
/// `ROBUST_LIST_LIMIT`: the walk ends there, since the guest may have made a circle.
const LIMIT: usize = 2048;
const TID_MASK: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

/// `set_robust_list(2)`.
pub(crate) fn sys_set_robust_list(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.u64(1) != HEAD_SIZE {
        return Err(Errno::EINVAL.into());
    }
    task.robust_list.store(args.u64(0), Ordering::Relaxed);
    Ok(0)
}

/// `get_robust_list(2)`.
pub(crate) fn sys_get_robust_list(task: &mut CurrentTask, args: &Args) -> SysResult {
    let tid = args.i32(0);
    let target = if tid == 0 {
        task.task().clone()
    } else {
        let id = task.named(tid)?;
        task.kernel().tree().thread(id).cloned().ok_or(Errno::ESRCH)?
    };
    check_access(task.task(), &task.creds(), &target, AccessMode::RealCreds)?;
    task.mm().write_obj(args.addr(2), &HEAD_SIZE)?;
    task.mm().write_obj(args.addr(1), &target.robust_list.load(Ordering::Relaxed))?;
    Ok(0)
}

impl CurrentTask {
    /// Marks the mutexes on the list as left by a dead owner.
    pub(crate) fn handle_robust_list(&self, head_at: UserAddr) -> Result<(), Errno> {
        let head: Head = self.mm().read_obj(head_at)?;
        let pending = head.pending;
        let mut entry = head.list;
        for _ in 0..LIMIT {
            // Bit 0 marks PI futexes.
            let at = entry & !1;
            if at == head_at.0 || at == 0 {
                break;
            }
            let next: u64 = self.mm().read_obj(UserAddr(at))?;
            if entry & !1 != pending & !1 {
                self.owner_died(at, head.futex_offset, entry & 1 != 0)?;
            }
            entry = next;
        }
        if pending & !1 != 0 {
            self.owner_died(pending & !1, head.futex_offset, pending & 1 != 0)?;
        }
        Ok(())
    }

    fn owner_died(&self, entry: u64, offset: i64, is_pi: bool) -> Result<(), Errno> {
        let addr = UserAddr(entry.wrapping_add_signed(offset));
        let me = self.number(self.tid()).unsigned_abs();
        let mut word = self.mm().load_u32(addr)?;
        loop {
            if word & TID_MASK != me {
                return Ok(());
            }
            if is_pi {
                let key = self.mm().futex_key(addr, false)?;
                return self.hand_over_pi(addr, key, OWNER_DIED);
            }
            let new = (word & WAITERS) | OWNER_DIED;
            match self.mm().compare_exchange_u32(addr, word, new)? {
                Ok(_) => break,
                Err(actual) => word = actual,
            }
        }
        if word & WAITERS != 0 {
            self.futex_wake(addr, 1, u32::MAX, false)?;
        }
        Ok(())
    }
}
