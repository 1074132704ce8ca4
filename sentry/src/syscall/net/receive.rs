//! `recvfrom(2)`, `recvmsg(2)` and `recvmmsg(2)`.

use std::sync::Arc;

use sentry_abi::socket::{MMSGHDR_LEN, MMSGHDR_MSG_LEN_OFFSET, MsgFlags, MsgHdr, UIO_MAXIOV};
use sentry_abi::time::Timespec;

use crate::errno::{Errno, SysError, SysResult};
use crate::io::IoDst;
use crate::kernel::KTime;
use crate::mm::{UserAddr, UserIo};
use crate::socket::control::{ControlMessage, Encoder};
use crate::socket::inet::Batch;
use crate::socket::{Family, Received, RecvRequest, Socket, SocketBase, SocketFile, SocketType};
use crate::syscall::Args;
use crate::syscall::net::message::Message;
use crate::syscall::net::wait::Patience;
use crate::syscall::net::{address, message};
use crate::task::CurrentTask;
use crate::vfs::{FdFlags, File};
use crate::wait::Readiness;

/// `recvfrom(fd, buffer, length, flags, address, length)`.
pub(crate) fn sys_recvfrom(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    SocketFile::of(&file)?;
    let mut io = task.user_io(args.addr(1), args.u64(2));
    let flags = MsgFlags::from_bits_retain(args.u32(3));
    let wants_address = !args.addr(4).is_null();
    let request = RecvRequest { flags, wants_address, wants_control: false };
    let received = receive(task, &file, &mut io, request)?;
    if wants_address {
        address::write(task, &received.from, args.addr(4), args.addr(5))?;
    }
    Ok(result_len(flags, &received))
}

/// `recvmsg(fd, message, flags)`.
pub(crate) fn sys_recvmsg(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    SocketFile::of(&file)?;
    receive_message(task, &file, args.addr(1), MsgFlags::from_bits_retain(args.u32(2)))
}

/// `recvmmsg(fd, messages, count, flags, timeout)`.
pub(crate) fn sys_recvmmsg(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    SocketFile::of(&file)?;
    let deadline = timeout(task, args.addr(4))?;
    let mut flags = MsgFlags::from_bits_retain(args.u32(3));
    let waits_for_one = flags.contains(MsgFlags::WAITFORONE);
    flags.remove(MsgFlags::WAITFORONE);
    let count = u64::from(args.u32(2).min(UIO_MAXIOV));
    let base = SocketFile::of(&file)?.base();
    if !flags.contains(MsgFlags::ERRQUEUE)
        && let Some(error) = base.take_late_error()
    {
        return Err(error.into());
    }
    let mut done = 0_u64;
    while done < count {
        let at = args.addr(1).checked_add(done * MMSGHDR_LEN)?;
        // A limit of time is looked at after each message.
        let at_once = if deadline.is_some() { 1 } else { (count - done).min(AT_ONCE) };
        let result = match receive_some(task, &file, at, at_once, flags) {
            Ok(Some((received, Then::End(error)))) => {
                keep_error(base, error);
                return Ok(done + received);
            }
            Ok(Some((received, Then::GoOn))) => Ok(received),
            Err(e) => Err(e),
            Ok(None) => receive_message(task, &file, at, flags).and_then(|len| {
                write_len(task, at, len)?;
                Ok(1)
            }),
        };
        match result {
            Ok(received) => done += received,
            Err(e) if done > 0 => {
                keep_error(base, e);
                break;
            }
            Err(e) => return Err(e),
        }
        if waits_for_one {
            flags |= MsgFlags::DONTWAIT;
        }
        // recvmmsg(2) BUGS: "The timeout is checked only after the receipt of each datagram."
        if deadline.is_some_and(|at| at <= task.kernel().clocks().monotonic()) {
            break;
        }
    }
    Ok(done)
}

