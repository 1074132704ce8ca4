//! `nanosleep(2)`, `clock_nanosleep(2)`.

use sentry_abi::time::{TIMER_ABSTIME, Timespec, clock};

use crate::errno::{Errno, Restart, SysResult};
use crate::kernel::KTime;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::time::clock::is_only_read;
use crate::syscall::time::read_timespec;
use crate::task::{BlockError, ClockUse, CpuClock, CurrentTask, poll_interval};

/// `nanosleep(2)`.
pub(crate) fn sys_nanosleep(task: &mut CurrentTask, args: &Args) -> SysResult {
    let ns = read_timespec(task, args.addr(0))?.to_ns()?;
    let deadline = task.kernel().clocks().monotonic().saturating_add(ns);
    sleep_relative(task, deadline, args.addr(1))
}

/// `clock_nanosleep(2)`.
pub(crate) fn sys_clock_nanosleep(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, flags) = (args.i32(0), args.i32(1));
    match id {
        clock::REALTIME | clock::TAI | clock::MONOTONIC | clock::BOOTTIME => {}
        clock::REALTIME_ALARM | clock::BOOTTIME_ALARM => return Err(Errno::EPERM.into()),
        clock::THREAD_CPUTIME_ID => return Err(Errno::EOPNOTSUPP.into()),
        _ if is_only_read(id) => return Err(Errno::EOPNOTSUPP.into()),
        // It would never end.
        _ if CpuClock::is_own_thread(task, id) => return Err(Errno::EINVAL.into()),
        _ => {
            let clock = CpuClock::named(task, id, ClockUse::Timer)?.ok_or(Errno::EINVAL)?;
            let ns = read_timespec(task, args.addr(2))?.to_ns()?;
            return match flags & TIMER_ABSTIME {
                0 => {
                    let deadline = clock.read().0.saturating_add(ns);
                    sleep_while_others_run(task, clock, deadline, Some(args.addr(3)))
                }
                _ => sleep_while_others_run(task, clock, KTime(ns), None),
            };
        }
    }
    let ns = read_timespec(task, args.addr(2))?.to_ns()?;
    let clocks = task.kernel().clocks();
    if flags & TIMER_ABSTIME == 0 {
        let deadline = clocks.monotonic().saturating_add(ns);
        return sleep_relative(task, deadline, args.addr(3));
    }
    let deadline = clocks.deadline_on(id, ns);
    match task.block_until::<()>(Some(deadline), |_| None) {
        Ok(()) | Err(BlockError::TimedOut) => Ok(0),
        Err(BlockError::Interrupted) => Err(Restart::IfNoHandler.into()),
    }
}

/// Sleeps until a CPU clock, which others advance, is at `deadline`; a handler ends it with the time left in `remaining`, if the time
/// was relative.
fn sleep_while_others_run(
    task: &mut CurrentTask,
    clock: CpuClock,
    deadline: KTime,
    remaining: Option<UserAddr>,
) -> SysResult {
    loop {
        let (now, threads) = clock.read();
        if now >= deadline {
            return Ok(0);
        }
        let left = deadline.since(now);
        let look = task.kernel().clocks().monotonic().saturating_add(poll_interval(left, threads));
        match task.block_until::<()>(Some(look), |_| None) {
            Ok(()) | Err(BlockError::TimedOut) => {}
            Err(BlockError::Interrupted) => {
                let Some(at) = remaining else { return Err(Restart::IfNoHandler.into()) };
                if !at.is_null() {
                    task.mm().write_obj(at, &Timespec::from_ns(left))?;
                }
                let again = move |task: &mut CurrentTask| {
                    sleep_while_others_run(task, clock.clone(), deadline, remaining)
                };
                task.set_restart_block(Box::new(again));
                return Err(Restart::ViaRestartBlock.into());
            }
        }
    }
}

/// Sleeps to `deadline`; a handler ends it with the time left in `remaining`.
fn sleep_relative(task: &mut CurrentTask, deadline: KTime, remaining: UserAddr) -> SysResult {
    match task.block_until::<()>(Some(deadline), |_| None) {
        Ok(()) | Err(BlockError::TimedOut) => Ok(0),
        Err(BlockError::Interrupted) => {
            if !remaining.is_null() {
                let left = deadline.since(task.kernel().clocks().monotonic());
                task.mm().write_obj(remaining, &Timespec::from_ns(left))?;
            }
            task.set_restart_block(Box::new(move |task| sleep_relative(task, deadline, remaining)));
            Err(Restart::ViaRestartBlock.into())
        }
    }
}
