//! `access(2)`, `faccessat2(2)`.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, PathContext, read_path};
use crate::task::{Capabilities, Credentials, CurrentTask};
use crate::vfs::permission::check_access;
use crate::vfs::{Access, Fd, FileType, MountFlags};

/// Use the effective ids instead of the real ones.
const AT_EACCESS: u32 = 0x200;

/// `access(2)`.
pub(crate) fn sys_access(task: &mut CurrentTask, args: &Args) -> SysResult {
    access(task, Fd(AT_FDCWD), args.addr(0), args.u32(1), 0)
}

/// `faccessat(2)`, which in the kernel has no flags.
pub(crate) fn sys_faccessat(task: &mut CurrentTask, args: &Args) -> SysResult {
    access(task, args.fd(0), args.addr(1), args.u32(2), 0)
}

/// `faccessat2(2)`.
pub(crate) fn sys_faccessat2(task: &mut CurrentTask, args: &Args) -> SysResult {
    access(task, args.fd(0), args.addr(1), args.u32(2), args.u32(3))
}

fn access(task: &CurrentTask, dirfd: Fd, path: UserAddr, mode: u32, flags: u32) -> SysResult {
    let want = Access::from_bits(mode).ok_or(Errno::EINVAL)?;
    if flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = read_path(task, path)?;
    let mut context = PathContext::new(task);
    if flags & AT_EACCESS == 0 {
        context = context.with_creds(real_ids(&task.creds()));
    }
    let place = context.place(task, dirfd, &path, flags)?;
    let kind = place.inode().kind();
    if want.contains(Access::EXEC)
        && kind == FileType::Regular
        && place.mount.flags().contains(MountFlags::NOEXEC)
    {
        return Err(Errno::EACCES.into());
    }
    check_access(&context.caller(), place.inode(), want)?;
    let stored = matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink);
    if want.contains(Access::WRITE) && stored {
        place.mount.check_writable()?;
    }
    Ok(0)
}

/// The credentials with the real ids as those of the file system; capabilities count only for a real root
/// (`access(2)`, NOTES).
fn real_ids(creds: &Credentials) -> Arc<Credentials> {
    let mut real = creds.clone();
    real.fsuid = creds.uid;
    real.fsgid = creds.gid;
    real.effective =
        if Some(creds.uid) == creds.user_ns.uid(0) { creds.permitted } else { Capabilities::empty() };
    Arc::new(real)
}
