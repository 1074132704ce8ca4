//! Extended attributes (`xattr(7)`).

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, PathContext, read_path, real_file};
use crate::task::{Capabilities, CurrentTask, file_caps};
use crate::vfs::acl::{self, AclKind};
use crate::vfs::notify::{self, Event};
use crate::vfs::{
    Access, Fd, VfsPath, XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_SIZE_MAX, XattrMode, check_xattr, is_system,
};

/// Finds the file that a call is about.
type Locate = fn(&CurrentTask, &PathContext, &Args) -> Result<VfsPath, Errno>;

fn follow(task: &CurrentTask, context: &PathContext, args: &Args) -> Result<VfsPath, Errno> {
    context.place(task, Fd(AT_FDCWD), &read_path(task, args.addr(0))?, 0)
}

fn no_follow(task: &CurrentTask, context: &PathContext, args: &Args) -> Result<VfsPath, Errno> {
    context.place(task, Fd(AT_FDCWD), &read_path(task, args.addr(0))?, AT_SYMLINK_NOFOLLOW)
}

fn by_fd(task: &CurrentTask, _: &PathContext, args: &Args) -> Result<VfsPath, Errno> {
    Ok(real_file(task, args.fd(0))?.path().clone())
}

/// `setxattr(2)`.
pub(crate) fn sys_setxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    set(task, args, follow)
}

/// `lsetxattr(2)`.
pub(crate) fn sys_lsetxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    set(task, args, no_follow)
}

/// `fsetxattr(2)`.
pub(crate) fn sys_fsetxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    set(task, args, by_fd)
}

/// `getxattr(2)`.
pub(crate) fn sys_getxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    get(task, args, follow)
}

/// `lgetxattr(2)`.
pub(crate) fn sys_lgetxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    get(task, args, no_follow)
}

/// `fgetxattr(2)`.
pub(crate) fn sys_fgetxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    get(task, args, by_fd)
}

/// `listxattr(2)`.
pub(crate) fn sys_listxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    list(task, args, follow)
}

/// `llistxattr(2)`.
pub(crate) fn sys_llistxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    list(task, args, no_follow)
}

/// `flistxattr(2)`.
pub(crate) fn sys_flistxattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    list(task, args, by_fd)
}

/// `removexattr(2)`.
pub(crate) fn sys_removexattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    remove(task, args, follow)
}

/// `lremovexattr(2)`.
pub(crate) fn sys_lremovexattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    remove(task, args, no_follow)
}

/// `fremovexattr(2)`.
pub(crate) fn sys_fremovexattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    remove(task, args, by_fd)
}

fn read_name(task: &CurrentTask, addr: UserAddr) -> Result<Vec<u8>, Errno> {
    let name = task.mm().read_cstr(addr, XATTR_NAME_MAX + 1).map_err(|e| match e {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        other => other,
    })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

fn set(task: &CurrentTask, args: &Args, locate: Locate) -> SysResult {
    let mode = match args.u32(4) {
        0 => XattrMode::Set,
        1 => XattrMode::Create,
        2 => XattrMode::Replace,
        // Both: what is there exists, and what is not there cannot be replaced.
        3 => XattrMode::Never,
        _ => return Err(Errno::EINVAL.into()),
    };
    let name = read_name(task, args.addr(1))?;
    let size = args.usize(3);
    if size > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    let mut value: Vec<u8> = task.mm().read_array(args.addr(2), size)?;
    let context = PathContext::new(task);
    let place = locate(task, &context, args)?;
    place.mount.check_writable()?;
    if let Some(kind) = AclKind::of_attribute(&name) {
        acl::set(&context.caller(), &place, kind, &value)?;
        notify::notify_dentry(&place.dentry, Event::ATTRIB);
        return Ok(0);
    }
    if name == file_caps::NAME {
        value = file_caps::to_store(&context.caller(), &place, &value)?;
    }
    check_xattr(&context.caller(), &place, &name, Access::WRITE)?;
    place.inode().ops().set_xattr(&name, &value, mode)?;
    notify::notify_dentry(&place.dentry, Event::ATTRIB);
    Ok(0)
}

fn get(task: &CurrentTask, args: &Args, locate: Locate) -> SysResult {
    let name = read_name(task, args.addr(1))?;
    let context = PathContext::new(task);
    let place = locate(task, &context, args)?;
    if let Some(kind) = AclKind::of_attribute(&name) {
        let value = acl::get(&context.caller(), &place, kind)?;
        return give(task, args.addr(2), args.usize(3), &value, XATTR_SIZE_MAX);
    }
    check_xattr(&context.caller(), &place, &name, Access::READ)?;
    let mut value = place.inode().ops().xattr(&name)?;
    if name == file_caps::NAME {
        value = file_caps::to_show(&context.caller(), &place, &value)?;
    }
    give(task, args.addr(2), args.usize(3), &value, XATTR_SIZE_MAX)
}

fn list(task: &CurrentTask, args: &Args, locate: Locate) -> SysResult {
    let context = PathContext::new(task);
    let place = locate(task, &context, args)?;
    let mut names = Vec::new();
    for name in place.inode().ops().xattrs()? {
        // The host's files may have some that can't be read here.
        if is_system(&name) && AclKind::of_attribute(&name).is_none() {
            continue;
        }
        if name.starts_with(b"trusted.") && !context.caller().has(Capabilities::SYS_ADMIN) {
            continue;
        }
        names.extend_from_slice(&name);
        names.push(0);
    }
    give(task, args.addr(1), args.usize(2), &names, XATTR_LIST_MAX)
}

fn remove(task: &CurrentTask, args: &Args, locate: Locate) -> SysResult {
    let name = read_name(task, args.addr(1))?;
    let context = PathContext::new(task);
    let place = locate(task, &context, args)?;
    if let Some(kind) = AclKind::of_attribute(&name) {
        acl::set(&context.caller(), &place, kind, &[])?;
        notify::notify_dentry(&place.dentry, Event::ATTRIB);
        return Ok(0);
    }
    check_xattr(&context.caller(), &place, &name, Access::WRITE)?;
    place.inode().ops().remove_xattr(&name)?;
    notify::notify_dentry(&place.dentry, Event::ATTRIB);
    Ok(0)
}

/// Stores a value, or with a size of 0 only tells its length.
fn give(task: &CurrentTask, addr: UserAddr, size: usize, value: &[u8], limit: usize) -> SysResult {
    if size == 0 {
        return Ok(value.len() as u64);
    }
    if value.len() > size {
        return Err(if size >= limit { Errno::E2BIG } else { Errno::ERANGE }.into());
    }
    task.mm().write_bytes(addr, value)?;
    Ok(value.len() as u64)
}
