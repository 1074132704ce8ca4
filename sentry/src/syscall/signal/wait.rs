//! `rt_sigtimedwait(2)`, `rt_sigsuspend(2)`, `pause(2)`, `restart_syscall(2)`.

use sentry_abi::signal::SigSet;

use crate::errno::{Errno, Restart, SysResult};
use crate::syscall::Args;
use crate::syscall::signal::check_size;
use crate::syscall::time::read_timespec;
use crate::task::{BlockError, CurrentTask};

/// `rt_sigtimedwait(2)`.
pub(crate) fn sys_rt_sigtimedwait(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (set_at, info_at, timeout_at) = (args.addr(0), args.addr(1), args.addr(2));
    check_size(args.u64(3))?;
    let set: SigSet = task.mm().read_obj(set_at)?;
    let set = set.minus(SigSet::UNBLOCKABLE);
    let deadline = if timeout_at.is_null() {
        None
    } else {
        let ns = read_timespec(task, timeout_at)?.to_ns()?;
        Some(task.kernel().clocks().monotonic().saturating_add(ns))
    };
    // While waiting the signals wake this thread although they are blocked; it takes them itself.
    let group = task.thread_group().clone();
    task.signals.lock().waiting_for = set;
    let got = task.block_on_queue(&group.signal_events, crate::wait::Readiness::IN, deadline, |task| {
        let taken = task.take_pending(set);
        // The wake-up for a signal of the set is no reason to be interrupted.
        if taken.is_none() && task.pending_signals().minus(task.signal_mask()).is_empty() {
            task.settle_spurious_attention();
        }
        taken
    });
    task.signals.lock().waiting_for = SigSet::EMPTY;
    match got {
        Ok((signal, info)) => {
            if !info_at.is_null() {
                task.mm().write_obj(info_at, &info)?;
            }
            Ok(u64::from(signal.number().unsigned_abs()))
        }
        Err(BlockError::TimedOut) => Err(Errno::EAGAIN.into()),
        Err(BlockError::Interrupted) => Err(Errno::EINTR.into()),
    }
}

/// `rt_sigsuspend(2)`.
pub(crate) fn sys_rt_sigsuspend(task: &mut CurrentTask, args: &Args) -> SysResult {
    check_size(args.u64(1))?;
    let mask: SigSet = task.mm().read_obj(args.addr(0))?;
    task.set_temporary_mask(mask);
    sleep_for_signal(task)
}

/// `pause(2)`.
pub(crate) fn sys_pause(task: &mut CurrentTask, _: &Args) -> SysResult {
    sleep_for_signal(task)
}

/// Sleeps until a handler runs. Stops and ignored signals restart the call.
fn sleep_for_signal(task: &mut CurrentTask) -> SysResult {
    let _ = task.block_until::<()>(None, |_| None);
    task.request_attention();
    Err(Restart::IfNoHandler.into())
}

/// `restart_syscall(2)`: goes on with the wait that a signal without handler interrupted.
pub(crate) fn sys_restart_syscall(task: &mut CurrentTask, _: &Args) -> SysResult {
    match task.restart_block.take() {
        Some(mut continuation) => continuation(task),
        None => Err(Errno::EINTR.into()),
    }
}
