//! `semget(2)`, `semop(2)`, `semtimedop(2)`, `semctl(2)`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::sysv_ipc::{SEM_UNDO, SemBuf, SemInfo, SemidDs, cmd};
use zerocopy::IntoBytes;

use crate::errno::{Errno, SysResult};
use crate::ipc::{
    Access, IpcId, IpcObject, PendingOperations, Request, SEMVMX, SemaphoreSet, Step, show_ids,
};
use crate::kernel::KTime;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::ipc::shm::id_value;
use crate::syscall::time::read_timespec;
use crate::task::{BlockError, CurrentTask, Tid};

/// `semget(2)`.
pub(crate) fn sys_semget(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (key, count, flags) = (args.i32(0), args.i32(1), args.i32(2));
    let ipc = task.ipc();
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    if count > ipc.limits.semmsl.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL.into());
    }
    let creds = task.creds();
    let limit = ipc.limits.semmni.load(Ordering::Relaxed);
    let request = Request { key, flags, creds: &creds, owner: ipc.base.owner(), limit };
    let check = |set: &SemaphoreSet| if count > set.len() { Err(Errno::EINVAL) } else { Ok(()) };
    let id = ipc.sem.get(&request, check, |others, id, permission| {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let total = others.fold(count, |sum, other| sum + other.len());
        if total > ipc.limits.semmns.load(Ordering::Relaxed) {
            return Err(Errno::ENOSPC);
        }
        Ok(SemaphoreSet::new(id, count, permission))
    })?;
    Ok(id_value(id))
}

/// `semop(2)`.
pub(crate) fn sys_semop(task: &mut CurrentTask, args: &Args) -> SysResult {
    operate(task, IpcId(args.i32(0)), args.addr(1), args.u32(2), None)
}

/// `semtimedop(2)`.
pub(crate) fn sys_semtimedop(task: &mut CurrentTask, args: &Args) -> SysResult {
    let deadline = if args.addr(3).is_null() {
        None
    } else {
        let ns = read_timespec(task, args.addr(3))?.to_ns()?;
        Some(task.kernel().clocks().monotonic().saturating_add(ns))
    };
    operate(task, IpcId(args.i32(0)), args.addr(1), args.u32(2), deadline)
}

fn operate(
    task: &mut CurrentTask,
    id: IpcId,
    operations: UserAddr,
    count: u32,
    deadline: Option<KTime>,
) -> SysResult {
    let ipc = task.ipc();
    // u32 fits usize on x86-64.
    let count = count as usize;
    if count == 0 || id.0 < 0 {
        return Err(Errno::EINVAL.into());
    }
    if count > ipc.limits.semopm.load(Ordering::Relaxed) {
        return Err(Errno::E2BIG.into());
    }
    let operations: Vec<SemBuf> = task.mm().read_array(operations, count)?;
    let set = ipc.sem.by_id(id)?;
    if operations.iter().any(|operation| usize::from(operation.num) >= set.len()) {
        return Err(Errno::EFBIG.into());
    }
    let alters = operations.iter().any(|operation| operation.op != 0);
    let access = if alters { Access::ALTER } else { Access::READ };
    let undoes = operations.iter().any(|operation| i32::from(operation.flags) & SEM_UNDO != 0);
    let undo = undoes.then(|| task.semaphore_undo());
    if let Some(undo) = &undo {
        undo.note(&set);
    }
    let step = {
        let mut state = set.lock()?;
        state.permission().check(access, &task.creds(), task.ipc().base.owner())?;
        state.operate(&operations, undo.as_ref().map(|undo| undo.id()), task.pid().0, task.waiter())?
    };
    match step {
        Step::Done => Ok(0),
        Step::Waits(pending) => wait_for(task, &set, &pending, deadline),
    }
}

fn wait_for(
    task: &mut CurrentTask,
    set: &Arc<SemaphoreSet>,
    pending: &Arc<PendingOperations>,
    deadline: Option<KTime>,
) -> SysResult {
    let ended = task.block_until(deadline, |_| pending.outcome());
    if let Err(why) = ended {
        if let Ok(mut state) = set.lock() {
            state.cancel(pending);
        }
        // Nobody finishes it from here on; it may have been finished before.
        if pending.outcome().is_none() {
            // semop(2): never restarted, whatever SA_RESTART says.
            return Err(match why {
                BlockError::Interrupted => Errno::EINTR,
                BlockError::TimedOut => Errno::EAGAIN,
            }
            .into());
        }
    }
    pending.outcome().unwrap_or(Ok(()))?;
    Ok(0)
}

