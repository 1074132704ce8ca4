//! `sendto(2)`, `sendmsg(2)` and `sendmmsg(2)`.

use std::sync::Arc;

use netstack::UdpSocket;
use sentry_abi::socket::{MMSGHDR_LEN, MMSGHDR_MSG_LEN_OFFSET, MsgFlags, UIO_MAXIOV};

use crate::errno::{Errno, SysError, SysResult};
use crate::io::IoSrc;
use crate::mm::{UserAddr, UserIo};
use crate::socket::control::{self, Accepts, ControlMessage};
use crate::socket::inet::{extension, tag};
use crate::socket::{Destination, Family, SendRequest, Socket, SocketFile, SocketType, credentials_of};
use crate::syscall::Args;
use crate::syscall::net::wait::{Patience, without_port};
use crate::syscall::net::{address, message};
use crate::task::CurrentTask;
use crate::vfs::File;
use crate::wait::Readiness;

/// `sendto(fd, buffer, length, flags, address, length)`.
pub(crate) fn sys_sendto(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    SocketFile::of(&file)?;
    let io = task.user_io(args.addr(1), args.u64(2));
    let to = match args.addr(4) {
        addr if addr.is_null() => None,
        addr => Some(address::read(task, addr, args.i32(5))?),
    };
    send(task, &file, io, to.as_deref(), args.u32(3), Vec::new())
}

/// `sendmsg(fd, message, flags)`.
pub(crate) fn sys_sendmsg(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    SocketFile::of(&file)?;
    send_message(task, &file, args.addr(1), args.u32(2))
}

/// `sendmmsg(fd, messages, count, flags)`.
pub(crate) fn sys_sendmmsg(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    // Sending a datagram does not wait, so those of one call may wait for each other.
    match SocketFile::of(&file)?.family() {
        Family::Inet(inet) if inet.udp().is_some() => UdpSocket::batched(|| send_messages(task, &file, args)),
        _ => send_messages(task, &file, args),
    }
}

fn send_messages(task: &mut CurrentTask, file: &Arc<File>, args: &Args) -> SysResult {
    let count = args.u32(2).min(UIO_MAXIOV);
    for sent in 0..u64::from(count) {
        let at = args.addr(1).checked_add(sent * MMSGHDR_LEN)?;
        let result = send_message(task, file, at, args.u32(3)).and_then(|len| {
            // The length fits: one message moves at most 0x7ffff000 bytes.
            let len = (len & 0xffff_ffff) as u32;
            Ok(task.mm().write_obj(at.checked_add(MMSGHDR_MSG_LEN_OFFSET)?, &len)?)
        });
        match result {
            Ok(()) => {}
            // The error is lost: the next call will meet it again.
            Err(_) if sent > 0 => return Ok(sent),
            Err(e) => return Err(e),
        }
    }
    Ok(count.into())
}

fn send_message(task: &mut CurrentTask, file: &Arc<File>, addr: UserAddr, flags: u32) -> SysResult {
    let message = message::read(task, addr)?;
    let to = match message.name_len {
        0 => None,
        len => Some(address::read(task, message.name, len)?),
    };
    let control = match message.control_len {
        0 => Vec::new(),
        _ => {
            let bytes = message::read_control(task, &message)?;
            let socket = SocketFile::from_file(file)?;
            let accepts = match socket.socket().family() {
                Family::Unix(_) | Family::Netlink(_) => Accepts::Rights,
                Family::Inet(_) | Family::Packet(_) | Family::Host(_) => Accepts::OnlyBytes,
            };
            let control = control::decode(task, &bytes, accepts)?;
            extension::check_privilege(task, socket.namespace(), &control)?;
            if let Family::Inet(_) = socket.socket().family() {
                tag::check(task, socket.namespace(), socket.socket().base(), &control)?;
            }
            control
        }
    };
    send(task, file, message.io, to.as_deref(), flags, control)
}

fn send(
    task: &mut CurrentTask,
    file: &Arc<File>,
    mut io: UserIo,
    to: Option<&[u8]>,
    flags: u32,
    control: Vec<ControlMessage>,
) -> SysResult {
    let socket = SocketFile::of(file)?.clone();
    let flags = MsgFlags::from_bits_retain(flags);
    let to = destination(task, &socket, to)?;
    // sock_alloc_send_pskb: "err = sock_error(sk)"
    if let Some(error) = socket.base().take_late_error() {
        return Err(error.into());
    }
    let patience =
        Patience::new(task, file, socket.base().send_timeout(), flags.contains(MsgFlags::DONTWAIT));
    let is_stream = socket.base().kind == SocketType::Stream;
    let files = control.iter().map(|message| match message {
        ControlMessage::Rights(files) => files.len(),
        ControlMessage::Credentials(_) | ControlMessage::Process(_) | ControlMessage::Bytes { .. } => 0,
    });
    let in_flight = match files.sum() {
        0 => None,
        files => Some(task.kernel().files_in_flight.charge(task, files)?),
    };
    let by = matches!(socket.family(), Family::Netlink(_)).then(|| task.task().clone());
    let mut request = SendRequest { to, flags, control, sender: credentials_of(task), in_flight, task: by };
    let mut done = 0;
    loop {
        let result = patience
            .wait(task, file, Readiness::OUT, |_| without_port(&*socket, socket.try_send(&mut io, &request)));
        match result.and_then(|sent| Ok(sent?)) {
            Ok(n) => {
                // Data that went into a SYN: a blocking send leads the handshake to its end (tcp_sendmsg_fastopen).
                if patience.waits() && socket.is_connecting() {
                    patience.wait(task, file, Readiness::OUT, |_| socket.connect_result())?;
                }
                done += n as u64;
            }
            // What was sent counts; the error shows up in the next call.
            Err(_) if done > 0 => break,
            // MSG_FASTOPEN without a cookie: the data follows the handshake.
            Err(SysError::Errno(Errno::EINPROGRESS)) if patience.waits() => {
                patience.wait(task, file, Readiness::OUT, |_| socket.connect_result())?;
            }
            Err(SysError::Errno(Errno::EPIPE)) => {
                if is_stream && !flags.contains(MsgFlags::NOSIGNAL) {
                    task.raise(sentry_abi::signal::Signal::SIGPIPE);
                }
                return Err(Errno::EPIPE.into());
            }
            Err(e) => return Err(e),
        }
        // A blocking send on a stream returns when all is sent. Files travel with the first part only.
        if !is_stream || !patience.waits() || io.remaining() == 0 {
            break;
        }
        request.control.clear();
        request.in_flight = None;
        request.flags.remove(MsgFlags::FASTOPEN);
    }
    Ok(done)
}

/// Finds local sockets by their names; other addresses stay as they are.
fn destination<'a>(
    task: &mut CurrentTask,
    socket: &Arc<dyn Socket>,
    to: Option<&'a [u8]>,
) -> Result<Destination<'a>, Errno> {
    match (to, socket.family()) {
        (None, _) => Ok(Destination::Default),
        (Some(name), Family::Unix(unix)) if socket.base().kind == SocketType::Datagram => {
            unix.resolve(task, name).map(Destination::Socket)
        }
        (Some(address), _) => Ok(Destination::Address(address)),
    }
}
