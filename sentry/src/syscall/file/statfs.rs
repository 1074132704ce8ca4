//! `statfs(2)`.

use sentry_abi::fs::StatFsBuf;

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::file::context::{AT_FDCWD, PathContext, read_path};
use crate::task::CurrentTask;
use crate::vfs::{Fd, MountFlags, VfsPath};

/// `statfs(2)`.
pub(crate) fn sys_statfs(task: &mut CurrentTask, args: &Args) -> SysResult {
    let path = read_path(task, args.addr(0))?;
    let place = PathContext::new(task).place(task, Fd(AT_FDCWD), &path, 0)?;
    task.mm().write_obj(args.addr(1), &statfs(&place)?)?;
    Ok(0)
}

/// `fstatfs(2)`.
pub(crate) fn sys_fstatfs(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    task.mm().write_obj(args.addr(1), &statfs(file.path())?)?;
    Ok(0)
}

/// `ST_VALID`: the flags are meaningful.
const ST_VALID: u32 = 0x20;

fn statfs(place: &VfsPath) -> Result<StatFsBuf, Errno> {
    let superblock = place.mount.superblock();
    let s = superblock.fs().statfs()?;
    let flags = place.mount.flags();
    let mut shown = ST_VALID;
    // The low ST_* values are those of MS_* (statfs(2)); RELATIME and NOSYMFOLLOW have their own.
    let same = MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME
        | MountFlags::NODIRATIME;
    shown |= (flags & same).bits();
    if flags.contains(MountFlags::RELATIME) {
        shown |= 0x1000;
    }
    if flags.contains(MountFlags::NOSYMFOLLOW) {
        shown |= 0x2000;
    }
    Ok(StatFsBuf {
        f_type: s.magic.cast_signed(),
        f_bsize: s.block_size.cast_signed(),
        f_blocks: s.blocks,
        f_bfree: s.free,
        f_bavail: s.available,
        f_files: s.files,
        f_ffree: s.files_free,
        f_fsid: superblock.device(),
        f_namelen: s.name_max.cast_signed(),
        f_frsize: s.block_size.cast_signed(),
        f_flags: shown.into(),
        f_spare: [0; 4],
    })
}
