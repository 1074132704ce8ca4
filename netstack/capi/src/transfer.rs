//! Sending and receiving.

use std::io::IoSlice;
use std::net::SocketAddr;

use libc::{c_int, size_t, sockaddr, socklen_t, ssize_t};
use netstack::TcpSocket;
use netstack::buffer::{Gather, Sink};
use netstack::options::{Datagram, QueuedError, RecvFlags, SendFlags, SendMeta};
use netstack::tcp::UrgentError;
use netstack::wait::Readiness;

use crate::address;
use crate::descriptor::{Kind, Patience, Socket};
use crate::errno::{Errno, answer_count};
use crate::error_queue;
use crate::frame::{bytes, bytes_mut};
use crate::packet;
use crate::socket::{lookup, packets, patience};
use crate::stack::ns_stack;

/// Sends, as `send(2)`: `flags` may have `MSG_DONTWAIT`, `MSG_NOSIGNAL` (there never is a signal) and, for streams, `MSG_MORE` and
/// `MSG_OOB`. Returns how many bytes were queued; a stream may take fewer than given.
///
/// # Safety
/// `stack` is a valid stack and `data` points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_send(
    stack: *const ns_stack,
    socket: c_int,
    data: *const u8,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as required of the caller.
    unsafe { ns_sendto(stack, socket, data, len, flags, std::ptr::null(), 0) }
}

/// Sends to an address, as `sendto(2)`; `address` may be null. Flags as for `ns_send`.
///
/// # Safety
/// `stack` is a valid stack, `data` points to `len` readable bytes, `address` is null or points to `address_len` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_sendto(
    stack: *const ns_stack,
    socket: c_int,
    data: *const u8,
    len: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_len: socklen_t,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let (found, data) = unsafe { (lookup(stack, socket), bytes(data, len)) };
    if let Err(Errno(libc::EOPNOTSUPP)) = &found
        // SAFETY: as required of the caller.
        && let Some((_, packets)) = unsafe { packets(stack, socket) }
    {
        // SAFETY: as required of the caller.
        let to = if address.is_null() { None } else { Some(unsafe { packet::read(address, address_len) }) };
        let send = || packets.send(&mut data?, to.transpose()?, flags);
        return answer_count(send());
    }
    // SAFETY: as required of the caller.
    let to = if address.is_null() { None } else { Some(unsafe { address::read(address, address_len) }) };
    let send = || {
        let ((handle, socket), data) = (found?, data?);
        let meta = SendMeta { to: to.transpose()?, ..SendMeta::default() };
        send(handle, &socket, &[IoSlice::new(data)], &meta, flags)
    };
    answer_count(send())
}

/// Sends the slices as one message, waiting as the socket and the flags say.
pub(crate) fn send(
    handle: &ns_stack,
    socket: &Socket,
    data: &[IoSlice<'_>],
    meta: &SendMeta,
    flags: c_int,
) -> Result<usize, Errno> {
    let how = send_flags(socket, flags)?;
    let patience = match flags & libc::MSG_DONTWAIT {
        0 => patience(handle, socket, socket.settings.lock().send_timeout),
        _ => Patience::None,
    };
    socket.wait(Readiness::OUT, patience, || {
        let data = &mut Gather::new(data);
        Ok(match &socket.kind {
            // As on Linux, a destination given for a stream is not looked at.
            Kind::Tcp(tcp) => tcp.send_as(data, how)?,
            Kind::Udp(udp) => udp.try_send(data, meta)?,
            Kind::Raw(raw, _) => raw.try_send(data, meta)?,
            Kind::Ping(ping) => ping.try_send(data, meta)?,
        })
    })
}

/// What the flags mean for a stream; datagrams know neither of the two.
fn send_flags(socket: &Socket, flags: c_int) -> Result<SendFlags, Errno> {
    let mut known = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    if socket.tcp().is_some() {
        known |= libc::MSG_MORE | libc::MSG_OOB;
    }
    if flags & !known != 0 {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    Ok(SendFlags { more: flags & libc::MSG_MORE != 0, urgent: flags & libc::MSG_OOB != 0, stamp: None })
}

/// Receives, as `recv(2)`: `flags` may have `MSG_DONTWAIT`, `MSG_PEEK`, `MSG_ERRQUEUE` (what an error of `IP_RECVERR` quotes of the
/// datagram that caused it; never waits); for datagrams `MSG_TRUNC` (the answer is the datagram's full length); for streams `MSG_OOB` (the urgent byte) and `MSG_WAITALL` (all of `len`, unless the stream or the time ends
/// first). Zero is the end of a stream.
///
/// # Safety
/// `stack` is a valid stack and `buffer` points to `len` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_recv(
    stack: *const ns_stack,
    socket: c_int,
    buffer: *mut u8,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    let nowhere = std::ptr::null_mut();
    // SAFETY: as required of the caller.
    unsafe { ns_recvfrom(stack, socket, buffer, len, flags, nowhere, std::ptr::null_mut()) }
}

/// Receives and writes the sender's address to `address` unless that is null, as `recvfrom(2)`. Flags as for `ns_recv`.
///
/// # Safety
/// `stack` is a valid stack, `buffer` points to `len` writable bytes; `address` is null, or `address_len` points to its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_recvfrom(
    stack: *const ns_stack,
    socket: c_int,
    buffer: *mut u8,
    len: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let (found, buffer) = unsafe { (lookup(stack, socket), bytes_mut(buffer, len)) };
    if let Err(Errno(libc::EOPNOTSUPP)) = &found
        // SAFETY: as required of the caller.
        && let Some((handle, packets)) = unsafe { packets(stack, socket) }
    {
        let receive = || {
            let frame = packets.receive(handle.is_manual, &mut buffer?, flags)?;
            // SAFETY: as required of the caller.
            unsafe { packet::write(frame.from, address, address_len) }?;
            Ok(packet::count(&frame, flags))
        };
        return answer_count(receive());
    }
    let receive = || {
        let ((handle, socket), mut buffer) = (found?, buffer?);
        let outcome = receive(handle, &socket, &mut buffer, flags)?;
        if let Some(from) = outcome.from() {
            // SAFETY: as required of the caller.
            unsafe { address::write(from, address, address_len) }?;
        }
        Ok(outcome.count(flags))
    };
    answer_count(receive())
}

