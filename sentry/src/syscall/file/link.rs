//! `link(2)`, `symlink(2)`, `readlink(2)`, `unlink(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, PathContext, read_path,
};
use crate::task::{Capabilities, CurrentTask};
use crate::vfs::change::{self, Remove};
use crate::vfs::{Fd, FileType, Last, NewKind};

/// `link(2)`.
pub(crate) fn sys_link(task: &mut CurrentTask, args: &Args) -> SysResult {
    let cwd = Fd(AT_FDCWD);
    link(task, (cwd, args.addr(0)), (cwd, args.addr(1)), 0)
}

/// `linkat(2)`.
pub(crate) fn sys_linkat(task: &mut CurrentTask, args: &Args) -> SysResult {
    link(task, (args.fd(0), args.addr(1)), (args.fd(2), args.addr(3)), args.u32(4))
}

fn link(task: &CurrentTask, old: (Fd, UserAddr), new: (Fd, UserAddr), flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let context = PathContext::new(task);
    if flags & AT_EMPTY_PATH != 0 && !context.caller().has(Capabilities::DAC_READ_SEARCH) {
        return Err(Errno::ENOENT.into());
    }
    let old_path = read_path(task, old.1)?;
    let new_path = read_path(task, new.1)?;
    let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW };
    let target = context.place(task, old.0, &old_path, (flags & AT_EMPTY_PATH) | follow)?;
    let at = context.walk(task, new.0, &new_path, Last::Parent)?;
    change::link(&context.caller(), &target, &at)?;
    Ok(0)
}

/// `symlink(2)`.
pub(crate) fn sys_symlink(task: &mut CurrentTask, args: &Args) -> SysResult {
    symlink(task, args.addr(0), Fd(AT_FDCWD), args.addr(1))
}

/// `symlinkat(2)`.
pub(crate) fn sys_symlinkat(task: &mut CurrentTask, args: &Args) -> SysResult {
    symlink(task, args.addr(0), args.fd(1), args.addr(2))
}

fn symlink(task: &CurrentTask, target: UserAddr, dirfd: Fd, path: UserAddr) -> SysResult {
    let target = read_path(task, target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    let path = read_path(task, path)?;
    let context = PathContext::new(task);
    let at = context.walk(task, dirfd, &path, Last::Parent)?;
    change::create(&context.caller(), &at, NewKind::Symlink(target), 0o777, 0)?;
    Ok(0)
}

/// `readlink(2)`.
pub(crate) fn sys_readlink(task: &mut CurrentTask, args: &Args) -> SysResult {
    readlink(task, Fd(AT_FDCWD), args.addr(0), args.addr(1), args.i32(2))
}

/// `readlinkat(2)`.
pub(crate) fn sys_readlinkat(task: &mut CurrentTask, args: &Args) -> SysResult {
    readlink(task, args.fd(0), args.addr(1), args.addr(2), args.i32(3))
}

fn readlink(task: &CurrentTask, dirfd: Fd, path: UserAddr, buf: UserAddr, size: i32) -> SysResult {
    let size = usize::try_from(size).ok().filter(|n| *n > 0).ok_or(Errno::EINVAL)?;
    let path = read_path(task, path)?;
    let context = PathContext::new(task);
    // An empty path means the link that an O_PATH descriptor refers to (readlink(2)).
    let place = context.place(task, dirfd, &path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    if place.inode().kind() != FileType::Symlink {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL }.into());
    }
    let mut text = place.inode().ops().link_text(&context.caller())?;
    text.truncate(size);
    task.mm().write_bytes(buf, &text)?;
    Ok(text.len() as u64)
}

/// `unlink(2)`.
pub(crate) fn sys_unlink(task: &mut CurrentTask, args: &Args) -> SysResult {
    unlink(task, Fd(AT_FDCWD), args.addr(0), Remove::File)
}

const AT_REMOVEDIR: u32 = 0x200;

/// `unlinkat(2)`.
pub(crate) fn sys_unlinkat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let what = match args.u32(2) {
        0 => Remove::File,
        AT_REMOVEDIR => Remove::Directory,
        _ => return Err(Errno::EINVAL.into()),
    };
    unlink(task, args.fd(0), args.addr(1), what)
}

fn unlink(task: &CurrentTask, dirfd: Fd, path: UserAddr, what: Remove) -> SysResult {
    let path = read_path(task, path)?;
    let context = PathContext::new(task);
    let at = context.walk(task, dirfd, &path, Last::Parent)?;
    change::unlink(&context.caller(), &at, what)?;
    Ok(0)
}
