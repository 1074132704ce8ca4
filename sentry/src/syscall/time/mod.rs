//! Clocks and timers.

mod adjust;
mod clock;
mod itimer;
mod nanosleep;
mod posix_timer;

pub(crate) use adjust::{sys_adjtimex, sys_clock_adjtime};
pub(crate) use clock::{
    sys_clock_getres, sys_clock_gettime, sys_clock_settime, sys_gettimeofday, sys_settimeofday, sys_time,
    sys_times,
};
pub(crate) use itimer::{sys_alarm, sys_getitimer, sys_setitimer};
pub(crate) use nanosleep::{sys_clock_nanosleep, sys_nanosleep};
pub(crate) use posix_timer::{
    sys_timer_create, sys_timer_delete, sys_timer_getoverrun, sys_timer_gettime, sys_timer_settime,
};

use sentry_abi::time::Timespec;

use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::task::CurrentTask;

/// Reads a `struct timespec`.
///
/// # Errors
/// `EFAULT`.
pub(crate) fn read_timespec(task: &CurrentTask, addr: UserAddr) -> Result<Timespec, Errno> {
    task.mm().read_obj(addr)
}
