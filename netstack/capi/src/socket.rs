//! Making, naming, connecting and closing sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::{c_int, sockaddr, socklen_t};
use netstack::options::{Family, Shutdown};
use netstack::tcp::State;
use netstack::wait::{Readiness, block_until};
use netstack::{PingSocket, RawSocket, TcpSocket, UdpSocket};

use crate::address;
use crate::descriptor::{Entry, Kind, Patience, Socket, each};
use crate::errno::{Errno, answer};
use crate::packet::{self, Packets};
use crate::stack::ns_stack;

/// Makes a socket, as `socket(2)`: `AF_INET` or `AF_INET6`; `SOCK_STREAM`, `SOCK_DGRAM` (UDP, or echo requests with
/// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`) or `SOCK_RAW`, with `SOCK_NONBLOCK` or not. `AF_PACKET`, with `SOCK_RAW` or `SOCK_DGRAM` and
/// a protocol in network order, sends and receives frames; it has no rings. Returns its number.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_socket(
    stack: *const ns_stack,
    domain: c_int,
    kind: c_int,
    protocol: c_int,
) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        let flags = kind & (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
        if domain == libc::AF_PACKET {
            let packets = Packets::new(&handle.stack, kind & !flags, protocol)?;
            packets.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
            return handle.sockets.insert(Entry::Packet(packets.into()));
        }
        let socket = Socket::new(make(handle, domain, kind & !flags, protocol)?);
        socket.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
        handle.sockets.insert_socket(socket)
    }))
}

fn make(handle: &ns_stack, domain: c_int, kind: c_int, protocol: c_int) -> Result<Kind, Errno> {
    let stack = &handle.stack;
    let family = match domain {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(Errno(libc::EAFNOSUPPORT)),
    };
    let echo = if family == Family::V4 { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
    match (kind, protocol) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => Ok(Kind::Tcp(TcpSocket::new(stack, family))),
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Ok(Kind::Udp(UdpSocket::new(stack, family))),
        (libc::SOCK_DGRAM, protocol) if protocol == echo => Ok(Kind::Ping(PingSocket::new(stack, family))),
        (libc::SOCK_RAW, 1..=255) => {
            let protocol = u8::try_from(protocol).map_err(|_| Errno(libc::EINVAL))?;
            Ok(Kind::Raw(RawSocket::new(stack, family, protocol), protocol))
        }
        (libc::SOCK_STREAM | libc::SOCK_DGRAM | libc::SOCK_RAW, _) => Err(Errno(libc::EPROTONOSUPPORT)),
        _ => Err(Errno(libc::ESOCKTNOSUPPORT)),
    }
}

/// The stack and the socket behind a number.
///
/// # Safety
/// As for [`ns_stack::from_raw`].
pub(crate) unsafe fn lookup<'a>(
    stack: *const ns_stack,
    socket: c_int,
) -> Result<(&'a ns_stack, Arc<Socket>), Errno> {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) }?;
    Ok((handle, handle.sockets.socket(socket)?))
}

/// The stack and the packet socket behind a number, if it is one.
///
/// # Safety
/// As for [`ns_stack::from_raw`].
pub(crate) unsafe fn packets<'a>(
    stack: *const ns_stack,
    socket: c_int,
) -> Option<(&'a ns_stack, Arc<Packets>)> {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) }.ok()?;
    Some((handle, handle.sockets.packet(socket)?))
}

/// How long a call on a socket may wait.
pub(crate) fn patience(handle: &ns_stack, socket: &Socket, timeout: Option<Duration>) -> Patience {
    if handle.is_manual || socket.is_nonblocking() { Patience::None } else { Patience::Limited(timeout) }
}

/// Gives a socket a local address, as `bind(2)`.
///
/// # Safety
/// `stack` is a valid stack and `address` points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_bind(
    stack: *const ns_stack,
    socket: c_int,
    address: *const sockaddr,
    len: socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    if let Some((_, packets)) = unsafe { packets(stack, socket) } {
        // SAFETY: as required of the caller.
        let address = unsafe { packet::read(address, len) };
        return answer(address.and_then(|address| packets.bind(address).map(|()| 0)));
    }
    // SAFETY: as required of the caller.
    let (found, address) = unsafe { (lookup(stack, socket), address::read(address, len)) };
    let bind = || {
        let ((_, socket), address) = (found?, address?);
        each!(&socket.kind, socket => socket.bind(address))?;
        Ok(0)
    };
    answer(bind())
}

