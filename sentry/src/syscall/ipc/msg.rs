//! `msgget(2)`, `msgsnd(2)`, `msgrcv(2)`, `msgctl(2)`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::sysv_ipc::{IPC_NOWAIT, MsgInfo, MsqidDs, cmd, msg};

use crate::errno::{Errno, SysError, SysResult};
use crate::ipc::{Access, IpcId, IpcObject, Message, MessageQueue, Request, Selection, show_ids};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::ipc::shm::id_value;
use crate::task::{BlockError, Capabilities, CurrentTask, Tid};
use crate::wait::Readiness;

/// Before the text of a `struct msgbuf`.
const TYPE_SIZE: u64 = 8;

/// `msgget(2)`.
pub(crate) fn sys_msgget(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (key, flags) = (args.i32(0), args.i32(1));
    let ipc = task.ipc();
    let creds = task.creds();
    let limit = ipc.limits.msgmni.load(Ordering::Relaxed);
    let bytes = ipc.limits.msgmnb.load(Ordering::Relaxed);
    let request = Request { key, flags, creds: &creds, owner: ipc.base.owner(), limit };
    let id = ipc.msg.get(
        &request,
        |_| Ok(()),
        |_, id, permission| Ok(MessageQueue::new(id, bytes, permission)),
    )?;
    Ok(id_value(id))
}

/// `msgsnd(2)`.
pub(crate) fn sys_msgsnd(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, buf, size, flags) = (IpcId(args.i32(0)), args.addr(1), args.usize(2), args.i32(3));
    let ipc = task.ipc();
    let kind: i64 = task.mm().read_obj(buf)?;
    if size > ipc.limits.msgmax.load(Ordering::Relaxed) || id.0 < 0 || kind < 1 {
        return Err(Errno::EINVAL.into());
    }
    let mut text = vec![0; size];
    task.mm().read_bytes(text_of(buf)?, &mut text)?;
    let queue = ipc.msg.by_id(id)?;
    let creds = task.creds();
    let pid = task.pid().0;
    let mut message = Some(Message { kind, text });
    let attempt = |_: &mut CurrentTask| {
        let attempt = (|| {
            queue.lock()?.permission().check(Access::ALTER, &creds, ipc.base.owner())?;
            message = queue.send(message.take().ok_or(Errno::EIO)?, pid)?;
            if message.is_none() { Ok(()) } else { Err(Errno::EAGAIN) }
        })();
        (attempt != Err(Errno::EAGAIN)).then_some(attempt)
    };
    wait_for(task, &queue, Readiness::OUT, flags, Errno::EAGAIN, attempt)?;
    Ok(0)
}

/// `msgrcv(2)`.
pub(crate) fn sys_msgrcv(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, buf, size) = (IpcId(args.i32(0)), args.addr(1), args.usize(2));
    let (kind, flags) = (args.i64(3), args.i32(4));
    if id.0 < 0 || args.i64(2) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let copies = flags & msg::MSG_COPY != 0;
    if copies && (flags & msg::MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        return Err(Errno::EINVAL.into());
    }
    let selection = match kind {
        _ if copies => Selection::At(usize::try_from(kind).map_err(|_| Errno::ENOMSG)?),
        0 => Selection::First,
        1.. if flags & msg::MSG_EXCEPT != 0 => Selection::Except(kind),
        1.. => Selection::Kind(kind),
        _ => Selection::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
    };
    let ipc = task.ipc();
    let queue = ipc.msg.by_id(id)?;
    let creds = task.creds();
    let pid = task.pid().0;
    let attempt = |_: &mut CurrentTask| {
        let attempt = (|| {
            queue.lock()?.permission().check(Access::READ, &creds, ipc.base.owner())?;
            queue.receive(selection, size, flags & msg::MSG_NOERROR != 0, pid)
        })();
        attempt.transpose()
    };
    let message = wait_for(task, &queue, Readiness::IN, flags, Errno::ENOMSG, attempt)?;
    let len = message.text.len().min(size);
    task.mm().write_obj(buf, &message.kind)?;
    task.mm().write_bytes(text_of(buf)?, &message.text[..len])?;
    Ok(len as u64)
}

fn text_of(buf: UserAddr) -> Result<UserAddr, Errno> {
    buf.0.checked_add(TYPE_SIZE).map(UserAddr).ok_or(Errno::EFAULT)
}

