//! Rows about clocks and timers.

use crate::syscall::table::{Syscall, row};
use crate::syscall::time as t;

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[
    row!(NANOSLEEP, "nanosleep", [Ptr, Ptr], t::sys_nanosleep, Full),
    row!(GETITIMER, "getitimer", [Int, Ptr], t::sys_getitimer, Full),
    row!(ALARM, "alarm", [Uint], t::sys_alarm, Full),
    row!(SETITIMER, "setitimer", [Int, Ptr, Ptr], t::sys_setitimer, Full),
    row!(GETTIMEOFDAY, "gettimeofday", [Ptr, Ptr], t::sys_gettimeofday, Full),
    row!(TIMES, "times", [Ptr], t::sys_times, Full),
    row!(ADJTIMEX, "adjtimex", [Ptr], t::sys_adjtimex, Partial("reading only")),
    row!(SETTIMEOFDAY, "settimeofday", [Ptr, Ptr], t::sys_settimeofday, Stub("EPERM")),
    row!(TIME, "time", [Ptr], t::sys_time, Full),
    row!(TIMER_CREATE, "timer_create", [Int, Ptr, Ptr], t::sys_timer_create, Full),
    row!(TIMER_SETTIME, "timer_settime", [Int, Hex, Ptr, Ptr], t::sys_timer_settime, Full),
    row!(TIMER_GETTIME, "timer_gettime", [Int, Ptr], t::sys_timer_gettime, Full),
    row!(TIMER_GETOVERRUN, "timer_getoverrun", [Int], t::sys_timer_getoverrun, Full),
    row!(TIMER_DELETE, "timer_delete", [Int], t::sys_timer_delete, Full),
    row!(CLOCK_SETTIME, "clock_settime", [Int, Ptr], t::sys_clock_settime, Stub("EPERM")),
    row!(CLOCK_GETTIME, "clock_gettime", [Int, Ptr], t::sys_clock_gettime, Full),
    row!(CLOCK_GETRES, "clock_getres", [Int, Ptr], t::sys_clock_getres, Full),
    row!(CLOCK_NANOSLEEP, "clock_nanosleep", [Int, Hex, Ptr, Ptr], t::sys_clock_nanosleep, Full),
    row!(CLOCK_ADJTIME, "clock_adjtime", [Int, Ptr], t::sys_clock_adjtime, Partial("reading only")),
];
