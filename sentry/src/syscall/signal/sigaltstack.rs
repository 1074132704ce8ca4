//! `sigaltstack(2)`.

use sentry_abi::signal::StackT;

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::CurrentTask;

/// `sigaltstack(2)`.
pub(crate) fn sys_sigaltstack(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (new_at, old_at) = (args.addr(0), args.addr(1));
    let old = task.signals.lock().alt_stack;
    let on_stack = if old.contains(task.regs().rsp) { StackT::ONSTACK } else { 0 };
    if !new_at.is_null() {
        let new: StackT = task.mm().read_obj(new_at)?;
        set_stack(task, &new)?;
    }
    if !old_at.is_null() {
        let shown = StackT::new(old.sp, old.flags | on_stack, old.size);
        task.mm().write_obj(old_at, &shown)?;
    }
    Ok(0)
}

/// Installs an alternate stack.
///
/// # Errors
/// `EPERM` while running on the current one, `EINVAL` for unknown flags, `ENOMEM` when it is too small.
pub(crate) fn set_stack(task: &CurrentTask, new: &StackT) -> Result<(), Errno> {
    let mut signals = task.signals.lock();
    if signals.alt_stack.contains(task.regs().rsp) {
        return Err(Errno::EPERM);
    }
    // SS_ONSTACK is accepted as a mode and means nothing (sigaltstack(2), NOTES).
    let mode = new.flags & !StackT::AUTODISARM;
    if mode != 0 && mode != StackT::DISABLE && mode != StackT::ONSTACK {
        return Err(Errno::EINVAL);
    }
    if mode == StackT::DISABLE {
        signals.alt_stack = StackT::new(0, new.flags, 0);
        return Ok(());
    }
    if new.size < StackT::MINSIGSTKSZ {
        return Err(Errno::ENOMEM);
    }
    signals.alt_stack = StackT::new(new.sp, new.flags & StackT::AUTODISARM, new.size);
    Ok(())
}
