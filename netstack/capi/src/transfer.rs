//! Sending and receiving.

use std::net::SocketAddr;

use libc::{c_int, size_t, sockaddr, socklen_t, ssize_t};
use netstack::TcpSocket;
use netstack::options::{Datagram, RecvFlags, SendFlags, SendMeta};
use netstack::tcp::UrgentError;
use netstack::wait::Readiness;

use crate::address;
use crate::descriptor::{Kind, Patience, Socket};
use crate::errno::{Errno, answer_count};
use crate::frame::{bytes, bytes_mut};
use crate::socket::{lookup, patience};
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
    // SAFETY: as required of the caller.
    let to = if address.is_null() { None } else { Some(unsafe { address::read(address, address_len) }) };
    let send = || {
        let ((handle, socket), data) = (found?, data?);
        let how = send_flags(&socket, flags)?;
        let patience = match flags & libc::MSG_DONTWAIT {
            0 => patience(handle, &socket, socket.settings.lock().send_timeout),
            _ => Patience::None,
        };
        let to = to.transpose()?;
        socket.wait(Readiness::OUT, patience, || try_send(&socket, data, to, how))
    };
    answer_count(send())
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
    Ok(SendFlags { more: flags & libc::MSG_MORE != 0, urgent: flags & libc::MSG_OOB != 0 })
}

fn try_send(
    socket: &Socket,
    mut data: &[u8],
    to: Option<SocketAddr>,
    how: SendFlags,
) -> Result<usize, Errno> {
    let meta = SendMeta { to, ..SendMeta::default() };
    Ok(match &socket.kind {
        // As on Linux, a destination given for a stream is not looked at.
        Kind::Tcp(tcp) => tcp.send_as(&mut data, how)?,
        Kind::Udp(udp) => udp.try_send(&mut data, &meta)?,
        Kind::Raw(raw, _) => raw.try_send(&mut data, &meta)?,
        Kind::Ping(ping) => ping.try_send(&mut data, &meta)?,
    })
}

/// Receives, as `recv(2)`: `flags` may have `MSG_DONTWAIT`, `MSG_PEEK`; for datagrams `MSG_TRUNC` (the answer is the datagram's
/// full length); for streams `MSG_OOB` (the urgent byte) and `MSG_WAITALL` (all of `len`, unless the stream or the time ends
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
    let receive = || {
        let ((handle, socket), buffer) = (found?, buffer?);
        let mut known = libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_NOSIGNAL;
        if socket.tcp().is_some() {
            known |= libc::MSG_OOB | libc::MSG_WAITALL;
        }
        if flags & !known != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let patience = match flags & libc::MSG_DONTWAIT {
            0 => patience(handle, &socket, socket.settings.lock().receive_timeout),
            _ => Patience::None,
        };
        let how = RecvFlags { peek: flags & libc::MSG_PEEK != 0 };
        if let (Some(tcp), true) = (socket.tcp(), flags & libc::MSG_OOB != 0) {
            return urgent_byte(tcp, buffer, how);
        }
        let interest = Readiness::IN | Readiness::RDHUP;
        if flags & (libc::MSG_WAITALL | libc::MSG_PEEK) == libc::MSG_WAITALL {
            return all(&socket, buffer, patience);
        }
        let received = socket.wait(interest, patience, || try_recv(&socket, buffer, how))?;
        match received {
            Received::Stream(count) => Ok(count),
            Received::Datagram(datagram) => {
                // SAFETY: as required of the caller.
                unsafe { address::write(datagram.from, address, address_len) }?;
                Ok(if flags & libc::MSG_TRUNC != 0 { datagram.len } else { datagram.copied })
            }
        }
    };
    answer_count(receive())
}

/// The urgent byte never waits, as on Linux.
fn urgent_byte(tcp: &TcpSocket, buffer: &mut [u8], how: RecvFlags) -> Result<usize, Errno> {
    let byte = match tcp.try_recv_urgent(how) {
        Ok(byte) => byte,
        Err(UrgentError::Nothing) => return Err(Errno(libc::EINVAL)),
        Err(UrgentError::NotConnected) => return Err(Errno(libc::ENOTCONN)),
        Err(UrgentError::WouldBlock) => return Err(Errno(libc::EAGAIN)),
        Err(UrgentError::EndOfStream) => return Ok(0),
    };
    Ok(buffer.first_mut().map_or(0, |first| {
        *first = byte;
        1
    }))
}

/// Receives until the buffer is full. What has come before an error or the end of the patience is the answer.
fn all(socket: &Socket, buffer: &mut [u8], patience: Patience) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        let interest = Readiness::IN | Readiness::RDHUP;
        let rest = &mut buffer[filled..];
        match socket.wait(interest, patience, || try_recv(socket, rest, RecvFlags::default())) {
            Ok(Received::Stream(0) | Received::Datagram(_)) => break,
            Ok(Received::Stream(count)) => filled += count,
            Err(_) if filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What came.
enum Received {
    Stream(usize),
    Datagram(Datagram),
}

fn try_recv(socket: &Socket, mut buffer: &mut [u8], flags: RecvFlags) -> Result<Received, Errno> {
    Ok(match &socket.kind {
        Kind::Tcp(tcp) => Received::Stream(tcp.try_recv(&mut buffer, flags)?),
        Kind::Udp(udp) => Received::Datagram(udp.try_recv(&mut buffer, flags)?),
        Kind::Raw(raw, _) => Received::Datagram(raw.try_recv(&mut buffer, flags)?),
        Kind::Ping(ping) => Received::Datagram(ping.try_recv(&mut buffer, flags)?),
    })
}
