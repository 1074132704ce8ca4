//! From a number to a handler.

use crate::errno::{Errno, SysResult};
use crate::syscall::{Args, table};
use crate::task::CurrentTask;

/// Runs system call `number` for `task`. A number without a row is `ENOSYS`, as on Linux.
///
/// # Errors
/// What the handler returns.
pub fn dispatch(task: &mut CurrentTask, number: u64, args: &Args) -> SysResult {
    match table::lookup(number) {
        Some(row) => (row.handler)(task, args),
        None => Err(Errno::ENOSYS.into()),
    }
}
