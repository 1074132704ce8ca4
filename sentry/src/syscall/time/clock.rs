//! `clock_gettime(2)`, `clock_getres(2)`, `gettimeofday(2)`, `time(2)`, `times(2)`.

use sentry_abi::resource::Tms;
use sentry_abi::time::{Timespec, Timeval, clock};

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::{ClockUse, CpuClock, CurrentTask};

/// The reading of a clock in nanoseconds.
///
/// # Errors
/// `EINVAL` for an unknown clock.
pub(crate) fn read_clock(task: &CurrentTask, id: i32) -> Result<u64, Errno> {
    let clocks = task.kernel().clocks();
    Ok(match id {
        clock::REALTIME | clock::REALTIME_COARSE | clock::REALTIME_ALARM | clock::TAI => clocks.realtime_ns(),
        clock::MONOTONIC | clock::MONOTONIC_RAW | clock::MONOTONIC_COARSE => clocks.monotonic().0,
        clock::BOOTTIME | clock::BOOTTIME_ALARM => clocks.boottime().0,
        _ => CpuClock::named(task, id, ClockUse::Read)?.ok_or(Errno::EINVAL)?.read().0.0,
    })
}

/// Whether a clock can be read but not waited for: those that are coarse or raw, and those that are files.
pub(super) fn is_only_read(id: i32) -> bool {
    let is_file = id < 0 && id & 7 == 3;
    matches!(id, clock::MONOTONIC_RAW | clock::REALTIME_COARSE | clock::MONOTONIC_COARSE) || is_file
}

/// `clock_gettime(2)`.
pub(crate) fn sys_clock_gettime(task: &mut CurrentTask, args: &Args) -> SysResult {
    let ns = read_clock(task, args.i32(0))?;
    task.mm().write_obj(args.addr(1), &Timespec::from_ns(ns))?;
    Ok(0)
}

/// `clock_getres(2)`: high-resolution clocks count nanoseconds, coarse ones ticks of 4 ms.
pub(crate) fn sys_clock_getres(task: &mut CurrentTask, args: &Args) -> SysResult {
    let id = args.i32(0);
    read_clock(task, id)?;
    let ns = if matches!(id, clock::REALTIME_COARSE | clock::MONOTONIC_COARSE) { 4_000_000 } else { 1 };
    if !args.addr(1).is_null() {
        task.mm().write_obj(args.addr(1), &Timespec::from_ns(ns))?;
    }
    Ok(0)
}

/// `clock_settime(2)`: the sandbox shows the host's clocks, which nobody inside may set.
pub(crate) fn sys_clock_settime(task: &mut CurrentTask, args: &Args) -> SysResult {
    read_clock(task, args.i32(0))?;
    let time: Timespec = task.mm().read_obj(args.addr(1))?;
    time.to_ns()?;
    Err(Errno::EPERM.into())
}

/// `gettimeofday(2)`.
pub(crate) fn sys_gettimeofday(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (time_at, zone_at) = (args.addr(0), args.addr(1));
    if !time_at.is_null() {
        let now = Timeval::from_ns(task.kernel().clocks().realtime_ns());
        task.mm().write_obj(time_at, &now)?;
    }
    if !zone_at.is_null() {
        task.mm().write_obj(zone_at, &[0_i32; 2])?;
    }
    Ok(0)
}

/// `settimeofday(2)`: as `clock_settime`.
pub(crate) fn sys_settimeofday(_: &mut CurrentTask, _: &Args) -> SysResult {
    Err(Errno::EPERM.into())
}

/// `time(2)`.
pub(crate) fn sys_time(task: &mut CurrentTask, args: &Args) -> SysResult {
    let now = task.kernel().clocks().realtime_ns() / 1_000_000_000;
    if !args.addr(0).is_null() {
        task.mm().write_obj(args.addr(0), &now)?;
    }
    Ok(now)
}

/// `times(2)`.
pub(crate) fn sys_times(task: &mut CurrentTask, args: &Args) -> SysResult {
    const TICK_NS: u64 = 10_000_000;
    let ticks = |ns: u64| (ns / TICK_NS).cast_signed();
    if !args.addr(0).is_null() {
        let (utime, stime) = task.thread_group().cpu_times();
        let (cutime, cstime) = task.thread_group().children_cpu_times();
        let tms =
            Tms { utime: ticks(utime), stime: ticks(stime), cutime: ticks(cutime), cstime: ticks(cstime) };
        task.mm().write_obj(args.addr(0), &tms)?;
    }
    Ok(task.kernel().clocks().monotonic().0 / TICK_NS)
}
