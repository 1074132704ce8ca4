//! `timer_create(2)` and its family.

use std::sync::Arc;

use sentry_abi::sigevent::{SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD_ID, SigEvent};
use sentry_abi::signal::Signal;
use sentry_abi::time::{Itimerspec, TIMER_ABSTIME, Timespec, clock};

use crate::errno::{Errno, SysResult};
use crate::kernel::KTime;
use crate::syscall::Args;
use crate::syscall::time::clock::is_only_read;
use crate::task::{ClockUse, CpuClock, CurrentTask, Expiry, Notify, TimerClock};

/// `timer_create(2)`.
pub(crate) fn sys_timer_create(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, event_at, out) = (args.i32(0), args.addr(1), args.addr(2));
    let measured = match id {
        clock::REALTIME | clock::MONOTONIC | clock::BOOTTIME | clock::TAI => TimerClock::Monotonic,
        clock::REALTIME_ALARM | clock::BOOTTIME_ALARM => return Err(Errno::EPERM.into()),
        _ if is_only_read(id) => return Err(Errno::EOPNOTSUPP.into()),
        _ => TimerClock::Cpu(CpuClock::named(task, id, ClockUse::Timer)?.ok_or(Errno::EINVAL)?),
    };
    let event: Option<SigEvent> = if event_at.is_null() { None } else { Some(task.mm().read_obj(event_at)?) };
    let group = task.thread_group().clone();
    let thread = match &event {
        Some(e) if e.notify & SIGEV_THREAD_ID != 0 => {
            let id = task.named(e.tid).map_err(|_| Errno::EINVAL)?;
            let thread = task.kernel().tree().thread(id).cloned();
            Some(thread.filter(|t| Arc::ptr_eq(t.thread_group(), &group)).ok_or(Errno::EINVAL)?)
        }
        _ => None,
    };
    let (signal, value, is_silent) = match &event {
        None => (Signal::SIGALRM, None, false),
        Some(e) if e.notify == SIGEV_NONE => (Signal::SIGALRM, Some(e.value), true),
        Some(e) if matches!(e.notify, SIGEV_SIGNAL | SIGEV_THREAD | SIGEV_THREAD_ID) => {
            (Signal::new(e.signo).ok_or(Errno::EINVAL)?, Some(e.value), false)
        }
        Some(_) => return Err(Errno::EINVAL.into()),
    };
    let timer = group.timers.create(&group, id, measured, |id| {
        // Without a sigevent the value is the timer's id.
        let value = value.unwrap_or(u64::from(id.unsigned_abs()));
        match thread {
            _ if is_silent => Notify::Nobody,
            Some(thread) => Notify::Thread { id, signal, value, task: Arc::downgrade(&thread) },
            None => Notify::Process { id, signal, value },
        }
    })?;
    if let Err(errno) = task.mm().write_obj(out, &timer) {
        group.timers.delete(timer)?;
        return Err(errno.into());
    }
    Ok(0)
}

fn itimerspec((value, interval): (u64, u64)) -> Itimerspec {
    Itimerspec { interval: Timespec::from_ns(interval), value: Timespec::from_ns(value) }
}

/// `timer_settime(2)`.
pub(crate) fn sys_timer_settime(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, flags, new_at, old_at) = (args.i32(0), args.i32(1), args.addr(2), args.addr(3));
    if new_at.is_null() {
        return Err(Errno::EINVAL.into());
    }
    let new: Itimerspec = task.mm().read_obj(new_at)?;
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let (clock_id, timer) = task.thread_group().timers.get(id)?;
    let clocks = task.kernel().clocks();
    let expiry = match value {
        0 => Expiry::Never,
        _ if flags & TIMER_ABSTIME != 0 && CpuClock::is_named_by(clock_id) => Expiry::At(KTime(value)),
        _ if flags & TIMER_ABSTIME != 0 => Expiry::At(clocks.deadline_on(clock_id, value)),
        _ => Expiry::In(value),
    };
    let old = timer.set(expiry, interval);
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &itimerspec(old))?;
    }
    Ok(0)
}

/// `timer_gettime(2)`.
pub(crate) fn sys_timer_gettime(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (_, timer) = task.thread_group().timers.get(args.i32(0))?;
    task.mm().write_obj(args.addr(1), &itimerspec(timer.get()))?;
    Ok(0)
}

/// `timer_getoverrun(2)`.
pub(crate) fn sys_timer_getoverrun(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (_, timer) = task.thread_group().timers.get(args.i32(0))?;
    Ok(u64::from(timer.overrun().unsigned_abs()))
}

/// `timer_delete(2)`.
pub(crate) fn sys_timer_delete(task: &mut CurrentTask, args: &Args) -> SysResult {
    task.thread_group().timers.delete(args.i32(0))?;
    Ok(0)
}
