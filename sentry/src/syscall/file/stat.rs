//! `stat(2)`, `statx(2)`.

use sentry_abi::fs::{StatBuf, Statx, StatxTimestamp};
use zerocopy::FromZeros;

use crate::errno::{Errno, SysResult};
use crate::kernel::UserNamespace;
use crate::syscall::Args;
use crate::syscall::file::context::{
    AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, PathContext, read_optional_path, read_path,
};
use crate::task::{CurrentTask, Gid, Uid};
use crate::vfs::{DeviceId, Fd, FileTime, Stat, VfsPath};

/// `stat(2)`.
pub(crate) fn sys_stat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let path = read_path(task, args.addr(0))?;
    let stat = PathContext::new(task).place(task, Fd(AT_FDCWD), &path, 0)?.stat()?;
    task.mm().write_obj(args.addr(1), &to_abi(&stat, task.user_ns()))?;
    Ok(0)
}

/// `lstat(2)`.
pub(crate) fn sys_lstat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let path = read_path(task, args.addr(0))?;
    let stat = PathContext::new(task).place(task, Fd(AT_FDCWD), &path, AT_SYMLINK_NOFOLLOW)?.stat()?;
    task.mm().write_obj(args.addr(1), &to_abi(&stat, task.user_ns()))?;
    Ok(0)
}

/// `fstat(2)`.
pub(crate) fn sys_fstat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let stat = task.files().get(args.fd(0))?.stat()?;
    task.mm().write_obj(args.addr(1), &to_abi(&stat, task.user_ns()))?;
    Ok(0)
}

/// `newfstatat(2)`.
pub(crate) fn sys_newfstatat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(3);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = if flags & AT_EMPTY_PATH != 0 {
        read_optional_path(task, args.addr(1))?
    } else {
        read_path(task, args.addr(1))?
    };
    // glibc's fstat: no path context needed.
    let stat = if path.is_empty() && flags & AT_EMPTY_PATH != 0 && args.i32(0) != AT_FDCWD {
        task.files().get(args.fd(0))?.stat()?
    } else {
        PathContext::new(task).place(task, args.fd(0), &path, flags)?.stat()?
    };
    task.mm().write_obj(args.addr(2), &to_abi(&stat, task.user_ns()))?;
    Ok(0)
}

/// `AT_STATX_FORCE_SYNC` and `AT_STATX_DONT_SYNC`.
const AT_STATX_SYNC_TYPE: u32 = 0x6000;
/// `STATX__RESERVED`.
const STATX_RESERVED: u32 = 0x8000_0000;
const STATX_BASIC_STATS: u32 = 0x7ff;
const STATX_BTIME: u32 = 0x800;
const STATX_MNT_ID: u32 = 0x1000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

/// `statx(2)`.
pub(crate) fn sys_statx(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (flags, mask) = (args.u32(2), args.u32(3));
    if mask & STATX_RESERVED != 0
        || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE
        || flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE) != 0
    {
        return Err(Errno::EINVAL.into());
    }
    let path = if flags & AT_EMPTY_PATH != 0 {
        read_optional_path(task, args.addr(1))?
    } else {
        read_path(task, args.addr(1))?
    };
    let place = PathContext::new(task).place(task, args.fd(0), &path, flags)?;
    let stat = place.stat()?;
    task.mm().write_obj(args.addr(4), &to_statx(&stat, &place, task.user_ns()))?;
    Ok(0)
}

/// `struct stat` of `stat`.
fn to_abi(stat: &Stat, user_ns: &UserNamespace) -> StatBuf {
    StatBuf {
        st_dev: stat.dev,
        st_ino: stat.ino,
        st_nlink: stat.nlink.into(),
        st_mode: stat.mode,
        st_uid: user_ns.show_uid(Uid(stat.uid)),
        st_gid: user_ns.show_gid(Gid(stat.gid)),
        pad: 0,
        st_rdev: stat.rdev.encode(),
        st_size: stat.size.cast_signed(),
        st_blksize: stat.blksize.into(),
        st_blocks: stat.blocks.cast_signed(),
        st_atime: stat.atime.sec,
        st_atime_nsec: stat.atime.nsec.into(),
        st_mtime: stat.mtime.sec,
        st_mtime_nsec: stat.mtime.nsec.into(),
        st_ctime: stat.ctime.sec,
        st_ctime_nsec: stat.ctime.nsec.into(),
        reserved: [0; 3],
    }
}

fn to_statx(stat: &Stat, place: &VfsPath, user_ns: &UserNamespace) -> Statx {
    let time = |t: FileTime| StatxTimestamp { tv_sec: t.sec, tv_nsec: t.nsec, reserved: 0 };
    let dev = DeviceId::decode(stat.dev);
    let mut buf = Statx::new_zeroed();
    buf.stx_mask = STATX_BASIC_STATS | STATX_MNT_ID;
    buf.stx_blksize = stat.blksize;
    buf.stx_nlink = stat.nlink;
    buf.stx_uid = user_ns.show_uid(Uid(stat.uid));
    buf.stx_gid = user_ns.show_gid(Gid(stat.gid));
    // A mode has 16 bits.
    buf.stx_mode = (stat.mode & 0xffff) as u16;
    buf.stx_ino = stat.ino;
    buf.stx_size = stat.size;
    buf.stx_blocks = stat.blocks;
    buf.stx_attributes_mask = STATX_ATTR_MOUNT_ROOT;
    if place.is_mount_root() {
        buf.stx_attributes |= STATX_ATTR_MOUNT_ROOT;
    }
    buf.stx_atime = time(stat.atime);
    buf.stx_mtime = time(stat.mtime);
    buf.stx_ctime = time(stat.ctime);
    if let Some(btime) = stat.btime {
        buf.stx_mask |= STATX_BTIME;
        buf.stx_btime = time(btime);
    }
    buf.stx_rdev_major = stat.rdev.major;
    buf.stx_rdev_minor = stat.rdev.minor;
    buf.stx_dev_major = dev.major;
    buf.stx_dev_minor = dev.minor;
    buf.stx_mnt_id = place.mount.id().0;
    buf
}
