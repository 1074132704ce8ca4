//! `wait4(2)`, `waitid(2)`.

use sentry_abi::resource::Rusage;
use sentry_abi::sched::wait::{P_ALL, P_PGID, P_PID, P_PIDFD, WALL, WCLONE, WCONTINUED, WEXITED};
use sentry_abi::sched::wait::{WNOHANG, WNOTHREAD, WSTOPPED, WUNTRACED};
use sentry_abi::signal::Signal;
use sentry_abi::time::Timeval;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::pidfd::PidFd;
use crate::task::{CurrentTask, Tid, Uid, WAIT_OPTIONS, Waited, Which};
use crate::vfs::Fd;

fn write_rusage(task: &CurrentTask, at: UserAddr, waited: &Waited) -> Result<(), Errno> {
    if at.is_null() {
        return Ok(());
    }
    let (utime, stime) = waited.cpu;
    let usage =
        Rusage { utime: Timeval::from_ns(utime), stime: Timeval::from_ns(stime), ..Rusage::default() };
    task.mm().write_obj(at, &usage)
}

fn own_group(task: &CurrentTask) -> Tid {
    task.kernel().tree().process(task.pid()).map_or(task.pid(), |p| p.pgid)
}

/// `wait4(2)`.
pub(crate) fn sys_wait4(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (pid, status_at, options, usage_at) = (args.i32(0), args.addr(1), args.u32(2), args.addr(3));
    let known = WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL;
    if options & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    // What has no number here is no child.
    let child = |number: i32| task.named(number).map_err(|_| Errno::ECHILD);
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(own_group(task)),
        1.. => Which::Process(child(pid)?),
        // -INT_MIN has no positive counterpart (kernel: ESRCH).
        i32::MIN => return Err(Errno::ESRCH.into()),
        _ => Which::Group(child(-pid)?),
    };
    let Some(waited) = task.wait_for_child(which, options | WEXITED)? else { return Ok(0) };
    if !status_at.is_null() {
        task.mm().write_obj(status_at, &waited.status())?;
    }
    write_rusage(task, usage_at, &waited)?;
    Ok(task.number_value(waited.pid))
}

/// `waitid(2)`.
pub(crate) fn sys_waitid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (kind, id, info_at) = (args.u32(0), args.i32(1), args.addr(2));
    let (mut options, usage_at) = (args.u32(3), args.addr(4));
    if options & !WAIT_OPTIONS != 0 || options & (WEXITED | WSTOPPED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let child = |number: i32| task.named(number).map_err(|_| Errno::ECHILD);
    let which = match kind {
        P_ALL => Which::Any,
        P_PID if id > 0 => Which::Process(child(id)?),
        P_PGID if id == 0 => Which::Group(own_group(task)),
        P_PGID if id > 0 => Which::Group(child(id)?),
        P_PIDFD => {
            let file = task.files().get(Fd(id))?;
            if file.is_nonblocking() {
                options |= WNOHANG;
            }
            Which::Process(file.downcast::<PidFd>().ok_or(Errno::EBADF)?.group().pid())
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let waited = task.wait_for_child(which, options)?;
    if let Some(waited) = &waited {
        write_rusage(task, usage_at, waited)?;
    }
    if !info_at.is_null() {
        // Linux writes the six fields one by one; without a child all of them are 0.
        let mut fields = [0_i32; 7];
        if let Some(waited) = &waited {
            let (code, status) = waited.child_info();
            let uid = task.user_ns().show_uid(Uid(waited.uid));
            fields =
                [Signal::SIGCHLD.number(), 0, code, 0, task.number(waited.pid), uid.cast_signed(), status];
        }
        task.mm().write_obj(info_at, &fields)?;
    }
    Ok(0)
}
