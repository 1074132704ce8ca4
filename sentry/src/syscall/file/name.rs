//! Making and moving names: `mkdir(2)`, `mknod(2)`, `rmdir(2)`, `rename(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::{AT_FDCWD, PathContext, read_path};
use crate::task::CurrentTask;
use crate::vfs::attr::{MODE_MASK, S_IFMT};
use crate::vfs::change::{self, Remove};
use crate::vfs::{DeviceId, Fd, FileType, Last, NewKind, RenameMode};

/// `mkdir(2)`.
pub(crate) fn sys_mkdir(task: &mut CurrentTask, args: &Args) -> SysResult {
    make(task, Fd(AT_FDCWD), args.addr(0), NewKind::Directory, args.u32(1) & 0o1777)
}

/// `mkdirat(2)`.
pub(crate) fn sys_mkdirat(task: &mut CurrentTask, args: &Args) -> SysResult {
    make(task, args.fd(0), args.addr(1), NewKind::Directory, args.u32(2) & 0o1777)
}

/// `mknod(2)`.
pub(crate) fn sys_mknod(task: &mut CurrentTask, args: &Args) -> SysResult {
    mknod(task, Fd(AT_FDCWD), args.addr(0), args.u32(1), args.u32(2))
}

/// `mknodat(2)`.
pub(crate) fn sys_mknodat(task: &mut CurrentTask, args: &Args) -> SysResult {
    mknod(task, args.fd(0), args.addr(1), args.u32(2), args.u32(3))
}

fn mknod(task: &CurrentTask, dirfd: Fd, path: UserAddr, mode: u32, dev: u32) -> SysResult {
    let device = DeviceId::decode(dev.into());
    let kind = match FileType::from_mode(mode) {
        _ if mode & S_IFMT == 0 => NewKind::Regular,
        Some(FileType::Regular) => NewKind::Regular,
        Some(FileType::Fifo) => NewKind::Fifo,
        Some(FileType::Socket) => NewKind::Socket,
        Some(FileType::CharDevice) => NewKind::CharDevice(device),
        Some(FileType::BlockDevice) => NewKind::BlockDevice(device),
        Some(FileType::Directory) => return Err(Errno::EPERM.into()),
        Some(FileType::Symlink) | None => return Err(Errno::EINVAL.into()),
    };
    make(task, dirfd, path, kind, mode & MODE_MASK)
}

fn make(task: &CurrentTask, dirfd: Fd, path: UserAddr, kind: NewKind, mode: u32) -> SysResult {
    let path = read_path(task, path)?;
    let context = PathContext::new(task);
    let at = context.walk(task, dirfd, &path, Last::Parent)?;
    change::create(&context.caller(), &at, kind, mode, context.fs().umask())?;
    Ok(0)
}

/// `rmdir(2)`.
pub(crate) fn sys_rmdir(task: &mut CurrentTask, args: &Args) -> SysResult {
    let path = read_path(task, args.addr(0))?;
    let context = PathContext::new(task);
    let at = context.walk(task, Fd(AT_FDCWD), &path, Last::Parent)?;
    change::unlink(&context.caller(), &at, Remove::Directory)?;
    Ok(0)
}

/// `rename(2)`.
pub(crate) fn sys_rename(task: &mut CurrentTask, args: &Args) -> SysResult {
    let cwd = Fd(AT_FDCWD);
    rename(task, (cwd, args.addr(0)), (cwd, args.addr(1)), 0)
}

/// `renameat(2)`.
pub(crate) fn sys_renameat(task: &mut CurrentTask, args: &Args) -> SysResult {
    rename(task, (args.fd(0), args.addr(1)), (args.fd(2), args.addr(3)), 0)
}

/// `renameat2(2)`.
pub(crate) fn sys_renameat2(task: &mut CurrentTask, args: &Args) -> SysResult {
    rename(task, (args.fd(0), args.addr(1)), (args.fd(2), args.addr(3)), args.u32(4))
}

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const RENAME_WHITEOUT: u32 = 4;
const RENAME_NOREPLACE_WHITEOUT: u32 = RENAME_NOREPLACE | RENAME_WHITEOUT;

fn rename(task: &CurrentTask, from: (Fd, UserAddr), to: (Fd, UserAddr), flags: u32) -> SysResult {
    let mode = match flags {
        0 => RenameMode::Replace,
        RENAME_NOREPLACE => RenameMode::NoReplace,
        RENAME_EXCHANGE => RenameMode::Exchange,
        RENAME_WHITEOUT | RENAME_NOREPLACE_WHITEOUT => {
            let creds = task.creds();
            let replaces = flags == RENAME_WHITEOUT;
            RenameMode::Whiteout { replaces, owner: (creds.fsuid.0, creds.fsgid.0) }
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let old = read_path(task, from.1)?;
    let new = read_path(task, to.1)?;
    let context = PathContext::new(task);
    let old = context.walk(task, from.0, &old, Last::Parent)?;
    let new = context.walk(task, to.0, &new, Last::Parent)?;
    change::rename(&context.caller(), &old, &new, mode)?;
    Ok(0)
}
