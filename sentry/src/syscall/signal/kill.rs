//! `kill(2)`, `tkill(2)`, `tgkill(2)`.

use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::{Errno, SysResult};
use crate::kernel::{Process, ProcessTree};
use crate::syscall::Args;
use crate::task::signal::Posted;
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
    check_permission_in(&task.kernel().tree(), task, target, signal)
}

/// As [`check_permission`], for callers that hold the tree.
pub(crate) fn check_permission_in(
    tree: &ProcessTree,
    task: &Task,
    target: &Task,
    signal: Option<Signal>,
) -> Result<(), Errno> {
    let (mine, theirs) = (task.creds(), target.creds());
    let same = [theirs.uid, theirs.suid].iter().any(|uid| mine.uid == *uid || mine.euid == *uid);
    if same || mine.has_in(&theirs.user_ns, Capabilities::KILL) {
        return Ok(());
    }
    // "In the case of SIGCONT, it suffices when the sending and receiving processes belong to the same session."
    if signal == Some(Signal::SIGCONT) {
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
    if let 1.. = pid {
        let id = task.named(pid)?;
        let pair = task.kernel().tree().process(id).map(|p| (p.group.clone(), p.leader.clone()));
        let (group, leader) = pair.ok_or(Errno::ESRCH)?;
        send_to_process(task, &group, &leader, signal)?;
    } else {
        send_to_several(task, pid, signal)?;
    }
    Ok(0)
}

/// Sends to the own group (0), to everyone else (-1), or to a group. Success when at least one process could be
/// signalled; else the last error.
fn send_to_several(task: &CurrentTask, pid: i32, signal: Option<Signal>) -> Result<(), Errno> {
    let mut result = Err(Errno::ESRCH);
    let mut posted = Vec::new();
    let meant = pid.checked_neg().and_then(|pgid| task.named(pgid).ok());
    {
        let tree = task.kernel().tree();
        let own_group = tree.process(task.pid()).map_or(Tid(0), |p| p.pgid);
        let is_meant = |p: &&Process| match pid {
            0 => p.pgid == own_group,
            -1 => task.number(p.group.pid()) > 1 && p.group.pid() != task.pid(),
            _ => meant == Some(p.pgid),
        };
        for process in tree.processes().filter(is_meant) {
            let sent = check_permission_in(&tree, task, &process.leader, signal).and_then(|()| {
                let Some(signal) = signal else { return Ok(()) };
                let info = info(task, signal, si_code::SI_USER);
                posted.push(process.group.post_with_others(&tree, signal, info)?);
                Ok(())
            });
            match sent {
                Ok(()) => result = Ok(()),
                Err(errno) if result.is_err() => result = Err(errno),
                Err(_) => {}
            }
        }
    }
    posted.into_iter().for_each(Posted::announce);
    result
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
    let pid = task.named(args.i32(0))?;
    send_to_thread(task, Some(pid), args.i32(1), args.i32(2))
}

fn send_to_thread(task: &CurrentTask, pid: Option<Tid>, tid: i32, number: i32) -> SysResult {
    let tid = task.named(tid)?;
    let target = task.kernel().tree().thread(tid).cloned();
    let target = target.filter(|t| pid.is_none_or(|pid| t.pid() == pid)).ok_or(Errno::ESRCH)?;
    let signal = signal_or_none(number)?;
    check_permission(task, &target, signal)?;
    if let Some(signal) = signal {
        target.send_signal(signal, info(task, signal, si_code::SI_TKILL))?;
    }
    Ok(0)
}