/// "[...] where we record the error to return on the next call" (do_recvmmsg), unless there were no more messages.
fn keep_error(base: &SocketBase, error: SysError) {
    match error {
        SysError::Errno(Errno::EAGAIN) | SysError::Restart(_) => {}
        SysError::Errno(error) => base.set_late_error(error),
    }
}

/// Messages that are received under one lock; the stack takes as many.
const AT_ONCE: u64 = 16;

/// Receives messages that are there already, and returns how many. `None` if they have to be received one by one: there is none to
/// be had without waiting, or the socket is of another kind.
fn receive_some(
    task: &mut CurrentTask,
    file: &Arc<File>,
    at: UserAddr,
    count: u64,
    flags: MsgFlags,
) -> Result<Option<(u64, Then)>, SysError> {
    let socket = SocketFile::of(file)?.clone();
    let Family::Inet(inet) = socket.family() else { return Ok(None) };
    if count < 2 || inet.udp().is_none() || !inet.readiness().contains(Readiness::IN) {
        return Ok(None);
    }
    let mut headers = Vec::new();
    for index in 0..count {
        let Ok(addr) = at.checked_add(index * MMSGHDR_LEN) else { break };
        let Ok(message) = message::read(task, addr) else { break };
        headers.push((addr, message));
    }
    let Batch { received, met_fault } = {
        let rooms = headers.iter_mut().map(|(_, message)| {
            let request = request_of(message, flags);
            (&mut message.io as &mut dyn IoDst, request)
        });
        let mut rooms: Vec<_> = rooms.collect();
        match inet.try_recv_many(&mut rooms) {
            Some(Ok(batch)) => batch,
            Some(Err(Errno::EAGAIN)) | None => return Ok(None),
            Some(Err(e)) => return Err(e.into()),
        }
    };
    let mut done = 0;
    for ((addr, message), received) in headers.iter().zip(received) {
        let told =
            tell(task, *addr, message, received, flags).and_then(|len| Ok(write_len(task, *addr, len)?));
        match told {
            Ok(()) => done += 1,
            // As if each had been received by itself, but for those behind it.
            Err(e) if done == 0 => return Err(e),
            Err(e) => return Ok(Some((done, Then::End(e)))),
        }
    }
    Ok(Some((done, if met_fault { Then::End(Errno::EFAULT.into()) } else { Then::GoOn })))
}

/// Whether a call looks for further messages.
enum Then {
    GoOn,
    /// One could not be stored.
    End(SysError),
}

fn write_len(task: &CurrentTask, at: UserAddr, len: u64) -> Result<(), Errno> {
    // The length fits: one message moves at most 0x7ffff000 bytes.
    let len = (len & 0xffff_ffff) as u32;
    task.mm().write_obj(at.checked_add(MMSGHDR_MSG_LEN_OFFSET)?, &len)
}

fn timeout(task: &CurrentTask, addr: UserAddr) -> Result<Option<KTime>, Errno> {
    if addr.is_null() {
        return Ok(None);
    }
    let span: Timespec = task.mm().read_obj(addr)?;
    Ok(Some(task.kernel().clocks().monotonic().saturating_add(span.to_ns()?)))
}

fn receive_message(task: &mut CurrentTask, file: &Arc<File>, addr: UserAddr, flags: MsgFlags) -> SysResult {
    let mut message = message::read(task, addr)?;
    let request = request_of(&message, flags);
    let received = receive(task, file, &mut message.io, request)?;
    tell(task, addr, &message, received, flags)
}

fn request_of(message: &Message, flags: MsgFlags) -> RecvRequest {
    RecvRequest { flags, wants_address: !message.name.is_null(), wants_control: message.control_len > 0 }
}

