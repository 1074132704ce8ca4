//! `io_setup(2)`, `io_submit(2)`, `io_getevents(2)`, `io_cancel(2)`, `io_destroy(2)`.

use std::sync::Arc;

use sentry_abi::time::Timespec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, SysError, SysResult};
use crate::fs::aio::{AioContext, AioPoll, Block, Completion};
use crate::fs::event::eventfd::EventFd;
use crate::kernel::KTime;
use crate::mm::{UserAddr, UserIo};
use crate::syscall::Args;
use crate::syscall::file::context::real_file;
use crate::syscall::file::poll::{read_mask, with_mask};
use crate::syscall::file::read::{offset, read_into};
use crate::syscall::file::write::write;
use crate::task::{BlockError, CurrentTask};
use crate::vfs::{Fd, File};
use crate::wait::Readiness;

/// `struct iocb`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: i32,
    buf: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    result_fd: i32,
}

/// Where `key` is.
const KEY_AT: u64 = 8;
/// What it is set to (`KIOCB_KEY`).
const KEY: u32 = 0;

const IOCB_FLAG_RESFD: u32 = 1;

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const POLL: u16 = 5;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// Flags of `pwritev2(2)` that change nothing here (`RWF_HIPRI`, `RWF_DSYNC`, `RWF_SYNC`, `RWF_NOWAIT`).
const RWF_IGNORED: u32 = 1 | 2 | 4 | 8;

/// `io_setup(2)`.
pub(crate) fn sys_io_setup(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (requests, out) = (args.u32(0), args.addr(1));
    let old: u64 = task.mm().read_obj(out)?;
    if old != 0 || requests == 0 {
        return Err(Errno::EINVAL.into());
    }
    let context = AioContext::new(&task.kernel().aio, task.mm(), requests)?;
    task.mm().aio.add(context.clone());
    if let Err(errno) = task.mm().write_obj(out, &context.id()) {
        destroy(task, context.id())?;
        return Err(errno.into());
    }
    Ok(0)
}

/// `io_destroy(2)`.
pub(crate) fn sys_io_destroy(task: &mut CurrentTask, args: &Args) -> SysResult {
    destroy(task, args.u64(0))?;
    Ok(0)
}

fn destroy(task: &CurrentTask, id: u64) -> Result<(), Errno> {
    task.mm().aio.remove(id)?.unmap();
    Ok(())
}

/// `io_submit(2)`: how many were submitted, or why the first was not.
pub(crate) fn sys_io_submit(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, count, list) = (args.u64(0), args.i64(1), args.u64(2));
    let count = u64::try_from(count).map_err(|_| Errno::EINVAL)?;
    let context = task.mm().aio.find(id)?;
    for at in 0..count {
        let submitted = at
            .checked_mul(8)
            .and_then(|bytes| list.checked_add(bytes))
            .ok_or(Errno::EFAULT)
            .and_then(|place| task.mm().read_obj::<u64>(UserAddr(place)))
            .map_err(SysError::from)
            .and_then(|block| submit(task, &context, block));
        match submitted {
            Ok(()) => {}
            Err(error) if at == 0 => return Err(error),
            Err(_) => return Ok(at),
        }
    }
    Ok(count)
}

fn submit(task: &mut CurrentTask, context: &Arc<AioContext>, at: u64) -> Result<(), SysError> {
    let iocb: Iocb = task.mm().read_obj(UserAddr(at))?;
    if iocb.reserved != 0 || iocb.bytes.cast_signed() < 0 {
        return Err(Errno::EINVAL.into());
    }
    let completion = context.reserve(task.mm())?;
    let file = real_file(task, Fd(iocb.fd))?;
    let eventfd = match iocb.flags & IOCB_FLAG_RESFD {
        0 => None,
        _ => {
            let file = real_file(task, Fd(iocb.result_fd))?;
            file.downcast::<EventFd>().ok_or(Errno::EINVAL)?;
            Some(file)
        }
    };
    task.mm().write_obj(UserAddr(at + KEY_AT), &KEY)?;
    let block = Block { at, data: iocb.data };
    let result = match iocb.opcode {
        PREAD | PWRITE | PREADV | PWRITEV => transfer(task, &file, &iocb)?,
        FSYNC | FDSYNC => sync(&file, &iocb)?,
        POLL => return Ok(poll(block, file, &iocb, eventfd, completion)?),
        _ => return Err(Errno::EINVAL.into()),
    };
    completion.complete(block, result, eventfd.as_deref());
    Ok(())
}

