//! `utimensat(2)` and its older relatives.

use sentry_abi::time::{Timespec, Timeval};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, PathContext, read_path};
use crate::task::CurrentTask;
use crate::vfs::notify::{self, Event};
use crate::vfs::permission::check_access;
use crate::vfs::{Access, Fd, FileTime, SetAttr, SetTime, VfsPath};

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// Access and modification time to set; `None` leaves one as it is.
type Times = [Option<SetTime>; 2];

/// `utimensat(2)`.
pub(crate) fn sys_utimensat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(3);
    let times: Result<Times, Errno> = if args.addr(2).is_null() {
        Ok([Some(SetTime::Now); 2])
    } else {
        let raw: [Timespec; 2] = task.mm().read_obj(args.addr(2))?;
        set_time(raw[0]).and_then(|atime| Ok([atime, set_time(raw[1])?]))
    };
    if times == Ok([None, None]) {
        return Ok(0);
    }
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let context = PathContext::new(task);
    let place = if args.addr(1).is_null() {
        // A null path means the descriptor (futimens(3)).
        if flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        task.files().get(args.fd(0))?.path().clone()
    } else {
        let path = read_path(task, args.addr(1))?;
        context.place(task, args.fd(0), &path, flags)?
    };
    // Impossible times come behind impossible paths (vfs_utimes).
    apply(&context, &place, times?)
}

/// `utimes(2)`.
pub(crate) fn sys_utimes(task: &mut CurrentTask, args: &Args) -> SysResult {
    utimes(task, Fd(AT_FDCWD), args.addr(0), args.addr(1))
}

/// `futimesat(2)`.
pub(crate) fn sys_futimesat(task: &mut CurrentTask, args: &Args) -> SysResult {
    utimes(task, args.fd(0), args.addr(1), args.addr(2))
}

fn utimes(task: &CurrentTask, dirfd: Fd, path: UserAddr, times: UserAddr) -> SysResult {
    let times: Times = if times.is_null() {
        [Some(SetTime::Now); 2]
    } else {
        let raw: [Timeval; 2] = task.mm().read_obj(times)?;
        let set = |t: Timeval| {
            let usec = u32::try_from(t.usec).ok().filter(|n| *n < 1_000_000).ok_or(Errno::EINVAL)?;
            Ok::<_, Errno>(Some(SetTime::At(FileTime { sec: t.sec, nsec: usec * 1000 })))
        };
        [set(raw[0])?, set(raw[1])?]
    };
    let context = PathContext::new(task);
    let place = if path.is_null() && dirfd.0 != AT_FDCWD {
        task.files().get(dirfd)?.path().clone()
    } else {
        let path = read_path(task, path)?;
        context.place(task, dirfd, &path, 0)?
    };
    apply(&context, &place, times)
}

/// `utime(2)`.
pub(crate) fn sys_utime(task: &mut CurrentTask, args: &Args) -> SysResult {
    let times: Times = if args.addr(1).is_null() {
        [Some(SetTime::Now); 2]
    } else {
        let raw: [i64; 2] = task.mm().read_obj(args.addr(1))?;
        raw.map(|sec| Some(SetTime::At(FileTime { sec, nsec: 0 })))
    };
    let path = read_path(task, args.addr(0))?;
    let context = PathContext::new(task);
    let place = context.place(task, Fd(AT_FDCWD), &path, 0)?;
    apply(&context, &place, times)
}

fn set_time(time: Timespec) -> Result<Option<SetTime>, Errno> {
    match time.nsec {
        UTIME_NOW => Ok(Some(SetTime::Now)),
        UTIME_OMIT => Ok(None),
        nsec => {
            let nsec = u32::try_from(nsec).ok().filter(|n| *n < 1_000_000_000).ok_or(Errno::EINVAL)?;
            Ok(Some(SetTime::At(FileTime { sec: time.sec, nsec })))
        }
    }
}

/// Sets the times. Setting both to the present is allowed to whoever may write; anything else to the owner
/// (`utimensat(2)`, "Permissions requirements").
fn apply(context: &PathContext, place: &VfsPath, [atime, mtime]: Times) -> SysResult {
    place.mount.check_writable()?;
    let caller = context.caller();
    if !caller.owns(&place.stat()?) {
        if (atime, mtime) != (Some(SetTime::Now), Some(SetTime::Now)) {
            return Err(Errno::EPERM.into());
        }
        check_access(&caller, place.inode(), Access::WRITE)?;
    }
    place.inode().ops().set_attr(&SetAttr { atime, mtime, ..SetAttr::default() })?;
    notify::notify_dentry(&place.dentry, Event::ATTRIB);
    Ok(0)
}