/// Writes what was received beside the data to the guest's header, and returns the result of the call.
fn tell(
    task: &mut CurrentTask,
    addr: UserAddr,
    message: &Message,
    mut received: Received,
    flags: MsgFlags,
) -> SysResult {
    if !message.name.is_null() {
        let name_len = addr.checked_add(MsgHdr::NAME_LEN_OFFSET)?;
        address::write(task, &received.from, message.name, name_len)?;
    }
    let control = std::mem::take(&mut received.control);
    let (control, is_cut) = encode_control(task, control, message.control_len, flags);
    task.mm().write_bytes(message.control, &control)?;
    let mut shown = received.flags;
    shown.set(MsgFlags::CTRUNC, is_cut);
    shown |= flags & MsgFlags::CMSG_CLOEXEC;
    task.mm().write_obj(addr.checked_add(MsgHdr::CONTROL_LEN_OFFSET)?, &(control.len() as u64))?;
    task.mm().write_obj(addr.checked_add(MsgHdr::FLAGS_OFFSET)?, &shown.bits())?;
    Ok(result_len(flags, &received))
}

/// Lays the control messages out, making descriptors for files.
fn encode_control(
    task: &CurrentTask,
    messages: Vec<ControlMessage>,
    room: usize,
    flags: MsgFlags,
) -> (Vec<u8>, bool) {
    let fd_flags = if flags.contains(MsgFlags::CMSG_CLOEXEC) { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let mut encoder = Encoder::new(room);
    for message in messages {
        encoder.put(task, message, fd_flags);
    }
    encoder.finish()
}

/// With `MSG_TRUNC` the real length of a packet counts (recv(2)).
fn result_len(flags: MsgFlags, received: &Received) -> u64 {
    let len = if flags.contains(MsgFlags::TRUNC) { received.len } else { received.copied };
    len as u64
}

/// Receives with the waiting that the flags and options ask for: a stream waits for all of the buffer with
/// `MSG_WAITALL`, else for `SO_RCVLOWAT` bytes.
fn receive(
    task: &mut CurrentTask,
    file: &Arc<File>,
    io: &mut UserIo,
    request: RecvRequest,
) -> Result<Received, SysError> {
    let socket = SocketFile::of(file)?.clone();
    let flags = request.flags;
    // A stream looks for errors when it has no data.
    if socket.base().kind != SocketType::Stream
        && !flags.contains(MsgFlags::ERRQUEUE)
        && let Some(error) = socket.base().take_late_error()
    {
        return Err(error.into());
    }
    let dont_wait = flags.intersects(MsgFlags::DONTWAIT | MsgFlags::ERRQUEUE | MsgFlags::OOB);
    let patience = Patience::new(task, file, socket.base().recv_timeout(), dont_wait);
    let total = io.remaining();
    let first = patience.wait(task, file, Readiness::IN, |_| socket.try_recv(io, request))?;
    if socket.base().kind != SocketType::Stream || flags.intersects(MsgFlags::PEEK | MsgFlags::ERRQUEUE) {
        return Ok(first);
    }
    let target = if flags.contains(MsgFlags::WAITALL) {
        total
    } else {
        usize::try_from(socket.base().recv_low_water()).unwrap_or(1).min(total)
    };
    fill(task, file, io, request, patience, target, first)
}

/// Goes on receiving on a stream until there are `target` bytes, an end, an error, or control messages.
fn fill(
    task: &mut CurrentTask,
    file: &Arc<File>,
    io: &mut UserIo,
    request: RecvRequest,
    patience: Patience,
    target: usize,
    mut received: Received,
) -> Result<Received, SysError> {
    let socket = SocketFile::of(file)?.clone();
    let may_go_on = |received: &Received| {
        let copied = received.copied;
        copied > 0 && copied < target && received.control.iter().all(ControlMessage::is_queue_len)
    };
    while may_go_on(&received) && patience.waits() {
        match patience.wait(task, file, Readiness::IN, |_| socket.try_recv(io, request)) {
            Ok(more) if more.copied == 0 => break,
            Ok(more) => {
                received.copied += more.copied;
                received.len += more.len;
                received.control.clear();
                received.control.extend(more.control);
            }
            // What was received counts.
            Err(_) => break,
        }
    }
    Ok(received)
}
