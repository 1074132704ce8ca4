//! `getdents(2)`, `getcwd(2)`, `chdir(2)`, `chroot(2)`.

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::file::context::{AT_FDCWD, PathContext, read_path, real_file};
use crate::task::{Capabilities, CurrentTask};
use crate::vfs::permission::check_access;
use crate::vfs::walk::PATH_MAX;
use crate::vfs::{Access, DirEntry, Fd, VfsPath};

/// `getdents64(2)`.
pub(crate) fn sys_getdents64(task: &mut CurrentTask, args: &Args) -> SysResult {
    getdents(task, args, |out, entry, next, room| {
        // d_ino, d_off, d_reclen, d_type, d_name with its NUL; records are 8-byte aligned.
        let len = (19 + entry.name.len() + 1).next_multiple_of(8);
        if len > room {
            return false;
        }
        let begin = out.len();
        out.extend_from_slice(&entry.ino.to_le_bytes());
        out.extend_from_slice(&next.to_le_bytes());
        out.extend_from_slice(&reclen(len));
        out.push(entry.kind.dirent_type());
        out.extend_from_slice(&entry.name);
        out.resize(begin + len, 0);
        true
    })
}

/// `getdents(2)`.
pub(crate) fn sys_getdents(task: &mut CurrentTask, args: &Args) -> SysResult {
    getdents(task, args, |out, entry, next, room| {
        // As above, but with the type in the last byte of the record.
        let len = (18 + entry.name.len() + 2).next_multiple_of(8);
        if len > room {
            return false;
        }
        let begin = out.len();
        out.extend_from_slice(&entry.ino.to_le_bytes());
        out.extend_from_slice(&next.to_le_bytes());
        out.extend_from_slice(&reclen(len));
        out.extend_from_slice(&entry.name);
        out.resize(begin + len - 1, 0);
        out.push(entry.kind.dirent_type());
        true
    })
}

/// A record's length: at most 280, as names have at most 255 bytes.
fn reclen(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes()
}

/// The most bytes that one call returns, whatever the size of the guest's buffer.
const MAX_BATCH: usize = 1 << 20;

fn getdents(
    task: &mut CurrentTask,
    args: &Args,
    mut emit: impl FnMut(&mut Vec<u8>, &DirEntry, u64, usize) -> bool,
) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    if !file.inode().is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    // The size is an unsigned int.
    let size = usize::try_from(args.u32(2)).unwrap_or(MAX_BATCH).min(MAX_BATCH);
    let context = PathContext::new(task);
    let mut out = Vec::new();
    let mut found_any = false;
    let mut pos = file.position();
    let before = *pos;
    file.ops().read_dir(&file, &context.caller(), &mut pos, &mut |entry, next| {
        found_any = true;
        let room = size - out.len();
        emit(&mut out, entry, next, room)
    })?;
    if out.is_empty() && found_any {
        return Err(Errno::EINVAL.into());
    }
    if let Err(e) = task.mm().write_bytes(args.addr(1), &out) {
        *pos = before;
        return Err(e.into());
    }
    Ok(out.len() as u64)
}

/// `getcwd(2)`.
pub(crate) fn sys_getcwd(task: &mut CurrentTask, args: &Args) -> SysResult {
    let fs = task.fs();
    let text = fs.cwd().text(&fs.root());
    if text.is_deleted {
        return Err(Errno::ENOENT.into());
    }
    let mut path = if text.is_reachable { Vec::new() } else { b"(unreachable)".to_vec() };
    path.extend_from_slice(&text.path);
    path.push(0);
    // The C library walks upwards by itself for these, whatever the buffer's size.
    if path.len() > PATH_MAX {
        return Err(Errno::ENAMETOOLONG.into());
    }
    if path.len() as u64 > args.u64(1) {
        return Err(Errno::ERANGE.into());
    }
    task.mm().write_bytes(args.addr(0), &path)?;
    Ok(path.len() as u64)
}

/// `chdir(2)`.
pub(crate) fn sys_chdir(task: &mut CurrentTask, args: &Args) -> SysResult {
    let path = read_path(task, args.addr(0))?;
    let context = PathContext::new(task);
    let place = context.place(task, Fd(AT_FDCWD), &path, 0)?;
    check_directory(&context, &place)?;
    context.fs().set_cwd(place);
    Ok(0)
}

/// `fchdir(2)`.
pub(crate) fn sys_fchdir(task: &mut CurrentTask, args: &Args) -> SysResult {
    let place = task.files().get(args.fd(0))?.path().clone();
    let context = PathContext::new(task);
    check_directory(&context, &place)?;
    context.fs().set_cwd(place);
    Ok(0)
}

/// `chroot(2)`.
pub(crate) fn sys_chroot(task: &mut CurrentTask, args: &Args) -> SysResult {
    let path = read_path(task, args.addr(0))?;
    let context = PathContext::new(task);
    let place = context.place(task, Fd(AT_FDCWD), &path, 0)?;
    check_directory(&context, &place)?;
    if !context.caller().creds.has_in_own(Capabilities::SYS_CHROOT) {
        return Err(Errno::EPERM.into());
    }
    context.fs().set_root(place);
    Ok(0)
}

fn check_directory(context: &PathContext, place: &VfsPath) -> Result<(), Errno> {
    if !place.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    check_access(&context.caller(), place.inode(), Access::EXEC)
}
