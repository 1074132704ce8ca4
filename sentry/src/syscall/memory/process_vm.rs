//! `process_vm_readv(2)`, `process_vm_writev(2)`.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::mm::{IoVec, MemoryManager, UserIo};
use crate::syscall::Args;
use crate::task::CurrentTask;
use crate::task::trace::{AccessMode, check_access};

/// How much is copied at a time.
const CHUNK: usize = 64 << 10;

fn target(task: &CurrentTask, pid: i32) -> Result<Arc<MemoryManager>, Errno> {
    let id = task.named(pid)?;
    let target = task.kernel().tree().thread(id).cloned().ok_or(Errno::ESRCH)?;
    check_access(task, &task.creds(), &target, AccessMode::RealCreds)?;
    target.mm().ok_or(Errno::ESRCH)
}

fn vectors(task: &CurrentTask, args: &Args) -> Result<(Vec<IoVec>, Vec<IoVec>), Errno> {
    if args.u64(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let local = task.mm().read_iovec(args.addr(1), args.u64(2))?;
    let remote = task.mm().read_iovec(args.addr(3), args.u64(4))?;
    Ok((local, remote))
}

fn copy(mut from: UserIo, mut to: UserIo) -> SysResult {
    let mut buf = vec![0; CHUNK];
    let mut done = 0_u64;
    loop {
        let want = CHUNK.min(IoSrc::remaining(&from)).min(IoDst::remaining(&to));
        if want == 0 {
            return Ok(done);
        }
        let moved = from.take(&mut buf[..want]).and_then(|n| to.put(&buf[..n]));
        match moved {
            Ok(0) => return Ok(done),
            Ok(n) => done += n as u64,
            Err(_) if done > 0 => return Ok(done),
            Err(e) => return Err(e.into()),
        }
    }
}

/// `process_vm_readv(2)`.
pub(crate) fn sys_process_vm_readv(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (local, remote) = vectors(task, args)?;
    let other = target(task, args.i32(0))?;
    copy(UserIo::from_vecs(other, &remote), UserIo::from_vecs(task.mm().clone(), &local))
}

/// `process_vm_writev(2)`.
pub(crate) fn sys_process_vm_writev(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (local, remote) = vectors(task, args)?;
    let other = target(task, args.i32(0))?;
    copy(UserIo::from_vecs(task.mm().clone(), &local), UserIo::from_vecs(other, &remote))
}
