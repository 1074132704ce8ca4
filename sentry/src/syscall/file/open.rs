//! `open(2)`, `openat(2)`, `openat2(2)`, `creat(2)`.

use sentry_abi::fs::OpenHowBuf;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::{AT_FDCWD, PathContext, read_path};
use crate::task::{CurrentTask, Resource};
use crate::vfs::open::{self, OpenHow};
use crate::vfs::{Fd, FdFlags, OpenFlags, Resolve};
use crate::wait::Readiness;

/// `open(2)`.
pub(crate) fn sys_open(task: &mut CurrentTask, args: &Args) -> SysResult {
    open(task, Fd(AT_FDCWD), args.addr(0), legacy_how(args.u32(1), args.u32(2)))
}

/// `openat(2)`.
pub(crate) fn sys_openat(task: &mut CurrentTask, args: &Args) -> SysResult {
    open(task, args.fd(0), args.addr(1), legacy_how(args.u32(2), args.u32(3)))
}

/// `creat(2)`.
pub(crate) fn sys_creat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    open(task, Fd(AT_FDCWD), args.addr(0), legacy_how(flags.bits(), args.u32(1)))
}

/// `openat2(2)`.
pub(crate) fn sys_openat2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let size = args.usize(3);
    if size < size_of::<OpenHowBuf>() {
        return Err(Errno::EINVAL.into());
    }
    if size > 4096 {
        return Err(Errno::E2BIG.into());
    }
    let how: OpenHowBuf = task.mm().read_obj(args.addr(2))?;
    // A longer structure is fine as long as what we don't know is zero (openat2(2), "Extensibility").
    let rest = size - size_of::<OpenHowBuf>();
    let tail: Vec<u8> =
        task.mm().read_array(args.addr(2).checked_add(size_of::<OpenHowBuf>() as u64)?, rest)?;
    if tail.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG.into());
    }
    let flags = u32::try_from(how.flags).map_err(|_| Errno::EINVAL)?;
    let flags = OpenFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let resolve = Resolve::from_bits(how.resolve).ok_or(Errno::EINVAL)?;
    let creates = flags.contains(OpenFlags::CREAT) || flags.contains(OpenFlags::TMPFILE);
    if how.mode & !0o7777 != 0 || (how.mode != 0 && !creates) {
        return Err(Errno::EINVAL.into());
    }
    if resolve.contains(Resolve::BENEATH | Resolve::IN_ROOT) {
        return Err(Errno::EINVAL.into());
    }
    let path_only = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !path_only.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    let mode = u32::try_from(how.mode).map_err(|_| Errno::EINVAL)?;
    open(task, args.fd(0), args.addr(1), OpenHow { flags, mode, umask: 0, resolve })
}

/// `open(2)` ignores unknown flags, and everything but three flags with `O_PATH`.
fn legacy_how(flags: u32, mode: u32) -> OpenHow {
    let mut flags = OpenFlags::from_bits_truncate(flags);
    if flags.contains(OpenFlags::PATH) {
        flags &= OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    }
    OpenHow { flags, mode: mode & 0o7777, umask: 0, resolve: Resolve::empty() }
}

/// What is wrong with flags whatever the path is (`build_open_flags`).
fn check_flags(flags: OpenFlags) -> Result<(), Errno> {
    let unnamed = OpenFlags::TMPFILE.difference(OpenFlags::DIRECTORY);
    if flags.contains(OpenFlags::DIRECTORY | OpenFlags::CREAT) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(unnamed) && (!flags.contains(OpenFlags::DIRECTORY) || flags.access_mode() == 0) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn open(task: &mut CurrentTask, dirfd: Fd, path: UserAddr, how: OpenHow) -> SysResult {
    check_flags(how.flags)?;
    let path = read_path(task, path)?;
    let context = PathContext::new(task);
    let from = context.root_for(task, dirfd, &path)?;
    let how = OpenHow { umask: context.fs().umask(), ..how };
    let file = open::open(&context.caller(), &from, &path, &how)?;
    wait_for_peer(task, &file)?;
    let flags = if how.flags.contains(OpenFlags::CLOEXEC) { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let limit = task.rlimit(Resource::Nofile).soft;
    let fd = task.files().install(file, flags, 0, limit)?;
    Ok(u64::from(fd.0.unsigned_abs()))
}

/// Waits until a FIFO has its other end. Not even `O_NONBLOCK` files get here in vain: they need no wait.
fn wait_for_peer(
    task: &mut CurrentTask,
    file: &std::sync::Arc<crate::vfs::File>,
) -> Result<(), crate::errno::SysError> {
    match file.ops().finish_open(file) {
        Err(Errno::EAGAIN) => {
            task.block_on_file(file, Readiness::IN | Readiness::OUT, None, |_| file.ops().finish_open(file))
        }
        done => Ok(done?),
    }
}