/// `semctl(2)`.
pub(crate) fn sys_semctl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, num, command, arg) = (args.i32(0), args.i32(1), args.i32(2), args.u64(3));
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let buf = UserAddr(arg);
    let ipc = task.ipc();
    match command {
        cmd::IPC_INFO | cmd::SEM_INFO => show_limits(task, buf, command == cmd::SEM_INFO),
        cmd::SEM_STAT | cmd::SEM_STAT_ANY => {
            let (id, set) = ipc.sem.by_index(id)?;
            if command == cmd::SEM_STAT {
                set.permission().check(Access::READ, &task.creds(), task.ipc().base.owner())?;
            }
            let mut stat = set.stat()?;
            show_ids(&mut stat.perm, task.user_ns());
            task.mm().write_obj(buf, &stat)?;
            Ok(id_value(id))
        }
        _ => control_set(task, &ipc.sem.by_id(IpcId(id))?, IpcId(id), num, command, arg),
    }
}

/// The commands on one set.
fn control_set(
    task: &CurrentTask,
    set: &Arc<SemaphoreSet>,
    id: IpcId,
    num: i32,
    command: i32,
    arg: u64,
) -> SysResult {
    let buf = UserAddr(arg);
    let creds = task.creds();
    let check = |access| set.lock()?.permission().check(access, &creds, task.ipc().base.owner());
    let pid = task.pid().0;
    match command {
        cmd::IPC_STAT => {
            check(Access::READ)?;
            let mut stat = set.stat()?;
            show_ids(&mut stat.perm, task.user_ns());
            task.mm().write_obj(buf, &stat)?;
            Ok(0)
        }
        cmd::IPC_SET => {
            let to: SemidDs = task.mm().read_obj(buf)?;
            set.lock()?.update(|permission| {
                permission.check_control(&creds, task.ipc().base.owner())?;
                permission.set(&to.perm, task.user_ns())
            })?;
            Ok(0)
        }
        cmd::IPC_RMID => {
            set.lock()?.permission().check_control(&creds, task.ipc().base.owner())?;
            task.ipc().sem.remove(id);
            set.remove();
            Ok(0)
        }
        cmd::SEM_GETALL => {
            check(Access::READ)?;
            let values = set.lock()?.values();
            task.mm().write_bytes(buf, values.as_bytes())?;
            Ok(0)
        }
        cmd::SEM_SETALL => {
            check(Access::ALTER)?;
            let values: Vec<u16> = task.mm().read_array(buf, set.len())?;
            if values.iter().any(|value| *value > SEMVMX) {
                return Err(Errno::ERANGE.into());
            }
            set.lock()?.set_values(&values, pid);
            Ok(0)
        }
        cmd::SEM_GETVAL | cmd::SEM_GETPID | cmd::SEM_GETNCNT | cmd::SEM_GETZCNT => {
            check(Access::READ)?;
            let num = index(set, num)?;
            let state = set.lock()?;
            Ok(match command {
                cmd::SEM_GETVAL => u64::from(state.value(num)),
                cmd::SEM_GETPID => task.number_value(Tid(state.last_pid(num))),
                _ => state.waiting_count(num, command == cmd::SEM_GETZCNT) as u64,
            })
        }
        cmd::SEM_SETVAL => {
            let num = index(set, num)?;
            // union semun: an int in the lower half.
            let value = (arg & 0xffff_ffff) as u32;
            let value = u16::try_from(value).ok().filter(|value| *value <= SEMVMX).ok_or(Errno::ERANGE)?;
            check(Access::ALTER)?;
            set.lock()?.set_value(num, value, pid);
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn index(set: &SemaphoreSet, num: i32) -> Result<usize, Errno> {
    usize::try_from(num).ok().filter(|num| *num < set.len()).ok_or(Errno::EINVAL)
}

/// `IPC_INFO`, and with what is in use `SEM_INFO`.
fn show_limits(task: &CurrentTask, buf: UserAddr, with_usage: bool) -> SysResult {
    let ipc = task.ipc();
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let limits = &ipc.limits;
    let semmns = number(limits.semmns.load(Ordering::Relaxed));
    let semopm = number(limits.semopm.load(Ordering::Relaxed));
    // What Linux no longer uses has the values that it still reports.
    let mut info = SemInfo {
        semmap: semmns,
        semmni: number(limits.semmni.load(Ordering::Relaxed)),
        semmns,
        semmnu: semmns,
        semmsl: number(limits.semmsl.load(Ordering::Relaxed)),
        semopm,
        semume: semopm,
        semusz: 20,
        semvmx: i32::from(SEMVMX),
        semaem: i32::from(SEMVMX),
    };
    if with_usage {
        let all = ipc.sem.all();
        info.semusz = number(all.len());
        info.semaem = number(all.iter().map(|(_, set)| set.len()).sum());
    }
    task.mm().write_obj(buf, &info)?;
    Ok(u64::from(ipc.sem.highest_index().cast_unsigned()))
}
