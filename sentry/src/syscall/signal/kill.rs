//! `kill(2)`, `tkill(2)`, `tgkill(2)`.

use std::sync::Arc;

use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::{Capabilities, CurrentTask, Task, ThreadGroup, Tid};

/// Checks that `task` may send `signal` to `target` (`kill(2)`, DESCRIPTION).
///
/// # Errors
/// `EPERM`.
pub(crate) fn check_permission(
    task: &CurrentTask,
    target: &Task,
    signal: Option<Signal>,
) -> Result<(), Errno> {
    let (mine, theirs) = (task.creds(), target.creds());
    let same = [theirs.uid, theirs.suid].iter().any(|uid| mine.uid == *uid || mine.euid == *uid);
    if same || mine.has(Capabilities::KILL) {
        return Ok(());
    }
    // "In the case of SIGCONT, it suffices when the sending and receiving processes belong to the same session."
    if signal == Some(Signal::SIGCONT) {
        let tree = task.kernel().tree();
        let session = |pid: Tid| tree.process(pid).map(|p| p.session.id());
        if session(task.pid()) == session(target.pid()) {
            return Ok(());
        }
    }
    Err(Errno::EPERM)
}

/// The signal of an argument; `None` for 0, which only checks.
pub(crate) fn signal_or_none(number: i32) -> Result<Option<Signal>, Errno> {
    if number == 0 { Ok(None) } else { Signal::new(number).map(Some).ok_or(Errno::EINVAL) }
}

fn info(task: &CurrentTask, signal: Signal, code: i32) -> SigInfo {
    SigInfo::from_process(signal, code, task.pid().0, task.creds().uid.0)
}

fn send_to_process(
    task: &CurrentTask,
    group: &ThreadGroup,
    leader: &Task,
    signal: Option<Signal>,
) -> Result<(), Errno> {
    check_permission(task, leader, signal)?;
    match signal {
        Some(signal) => group.send_signal(signal, info(task, signal, si_code::SI_USER)),
        None => Ok(()),
    }
}

/// `kill(2)`.
pub(crate) fn sys_kill(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (pid, signal) = (args.i32(0), signal_or_none(args.i32(1)));
    // The number is checked first, whoever the target is.
    let signal = signal?;
    type Target = (Arc<ThreadGroup>, Arc<Task>);
    let targets: Vec<Target> = {
        let tree = task.kernel().tree();
        let own_group = tree.process(task.pid()).map_or(Tid(0), |p| p.pgid);
        let pair = |p: &crate::kernel::Process| (p.group.clone(), p.leader.clone());
        match pid {
            1.. => tree.process(Tid(pid)).map(pair).into_iter().collect(),
            0 => tree.group_members(own_group).map(pair).collect(),
            -1 => {
                let all = tree.processes().filter(|p| p.group.pid().0 > 1 && p.group.pid() != task.pid());
                all.map(pair).collect()
            }
            i32::MIN => Vec::new(),
            _ => tree.group_members(Tid(-pid)).map(pair).collect(),
        }
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH.into());
    }
    // Success when at least one process could be signalled; else the last error.
    let mut result = Err(Errno::ESRCH);
    for (group, leader) in &targets {
        match send_to_process(task, group, leader, signal) {
            Ok(()) => result = Ok(()),
            Err(e) if result.is_err() => result = Err(e),
            Err(_) => {}
        }
    }
    result?;
    Ok(0)
}

/// `tkill(2)`.
pub(crate) fn sys_tkill(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.i32(0) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    send_to_thread(task, None, args.i32(0), args.i32(1))
}

/// `tgkill(2)`.
pub(crate) fn sys_tgkill(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.i32(0) <= 0 || args.i32(1) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    send_to_thread(task, Some(Tid(args.i32(0))), args.i32(1), args.i32(2))
}

fn send_to_thread(task: &CurrentTask, pid: Option<Tid>, tid: i32, number: i32) -> SysResult {
    let target = task.kernel().tree().thread(Tid(tid)).cloned();
    let target = target.filter(|t| pid.is_none_or(|pid| t.pid() == pid)).ok_or(Errno::ESRCH)?;
    let signal = signal_or_none(number)?;
    check_permission(task, &target, signal)?;
    if let Some(signal) = signal {
        target.send_signal(signal, info(task, signal, si_code::SI_TKILL))?;
    }
    Ok(0)
}
