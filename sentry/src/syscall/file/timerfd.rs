//! `timerfd_create(2)`, `timerfd_settime(2)`, `timerfd_gettime(2)`.

use sentry_abi::time::{Itimerspec, Timespec, clock};

use crate::errno::{Errno, SysResult};
use crate::fs::event::timerfd::{self, TimerClock, TimerFd, TimerSetting};
use crate::syscall::Args;
use crate::syscall::file::context::{install, real_file};
use crate::syscall::file::eventfd::file_flags;
use crate::task::CurrentTask;

const TFD_TIMER_ABSTIME: u32 = 1;
const TFD_TIMER_CANCEL_ON_SET: u32 = 2;

/// `timerfd_create(2)`.
pub(crate) fn sys_timerfd_create(task: &mut CurrentTask, args: &Args) -> SysResult {
    let clock = match args.i32(0) {
        clock::REALTIME | clock::REALTIME_ALARM => TimerClock::Realtime,
        clock::MONOTONIC => TimerClock::Monotonic,
        clock::BOOTTIME | clock::BOOTTIME_ALARM => TimerClock::Boottime,
        _ => return Err(Errno::EINVAL.into()),
    };
    let flags = file_flags(args.u32(1))?;
    let file = timerfd::create(task.kernel(), clock, flags);
    install(task, file, flags)
}

/// `timerfd_settime(2)`. The clock is never set, so `TFD_TIMER_CANCEL_ON_SET` has nothing to do.
pub(crate) fn sys_timerfd_settime(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(1);
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let new: Itimerspec = task.mm().read_obj(args.addr(2))?;
    let setting = TimerSetting { value: new.value.to_ns()?, interval: new.interval.to_ns()? };
    let file = real_file(task, args.fd(0))?;
    let timer = file.downcast::<TimerFd>().ok_or(Errno::EINVAL)?;
    let old = timer.set(task.kernel(), setting, flags & TFD_TIMER_ABSTIME != 0);
    if !args.addr(3).is_null() {
        task.mm().write_obj(args.addr(3), &to_abi(old))?;
    }
    Ok(0)
}

/// `timerfd_gettime(2)`.
pub(crate) fn sys_timerfd_gettime(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let timer = file.downcast::<TimerFd>().ok_or(Errno::EINVAL)?;
    task.mm().write_obj(args.addr(1), &to_abi(timer.get(task.kernel())))?;
    Ok(0)
}

fn to_abi(setting: TimerSetting) -> Itimerspec {
    Itimerspec { interval: Timespec::from_ns(setting.interval), value: Timespec::from_ns(setting.value) }
}
