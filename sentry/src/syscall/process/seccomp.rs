//! `seccomp(2)`, and `PR_SET_SECCOMP` of `prctl(2)`.

use netstack::bpf::MAX_INSTRUCTIONS;
use sentry_abi::seccomp::{flag, mode, op, ret};

use crate::bpf::{self, FPROG_LEN};
use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::seccomp::{Filter, FilterError, Logging, SyncError};
use crate::task::{Capabilities, CurrentTask, tid_value};

/// `seccomp(2)`.
pub(crate) fn sys_seccomp(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (operation, flags, at) = (args.u32(0), u64::from(args.u32(1)), args.addr(2));
    match operation {
        op::SET_MODE_STRICT if flags == 0 && at.is_null() => set_strict(task),
        op::SET_MODE_FILTER => set_filter(task, flags, at),
        op::GET_ACTION_AVAIL if flags == 0 => {
            let action: u32 = task.mm().read_obj(at)?;
            match action {
                ret::KILL_PROCESS
                | ret::KILL_THREAD
                | ret::TRAP
                | ret::ERRNO
                | ret::TRACE
                | ret::LOG
                | ret::ALLOW => Ok(0),
                _ => Err(Errno::EOPNOTSUPP.into()),
            }
        }
        // SECCOMP_GET_NOTIF_SIZES: as before Linux 5.0, which had no listeners either.
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `PR_SET_SECCOMP`.
pub(super) fn set_mode(task: &mut CurrentTask, value: u64, at: UserAddr) -> SysResult {
    match u8::try_from(value) {
        Ok(mode::STRICT) => set_strict(task),
        Ok(mode::FILTER) => set_filter(task, 0, at),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn set_strict(task: &mut CurrentTask) -> SysResult {
    // Who has filters keeps them.
    if task.seccomp().mode() == mode::FILTER {
        return Err(Errno::EINVAL.into());
    }
    task.enter_strict_mode();
    Ok(0)
}

fn set_filter(task: &mut CurrentTask, flags: u64, at: UserAddr) -> SysResult {
    const KNOWN: u64 = flag::TSYNC | flag::LOG | flag::SPEC_ALLOW | flag::TSYNC_ESRCH;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    let fprog: [u8; FPROG_LEN] = task.mm().read_obj(at)?;
    let (count, at) = bpf::decode_fprog(&fprog);
    if count == 0 || count > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL.into());
    }
    // "... or the caller must have the CAP_SYS_ADMIN capability": a set-user-ID program would run under the filter.
    let creds = task.creds();
    if !creds.no_new_privs && !creds.has(Capabilities::SYS_ADMIN) {
        return Err(Errno::EACCES.into());
    }
    let source = bpf::read_instructions(task.mm(), at, count)?;
    let logging = if flags & flag::LOG != 0 { Logging::On } else { Logging::Off };
    let filter = Filter::new(&source, logging, task.seccomp().filter()).map_err(|error| match error {
        FilterError::Program => Errno::EINVAL,
        FilterError::TooLong => Errno::ENOMEM,
    })?;
    if flags & flag::TSYNC == 0 {
        task.install_filter(filter);
        return Ok(0);
    }
    match task.install_filter_everywhere(filter) {
        Ok(()) => Ok(0),
        Err(SyncError(_)) if flags & flag::TSYNC_ESRCH != 0 => Err(Errno::ESRCH.into()),
        // "On error, if SECCOMP_FILTER_FLAG_TSYNC was used, the return value is the ID of the thread" (seccomp(2)).
        Err(SyncError(thread)) => Ok(tid_value(thread)),
    }
}
