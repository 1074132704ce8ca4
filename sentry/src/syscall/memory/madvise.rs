//! `madvise(2)`, `mincore(2)`, `msync(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::{PAGE_SIZE, VmaFlags};
use crate::syscall::Args;
use crate::task::CurrentTask;

/// `madvise(2)`.
pub(crate) fn sys_madvise(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (addr, len, advice) = (args.u64(0), args.u64(1), args.i32(2));
    let mm = task.mm();
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(0);
    }
    match advice {
        // NORMAL, RANDOM, SEQUENTIAL, WILLNEED, FREE's relatives that only hint: COLD, PAGEOUT, (UN)MERGEABLE,
        // (NO)HUGEPAGE, (DO/DONT)DUMP, COLLAPSE.
        0..=3 | 12..=17 | 20 | 21 | 25 => mm.check_mapped(addr, len)?,
        // MADV_DONTNEED, MADV_FREE (which may free at once), MADV_DONTNEED_LOCKED.
        4 | 8 | 24 => mm.discard(addr, len)?,
        10 => mm.set_flag(addr, len, VmaFlags::DONT_FORK, true)?,
        11 => mm.set_flag(addr, len, VmaFlags::DONT_FORK, false)?,
        18 => mm.set_flag(addr, len, VmaFlags::WIPE_ON_FORK, true)?,
        19 => mm.set_flag(addr, len, VmaFlags::WIPE_ON_FORK, false)?,
        22 | 23 => {
            mm.check_mapped(addr, len)?;
            mm.populate(addr, len);
        }
        // MADV_REMOVE, MADV_HWPOISON and unknown ones.
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// `mincore(2)`.
pub(crate) fn sys_mincore(task: &mut CurrentTask, args: &Args) -> SysResult {
    let resident = task.mm().resident(args.u64(0), args.u64(1))?;
    task.mm().write_bytes(args.addr(2), &resident)?;
    Ok(0)
}

const MS_ASYNC: u32 = 1;
const MS_INVALIDATE: u32 = 2;
const MS_SYNC: u32 = 4;

/// `msync(2)`.
pub(crate) fn sys_msync(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (addr, len, flags) = (args.u64(0), args.u64(1), args.u32(2));
    let known = MS_ASYNC | MS_INVALIDATE | MS_SYNC;
    if flags & !known != 0 || flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC {
        return Err(Errno::EINVAL.into());
    }
    if flags & MS_SYNC != 0 {
        for file in task.mm().shared_files(addr, len) {
            file.ops().sync(&file)?;
        }
    }
    task.mm().check_mapped(addr, len)?;
    Ok(0)
}
