//! `getitimer(2)`, `setitimer(2)`, `alarm(2)`.

use sentry_abi::time::{Itimerval, Timeval};

use crate::errno::SysResult;
use crate::syscall::Args;
use crate::task::{CurrentTask, Expiry};

const ITIMER_REAL: i32 = 0;

fn itimerval((value, interval): (u64, u64)) -> Itimerval {
    // Rounded up: an armed timer never reads as zero.
    let value = if value == 0 { 0 } else { value.max(1000) };
    Itimerval { interval: Timeval::from_ns(interval), value: Timeval::from_ns(value) }
}

/// `getitimer(2)`.
pub(crate) fn sys_getitimer(task: &mut CurrentTask, args: &Args) -> SysResult {
    let group = task.thread_group();
    let setting = group.timers.interval(group, args.i32(0))?.get();
    task.mm().write_obj(args.addr(1), &itimerval(setting))?;
    Ok(0)
}

/// `setitimer(2)`. A null new value disarms, as Linux does for old programs.
pub(crate) fn sys_setitimer(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (new_at, old_at) = (args.addr(1), args.addr(2));
    let new: Itimerval = if new_at.is_null() { Itimerval::default() } else { task.mm().read_obj(new_at)? };
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let group = task.thread_group();
    let expiry = if value == 0 { Expiry::Never } else { Expiry::In(value) };
    let old = group.timers.interval(group, args.i32(0))?.set(expiry, interval);
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &itimerval(old))?;
    }
    Ok(0)
}

/// `alarm(2)`: returns the seconds that were left, rounded to the nearest but never to 0 while armed.
pub(crate) fn sys_alarm(task: &mut CurrentTask, args: &Args) -> SysResult {
    const SECOND: u64 = 1_000_000_000;
    let group = task.thread_group();
    let expiry = match args.u32(0) {
        0 => Expiry::Never,
        seconds => Expiry::In(u64::from(seconds) * SECOND),
    };
    let (left, _) = group.timers.interval(group, ITIMER_REAL)?.set(expiry, 0);
    let rounded = (left + SECOND / 2) / SECOND;
    Ok(if left > 0 { rounded.max(1) } else { 0 })
}
