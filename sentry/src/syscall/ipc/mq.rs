//! POSIX message queues: `mq_open(2)`, `mq_unlink(2)`, `mq_timedsend(2)`, `mq_timedreceive(2)`, `mq_getsetattr(2)`.

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Restart, SysError, SysResult};
use crate::fs::mqueue::{self, QueueFs};
use crate::ipc::{Capacity, Letter, Maker, PRIORITIES, Queue};
use crate::kernel::KTime;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::{install, read_path, real_file};
use crate::syscall::time::read_timespec;
use crate::task::{BlockError, Capabilities, CurrentTask, Resource};
use crate::vfs::open::open_place;
use crate::vfs::{Caller, Fd, File, LastName, OpenFlags, Remove, Walked, change};
use crate::wait::Readiness;

/// `struct mq_attr`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MqAttr {
    flags: i64,
    max_messages: i64,
    message_size: i64,
    messages: i64,
    reserved: [i64; 4],
}

impl MqAttr {
    fn capacity(&self) -> Result<Capacity, Errno> {
        let positive = |value: i64| usize::try_from(value).ok().filter(|&value| value > 0);
        match (positive(self.max_messages), positive(self.message_size)) {
            (Some(messages), Some(bytes)) => Ok(Capacity { messages, bytes }),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// How often an open races with others that make and remove the name before it gives up.
const MAX_TRIES: usize = 16;

/// `mq_open(2)`, whose name comes without the slash.
pub(crate) fn sys_mq_open(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (flags, mode, attr_at) = (args.u32(1), args.u32(2), args.addr(3));
    let attr: Option<MqAttr> = if attr_at.is_null() { None } else { Some(task.mm().read_obj(attr_at)?) };
    let name = queue_name(task, args.addr(0))?;
    task.files().check_room(task.rlimit(Resource::Nofile).soft)?;
    let flags = OpenFlags::from_bits_truncate(flags);
    let file = open(task, &name, flags, mode, attr.as_ref())?;
    install(task, file, OpenFlags::CLOEXEC)
}

/// A name, which is not empty.
fn queue_name(task: &CurrentTask, at: UserAddr) -> Result<Vec<u8>, Errno> {
    let name = read_path(task, at)?;
    if name.is_empty() { Err(Errno::ENOENT) } else { Ok(name) }
}

fn open(
    task: &CurrentTask,
    name: &[u8],
    flags: OpenFlags,
    mode: u32,
    attr: Option<&MqAttr>,
) -> Result<Arc<File>, Errno> {
    let (ipc, creds) = (task.ipc(), task.creds());
    let queues = ipc.queues();
    let caller = Caller::task(task.task(), &creds);
    let kept = flags & (OpenFlags::WRONLY | OpenFlags::RDWR | OpenFlags::NONBLOCK);
    for _ in 0..MAX_TRIES {
        match queues.find(&caller, name) {
            Ok(_) if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) => return Err(Errno::EEXIST),
            Ok(_) if flags.contains(OpenFlags::WRONLY | OpenFlags::RDWR) => return Err(Errno::EINVAL),
            Ok(place) => return open_place(&caller, place, kept),
            Err(Errno::ENOENT) if flags.contains(OpenFlags::CREAT) => {}
            Err(errno) => return Err(errno),
        }
        let wanted = attr.map(MqAttr::capacity).transpose()?;
        let maker = Maker {
            uid: creds.fsuid.0,
            is_privileged: creds.has(Capabilities::SYS_RESOURCE),
            limit: task.rlimit(Resource::Msgqueue).soft,
        };
        let mode = mode & 0o7777 & !task.fs().umask();
        match queues.create(&caller, name, wanted, maker, (mode, kept)) {
            Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCL) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::EEXIST)
}

/// `mq_unlink(2)`.
pub(crate) fn sys_mq_unlink(task: &mut CurrentTask, args: &Args) -> SysResult {
    let name = queue_name(task, args.addr(0))?;
    let (ipc, creds) = (task.ipc(), task.creds());
    let queues: &QueueFs = ipc.queues();
    let caller = Caller::task(task.task(), &creds);
    let found = queues.find(&caller, &name)?;
    let at = Walked {
        dir: queues.root(),
        name: LastName::Name(name),
        found: Some(found),
        has_trailing_slash: false,
    };
    change::unlink(&caller, &at, Remove::File)?;
    Ok(0)
}

/// `mq_timedsend(2)`.
pub(crate) fn sys_mq_timedsend(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (buf, len, priority) = (args.addr(1), args.usize(2), args.u32(3));
    let deadline = deadline(task, args.addr(4))?;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL.into());
    }
    let (file, queue) = queue_file(task, args.fd(0), OpenFlags::is_writable)?;
    if len > queue.capacity().bytes {
        return Err(Errno::EMSGSIZE.into());
    }
    let mut text = vec![0; len];
    task.mm().read_bytes(buf, &mut text)?;
    let (pid, uid) = (task.pid().0, task.creds().uid.0);
    let mut letter = Some(Letter { priority, text });
    let attempt = |_: &mut CurrentTask| {
        letter = queue.send(letter.take()?, pid, uid).err();
        letter.is_none().then_some(())
    };
    wait_for(task, &file, &queue, Readiness::OUT, deadline, attempt)?;
    Ok(0)
}

