//! `write(2)` and its relatives.

use std::sync::Arc;

use sentry_abi::socket::Ucred;

use crate::errno::{Errno, SysError, SysResult};
use crate::io::{IoSrc, Transfer};
use crate::mm::UserIo;
use crate::socket::{SocketFile, credentials_of, deadline};
use crate::syscall::Args;
use crate::syscall::file::context::{raise, real_file};
use crate::syscall::file::read::offset;
use crate::syscall::file::size_limit::{self, Beginning};
use crate::task::CurrentTask;
use crate::vfs::permission::shed_set_id;
use crate::vfs::{Caller, File, FileType};
use crate::wait::Readiness;

const SIGPIPE: i32 = 13;
/// `pwritev2(2)`: write at the end.
const RWF_APPEND: u32 = 16;
/// Flags of `pwritev2(2)` that change nothing here (`RWF_HIPRI`, `RWF_DSYNC`, `RWF_SYNC`).
const RWF_IGNORED: u32 = 1 | 2 | 4;

/// `write(2)`.
pub(crate) fn sys_write(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let mut src = task.user_io(args.addr(1), args.u64(2));
    write(task, &file, &mut src, None)
}

/// `writev(2)`.
pub(crate) fn sys_writev(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let vecs = task.mm().read_iovec(args.addr(1), args.u64(2))?;
    let mut src = UserIo::from_vecs(task.mm().clone(), &vecs);
    write(task, &file, &mut src, None)
}

/// `pwrite64(2)`.
pub(crate) fn sys_pwrite64(task: &mut CurrentTask, args: &Args) -> SysResult {
    let offset = offset(args.i64(3))?;
    let file = real_file(task, args.fd(0))?;
    let mut src = task.user_io(args.addr(1), args.u64(2));
    write(task, &file, &mut src, Some(offset))
}

/// `pwritev(2)`.
pub(crate) fn sys_pwritev(task: &mut CurrentTask, args: &Args) -> SysResult {
    let offset = offset(args.i64(3))?;
    let file = real_file(task, args.fd(0))?;
    let vecs = task.mm().read_iovec(args.addr(1), args.u64(2))?;
    let mut src = UserIo::from_vecs(task.mm().clone(), &vecs);
    write(task, &file, &mut src, Some(offset))
}

/// `pwritev2(2)`.
pub(crate) fn sys_pwritev2(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let vecs = task.mm().read_iovec(args.addr(1), args.u64(2))?;
    let flags = args.u32(5);
    if flags & !(RWF_IGNORED | RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut src = UserIo::from_vecs(task.mm().clone(), &vecs);
    let at = if flags & RWF_APPEND != 0 {
        Some(file.stat()?.size)
    } else if args.i64(3) == -1 {
        None
    } else {
        Some(offset(args.i64(3))?)
    };
    write(task, &file, &mut src, at)
}

/// Writes all of `src`, waiting for room as often as needed; `at` of `None` means the file's position. A signal or
/// an error after the first bytes gives a short count (`write(2)`, `signal(7)`).
pub(super) fn write(
    task: &mut CurrentTask,
    file: &Arc<File>,
    src: &mut dyn IoSrc,
    at: Option<u64>,
) -> SysResult {
    if file.inode().kind() == FileType::Regular && file.ops().is_seekable() && src.remaining() > 0 {
        let room = size_limit::room(task, file, at)?;
        if file.flags().is_writable() {
            let creds = task.creds();
            shed_set_id(&Caller::task(task.task(), &creds), file.inode())?;
        }
        if let Some(room) = room.filter(|room| *room < src.remaining()) {
            return write_all(task, file, &mut Beginning::new(src, room), at);
        }
    }
    let result = if file.inode().kind() == FileType::Socket {
        let sender = credentials_of(task);
        write_all(task, file, &mut Sent { src, sender }, at)
    } else {
        write_all(task, file, src, at)
    };
    if let Err(SysError::Errno(Errno::EPIPE)) = &result {
        raise(task, SIGPIPE);
    }
    result
}

/// A source whose writer a socket's peer may be told.
struct Sent<'a> {
    src: &'a mut dyn IoSrc,
    sender: Ucred,
}

impl IoSrc for Sent<'_> {
    fn remaining(&self) -> usize {
        self.src.remaining()
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.src.take(buf)
    }

    fn untake(&mut self, n: usize) {
        self.src.untake(n);
    }

    fn sender(&self) -> Option<Ucred> {
        Some(self.sender)
    }

    fn take_direct(&mut self, len: usize, drain: &mut Transfer<'_>) -> Result<Option<usize>, Errno> {
        self.src.take_direct(len, drain)
    }
}

fn write_all(task: &mut CurrentTask, file: &Arc<File>, src: &mut dyn IoSrc, at: Option<u64>) -> SysResult {
    let attempt = |src: &mut dyn IoSrc| match at {
        Some(offset) => file.write_at(src, offset),
        None => file.write(src),
    };
    // Files with storage never wait, and a short count of theirs is final.
    if file.ops().is_seekable() {
        return Ok(attempt(src)? as u64);
    }
    let mut total = 0;
    let result = loop {
        match attempt(src) {
            Ok(n) => total += n,
            Err(Errno::EAGAIN) => {}
            Err(e) if total == 0 => return Err(e.into()),
            Err(_) => break Ok(()),
        }
        if src.remaining() == 0 || file.is_nonblocking() && total > 0 {
            break Ok(());
        }
        let waited = task.block_on_file(file, Readiness::OUT, None, |_| match attempt(src) {
            Ok(0) if src.remaining() > 0 => Err(Errno::EAGAIN),
            other => other,
        });
        match waited {
            Ok(n) => total += n,
            Err(e) => break Err(e),
        }
        if src.remaining() == 0 {
            break Ok(());
        }
    };
    end_handshake(task, file)?;
    match result {
        Err(e) if total == 0 => Err(e),
        _ => Ok(total as u64),
    }
}

/// Where the data went into a SYN (`TCP_FASTOPEN_CONNECT`), a write that waits leads the handshake to its end
/// (`tcp_sendmsg_fastopen`).
fn end_handshake(task: &mut CurrentTask, file: &Arc<File>) -> Result<(), SysError> {
    let Some(socket) = file.downcast::<SocketFile>().filter(|_| !file.is_nonblocking()) else {
        return Ok(());
    };
    if !socket.socket().is_connecting() {
        return Ok(());
    }
    let socket = Arc::clone(socket.socket());
    let until = deadline(task, socket.base().send_timeout());
    match task.block_on_file(file, Readiness::OUT, until, |_| socket.connect_result()) {
        // SO_SNDTIMEO: what the SYN has taken counts.
        Err(SysError::Errno(Errno::EAGAIN)) => Ok(()),
        done => done,
    }
}