/// Receives one message, or what a stream has, waiting as the socket and the flags say.
pub(crate) fn receive(
    handle: &ns_stack,
    socket: &Socket,
    out: &mut dyn Sink,
    flags: c_int,
) -> Result<Outcome, Errno> {
    let mut known =
        libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_NOSIGNAL | libc::MSG_ERRQUEUE;
    if socket.tcp().is_some() {
        known |= libc::MSG_OOB | libc::MSG_WAITALL;
    }
    if flags & !known != 0 {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    if flags & libc::MSG_ERRQUEUE != 0 {
        return error_queue::take(socket, out);
    }
    let patience = match flags & libc::MSG_DONTWAIT {
        0 => patience(handle, socket, socket.settings.lock().receive_timeout),
        _ => Patience::None,
    };
    let how = RecvFlags { peek: flags & libc::MSG_PEEK != 0, ..RecvFlags::default() };
    if let (Some(tcp), true) = (socket.tcp(), flags & libc::MSG_OOB != 0) {
        return urgent_byte(tcp, out, how);
    }
    if flags & (libc::MSG_WAITALL | libc::MSG_PEEK) == libc::MSG_WAITALL {
        return all(socket, out, patience);
    }
    socket.wait(ARRIVAL, patience, || try_recv(socket, out, how))
}

/// The urgent byte never waits, as on Linux.
fn urgent_byte(tcp: &TcpSocket, out: &mut dyn Sink, how: RecvFlags) -> Result<Outcome, Errno> {
    let byte = match tcp.try_recv_urgent(how) {
        Ok(byte) => byte,
        Err(UrgentError::Nothing) => return Err(Errno(libc::EINVAL)),
        Err(UrgentError::NotConnected) => return Err(Errno(libc::ENOTCONN)),
        Err(UrgentError::WouldBlock) => return Err(Errno(libc::EAGAIN)),
        Err(UrgentError::EndOfStream) => return Ok(Outcome::Urgent(0)),
    };
    copy_some(&[byte], out).map(Outcome::Urgent)
}

/// Receives until there is no more room. What has come before an error or the end of the patience is the answer.
fn all(socket: &Socket, out: &mut dyn Sink, patience: Patience) -> Result<Outcome, Errno> {
    let mut filled = 0;
    while out.room() > 0 {
        match socket.wait(ARRIVAL, patience, || try_recv(socket, out, RecvFlags::default())) {
            Ok(Outcome::Stream(count)) if count > 0 => filled += count,
            Err(error) if filled == 0 => return Err(error),
            Ok(_) | Err(_) => break,
        }
    }
    Ok(Outcome::Stream(filled))
}

/// Copies what fits.
pub(crate) fn copy_some(data: &[u8], out: &mut dyn Sink) -> Result<usize, Errno> {
    let count = data.len().min(out.room());
    out.write_from(&data[..count]).map_err(|_| Errno(libc::EFAULT))?;
    Ok(count)
}

/// What came.
pub(crate) enum Outcome {
    Stream(usize),
    Urgent(usize),
    Datagram(Datagram),
    Error { copied: usize, error: QueuedError },
}

impl Outcome {
    /// What a call returns.
    pub(crate) fn count(&self, flags: c_int) -> usize {
        match self {
            Self::Stream(count) | Self::Urgent(count) => *count,
            Self::Datagram(datagram) if flags & libc::MSG_TRUNC != 0 => datagram.len,
            Self::Datagram(datagram) => datagram.copied,
            Self::Error { copied, .. } => *copied,
        }
    }

    /// The address that goes with it: the sender of a datagram, the destination of one that failed.
    pub(crate) fn from(&self) -> Option<SocketAddr> {
        match self {
            Self::Stream(_) | Self::Urgent(_) => None,
            Self::Datagram(datagram) => Some(datagram.from),
            Self::Error { error, .. } => Some(error.destination),
        }
    }
}

fn try_recv(socket: &Socket, out: &mut dyn Sink, flags: RecvFlags) -> Result<Outcome, Errno> {
    Ok(match &socket.kind {
        Kind::Tcp(tcp) => Outcome::Stream(tcp.try_recv(out, flags)?),
        Kind::Udp(udp) => Outcome::Datagram(udp.try_recv(out, flags)?),
        Kind::Raw(raw, _) => Outcome::Datagram(raw.try_recv(out, flags)?),
        Kind::Ping(ping) => Outcome::Datagram(ping.try_recv(out, flags)?),
    })
}

const ARRIVAL: Readiness = Readiness::IN.union(Readiness::RDHUP);
