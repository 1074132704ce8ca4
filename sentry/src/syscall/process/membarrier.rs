//! `membarrier(2)`.

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::CurrentTask;

const QUERY: i32 = 0;
const GLOBAL: i32 = 1;
const GLOBAL_EXPEDITED: i32 = 2;
const REGISTER_GLOBAL_EXPEDITED: i32 = 4;
const PRIVATE_EXPEDITED: i32 = 8;
const REGISTER_PRIVATE_EXPEDITED: i32 = 16;

/// `membarrier(2)`: each other thread of the process that is in guest code is taken out of it, which orders its memory
/// accesses.
pub(crate) fn sys_membarrier(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.u32(1) != 0 {
        return Err(Errno::EINVAL.into());
    }
    match args.i32(0) {
        QUERY => {
            let known = GLOBAL
                | GLOBAL_EXPEDITED
                | REGISTER_GLOBAL_EXPEDITED
                | PRIVATE_EXPEDITED
                | REGISTER_PRIVATE_EXPEDITED;
            Ok(u64::from(known.unsigned_abs()))
        }
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED => Ok(0),
        GLOBAL | GLOBAL_EXPEDITED | PRIVATE_EXPEDITED => {
            for other in task.thread_group().threads() {
                if other.tid() != task.tid() {
                    other.interrupt_and_wait();
                }
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