/// Starts to listen, or changes the backlog, as `listen(2)`.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_listen(stack: *const ns_stack, socket: c_int, backlog: c_int) -> c_int {
    // SAFETY: as required of the caller.
    let found = unsafe { lookup(stack, socket) };
    answer(found.and_then(|(_, socket)| {
        let tcp = socket.tcp().ok_or(Errno(libc::EOPNOTSUPP))?;
        // A negative backlog is the largest, as on Linux.
        tcp.listen(u32::try_from(backlog).unwrap_or(MAX_BACKLOG).min(MAX_BACKLOG))?;
        Ok(0)
    }))
}

/// Linux's default for `net.core.somaxconn`.
const MAX_BACKLOG: u32 = 4096;

/// Takes an established connection, waiting for one, as `accept4(2)`: `flags` is 0 or `SOCK_NONBLOCK`. The peer's address
/// goes to `address`, unless that is null. Returns the new socket's number.
///
/// # Safety
/// `stack` is a valid stack; `address` is null, or `len` points to its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_accept(
    stack: *const ns_stack,
    socket: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: as required of the caller.
    let found = unsafe { lookup(stack, socket) };
    answer(found.and_then(|(handle, socket)| {
        if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let tcp = socket.tcp().ok_or(Errno(libc::EOPNOTSUPP))?;
        let patience = patience(handle, &socket, socket.settings.lock().receive_timeout);
        let (accepted, peer) = socket.wait(Readiness::IN, patience, || Ok(tcp.try_accept()?))?;
        let accepted = Socket::new(Kind::Tcp(accepted));
        accepted.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
        *accepted.settings.lock() = *socket.settings.lock();
        // SAFETY: as required of the caller.
        unsafe { address::write(peer, address, len) }?;
        handle.sockets.insert_socket(accepted)
    }))
}

/// Connects a socket, as `connect(2)`. A stream waits for the handshake; without waiting the answer is `-EINPROGRESS`, and
/// `ns_poll` and `SO_ERROR` tell the outcome. A datagram socket gets a default destination, or loses it with `AF_UNSPEC`.
///
/// # Safety
/// `stack` is a valid stack and `address` points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_connect(
    stack: *const ns_stack,
    socket: c_int,
    address: *const sockaddr,
    len: socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let found = unsafe { lookup(stack, socket) };
    answer(found.and_then(|(handle, socket)| {
        // SAFETY: as required of the caller.
        let address = unsafe { address::read(address, len) };
        match (&socket.kind, address) {
            (Kind::Tcp(tcp), address) => connect_stream(handle, &socket, tcp, address?)?,
            // What is not an Internet address means "none", as on Linux.
            (Kind::Udp(udp), Err(Errno(libc::EAFNOSUPPORT))) => udp.disconnect(),
            (Kind::Raw(raw, _), Err(Errno(libc::EAFNOSUPPORT))) => raw.disconnect(),
            (Kind::Ping(ping), Err(Errno(libc::EAFNOSUPPORT))) => ping.disconnect(),
            (Kind::Udp(udp), address) => udp.connect(address?)?,
            (Kind::Raw(raw, _), address) => raw.connect(address?)?,
            (Kind::Ping(ping), address) => ping.connect(address?)?,
        }
        Ok(0)
    }))
}

fn connect_stream(
    handle: &ns_stack,
    socket: &Socket,
    tcp: &TcpSocket,
    address: SocketAddr,
) -> Result<(), Errno> {
    tcp.connect(address)?;
    if tcp.waits_for_data() {
        // TCP_FASTOPEN_CONNECT: the first data leads the handshake.
        return Ok(());
    }
    let patience = patience(handle, socket, socket.settings.lock().send_timeout);
    let ended = socket.wait(Readiness::OUT, patience, || match tcp.state() {
        State::SynSent | State::SynReceived => Err(Errno(libc::EAGAIN)),
        State::Closed => Err(tcp.take_error().map_or(Errno(libc::ECONNABORTED), Errno::from)),
        _ => Ok(()),
    });
    ended.map_err(|error| if error == Errno(libc::EAGAIN) { Errno(libc::EINPROGRESS) } else { error })
}