/// Waits until `attempt` has a result; with `IPC_NOWAIT` no result is `otherwise`.
fn wait_for<T>(
    task: &mut CurrentTask,
    queue: &Arc<MessageQueue>,
    interest: Readiness,
    flags: i32,
    otherwise: Errno,
    mut attempt: impl FnMut(&mut CurrentTask) -> Option<Result<T, Errno>>,
) -> Result<T, SysError> {
    if flags & IPC_NOWAIT != 0 {
        return Ok(attempt(task).unwrap_or(Err(otherwise))?);
    }
    match task.block_on_queue(queue.events(), interest, None, attempt) {
        Ok(done) => Ok(done?),
        // msgop(2): never restarted, whatever SA_RESTART says.
        Err(BlockError::Interrupted | BlockError::TimedOut) => Err(Errno::EINTR.into()),
    }
}

/// `msgctl(2)`.
pub(crate) fn sys_msgctl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, command, buf) = (args.i32(0), args.i32(1), args.addr(2));
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL.into());
    }
    let ipc = task.ipc();
    let creds = task.creds();
    match command {
        cmd::IPC_INFO | cmd::MSG_INFO => show_limits(task, buf, command == cmd::MSG_INFO),
        cmd::IPC_STAT | cmd::MSG_STAT | cmd::MSG_STAT_ANY => {
            let (found, queue) = if command == cmd::IPC_STAT {
                (None, ipc.msg.by_id(IpcId(id))?)
            } else {
                let (id, queue) = ipc.msg.by_index(id)?;
                (Some(id), queue)
            };
            if command != cmd::MSG_STAT_ANY {
                queue.permission().check(Access::READ, &creds, task.ipc().base.owner())?;
            }
            let mut stat = queue.stat()?;
            show_ids(&mut stat.perm, task.user_ns());
            (stat.lspid, stat.lrpid) = (task.number(Tid(stat.lspid)), task.number(Tid(stat.lrpid)));
            task.mm().write_obj(buf, &stat)?;
            Ok(found.map_or(0, id_value))
        }
        cmd::IPC_SET => {
            let to: MsqidDs = task.mm().read_obj(buf)?;
            let queue = ipc.msg.by_id(IpcId(id))?;
            queue.permission().check_control(&creds, task.ipc().base.owner())?;
            let limit = usize::try_from(to.qbytes).unwrap_or(usize::MAX);
            if limit > ipc.limits.msgmnb.load(Ordering::Relaxed) && !creds.has(Capabilities::SYS_RESOURCE) {
                return Err(Errno::EPERM.into());
            }
            queue.update(limit, |permission| permission.set(&to.perm, task.user_ns()))?;
            Ok(0)
        }
        cmd::IPC_RMID => {
            let queue = ipc.msg.by_id(IpcId(id))?;
            queue.permission().check_control(&creds, task.ipc().base.owner())?;
            ipc.msg.remove(IpcId(id));
            queue.remove();
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `IPC_INFO`, and with what is in use `MSG_INFO`.
fn show_limits(task: &CurrentTask, buf: UserAddr, with_usage: bool) -> SysResult {
    let ipc = task.ipc();
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let msgmnb = number(ipc.limits.msgmnb.load(Ordering::Relaxed));
    let msgmni = number(ipc.limits.msgmni.load(Ordering::Relaxed));
    // What Linux no longer uses has the values that it still reports (linux/msg.h).
    let mut info = MsgInfo {
        msgpool: msgmni.saturating_mul(msgmnb) / 1024,
        msgmap: msgmnb,
        msgmax: number(ipc.limits.msgmax.load(Ordering::Relaxed)),
        msgmnb,
        msgmni,
        msgssz: 16,
        msgtql: msgmnb,
        msgseg: u16::MAX,
        pad: 0,
    };
    if with_usage {
        let all: Vec<MsqidDs> = ipc.msg.all().iter().filter_map(|(_, queue)| queue.stat().ok()).collect();
        let count = |total: u64| i32::try_from(total).unwrap_or(i32::MAX);
        info.msgpool = number(all.len());
        info.msgmap = count(all.iter().map(|queue| queue.qnum).sum());
        info.msgtql = count(all.iter().map(|queue| queue.cbytes).sum());
    }
    task.mm().write_obj(buf, &info)?;
    Ok(u64::from(ipc.msg.highest_index().cast_unsigned()))
}
