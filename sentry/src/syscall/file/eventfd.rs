//! `eventfd(2)`, `signalfd(2)`.

use sentry_abi::signal::SigSet;

use crate::errno::{Errno, SysResult};
use crate::fs::event::eventfd::{self, ReadMode};
use crate::fs::event::signalfd::{self, SignalFd};
use crate::syscall::Args;
use crate::syscall::file::context::{install, real_file};
use crate::task::CurrentTask;
use crate::vfs::OpenFlags;

const EFD_SEMAPHORE: u32 = 1;

/// `eventfd(2)`, which in the kernel has no flags.
pub(crate) fn sys_eventfd(task: &mut CurrentTask, args: &Args) -> SysResult {
    install(task, eventfd::create(args.u32(0), ReadMode::Whole, OpenFlags::empty()), OpenFlags::empty())
}

/// `eventfd2(2)`.
pub(crate) fn sys_eventfd2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(1);
    let mode = if flags & EFD_SEMAPHORE != 0 { ReadMode::Semaphore } else { ReadMode::Whole };
    let flags = file_flags(flags & !EFD_SEMAPHORE)?;
    install(task, eventfd::create(args.u32(0), mode, flags), flags)
}

/// `signalfd(2)`, which in the kernel has no flags.
pub(crate) fn sys_signalfd(task: &mut CurrentTask, args: &Args) -> SysResult {
    signalfd(task, args, 0)
}

/// `signalfd4(2)`.
pub(crate) fn sys_signalfd4(task: &mut CurrentTask, args: &Args) -> SysResult {
    signalfd(task, args, args.u32(3))
}

fn signalfd(task: &mut CurrentTask, args: &Args, flags: u32) -> SysResult {
    if args.u64(2) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let mask = SigSet(task.mm().read_obj(args.addr(1))?);
    let flags = file_flags(flags)?;
    if args.i32(0) == -1 {
        let file = signalfd::create(task.task(), mask, flags);
        return install(task, file, flags);
    }
    let file = real_file(task, args.fd(0))?;
    file.downcast::<SignalFd>().ok_or(Errno::EINVAL)?.set_mask(mask);
    Ok(u64::from(args.fd(0).0.unsigned_abs()))
}

/// `*_CLOEXEC` and `*_NONBLOCK`, which have the values of `O_CLOEXEC` and `O_NONBLOCK` everywhere.
pub(super) fn file_flags(flags: u32) -> Result<OpenFlags, Errno> {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    OpenFlags::from_bits(flags).filter(|f| allowed.contains(*f)).ok_or(Errno::EINVAL)
}
