//! `mount(2)`, `umount2(2)`, `pivot_root(2)`.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::fs;
use crate::fs::overlay::{Overlay, OverlayLayers, OverlayOptions};
use crate::mm::PAGE_SIZE;
use crate::syscall::Args;
use crate::syscall::file::context::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, PathContext, read_path};
use crate::task::{Capabilities, CurrentTask};
use crate::vfs::{
    BindExtent, Dentry, DetachChildren, Fd, Mount, MountFlags, MountNamespace, Propagation, VfsPath,
};

const MS_REMOUNT: u32 = 32;
const MS_BIND: u32 = 4096;
const MS_MOVE: u32 = 8192;
const MS_REC: u32 = 16384;
const MS_SILENT: u32 = 1 << 15;
const MS_UNBINDABLE: u32 = 1 << 17;
const MS_PRIVATE: u32 = 1 << 18;
const MS_SLAVE: u32 = 1 << 19;
const MS_SHARED: u32 = 1 << 20;
const MS_PROPAGATION: u32 = MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED;
/// Old programs put this in the upper half (`mount(2)`).
const MS_MGC_VAL: u32 = 0xc0ed_0000;

/// `mount(2)`.
pub(crate) fn sys_mount(task: &mut CurrentTask, args: &Args) -> SysResult {
    let kind = if args.addr(2).is_null() {
        Vec::new()
    } else {
        task.mm().read_cstr(args.addr(2), PAGE_SIZE as usize)?
    };
    let source = if args.addr(0).is_null() { Vec::new() } else { read_path(task, args.addr(0))? };
    let target = read_path(task, args.addr(1))?;
    let mut flags = args.u32(3);
    if flags & 0xffff_0000 == MS_MGC_VAL {
        flags &= 0xffff;
    }
    let data = if args.addr(4).is_null() {
        Vec::new()
    } else {
        task.mm().read_cstr(args.addr(4), PAGE_SIZE as usize).unwrap_or_default()
    };
    let context = PathContext::new(task);
    let place = context.place(task, Fd(AT_FDCWD), &target, 0)?;
    let namespace = context.fs().namespace();
    check_may_mount(&context, &namespace)?;
    let mount_flags = MountFlags::from_bits_truncate(flags);
    if flags & MS_REMOUNT != 0 {
        remount(&context, &place, mount_flags, flags & MS_BIND != 0)?;
        return Ok(0);
    }
    if flags & MS_BIND != 0 {
        let from = context.place(task, Fd(AT_FDCWD), &source, 0)?;
        bind(&context, &from, place, flags & MS_REC != 0)?;
        return Ok(0);
    }
    if flags & MS_PROPAGATION != 0 {
        change_propagation(&namespace, &place, flags)?;
        return Ok(0);
    }
    if flags & MS_MOVE != 0 {
        let from = context.place(task, Fd(AT_FDCWD), &source, 0)?;
        if !from.is_mount_root() || from.mount.is_locked() || !is_in(&namespace, &from.mount) {
            return Err(Errno::EINVAL.into());
        }
        namespace.move_mount(&from.mount, place)?;
        return Ok(0);
    }
    let kind = String::from_utf8(kind).map_err(|_| Errno::ENODEV)?;
    let data = String::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let root = match &kind[..] {
        "overlay" => overlay(task, &context, &data)?,
        kind => fs::registry::create(task, kind, &data)?,
    };
    if is_too_revealing(&namespace, &root, mount_flags) {
        return Err(Errno::EPERM.into());
    }
    let shown = if source.is_empty() { b"none".to_vec() } else { source };
    namespace.mount(root, &shown, place, mount_flags)?;
    Ok(0)
}

