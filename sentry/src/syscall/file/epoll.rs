//! `epoll_create(2)`, `epoll_ctl(2)`, `epoll_wait(2)`.

use std::sync::Arc;

use sentry_abi::fs::EpollEvent;
use sentry_abi::time::Timespec;
use zerocopy::IntoBytes;

use crate::errno::{Errno, SysResult};
use crate::fs::event::epoll::{self, Epoll};
use crate::kernel::KTime;
use crate::syscall::Args;
use crate::syscall::file::context::{install, real_file};
use crate::syscall::file::poll::{read_mask, with_mask};
use crate::task::{BlockError, CurrentTask};
use crate::vfs::{File, OpenFlags};
use crate::wait::Readiness;

/// The most events of one call (`EP_MAX_EVENTS`).
const MAX_EVENTS: usize = i32::MAX as usize / size_of::<EpollEvent>();

/// `epoll_create(2)`.
pub(crate) fn sys_epoll_create(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.i32(0) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    install(task, epoll::create(), OpenFlags::empty())
}

/// `epoll_create1(2)`.
pub(crate) fn sys_epoll_create1(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags =
        OpenFlags::from_bits(args.u32(0)).filter(|f| OpenFlags::CLOEXEC.contains(*f)).ok_or(Errno::EINVAL)?;
    install(task, epoll::create(), flags)
}

const EPOLL_CTL_ADD: i32 = 1;
const EPOLL_CTL_DEL: i32 = 2;
const EPOLL_CTL_MOD: i32 = 3;

/// `epoll_ctl(2)`.
pub(crate) fn sys_epoll_ctl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let operation = args.i32(1);
    let event: Option<EpollEvent> =
        if operation == EPOLL_CTL_DEL { None } else { Some(task.mm().read_obj(args.addr(3))?) };
    let file = real_file(task, args.fd(0))?;
    let target = real_file(task, args.fd(2))?;
    if Arc::ptr_eq(&file, &target) {
        return Err(Errno::EINVAL.into());
    }
    let epoll = file.downcast::<Epoll>().ok_or(Errno::EINVAL)?;
    match (operation, event) {
        (EPOLL_CTL_ADD, Some(event)) => epoll.add(args.fd(2), &target, event)?,
        (EPOLL_CTL_MOD, Some(event)) => epoll.modify(args.fd(2), &target, event)?,
        (EPOLL_CTL_DEL, None) => epoll.remove(args.fd(2), &target)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// `epoll_wait(2)`.
pub(crate) fn sys_epoll_wait(task: &mut CurrentTask, args: &Args) -> SysResult {
    let deadline = milliseconds(task, args.i32(3));
    wait(task, args, deadline)
}

/// `epoll_pwait(2)`.
pub(crate) fn sys_epoll_pwait(task: &mut CurrentTask, args: &Args) -> SysResult {
    let mask = read_mask(task, args.addr(4), args.u64(5))?;
    let deadline = milliseconds(task, args.i32(3));
    with_mask(task, mask, |task| wait(task, args, deadline))
}

/// `epoll_pwait2(2)`.
pub(crate) fn sys_epoll_pwait2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let mask = read_mask(task, args.addr(4), args.u64(5))?;
    let deadline = if args.addr(3).is_null() {
        None
    } else {
        let timeout: Timespec = task.mm().read_obj(args.addr(3))?;
        Some(task.kernel().clocks().monotonic().saturating_add(timeout.to_ns()?))
    };
    with_mask(task, mask, |task| wait(task, args, deadline))
}

/// A timeout in milliseconds as a deadline; negative ones never pass.
fn milliseconds(task: &CurrentTask, timeout: i32) -> Option<KTime> {
    let ms = u64::try_from(timeout).ok()?;
    Some(task.kernel().clocks().monotonic().saturating_add(ms.saturating_mul(1_000_000)))
}

fn wait(task: &mut CurrentTask, args: &Args, deadline: Option<KTime>) -> SysResult {
    let max =
        usize::try_from(args.i32(2)).ok().filter(|n| (1..=MAX_EVENTS).contains(n)).ok_or(Errno::EINVAL)?;
    let file: Arc<File> = real_file(task, args.fd(0))?;
    let epoll = file.downcast::<Epoll>().ok_or(Errno::EINVAL)?;
    let collect = || {
        let events = epoll.collect(max);
        (!events.is_empty()).then_some(events)
    };
    let events = match collect() {
        Some(events) => events,
        None if deadline.is_some_and(|at| at <= task.kernel().clocks().monotonic()) => return Ok(0),
        None => match wait_in_turn(task, epoll, deadline, collect) {
            Ok(events) => events,
            Err(BlockError::TimedOut) => return Ok(0),
            // Never restarted (signal(7)).
            Err(BlockError::Interrupted) => return Err(Errno::EINTR.into()),
        },
    };
    task.mm().write_bytes(args.addr(1), events.as_bytes())?;
    Ok(events.len() as u64)
}

/// One of those who wait for an instance is woken for each event; it wakes the next where it leaves some.
fn wait_in_turn(
    task: &mut CurrentTask,
    epoll: &Epoll,
    deadline: Option<KTime>,
    collect: impl Fn() -> Option<Vec<EpollEvent>>,
) -> Result<Vec<EpollEvent>, BlockError> {
    let ready = || epoll.readiness_now();
    task.block_in_turn(epoll.queue(), Readiness::IN, deadline, |_| collect(), ready)
}
