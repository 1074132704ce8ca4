//! `chmod(2)`, `chown(2)`, `truncate(2)`, `umask(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::socket::SocketFile;
use crate::syscall::Args;
use crate::syscall::file::context::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, PathContext, raise, read_optional_path, read_path,
    real_file,
};
use crate::task::{Capabilities, CurrentTask, Limit, Resource};
use crate::vfs::attr::{MODE_MASK, S_ISGID};
use crate::vfs::notify::{self, Event};
use crate::vfs::permission::{check_access, shed_set_id, without_set_id_for};
use crate::vfs::{Access, Caller, Fd, FileType, SetAttr, VfsPath};

const SIGXFSZ: i32 = 25;

/// `chmod(2)`.
pub(crate) fn sys_chmod(task: &mut CurrentTask, args: &Args) -> SysResult {
    chmod_path(task, Fd(AT_FDCWD), args.addr(0), args.u32(1), 0)
}

/// `fchmodat(2)`, which in the kernel has no flags.
pub(crate) fn sys_fchmodat(task: &mut CurrentTask, args: &Args) -> SysResult {
    chmod_path(task, args.fd(0), args.addr(1), args.u32(2), 0)
}

/// `fchmodat2(2)`.
pub(crate) fn sys_fchmodat2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(3);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    chmod_path(task, args.fd(0), args.addr(1), args.u32(2), flags)
}

/// `fchmod(2)`.
pub(crate) fn sys_fchmod(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    chmod(&PathContext::new(task).caller(), file.path(), args.u32(1))
}

fn chmod_path(task: &CurrentTask, dirfd: Fd, path: UserAddr, mode: u32, flags: u32) -> SysResult {
    let path = read_path(task, path)?;
    let context = PathContext::new(task);
    let place = context.place(task, dirfd, &path, flags)?;
    place.mount.check_writable()?;
    if place.inode().kind() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP.into());
    }
    chmod(&context.caller(), &place, mode)
}

fn chmod(caller: &Caller<'_>, place: &VfsPath, mode: u32) -> SysResult {
    place.mount.check_writable()?;
    let stat = place.stat()?;
    if !caller.owns(&stat) {
        return Err(Errno::EPERM.into());
    }
    let mut mode = mode & MODE_MASK;
    // Only members of the group make a file set-group-ID (chmod(2)).
    if !caller.in_group(stat.gid) && !caller.has_for(&stat, Capabilities::FSETID) {
        mode &= !S_ISGID;
    }
    place.inode().ops().set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    notify::notify_dentry(&place.dentry, Event::ATTRIB);
    Ok(0)
}

/// `chown(2)`.
pub(crate) fn sys_chown(task: &mut CurrentTask, args: &Args) -> SysResult {
    chown_path(task, Fd(AT_FDCWD), args.addr(0), (args.u32(1), args.u32(2)), 0)
}

/// `lchown(2)`.
pub(crate) fn sys_lchown(task: &mut CurrentTask, args: &Args) -> SysResult {
    let ids = (args.u32(1), args.u32(2));
    chown_path(task, Fd(AT_FDCWD), args.addr(0), ids, AT_SYMLINK_NOFOLLOW)
}

/// `fchownat(2)`.
pub(crate) fn sys_fchownat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(4);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    chown_path(task, args.fd(0), args.addr(1), (args.u32(2), args.u32(3)), flags)
}

/// `fchown(2)`.
pub(crate) fn sys_fchown(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    chown(&PathContext::new(task).caller(), file.path(), (args.u32(1), args.u32(2)))?;
    // sockfs_setattr.
    if args.u32(1) != KEEP
        && let Ok(socket) = SocketFile::from_file(&file)
    {
        socket.set_user(file.path().stat()?.uid);
    }
    Ok(0)
}

fn chown_path(task: &CurrentTask, dirfd: Fd, path: UserAddr, ids: (u32, u32), flags: u32) -> SysResult {
    let path = read_optional_path(task, path)?;
    let context = PathContext::new(task);
    let place = context.place(task, dirfd, &path, flags)?;
    chown(&context.caller(), &place, ids)
}

