//! `rt_sigprocmask(2)`, `rt_sigpending(2)`.

use sentry_abi::signal::SigSet;

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::signal::check_size;
use crate::task::CurrentTask;

const SIG_BLOCK: i32 = 0;
const SIG_UNBLOCK: i32 = 1;
const SIG_SETMASK: i32 = 2;

/// `rt_sigprocmask(2)`.
pub(crate) fn sys_rt_sigprocmask(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (how, new_at, old_at) = (args.i32(0), args.addr(1), args.addr(2));
    check_size(args.u64(3))?;
    let old = task.signal_mask();
    if !new_at.is_null() {
        let set: SigSet = task.mm().read_obj(new_at)?;
        let mask = match how {
            SIG_BLOCK => old.union(set),
            SIG_UNBLOCK => old.minus(set),
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL.into()),
        };
        task.set_signal_mask(mask);
    }
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &old)?;
    }
    Ok(0)
}

/// `rt_sigpending(2)`: the blocked signals that are pending. The size may be smaller than a set here.
pub(crate) fn sys_rt_sigpending(task: &mut CurrentTask, args: &Args) -> SysResult {
    let size = usize::try_from(args.u64(1)).unwrap_or(usize::MAX);
    if size > size_of::<SigSet>() {
        return Err(Errno::EINVAL.into());
    }
    let set = task.pending_signals().intersection(task.signal_mask());
    task.mm().write_bytes(args.addr(0), &set.0.to_le_bytes()[..size])?;
    Ok(0)
}
