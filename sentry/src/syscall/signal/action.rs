//! `rt_sigaction(2)`, `rt_sigreturn(2)`.

use sentry_abi::signal::{SIG_DFL, SIG_IGN, SigAction, SigSet, Signal, sa};

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::signal::check_size;
use crate::task::CurrentTask;

/// Flags that Linux keeps; others are cleared, so that programs can probe (`sigaction(2)`, `SA_UNSUPPORTED`).
const KNOWN: u64 = sa::NOCLDSTOP
    | sa::NOCLDWAIT
    | sa::SIGINFO
    | sa::RESTORER
    | sa::ONSTACK
    | sa::RESTART
    | sa::NODEFER
    | sa::RESETHAND;

/// `rt_sigaction(2)`.
pub(crate) fn sys_rt_sigaction(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (new_at, old_at) = (args.addr(1), args.addr(2));
    check_size(args.u64(3))?;
    let signal = Signal::new(args.i32(0)).ok_or(Errno::EINVAL)?;
    let handlers = task.thread_group().handlers();
    let old = if new_at.is_null() {
        handlers.get(signal)
    } else {
        let mut new: SigAction = task.mm().read_obj(new_at)?;
        if signal == Signal::SIGKILL || signal == Signal::SIGSTOP {
            return Err(Errno::EINVAL.into());
        }
        new.flags &= KNOWN;
        new.mask = new.mask.minus(SigSet::UNBLOCKABLE);
        let old = handlers.set(signal, new);
        // POSIX: setting a pending signal to be ignored discards it.
        if new.handler == SIG_IGN || (new.handler == SIG_DFL && handlers.ignores(signal)) {
            task.thread_group().discard_pending(signal);
        }
        old
    };
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &old)?;
    }
    Ok(0)
}

/// `rt_sigreturn(2)`.
pub(crate) fn sys_rt_sigreturn(task: &mut CurrentTask, _: &Args) -> SysResult {
    task.signal_return()
}