/// An id of -1 leaves the owner or group as it is.
const KEEP: u32 = u32::MAX;

fn chown(caller: &Caller<'_>, place: &VfsPath, (uid, gid): (u32, u32)) -> SysResult {
    place.mount.check_writable()?;
    let stat = place.stat()?;
    let privileged = caller.has_for(&stat, Capabilities::CHOWN);
    let user_ns = &caller.creds.user_ns;
    let uid = if uid == KEEP { KEEP } else { user_ns.uid(uid).ok_or(Errno::EINVAL)?.0 };
    let gid = if gid == KEEP { KEEP } else { user_ns.gid(gid).ok_or(Errno::EINVAL)?.0 };
    let is_owner = caller.creds.fsuid.0 == stat.uid;
    if uid != KEEP && !privileged && !(is_owner && uid == stat.uid) {
        return Err(Errno::EPERM.into());
    }
    if gid != KEEP && !privileged && !(is_owner && (gid == stat.gid || caller.in_group(gid))) {
        return Err(Errno::EPERM.into());
    }
    // Set-id bits go whoever changes the owner; Linux keeps them on directories (chown(2)).
    let kept = if stat.is_dir() { stat.permissions() } else { without_set_id_for(caller, &stat) };
    let mode = (kept != stat.permissions()).then_some(kept);
    // Who names nobody still changes the mode, which only the owner does (chown_common, setattr_prepare).
    if mode.is_some() && uid == KEEP && gid == KEEP && !caller.owns(&stat) {
        return Err(Errno::EPERM.into());
    }
    let keep = |id: u32| if id == KEEP { None } else { Some(id) };
    let attr = SetAttr { uid: keep(uid), gid: keep(gid), mode, ..SetAttr::default() };
    place.inode().ops().set_attr(&attr)?;
    notify::notify_dentry(&place.dentry, Event::ATTRIB);
    Ok(0)
}

/// `truncate(2)`.
pub(crate) fn sys_truncate(task: &mut CurrentTask, args: &Args) -> SysResult {
    let size = u64::try_from(args.i64(1)).map_err(|_| Errno::EINVAL)?;
    let path = read_path(task, args.addr(0))?;
    let context = PathContext::new(task);
    let place = context.place(task, Fd(AT_FDCWD), &path, 0)?;
    match place.inode().kind() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    place.mount.check_writable()?;
    check_access(&context.caller(), place.inode(), Access::WRITE)?;
    check_limit(task, size)?;
    shed_set_id(&context.caller(), place.inode())?;
    place.inode().ops().set_attr(&SetAttr { size: Some(size), ..SetAttr::default() })?;
    notify::notify_dentry(&place.dentry, Event::MODIFY);
    Ok(0)
}

/// `ftruncate(2)`.
pub(crate) fn sys_ftruncate(task: &mut CurrentTask, args: &Args) -> SysResult {
    let size = u64::try_from(args.i64(1)).map_err(|_| Errno::EINVAL)?;
    let file = real_file(task, args.fd(0))?;
    if file.inode().kind() != FileType::Regular || !file.flags().is_writable() {
        return Err(Errno::EINVAL.into());
    }
    check_limit(task, size)?;
    shed_set_id(&PathContext::new(task).caller(), file.inode())?;
    file.ops().truncate(&file, size)?;
    notify::notify_dentry(&file.path().dentry, Event::MODIFY);
    Ok(0)
}

/// `RLIMIT_FSIZE` for a file that is to have `size` (`inode_newsize_ok`).
pub(super) fn check_limit(task: &CurrentTask, size: u64) -> Result<(), Errno> {
    let limit = task.rlimit(Resource::Fsize).soft;
    if limit != Limit::INFINITY && size > limit {
        raise(task, SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// `umask(2)`.
pub(crate) fn sys_umask(task: &mut CurrentTask, args: &Args) -> SysResult {
    Ok(task.fs().set_umask(args.u32(0)).into())
}
