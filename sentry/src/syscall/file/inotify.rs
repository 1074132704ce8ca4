//! `inotify_init(2)`, `inotify_add_watch(2)`, `inotify_rm_watch(2)`.

use crate::errno::{Errno, SysResult};
use crate::fs::event::inotify::{self, AddMode, Inotify};
use crate::syscall::Args;
use crate::syscall::file::context::{
    AT_FDCWD, AT_SYMLINK_NOFOLLOW, PathContext, install, read_path, real_file,
};
use crate::syscall::file::eventfd::file_flags;
use crate::task::CurrentTask;
use crate::vfs::notify::{Event, WatchId};
use crate::vfs::permission::check_access;
use crate::vfs::{Access, Fd, OpenFlags};

const IN_ALL_EVENTS: u32 = 0xfff;
const IN_ONLYDIR: u32 = 0x0100_0000;
const IN_DONT_FOLLOW: u32 = 0x0200_0000;
const IN_EXCL_UNLINK: u32 = 0x0400_0000;
const IN_MASK_CREATE: u32 = 0x1000_0000;
const IN_MASK_ADD: u32 = 0x2000_0000;
const IN_ISDIR: u32 = 0x4000_0000;
const IN_ONESHOT: u32 = 0x8000_0000;

/// `inotify_init(2)`.
pub(crate) fn sys_inotify_init(task: &mut CurrentTask, _: &Args) -> SysResult {
    install(task, inotify::create(OpenFlags::empty()), OpenFlags::empty())
}

/// `inotify_init1(2)`.
pub(crate) fn sys_inotify_init1(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = file_flags(args.u32(0))?;
    install(task, inotify::create(flags), flags)
}

/// `inotify_add_watch(2)`.
pub(crate) fn sys_inotify_add_watch(task: &mut CurrentTask, args: &Args) -> SysResult {
    let mask = args.u32(2);
    let known = IN_ALL_EVENTS
        | IN_ONLYDIR
        | IN_DONT_FOLLOW
        | IN_EXCL_UNLINK
        | IN_MASK_CREATE
        | IN_MASK_ADD
        | IN_ISDIR
        | IN_ONESHOT
        | Event::UNMOUNT.bits()
        | Event::Q_OVERFLOW.bits()
        | Event::IGNORED.bits();
    if mask & !known != 0 || mask & IN_ALL_EVENTS == 0 && mask & known == 0 {
        return Err(Errno::EINVAL.into());
    }
    let mode = match (mask & IN_MASK_ADD != 0, mask & IN_MASK_CREATE != 0) {
        (true, true) => return Err(Errno::EINVAL.into()),
        (true, false) => AddMode::Join,
        (false, true) => AddMode::Create,
        (false, false) => AddMode::Replace,
    };
    let file = real_file(task, args.fd(0))?;
    let inotify = file.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    let path = read_path(task, args.addr(1))?;
    let context = PathContext::new(task);
    let follow = if mask & IN_DONT_FOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let place = context.place(task, Fd(AT_FDCWD), &path, follow)?;
    if mask & IN_ONLYDIR != 0 && !place.inode().is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    check_access(&context.caller(), place.inode(), Access::READ)?;
    let events = Event::from_bits_truncate(mask & IN_ALL_EVENTS);
    let id = inotify.add(place.inode(), events, mode, mask & IN_ONESHOT != 0)?;
    Ok(u64::from(id.0.unsigned_abs()))
}

/// `inotify_rm_watch(2)`.
pub(crate) fn sys_inotify_rm_watch(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    file.downcast::<Inotify>().ok_or(Errno::EINVAL)?.remove(WatchId(args.i32(1)))?;
    Ok(0)
}