/// Writes a socket's local address, as `getsockname(2)`.
///
/// # Safety
/// `stack` is a valid stack, `len` points to the size of `address`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_getsockname(
    stack: *const ns_stack,
    socket: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    if let Some((_, packets)) = unsafe { packets(stack, socket) } {
        // SAFETY: as required of the caller.
        return answer(unsafe { packet::write(packets.socket.local(), address, len) }.map(|()| 0));
    }
    // SAFETY: as required of the caller.
    let found = unsafe { lookup(stack, socket) };
    answer(found.and_then(|(_, socket)| {
        let local = each!(&socket.kind, socket => socket.local_addr());
        // SAFETY: as required of the caller.
        unsafe { address::write(local, address, len) }.map(|()| 0)
    }))
}

/// Writes the address of a socket's peer, as `getpeername(2)`.
///
/// # Safety
/// `stack` is a valid stack, `len` points to the size of `address`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_getpeername(
    stack: *const ns_stack,
    socket: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let found = unsafe { lookup(stack, socket) };
    answer(found.and_then(|(_, socket)| {
        let peer = each!(&socket.kind, socket => socket.peer_addr()).ok_or(Errno(libc::ENOTCONN))?;
        // SAFETY: as required of the caller.
        unsafe { address::write(peer, address, len) }.map(|()| 0)
    }))
}

/// Ends one direction (`SHUT_RD`, `SHUT_WR`) or both (`SHUT_RDWR`), as `shutdown(2)`.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_shutdown(stack: *const ns_stack, socket: c_int, how: c_int) -> c_int {
    // SAFETY: as required of the caller.
    let found = unsafe { lookup(stack, socket) };
    answer(found.and_then(|(_, socket)| {
        let how = match how {
            libc::SHUT_RD => Shutdown::Read,
            libc::SHUT_WR => Shutdown::Write,
            libc::SHUT_RDWR => Shutdown::Both,
            _ => return Err(Errno(libc::EINVAL)),
        };
        match &socket.kind {
            Kind::Tcp(tcp) => tcp.shutdown(how)?,
            Kind::Udp(udp) => udp.shutdown(how)?,
            Kind::Raw(raw, _) => raw.shutdown(how)?,
            Kind::Ping(ping) => ping.shutdown(how)?,
        }
        Ok(0)
    }))
}

/// Closes a socket, as `close(2)`: what was written is delivered in the background, and waited for if `SO_LINGER` says
/// so; with a linger time of zero the connection is reset. Calls of other threads on the socket still end as they would.
/// Closing a forwarder makes its interface that of an ordinary host again; closing a request ignores what it asks for.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_close(stack: *const ns_stack, socket: c_int) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        // A forwarder ends; a request is ignored.
        let Entry::Socket(socket) = handle.sockets.remove(socket)? else { return Ok(0) };
        let linger = socket.settings.lock().linger;
        if let (Kind::Tcp(tcp), Some(linger)) = (&socket.kind, linger) {
            if linger.is_zero() {
                tcp.abort();
            } else {
                tcp.close();
                await_delivery(handle, tcp, linger);
            }
        }
        Ok(0)
    }))
}

fn await_delivery(handle: &ns_stack, tcp: &TcpSocket, limit: Duration) {
    if !handle.is_manual {
        let end = Instant::now().checked_add(limit);
        let interest = Readiness::OUT | Readiness::HUP;
        // Linux's answer is success, too, when the time is over first.
        let _ = block_until(tcp.wait_queue(), interest, end, || (tcp.send_queue_len() == 0).then_some(()));
    }
}

/// Whether calls on a socket or forwarder wait (0) or answer `-EAGAIN` (anything else).
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_set_nonblocking(
    stack: *const ns_stack,
    socket: c_int,
    is_nonblocking: c_int,
) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    let on = is_nonblocking != 0;
    answer(handle.and_then(|handle| {
        handle.sockets.look(socket, |entry| match entry {
            Entry::Socket(socket) => {
                socket.set_nonblocking(on);
                Ok(0)
            }
            Entry::Packet(packets) => {
                packets.set_nonblocking(on);
                Ok(0)
            }
            Entry::Forwarder(forwarder) => {
                forwarder.set_nonblocking(on);
                Ok(0)
            }
            Entry::Request(_) => Err(Errno(libc::ENOTSOCK)),
        })
    }))
}
