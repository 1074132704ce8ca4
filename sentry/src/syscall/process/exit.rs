//! `exit(2)`, `exit_group(2)`.

use crate::errno::SysResult;
use crate::syscall::Args;
use crate::task::CurrentTask;

fn code(args: &Args) -> u8 {
    // _exit(2): "status & 0xFF is returned to the parent".
    (args.u32(0) & 0xff) as u8
}

/// `exit(2)`.
pub(crate) fn sys_exit(task: &mut CurrentTask, args: &Args) -> SysResult {
    task.exit_thread(code(args));
    Ok(0)
}

/// `exit_group(2)`.
pub(crate) fn sys_exit_group(task: &mut CurrentTask, args: &Args) -> SysResult {
    task.exit_group(code(args));
    Ok(0)
}
