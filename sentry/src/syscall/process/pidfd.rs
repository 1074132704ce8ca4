//! `pidfd_open(2)`, `pidfd_getfd(2)`.

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::pidfd::{self, PidFd};
use crate::task::trace::{AccessMode, check_access};
use crate::task::{CurrentTask, Resource};
use crate::vfs::{Fd, FdFlags, OpenFlags};

fn fd_value(fd: Fd) -> u64 {
    u64::from(fd.0.unsigned_abs())
}

/// `pidfd_open(2)`.
pub(crate) fn sys_pidfd_open(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (pid, flags) = (args.i32(0), args.u32(1));
    if pid <= 0 || flags & !OpenFlags::NONBLOCK.bits() != 0 {
        return Err(Errno::EINVAL.into());
    }
    let group = {
        let id = task.named(pid)?;
        let tree = task.kernel().tree();
        match tree.process(id) {
            Some(process) => process.group.clone(),
            // A thread that is not a leader: EINVAL; nothing at all: ESRCH.
            None if tree.thread(id).is_some() => return Err(Errno::EINVAL.into()),
            None => return Err(Errno::ESRCH.into()),
        }
    };
    let file = pidfd::new_file(group);
    file.set_status_flags(OpenFlags::RDWR | OpenFlags::from_bits_retain(flags));
    let limit = task.rlimit(Resource::Nofile).soft;
    Ok(fd_value(task.files().install(file, FdFlags::CLOEXEC, 0, limit)?))
}

/// `pidfd_getfd(2)`.
pub(crate) fn sys_pidfd_getfd(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.u32(2) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.files().get(args.fd(0))?;
    let group = file.downcast::<PidFd>().ok_or(Errno::EBADF)?.group().clone();
    let target = group.threads().into_iter().next().ok_or(Errno::ESRCH)?;
    check_access(task.task(), &task.creds(), &target, AccessMode::RealCreds)?;
    let stolen = target.files().get(args.fd(1))?;
    let limit = task.rlimit(Resource::Nofile).soft;
    Ok(fd_value(task.files().install(stolen, FdFlags::CLOEXEC, 0, limit)?))
}