/// An overlay of directories that the caller names.
fn overlay(task: &CurrentTask, context: &PathContext, data: &str) -> Result<Arc<Dentry>, Errno> {
    let caller = context.caller();
    let user_ns = &caller.creds.user_ns;
    if !caller.creds.has_in(user_ns, Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let options = OverlayOptions::parse(data)?;
    let find = |path: &String| context.place(task, Fd(AT_FDCWD), fs::overlay::unescape(path).as_bytes(), 0);
    let lower: Vec<VfsPath> = options.lower.iter().map(find).collect::<Result<_, _>>()?;
    for data in &options.data {
        if !find(data)?.inode().is_dir() {
            return Err(Errno::EINVAL);
        }
    }
    let upper = match (&options.upper, &options.work) {
        (Some(upper), Some(work)) => Some((find(upper)?, find(work)?)),
        _ => None,
    };
    let root = Overlay::mount(&caller, &options, &OverlayLayers { lower, upper })?;
    root.superblock().set_user_ns(user_ns.clone());
    Ok(root)
}

/// Who may change the mounts of a namespace (Linux's `may_mount`).
fn check_may_mount(context: &PathContext, namespace: &MountNamespace) -> Result<(), Errno> {
    let may = context.caller().creds.has_in(namespace.base().owner(), Capabilities::SYS_ADMIN);
    if may { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether the mount is one of the namespace's (`check_mnt`).
fn is_in(namespace: &Arc<MountNamespace>, mount: &Mount) -> bool {
    mount.namespace().is_some_and(|of| Arc::ptr_eq(&of, namespace))
}

/// `MS_REMOUNT`: with `MS_BIND` of this mount, else of the file system, which has to be one's own.
fn remount(context: &PathContext, place: &VfsPath, flags: MountFlags, is_bind: bool) -> Result<(), Errno> {
    if !place.is_mount_root() || !is_in(&context.fs().namespace(), &place.mount) {
        return Err(Errno::EINVAL);
    }
    if !place.mount.keeps_locked(flags) {
        return Err(Errno::EPERM);
    }
    let owner = place.mount.superblock().user_ns();
    if !is_bind && !context.caller().creds.has_in(&owner, Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if !is_bind && !flags.contains(MountFlags::RDONLY) && place.mount.superblock().fs().is_read_only() {
        return Err(Errno::EROFS);
    }
    let times = MountFlags::ACCESS_TIMES;
    let kept = if flags.intersects(times) { MountFlags::empty() } else { place.mount.flags() & times };
    place.mount.set_flags(flags | kept);
    Ok(())
}

/// Whether a new view of `root`'s file system, in a user namespace, would show what is covered or read-only in the views
/// that are there (`mount_too_revealing`).
fn is_too_revealing(namespace: &MountNamespace, root: &Dentry, flags: MountFlags) -> bool {
    let kind = root.superblock().fs().type_name();
    if namespace.base().owner().is_initial() || !matches!(kind, "proc" | "sysfs") {
        return false;
    }
    let shows_all = |mount: &Arc<Mount>| {
        mount.superblock().fs().type_name() == kind
            && mount.root().parent().is_none()
            && mount.keeps_locked_read_only(flags)
            && !namespace.has_locked_children(mount)
    };
    !namespace.mounts().iter().any(shows_all)
}

/// Sets the propagation type of a mount, with `MS_REC` of all below it, too (`do_change_type`).
fn change_propagation(namespace: &Arc<MountNamespace>, place: &VfsPath, flags: u32) -> Result<(), Errno> {
    let to = match flags & !(MS_REC | MS_SILENT) {
        MS_SHARED => Propagation::Shared,
        MS_SLAVE => Propagation::Slave,
        MS_PRIVATE => Propagation::Private,
        MS_UNBINDABLE => Propagation::Unbindable,
        _ => return Err(Errno::EINVAL),
    };
    if !place.is_mount_root() || !is_in(namespace, &place.mount) {
        return Err(Errno::EINVAL);
    }
    let all = flags & MS_REC != 0;
    let mounts = if all { namespace.subtree(&place.mount) } else { vec![place.mount.clone()] };
    namespace.set_propagation(&mounts, to);
    Ok(())
}

/// Shows `from` also at `place`, with `recursive` what is mounted below it too.
fn bind(context: &PathContext, from: &VfsPath, place: VfsPath, recursive: bool) -> Result<(), Errno> {
    let namespace = context.fs().namespace();
    // A file that stands for a namespace belongs to none (`do_loopback`).
    let is_nsfs = fs::nsfs::Namespace::of(from.inode()).is_some();
    if !is_nsfs && !is_in(&namespace, &from.mount) {
        return Err(Errno::EINVAL);
    }
    // Not without what covers parts of it for good.
    if !recursive && namespace.covers_for_good(from) {
        return Err(Errno::EINVAL);
    }
    namespace.bind(from, place, if recursive { BindExtent::Tree } else { BindExtent::Mount })
}

const MNT_FORCE: u32 = 1;
const MNT_DETACH: u32 = 2;
const MNT_EXPIRE: u32 = 4;
const UMOUNT_NOFOLLOW: u32 = 8;

/// `umount2(2)`. Without `MNT_DETACH` a mount that is in use is busy; in use means that something is mounted below or
/// that its root is somebody's working directory through this mount.
pub(crate) fn sys_umount2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(1);
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = read_path(task, args.addr(0))?;
    let context = PathContext::new(task);
    let follow = if flags & UMOUNT_NOFOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let place = context.place(task, Fd(AT_FDCWD), &path, follow)?;
    let namespace = context.fs().namespace();
    check_may_mount(&context, &namespace)?;
    if !place.is_mount_root() || !is_in(&namespace, &place.mount) || place.mount.is_locked() {
        return Err(Errno::EINVAL.into());
    }
    if flags & MNT_FORCE != 0 && !context.caller().has(Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    if flags & MNT_EXPIRE != 0 && flags & (MNT_FORCE | MNT_DETACH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & MNT_EXPIRE != 0 {
        return Err(Errno::EAGAIN.into());
    }
    let mount = place.mount.clone();
    drop(place);
    if flags & MNT_DETACH == 0 {
        // Every open file and working directory holds a reference: ours, and the table's, are the only others.
        if Arc::strong_count(&mount) > 2 {
            return Err(Errno::EBUSY.into());
        }
        namespace.detach(&mount, DetachChildren::Refuse)?;
    } else {
        namespace.detach(&mount, DetachChildren::Detach)?;
    }
    Ok(0)
}

/// `pivot_root(2)`.
pub(crate) fn sys_pivot_root(task: &mut CurrentTask, args: &Args) -> SysResult {
    let new_path = read_path(task, args.addr(0))?;
    let old_path = read_path(task, args.addr(1))?;
    let context = PathContext::new(task);
    check_may_mount(&context, &context.fs().namespace())?;
    let new_root = context.place(task, Fd(AT_FDCWD), &new_path, 0)?;
    let put_old = context.place(task, Fd(AT_FDCWD), &old_path, 0)?;
    if !new_root.inode().is_dir() || !put_old.inode().is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    let fs = context.fs();
    let namespace = fs.namespace();
    let old_root = fs.root();
    let root_mount = namespace.root_mount();
    if Arc::ptr_eq(&new_root.mount, &root_mount) || Arc::ptr_eq(&put_old.mount, &root_mount) {
        return Err(Errno::EBUSY.into());
    }
    if new_root.mount.is_locked() || !is_in(&namespace, &new_root.mount) || !is_in(&namespace, &put_old.mount)
    {
        return Err(Errno::EINVAL.into());
    }
    if !new_root.is_mount_root() || !old_root.is_mount_root() || !is_below(&put_old, &new_root) {
        return Err(Errno::EINVAL.into());
    }
    namespace.pivot(&new_root.mount, put_old)?;
    if fs.cwd().is_same(&old_root) {
        fs.set_cwd(new_root.clone());
    }
    fs.set_root(new_root);
    Ok(0)
}

/// True where `place` is at or below `top`, over mounts.
fn is_below(place: &VfsPath, top: &VfsPath) -> bool {
    let mut at = place.clone();
    loop {
        if Arc::ptr_eq(&at.mount, &top.mount) {
            return top.dentry.is_ancestor_of(&at.dentry);
        }
        match at.mount.mount_point() {
            Some(above) => at = above,
            None => return false,
        }
    }
}
