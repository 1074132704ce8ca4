//! `adjtimex(2)` and `clock_adjtime(2)`: how the clock is disciplined. Nobody in a sandbox sets it.

use sentry_abi::time::{Timeval, Timex, clock};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::time::clock::read_clock;
use crate::task::CurrentTask;

/// `adjtime(3)`: asks for, or sets, the rest of a slow change.
const ADJ_ADJTIME: u32 = 0x8000;
const ADJ_OFFSET_SINGLESHOT: u32 = 0x0001;
/// It is only asked for.
const ADJ_OFFSET_READONLY: u32 = 0x2000;
const STA_UNSYNC: i32 = 0x40;
/// The state of a clock that is not synchronized.
const TIME_ERROR: u64 = 5;
/// What the kernel begins with (kernel/time/ntp.c).
const NTP_PHASE_LIMIT_US: i64 = 16_000_000;
const TIME_CONSTANT: i64 = 2;
/// 500 parts in a million, with 16 bits behind the point.
const TOLERANCE: i64 = 500 << 16;
/// Microseconds in a tick of `USER_HZ`.
const TICK_US: i64 = 10_000;

/// `adjtimex(2)`.
pub(crate) fn sys_adjtimex(task: &mut CurrentTask, args: &Args) -> SysResult {
    adjust(task, args.addr(0))
}

/// `clock_adjtime(2)`.
pub(crate) fn sys_clock_adjtime(task: &mut CurrentTask, args: &Args) -> SysResult {
    let id = args.i32(0);
    if id != clock::REALTIME {
        let _: Timex = task.mm().read_obj(args.addr(1))?;
        read_clock(task, id)?;
        return Err(Errno::EOPNOTSUPP.into());
    }
    adjust(task, args.addr(1))
}

fn adjust(task: &CurrentTask, addr: UserAddr) -> SysResult {
    let asked: Timex = task.mm().read_obj(addr)?;
    // timekeeping_validate_timex
    let reads = if asked.modes & ADJ_ADJTIME != 0 {
        if asked.modes & ADJ_OFFSET_SINGLESHOT == 0 {
            return Err(Errno::EINVAL.into());
        }
        asked.modes & ADJ_OFFSET_READONLY != 0
    } else {
        asked.modes == 0
    };
    if !reads {
        return Err(Errno::EPERM.into());
    }
    let now = read_clock(task, clock::REALTIME)? / 1000;
    let time = Timeval {
        sec: i64::try_from(now / 1_000_000).unwrap_or(i64::MAX),
        usec: i64::try_from(now % 1_000_000).unwrap_or(0),
    };
    let answer = Timex {
        modes: asked.modes,
        maxerror: NTP_PHASE_LIMIT_US,
        esterror: NTP_PHASE_LIMIT_US,
        status: STA_UNSYNC,
        constant: TIME_CONSTANT,
        precision: 1,
        tolerance: TOLERANCE,
        time,
        tick: TICK_US,
        ..Timex::default()
    };
    task.mm().write_obj(addr, &answer)?;
    Ok(TIME_ERROR)
}
