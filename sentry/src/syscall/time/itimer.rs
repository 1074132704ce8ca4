//! `getitimer(2)`, `setitimer(2)`, `alarm(2)`.

use sentry_abi::time::{Itimerval, Timeval};

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::CurrentTask;

const ITIMER_REAL: i32 = 0;
const ITIMER_PROF: i32 = 2;

/// Only the real timer counts down; the CPU timers accept being disarmed.
fn check_which(which: i32, arms: bool) -> Result<bool, Errno> {
    match which {
        ITIMER_REAL => Ok(true),
        1..=ITIMER_PROF if !arms => Ok(false),
        // DEVIATION: ITIMER_VIRTUAL and ITIMER_PROF need CPU accounting in steps finer than is kept; the error is that
        // of a kernel without them.
        1..=ITIMER_PROF => Err(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

fn itimerval((value, interval): (u64, u64)) -> Itimerval {
    // Rounded up: an armed timer never reads as zero.
    let value = if value == 0 { 0 } else { value.max(1000) };
    Itimerval { interval: Timeval::from_ns(interval), value: Timeval::from_ns(value) }
}

/// `getitimer(2)`.
pub(crate) fn sys_getitimer(task: &mut CurrentTask, args: &Args) -> SysResult {
    let setting = if check_which(args.i32(0), false)? {
        let now = task.kernel().clocks().monotonic();
        task.thread_group().timers.real(task.thread_group()).get(now)
    } else {
        (0, 0)
    };
    task.mm().write_obj(args.addr(1), &itimerval(setting))?;
    Ok(0)
}

/// `setitimer(2)`. A null new value disarms, as Linux does for old programs.
pub(crate) fn sys_setitimer(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (new_at, old_at) = (args.addr(1), args.addr(2));
    let new: Itimerval = if new_at.is_null() { Itimerval::default() } else { task.mm().read_obj(new_at)? };
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let old = if check_which(args.i32(0), value > 0)? { set_real(task, value, interval) } else { (0, 0) };
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &itimerval(old))?;
    }
    Ok(0)
}

fn set_real(task: &CurrentTask, value: u64, interval: u64) -> (u64, u64) {
    let now = task.kernel().clocks().monotonic();
    let deadline = (value > 0).then(|| now.saturating_add(value));
    let timer = task.thread_group().timers.real(task.thread_group());
    timer.set(task.kernel(), now, deadline, interval)
}

/// `alarm(2)`: returns the seconds that were left, rounded to the nearest but never to 0 while armed.
pub(crate) fn sys_alarm(task: &mut CurrentTask, args: &Args) -> SysResult {
    const SECOND: u64 = 1_000_000_000;
    let (left, _) = set_real(task, u64::from(args.u32(0)) * SECOND, 0);
    let rounded = (left + SECOND / 2) / SECOND;
    Ok(if left > 0 { rounded.max(1) } else { 0 })
}
