//! Process ids, groups and sessions (`getpid(2)`, `setpgid(2)`, `setsid(2)`).

use crate::errno::{Errno, SysResult};
use crate::kernel::Session;
use crate::syscall::Args;
use crate::task::{CurrentTask, Tid};

/// `getpid(2)`.
pub(crate) fn sys_getpid(task: &mut CurrentTask, _: &Args) -> SysResult {
    Ok(task.number_value(task.pid()))
}

/// `gettid(2)`.
pub(crate) fn sys_gettid(task: &mut CurrentTask, _: &Args) -> SysResult {
    Ok(task.number_value(task.tid()))
}

/// `getppid(2)`: 0 where the parent is outside.
pub(crate) fn sys_getppid(task: &mut CurrentTask, _: &Args) -> SysResult {
    let parent = task.kernel().tree().process(task.pid()).and_then(|p| p.parent);
    Ok(parent.map_or(0, |parent| task.number_value(parent)))
}

/// `getpgrp(2)`.
pub(crate) fn sys_getpgrp(task: &mut CurrentTask, _: &Args) -> SysResult {
    let tree = task.kernel().tree();
    Ok(task.number_value(tree.process(task.pid()).ok_or(Errno::ESRCH)?.pgid))
}

/// The process that an argument names, 0 for the caller's.
fn named(task: &CurrentTask, pid: i32) -> Result<Tid, Errno> {
    if pid == 0 {
        return Ok(task.pid());
    }
    let id = task.named(pid)?;
    let tree = task.kernel().tree();
    tree.thread(id).map(|t| t.pid()).ok_or(Errno::ESRCH)
}

/// `getpgid(2)`.
pub(crate) fn sys_getpgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let pid = named(task, args.i32(0))?;
    let tree = task.kernel().tree();
    Ok(task.number_value(tree.process(pid).ok_or(Errno::ESRCH)?.pgid))
}

/// `getsid(2)`.
pub(crate) fn sys_getsid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let pid = named(task, args.i32(0))?;
    let tree = task.kernel().tree();
    Ok(task.number_value(tree.process(pid).ok_or(Errno::ESRCH)?.session.id()))
}

/// `setpgid(2)`.
pub(crate) fn sys_setpgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (pid, pgid) = (args.i32(0), args.i32(1));
    if pgid < 0 {
        return Err(Errno::EINVAL.into());
    }
    let me = task.pid();
    let target = if pid == 0 { me } else { task.named(pid)? };
    let pgid = if pgid == 0 { Ok(target) } else { task.named(pgid) };
    let mut tree = task.kernel().tree();
    let session = tree.process(me).ok_or(Errno::ESRCH)?.session.id();
    let process = tree.process(target).ok_or(Errno::ESRCH)?;
    if target != me {
        if process.parent != Some(me) {
            return Err(Errno::ESRCH.into());
        }
        if process.session.id() != session {
            return Err(Errno::EPERM.into());
        }
        if process.has_execed {
            return Err(Errno::EACCES.into());
        }
    }
    // A session leader stays in its group.
    if process.session.id() == target {
        return Err(Errno::EPERM.into());
    }
    let pgid = pgid.map_err(|_| Errno::EPERM)?;
    if pgid != target && !tree.group_members(pgid).any(|p| p.session.id() == session) {
        return Err(Errno::EPERM.into());
    }
    if let Some(process) = tree.process_mut(target) {
        process.pgid = pgid;
    }
    Ok(0)
}

/// `setsid(2)`.
pub(crate) fn sys_setsid(task: &mut CurrentTask, _: &Args) -> SysResult {
    let me = task.pid();
    let mut tree = task.kernel().tree();
    if tree.group_members(me).next().is_some() {
        return Err(Errno::EPERM.into());
    }
    let process = tree.process_mut(me).ok_or(Errno::ESRCH)?;
    process.session = Session::new(me);
    process.pgid = me;
    Ok(task.number_value(me))
}