/// `mq_timedreceive(2)`.
pub(crate) fn sys_mq_timedreceive(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (buf, len, priority_at) = (args.addr(1), args.usize(2), args.addr(3));
    let deadline = deadline(task, args.addr(4))?;
    let (file, queue) = queue_file(task, args.fd(0), OpenFlags::is_readable)?;
    if len < queue.capacity().bytes {
        return Err(Errno::EMSGSIZE.into());
    }
    let letter = match queue.receive() {
        Some(letter) => letter,
        None => {
            let _counted = queue.wait_to_receive();
            wait_for(task, &file, &queue, Readiness::IN, deadline, |_| queue.receive())?
        }
    };
    // As on Linux, what does not arrive because of a bad address is lost.
    if !priority_at.is_null() {
        task.mm().write_obj(priority_at, &letter.priority)?;
    }
    task.mm().write_bytes(buf, &letter.text)?;
    Ok(letter.text.len() as u64)
}

/// Runs `attempt` until it gives something; `EAGAIN` with `O_NONBLOCK`.
fn wait_for<T>(
    task: &mut CurrentTask,
    file: &File,
    queue: &Arc<Queue>,
    interest: Readiness,
    deadline: Option<KTime>,
    mut attempt: impl FnMut(&mut CurrentTask) -> Option<T>,
) -> Result<T, SysError> {
    if file.is_nonblocking() {
        return attempt(task).ok_or(Errno::EAGAIN.into());
    }
    task.block_on_queue(queue.events(), interest, deadline, attempt).map_err(|why| match why {
        BlockError::TimedOut => Errno::ETIMEDOUT.into(),
        // The deadline is absolute, so that it can be restarted.
        BlockError::Interrupted => Restart::IfSaRestart.into(),
    })
}

/// An absolute time of `CLOCK_REALTIME`.
fn deadline(task: &CurrentTask, at: UserAddr) -> Result<Option<KTime>, Errno> {
    if at.is_null() {
        return Ok(None);
    }
    let ns = read_timespec(task, at)?.to_ns()?;
    Ok(Some(task.kernel().clocks().realtime_deadline(ns)))
}

fn queue_file(
    task: &CurrentTask,
    fd: Fd,
    may: impl FnOnce(OpenFlags) -> bool,
) -> Result<(Arc<File>, Arc<Queue>), Errno> {
    let file = real_file(task, fd)?;
    let queue = mqueue::queue_of(&file).ok_or(Errno::EBADF)?.clone();
    if may(file.flags()) { Ok((file, queue)) } else { Err(Errno::EBADF) }
}

/// `mq_getsetattr(2)`.
pub(crate) fn sys_mq_getsetattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (new_at, old_at) = (args.addr(1), args.addr(2));
    let new: Option<MqAttr> = if new_at.is_null() { None } else { Some(task.mm().read_obj(new_at)?) };
    let nonblock = OpenFlags::NONBLOCK;
    if new.is_some_and(|new| new.flags & !i64::from(nonblock.bits()) != 0) {
        return Err(Errno::EINVAL.into());
    }
    let (file, queue) = queue_file(task, args.fd(0), |_| true)?;
    let to_i64 = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let old = MqAttr {
        flags: i64::from((file.flags() & nonblock).bits()),
        max_messages: to_i64(queue.capacity().messages),
        message_size: to_i64(queue.capacity().bytes),
        messages: to_i64(queue.report().messages),
        reserved: [0; 4],
    };
    if let Some(new) = new {
        let mut flags = file.flags();
        flags.set(nonblock, new.flags != 0);
        file.set_status_flags(flags);
    }
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &old)?;
    }
    Ok(0)
}
