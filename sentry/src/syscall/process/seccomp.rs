//! `seccomp(2)`, and `PR_SET_SECCOMP` of `prctl(2)`.

use std::sync::Arc;

use netstack::bpf::MAX_INSTRUCTIONS;
use sentry_abi::seccomp::{DATA_LEN, NotifResponse, Notification, flag, mode, op, ret};

use crate::bpf::{self, FPROG_LEN};
use crate::errno::{Errno, SysResult};
use crate::fs::event::seccomp_listener;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::install;
use crate::task::seccomp::{Filter, FilterError, Listener, Logging, SyncError};
use crate::task::{Capabilities, CurrentTask, Resource};
use crate::vfs::{File, OpenFlags};

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
                | ret::USER_NOTIF
                | ret::LOG
                | ret::ALLOW => Ok(0),
                _ => Err(Errno::EOPNOTSUPP.into()),
            }
        }
        op::GET_NOTIF_SIZES if flags == 0 => {
            // `struct seccomp_notif_sizes`: of a notification, an answer and what filters see.
            let sizes = [size_of::<Notification>(), size_of::<NotifResponse>(), DATA_LEN];
            // 80 at most.
            task.mm().write_obj(at, &sizes.map(|size| size as u16))?;
            Ok(0)
        }
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
    const KNOWN: u64 = flag::TSYNC
        | flag::LOG
        | flag::SPEC_ALLOW
        | flag::NEW_LISTENER
        | flag::TSYNC_ESRCH
        | flag::WAIT_KILLABLE_RECV;
    let has = |flag: u64| flags & flag != 0;
    // Both have something to return, unless a thread that is not in step gives an errno.
    let is_ambiguous = has(flag::TSYNC) && has(flag::NEW_LISTENER) && !has(flag::TSYNC_ESRCH);
    if flags & !KNOWN != 0 || is_ambiguous || has(flag::WAIT_KILLABLE_RECV) && !has(flag::NEW_LISTENER) {
        return Err(Errno::EINVAL.into());
    }
    let fprog: [u8; FPROG_LEN] = task.mm().read_obj(at)?;
    let (count, at) = bpf::decode_fprog(&fprog);
    if count == 0 || count > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL.into());
    }
    // "... or the caller must have the CAP_SYS_ADMIN capability": a set-user-ID program would run under the filter.
    let creds = task.creds();
    if !creds.no_new_privs && !creds.has_in_own(Capabilities::SYS_ADMIN) {
        return Err(Errno::EACCES.into());
    }
    let source = bpf::read_instructions(task.mm(), at, count)?;
    let logging = if flags & flag::LOG != 0 { Logging::On } else { Logging::Off };
    let mut filter = Filter::new(&source, logging, task.seccomp().filter()).map_err(|error| match error {
        FilterError::Program => Errno::EINVAL,
        FilterError::TooLong => Errno::ENOMEM,
    })?;
    let mut listener = None;
    if has(flag::NEW_LISTENER) {
        task.files().check_room(task.rlimit(Resource::Nofile).soft)?;
        if Filter::has_listener(task.seccomp().filter().as_ref()) {
            return Err(Errno::EBUSY.into());
        }
        let new = Listener::new(has(flag::WAIT_KILLABLE_RECV));
        Filter::listen(&mut filter, new.clone());
        listener = Some(seccomp_listener::create(new));
    }
    if flags & flag::TSYNC == 0 {
        task.install_filter(filter);
        return give_listener(task, listener);
    }
    match task.install_filter_everywhere(filter) {
        Ok(()) => give_listener(task, listener),
        Err(SyncError(_)) if flags & flag::TSYNC_ESRCH != 0 => Err(Errno::ESRCH.into()),
        // "On error, if SECCOMP_FILTER_FLAG_TSYNC was used, the return value is the ID of the thread" (seccomp(2)).
        Err(SyncError(thread)) => Ok(task.number_value(thread)),
    }
}

/// The descriptor of a listener, for which there was room; 0 without one.
fn give_listener(task: &CurrentTask, listener: Option<Arc<File>>) -> SysResult {
    listener.map_or(Ok(0), |file| install(task, file, OpenFlags::CLOEXEC))
}
