//! `flock(2)`.

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::file::context::real_file;
use crate::task::CurrentTask;
use crate::vfs::lock::LockKind;
use crate::wait::Readiness;

const LOCK_SH: u32 = 1;
const LOCK_EX: u32 = 2;
const LOCK_NB: u32 = 4;
const LOCK_UN: u32 = 8;

/// `flock(2)`.
pub(crate) fn sys_flock(task: &mut CurrentTask, args: &Args) -> SysResult {
    let operation = args.u32(1);
    let kind = match operation & !LOCK_NB {
        LOCK_SH => Some(LockKind::Shared),
        LOCK_EX => Some(LockKind::Exclusive),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    let file = real_file(task, args.fd(0))?;
    let owner = file.lock_owner();
    let locks = &file.inode().shared().locks;
    match locks.flock(owner, kind) {
        Err(Errno::EAGAIN) if operation & LOCK_NB == 0 => {}
        done => {
            done?;
            return Ok(0);
        }
    }
    let done =
        task.block_on_queue(locks.queue(), Readiness::OUT, None, |_| match locks.flock(owner, kind) {
            Err(Errno::EAGAIN) => None,
            done => Some(done),
        })?;
    done?;
    Ok(0)
}
