//! `read(2)` and its relatives.

use std::sync::Arc;

use crate::errno::{Errno, SysError, SysResult};
use crate::io::IoDst;
use crate::mm::UserIo;
use crate::syscall::Args;
use crate::syscall::file::context::real_file;
use crate::task::CurrentTask;
use crate::vfs::File;
use crate::wait::Readiness;

/// `preadv2(2)`: don't wait for data.
const RWF_NOWAIT: u32 = 8;
/// Flags of `preadv2(2)` that change nothing here (`RWF_HIPRI`, `RWF_DSYNC`, `RWF_SYNC`).
const RWF_IGNORED: u32 = 1 | 2 | 4;

/// `read(2)`.
pub(crate) fn sys_read(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let dst = task.user_io(args.addr(1), args.u64(2));
    read(task, &file, dst)
}

/// `readv(2)`.
pub(crate) fn sys_readv(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let vecs = task.mm().read_iovec(args.addr(1), args.u64(2))?;
    let dst = UserIo::from_vecs(task.mm().clone(), &vecs);
    read(task, &file, dst)
}

/// `pread64(2)`.
pub(crate) fn sys_pread64(task: &mut CurrentTask, args: &Args) -> SysResult {
    let offset = offset(args.i64(3))?;
    let file = real_file(task, args.fd(0))?;
    let dst = task.user_io(args.addr(1), args.u64(2));
    read_at(task, &file, dst, offset)
}

/// `preadv(2)`. The upper half of the offset (argument 4) is only used by 32-bit callers.
pub(crate) fn sys_preadv(task: &mut CurrentTask, args: &Args) -> SysResult {
    let offset = offset(args.i64(3))?;
    let file = real_file(task, args.fd(0))?;
    let vecs = task.mm().read_iovec(args.addr(1), args.u64(2))?;
    let dst = UserIo::from_vecs(task.mm().clone(), &vecs);
    read_at(task, &file, dst, offset)
}

/// `preadv2(2)`.
pub(crate) fn sys_preadv2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let vecs = task.mm().read_iovec(args.addr(1), args.u64(2))?;
    let flags = args.u32(5);
    if flags & !(RWF_NOWAIT | RWF_IGNORED) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut dst = UserIo::from_vecs(task.mm().clone(), &vecs);
    let at = args.i64(3);
    if flags & RWF_NOWAIT != 0 {
        let n = if at == -1 { file.read(&mut dst)? } else { file.read_at(&mut dst, offset(at)?)? };
        return Ok(n as u64);
    }
    if at == -1 { read(task, &file, dst) } else { read_at(task, &file, dst, offset(at)?) }
}

/// An offset of `pread(2)`.
pub(super) fn offset(at: i64) -> Result<u64, Errno> {
    u64::try_from(at).map_err(|_| Errno::EINVAL)
}

/// Reads at the position, waiting for the first byte.
fn read(task: &mut CurrentTask, file: &Arc<File>, mut dst: UserIo) -> SysResult {
    read_into(task, file, &mut dst)
}

/// Reads at the position into any destination, waiting for the first byte.
pub(super) fn read_into(task: &mut CurrentTask, file: &Arc<File>, dst: &mut dyn IoDst) -> SysResult {
    // Most reads don't wait: try before the machinery of waiting.
    match file.read(dst) {
        Ok(n) => return Ok(n as u64),
        Err(Errno::EAGAIN) if !file.is_nonblocking() => {}
        Err(e) => return Err(e.into()),
    }
    let n = task.block_on_file(file, Readiness::IN, None, |task| {
        // There was nothing before: what has come behind a signal is for who reads next, if this one has to end.
        if task.is_interrupted() { Err(Errno::EAGAIN) } else { file.read(dst) }
    })?;
    Ok(n as u64)
}

fn read_at(task: &mut CurrentTask, file: &Arc<File>, mut dst: UserIo, offset: u64) -> SysResult {
    let n: Result<usize, SysError> =
        task.block_on_file(file, Readiness::IN, None, |_| file.read_at(&mut dst, offset));
    Ok(n? as u64)
}