/// Reads or writes; what that gives is the result of the request, an error too.
fn transfer(task: &mut CurrentTask, file: &Arc<File>, iocb: &Iocb) -> Result<i64, SysError> {
    if iocb.rw_flags & !RWF_IGNORED != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let is_read = matches!(iocb.opcode, PREAD | PREADV);
    let flags = file.flags();
    if !(if is_read { flags.is_readable() } else { flags.is_writable() }) {
        return Err(Errno::EBADF.into());
    }
    let at = if file.ops().is_seekable() { Some(offset(iocb.offset)?) } else { None };
    let mut io = match iocb.opcode {
        PREAD | PWRITE => task.user_io(UserAddr(iocb.buf), iocb.bytes),
        _ => {
            let vecs = task.mm().read_iovec(UserAddr(iocb.buf), iocb.bytes)?;
            UserIo::from_vecs(task.mm().clone(), &vecs)
        }
    };
    let done = match (is_read, at) {
        (true, Some(at)) => file.read_at(&mut io, at).map(|n| n as u64).map_err(SysError::from),
        (true, None) => read_into(task, file, &mut io),
        (false, at) => write(task, file, &mut io, at),
    };
    Ok(match done {
        // At most what fits into memory.
        Ok(bytes) => bytes.cast_signed(),
        Err(SysError::Errno(errno)) => -i64::from(errno.code()),
        // aio_rw_done: nobody could restart it.
        Err(SysError::Restart(_)) => -i64::from(Errno::EINTR.code()),
    })
}

fn sync(file: &File, iocb: &Iocb) -> Result<i64, Errno> {
    if iocb.buf != 0 || iocb.offset != 0 || iocb.bytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    match file.ops().sync(file) {
        // Of a kind that cannot be synchronised: that is said at once.
        Err(Errno::EINVAL) => Err(Errno::EINVAL),
        Err(errno) => Ok(-i64::from(errno.code())),
        Ok(()) => Ok(0),
    }
}

fn poll(
    block: Block,
    file: Arc<File>,
    iocb: &Iocb,
    eventfd: Option<Arc<File>>,
    completion: Completion,
) -> Result<(), Errno> {
    let interest = u16::try_from(iocb.buf).map_err(|_| Errno::EINVAL)?;
    if iocb.offset != 0 || iocb.bytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let interest = Readiness::from_bits_truncate(interest.into());
    AioPoll::start(block, file, interest, eventfd, completion);
    Ok(())
}

/// `io_getevents(2)`.
pub(crate) fn sys_io_getevents(task: &mut CurrentTask, args: &Args) -> SysResult {
    let deadline = deadline(task, args.addr(4))?;
    get(task, args, deadline)
}

/// `struct __aio_sigset`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigSetArg {
    mask: u64,
    bytes: u64,
}

/// `io_pgetevents(2)`.
pub(crate) fn sys_io_pgetevents(task: &mut CurrentTask, args: &Args) -> SysResult {
    let deadline = deadline(task, args.addr(4))?;
    let mask = match args.addr(5) {
        at if at.is_null() => None,
        at => {
            let arg: SigSetArg = task.mm().read_obj(at)?;
            read_mask(task, UserAddr(arg.mask), arg.bytes)?
        }
    };
    with_mask(task, mask, |task| get(task, args, deadline))
}

/// When to stop waiting. Linux does not look whether the time is a proper one.
fn deadline(task: &CurrentTask, at: UserAddr) -> Result<Option<KTime>, Errno> {
    if at.is_null() {
        return Ok(None);
    }
    let time: Timespec = task.mm().read_obj(at)?;
    let ns = time.sec.saturating_mul(1_000_000_000).saturating_add(time.nsec);
    let now = task.kernel().clocks().monotonic();
    Ok(Some(now.saturating_add(u64::try_from(ns).unwrap_or(0))))
}

fn get(task: &mut CurrentTask, args: &Args, deadline: Option<KTime>) -> SysResult {
    let (id, least, most, to) = (args.u64(0), args.i64(1), args.i64(2), args.u64(3));
    let context = task.mm().aio.find(id)?;
    let (Ok(least), Ok(most)) = (u64::try_from(least), u64::try_from(most)) else {
        return Err(Errno::EINVAL.into());
    };
    if least > most {
        return Err(Errno::EINVAL.into());
    }
    // `struct io_event` has 32 bytes.
    let mut total = 0;
    let mut attempt = |task: &mut CurrentTask| {
        let place = to.wrapping_add(total * 32);
        match context.take(task.mm(), most - total, UserAddr(place)) {
            Ok(taken) => total += taken,
            Err(errno) if total == 0 => return Some(Err(errno)),
            Err(_) => return Some(Ok(total)),
        }
        if context.is_closed() && total == 0 {
            return Some(Err(Errno::EINVAL));
        }
        (total >= least || context.is_closed()).then_some(Ok(total))
    };
    match task.block_on_queue(context.events(), Readiness::IN, deadline, &mut attempt) {
        Ok(done) => Ok(done?),
        Err(_) if total > 0 => Ok(total),
        Err(BlockError::TimedOut) => Ok(0),
        // Never restarted: the time is relative.
        Err(BlockError::Interrupted) => Err(Errno::EINTR.into()),
    }
}

/// `io_cancel(2)`: only polls are ever under way.
pub(crate) fn sys_io_cancel(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, at) = (args.u64(0), args.u64(1));
    let key: u32 = task.mm().read_obj(UserAddr(at.wrapping_add(KEY_AT)))?;
    if key != KEY {
        return Err(Errno::EINVAL.into());
    }
    let context = task.mm().aio.find(id)?;
    if context.cancel(at) { Err(Errno::EINPROGRESS.into()) } else { Err(Errno::EINVAL.into()) }
}
