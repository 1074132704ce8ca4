//! `mlock(2)` and its family. Pages are never written to a swap device; the calls keep the accounts.

use crate::errno::{Errno, SysResult};
use crate::mm::{PAGE_SIZE, VmaFlags};
use crate::syscall::Args;
use crate::task::{Capabilities, CurrentTask, Resource};

fn check_limit(task: &CurrentTask, more: u64) -> Result<(), Errno> {
    if task.creds().has(Capabilities::IPC_LOCK) {
        return Ok(());
    }
    let limit = task.rlimit(Resource::Memlock).soft;
    if limit == 0 {
        return Err(Errno::EPERM);
    }
    let locked = task.mm().locked_bytes().saturating_add(more);
    if locked > limit { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// The pages that contain a range.
fn pages(addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    let start = addr & !(PAGE_SIZE - 1);
    let end =
        addr.checked_add(len).and_then(|e| e.checked_next_multiple_of(PAGE_SIZE)).ok_or(Errno::EINVAL)?;
    Ok((start, end - start))
}

fn lock(task: &CurrentTask, addr: u64, len: u64, populate: bool) -> SysResult {
    let (start, len) = pages(addr, len)?;
    check_limit(task, len)?;
    task.mm().set_flag(start, len, VmaFlags::LOCKED, true)?;
    if populate {
        task.mm().populate(start, len);
    }
    Ok(0)
}

/// `mlock(2)`.
pub(crate) fn sys_mlock(task: &mut CurrentTask, args: &Args) -> SysResult {
    lock(task, args.u64(0), args.u64(1), true)
}

/// `mlock2(2)`.
pub(crate) fn sys_mlock2(task: &mut CurrentTask, args: &Args) -> SysResult {
    const MLOCK_ONFAULT: u32 = 1;
    let flags = args.u32(2);
    if flags & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL.into());
    }
    lock(task, args.u64(0), args.u64(1), flags == 0)
}

/// `munlock(2)`.
pub(crate) fn sys_munlock(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (start, len) = pages(args.u64(0), args.u64(1))?;
    task.mm().set_flag(start, len, VmaFlags::LOCKED, false)?;
    Ok(0)
}

/// `mlockall(2)`.
pub(crate) fn sys_mlockall(task: &mut CurrentTask, args: &Args) -> SysResult {
    const MCL_CURRENT: u32 = 1;
    const MCL_FUTURE: u32 = 2;
    const MCL_ONFAULT: u32 = 4;
    let flags = args.u32(0);
    if flags == 0 || flags == MCL_ONFAULT || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 {
        return Err(Errno::EINVAL.into());
    }
    check_limit(task, if flags & MCL_CURRENT != 0 { task.mm().usage().size } else { 0 })?;
    task.mm().lock_all(flags & MCL_CURRENT != 0, flags & MCL_FUTURE != 0);
    Ok(0)
}

/// `munlockall(2)`.
pub(crate) fn sys_munlockall(task: &mut CurrentTask, _: &Args) -> SysResult {
    task.mm().unlock_all();
    Ok(0)
}
