//! `brk(2)`.

use crate::errno::SysResult;
use crate::syscall::Args;
use crate::task::CurrentTask;

/// `brk(2)`: the raw call returns the break, moved or not.
pub(crate) fn sys_brk(task: &mut CurrentTask, args: &Args) -> SysResult {
    Ok(task.mm().set_brk(args.u64(0)))
}
