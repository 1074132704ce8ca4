//! `fsync(2)`, `fallocate(2)`, `posix_fadvise(2)` and relatives.

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::file::attribute::check_limit;
use crate::syscall::file::context::{PathContext, real_file};
use crate::task::CurrentTask;
use crate::vfs::notify::{self, Event};
use crate::vfs::permission::shed_set_id;
use crate::vfs::{Allocate, FileType};

/// `fsync(2)`.
pub(crate) fn sys_fsync(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    file.ops().sync(&file)?;
    Ok(0)
}

/// `fdatasync(2)`: all that `fsync` does.
pub(crate) fn sys_fdatasync(task: &mut CurrentTask, args: &Args) -> SysResult {
    sys_fsync(task, args)
}

/// `sync(2)`.
pub(crate) fn sys_sync(task: &mut CurrentTask, _: &Args) -> SysResult {
    for mount in task.fs().namespace().mounts() {
        // sync(2) always succeeds.
        let _ = mount.superblock().fs().sync();
    }
    Ok(0)
}

/// `syncfs(2)`.
pub(crate) fn sys_syncfs(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    file.path().mount.superblock().fs().sync()?;
    Ok(0)
}

/// `sync_file_range(2)`.
pub(crate) fn sys_sync_file_range(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let (offset, len) = (args.i64(1), args.i64(2));
    if args.u32(3) & !7 != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL.into());
    }
    match file.inode().kind() {
        FileType::Regular | FileType::Directory | FileType::BlockDevice => {}
        _ => return Err(Errno::ESPIPE.into()),
    }
    file.ops().sync(&file)?;
    Ok(0)
}

const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const ZERO_RANGE: u32 = 16;

/// `fallocate(2)`.
pub(crate) fn sys_fallocate(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let (offset, len) = (args.i64(2), args.i64(3));
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let len = u64::try_from(len).ok().filter(|n| *n > 0).ok_or(Errno::EINVAL)?;
    const PUNCH: u32 = PUNCH_HOLE | KEEP_SIZE;
    const ZERO_KEEP: u32 = ZERO_RANGE | KEEP_SIZE;
    let mode = match args.u32(1) {
        0 => Allocate::Extend,
        KEEP_SIZE => Allocate::KeepSize,
        PUNCH => Allocate::PunchHole,
        ZERO_RANGE => Allocate::Zero,
        ZERO_KEEP => Allocate::ZeroKeepSize,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    if !file.flags().is_writable() {
        return Err(Errno::EBADF.into());
    }
    match file.inode().kind() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR.into()),
        FileType::Fifo => return Err(Errno::ESPIPE.into()),
        _ => return Err(Errno::ENODEV.into()),
    }
    if matches!(mode, Allocate::Extend | Allocate::Zero) {
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if end > file.stat()?.size {
            check_limit(task, end)?;
        }
    }
    shed_set_id(&PathContext::new(task).caller(), file.inode())?;
    file.ops().allocate(&file, mode, offset, len)?;
    notify::notify_dentry(&file.path().dentry, Event::MODIFY);
    Ok(0)
}

/// `posix_fadvise(2)`: the advice is checked and not needed.
pub(crate) fn sys_fadvise64(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    if file.inode().kind() == FileType::Fifo {
        return Err(Errno::ESPIPE.into());
    }
    if args.u32(3) > 5 || args.i64(2) < 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}

/// `readahead(2)`: checked and not needed.
pub(crate) fn sys_readahead(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    if !file.flags().is_readable() {
        return Err(Errno::EBADF.into());
    }
    match file.inode().kind() {
        FileType::Regular | FileType::BlockDevice => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}
