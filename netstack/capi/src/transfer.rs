//! Sending and receiving.

use std::net::SocketAddr;

use libc::{c_int, size_t, sockaddr, socklen_t, ssize_t};
use netstack::options::{Datagram, RecvFlags, SendMeta};
use netstack::wait::Readiness;

use crate::address;
use crate::descriptor::{Kind, Patience, Socket};
use crate::errno::{Errno, answer_count};
use crate::frame::{bytes, bytes_mut};
use crate::socket::{lookup, patience};
use crate::stack::ns_stack;

/// Sends, as `send(2)`: `flags` may have `MSG_DONTWAIT` and `MSG_NOSIGNAL` (there never is a signal). Returns how many bytes were
/// queued; a stream may take fewer than given.
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
        if flags & !(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let patience = match flags & libc::MSG_DONTWAIT {
            0 => patience(handle, &socket, socket.settings.lock().send_timeout),
            _ => Patience::None,
        };
        let to = to.transpose()?;
        socket.wait(Readiness::OUT, patience, || try_send(&socket, data, to))
    };
    answer_count(send())
}

fn try_send(socket: &Socket, mut data: &[u8], to: Option<SocketAddr>) -> Result<usize, Errno> {
    let meta = SendMeta { to, ..SendMeta::default() };
    Ok(match &socket.kind {
        // As on Linux, a destination given for a stream is not looked at.
        Kind::Tcp(tcp) => tcp.try_send(&mut data)?,
        Kind::Udp(udp) => udp.try_send(&mut data, &meta)?,
        Kind::Raw(raw, _) => raw.try_send(&mut data, &meta)?,
        Kind::Ping(ping) => ping.try_send(&mut data, &meta)?,
    })
}

/// Receives, as `recv(2)`: `flags` may have `MSG_DONTWAIT`, `MSG_PEEK` and, for datagrams, `MSG_TRUNC` (the answer is the datagram's
/// full length). Zero is the end of a stream.
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
        if flags & !(libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_NOSIGNAL) != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let patience = match flags & libc::MSG_DONTWAIT {
            0 => patience(handle, &socket, socket.settings.lock().receive_timeout),
            _ => Patience::None,
        };
        let how = RecvFlags { peek: flags & libc::MSG_PEEK != 0 };
        let interest = Readiness::IN | Readiness::RDHUP;
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
