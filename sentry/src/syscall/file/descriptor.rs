//! `close(2)`, `dup(2)`, `pipe(2)`.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::fs::pipe;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::{CurrentTask, Resource};
use crate::vfs::{Fd, FdFlags, File, OpenFlags};

/// `close(2)`.
pub(crate) fn sys_close(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().remove(args.fd(0))?;
    let result = file.ops().flush(&file);
    task.descriptor_closed(&file);
    drop(file);
    result?;
    Ok(0)
}

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// `close_range(2)`.
pub(crate) fn sys_close_range(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (first, last, flags) = (args.u32(0), args.u32(1), args.u32(2));
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL.into());
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        task.own_files();
    }
    let in_range = |fd: Fd| (first..=last).contains(&fd.0.unsigned_abs());
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        for fd in task.files().open_fds().into_iter().filter(|fd| in_range(*fd)) {
            // A descriptor that another thread closed meanwhile needs no flag.
            let _ = task.files().set_flags(fd, FdFlags::CLOEXEC);
        }
        return Ok(0);
    }
    for file in task.files().remove_if(|fd, _| in_range(fd)) {
        let _ = file.ops().flush(&file);
        task.descriptor_closed(&file);
    }
    Ok(0)
}

/// `dup(2)`.
pub(crate) fn sys_dup(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let limit = task.rlimit(Resource::Nofile).soft;
    let fd = task.files().install(file, FdFlags::empty(), 0, limit)?;
    Ok(u64::from(fd.0.unsigned_abs()))
}

/// `dup2(2)`.
pub(crate) fn sys_dup2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (old, new) = (args.fd(0), args.fd(1));
    let file = task.files().get(old)?;
    if old == new {
        return Ok(u64::from(new.0.unsigned_abs()));
    }
    replace(task, file, new, FdFlags::empty())
}

/// `dup3(2)`.
pub(crate) fn sys_dup3(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (old, new, flags) = (args.fd(0), args.fd(1), args.u32(2));
    if flags & !OpenFlags::CLOEXEC.bits() != 0 || old == new {
        return Err(Errno::EINVAL.into());
    }
    let file = task.files().get(old)?;
    let fd_flags = if flags == 0 { FdFlags::empty() } else { FdFlags::CLOEXEC };
    replace(task, file, new, fd_flags)
}

fn replace(task: &CurrentTask, file: Arc<File>, new: Fd, flags: FdFlags) -> SysResult {
    let limit = task.rlimit(Resource::Nofile).soft;
    if let Some(old) = task.files().replace(new, file, flags, limit)? {
        // dup2(2): errors of this close are lost.
        let _ = old.ops().flush(&old);
        task.descriptor_closed(&old);
    }
    Ok(u64::from(new.0.unsigned_abs()))
}

/// `pipe(2)`.
pub(crate) fn sys_pipe(task: &mut CurrentTask, args: &Args) -> SysResult {
    make_pipe(task, args.addr(0), OpenFlags::empty())
}

/// `pipe2(2)`.
pub(crate) fn sys_pipe2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT;
    let flags = OpenFlags::from_bits(args.u32(1)).filter(|f| allowed.contains(*f)).ok_or(Errno::EINVAL)?;
    make_pipe(task, args.addr(0), flags)
}

fn make_pipe(task: &CurrentTask, addr: UserAddr, flags: OpenFlags) -> SysResult {
    let (read, write) = pipe::pair(flags);
    let fd_flags = if flags.contains(OpenFlags::CLOEXEC) { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let limit = task.rlimit(Resource::Nofile).soft;
    let files = task.files();
    let read_fd = files.install(read, fd_flags, 0, limit)?;
    let write_fd = match files.install(write, fd_flags, 0, limit) {
        Ok(fd) => fd,
        Err(e) => {
            let _ = files.remove(read_fd);
            return Err(e.into());
        }
    };
    if let Err(e) = task.mm().write_obj(addr, &[read_fd.0, write_fd.0]) {
        let _ = files.remove(read_fd);
        let _ = files.remove(write_fd);
        return Err(e.into());
    }
    Ok(0)
}
