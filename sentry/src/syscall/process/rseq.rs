//! `rseq(2)`: registration is refused.

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::CurrentTask;

/// `rseq(2)`: the host schedules guest threads and nobody could restart their critical sections, so this is a kernel
/// without `CONFIG_RSEQ`.
pub(crate) fn sys_rseq(_: &mut CurrentTask, _: &Args) -> SysResult {
    Err(Errno::ENOSYS.into())
}
