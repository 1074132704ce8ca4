//! `rt_sigqueueinfo(2)`, `rt_tgsigqueueinfo(2)`, `pidfd_send_signal(2)`.

use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::{Errno, SysResult};
use crate::fs::proc;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::signal::kill::{check_permission, signal_or_none};
use crate::task::pidfd::PidFd;
use crate::task::{CurrentTask, Tid};

/// Reads the information to send. Nobody may pretend to be the kernel or `kill(2)`, except to itself.
fn read_info(task: &CurrentTask, at: UserAddr, number: i32, pid: Tid) -> Result<SigInfo, Errno> {
    let mut info: SigInfo = task.mm().read_obj(at)?;
    info.signo = number;
    if info.names_process() {
        // Ids are kept as those of the first namespace; one that is nobody's is shown as such.
        let uid = task.user_ns().uid(info.uid()).map_or(u32::MAX, |uid| uid.0);
        // Nobody passes for somebody outside of the namespace.
        let from = task.named(info.pid()).map_or(task.pid().0, |id| id.0);
        info = info.naming(from, uid);
    }
    let pretends = info.code >= 0 || info.code == si_code::SI_TKILL;
    if pretends && pid != task.pid() { Err(Errno::EPERM) } else { Ok(info) }
}

/// `rt_sigqueueinfo(2)`.
pub(crate) fn sys_rt_sigqueueinfo(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (pid, number) = (task.named(args.i32(0))?, args.i32(1));
    let info = read_info(task, args.addr(2), number, pid)?;
    let leader = task.kernel().tree().process(pid).map(|p| p.leader.clone()).ok_or(Errno::ESRCH)?;
    let signal = signal_or_none(number)?;
    check_permission(task, &leader, signal)?;
    if let Some(signal) = signal {
        leader.thread_group().send_signal(signal, info)?;
    }
    Ok(0)
}

/// `rt_tgsigqueueinfo(2)`.
pub(crate) fn sys_rt_tgsigqueueinfo(task: &mut CurrentTask, args: &Args) -> SysResult {
    let number = args.i32(2);
    if args.i32(0) <= 0 || args.i32(1) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let (pid, tid) = (task.named(args.i32(0))?, task.named(args.i32(1))?);
    let info = read_info(task, args.addr(3), number, pid)?;
    let target = task.kernel().tree().thread(tid).cloned().filter(|t| t.pid() == pid);
    let target = target.ok_or(Errno::ESRCH)?;
    let signal = signal_or_none(number)?;
    check_permission(task, &target, signal)?;
    if let Some(signal) = signal {
        target.send_signal(signal, info)?;
    }
    Ok(0)
}

/// `pidfd_send_signal(2)`.
pub(crate) fn sys_pidfd_send_signal(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.u32(3) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.files().get(args.fd(0))?;
    // The directory of a process serves as well (Linux, tgid_pidfd_to_pid).
    let group = match file.downcast::<PidFd>() {
        Some(pidfd) => pidfd.group().clone(),
        None => proc::process_of(file.inode()).ok_or(Errno::EBADF)?,
    };
    let number = args.i32(1);
    let signal: Option<Signal> = signal_or_none(number)?;
    let leader = task.kernel().tree().process(group.pid()).map(|p| p.leader.clone());
    let leader = leader.filter(|l| std::sync::Arc::ptr_eq(l.thread_group(), &group)).ok_or(Errno::ESRCH)?;
    let info = if args.addr(2).is_null() {
        let (pid, uid) = (task.pid().0, task.creds().uid.0);
        signal.map(|s| SigInfo::from_process(s, si_code::SI_USER, pid, uid))
    } else {
        let info: SigInfo = task.mm().read_obj(args.addr(2))?;
        if info.signo != number {
            return Err(Errno::EINVAL.into());
        }
        Some(read_info(task, args.addr(2), number, group.pid())?)
    };
    check_permission(task, &leader, signal)?;
    if let (Some(signal), Some(info)) = (signal, info) {
        group.send_signal(signal, info)?;
    }
    Ok(0)
}
