//! Sockets of the host, never waiting: socket(2) and what goes with it, over raw addresses and option values.
//!
//! Which families, options and requests may be used is the caller's policy; here only lengths and pointers are kept
//! right.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The longest address (`struct sockaddr_storage`).
pub const ADDRESS_MAX: usize = 128;

/// A socket of the host. It is always non-blocking.
#[derive(Debug)]
pub struct HostSocket(OwnedFd);

/// Bytes of an address, as many as `len` says.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    bytes: [u8; ADDRESS_MAX],
    len: usize,
}

impl Address {
    /// The bytes that the host filled in.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What `recvmsg(2)` said beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Bytes received; with `MSG_TRUNC` those that the message has.
    pub len: usize,
    /// `MSG_*`.
    pub flags: i32,
    /// The sender, empty on streams.
    pub from: Address,
    /// Bytes of control messages.
    pub control_len: usize,
}

impl HostSocket {
    /// `socket(2)` with `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
    ///
    /// # Errors
    /// As the system call.
    pub fn new(family: i32, kind: i32, protocol: i32) -> io::Result<Self> {
        let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket takes integers and returns a new descriptor or -1.
        owned(unsafe { libc::socket(family, kind, protocol) })
    }

    /// `bind(2)`.
    ///
    /// # Errors
    /// As the system call.
    pub fn bind(&self, address: &[u8]) -> io::Result<()> {
        // SAFETY: the kernel reads at most the given length of the live slice.
        check(unsafe { libc::bind(self.raw(), address.as_ptr().cast(), address_len(address)?) })
    }

    /// `connect(2)`.
    ///
    /// # Errors
    /// As the system call; `EINPROGRESS` where it goes on by itself.
    pub fn connect(&self, address: &[u8]) -> io::Result<()> {
        // SAFETY: the kernel reads at most the given length of the live slice.
        check(unsafe { libc::connect(self.raw(), address.as_ptr().cast(), address_len(address)?) })
    }

    /// `listen(2)`.
    ///
    /// # Errors
    /// As the system call.
    pub fn listen(&self, backlog: i32) -> io::Result<()> {
        // SAFETY: integers only.
        check(unsafe { libc::listen(self.raw(), backlog) })
    }

    /// `accept4(2)`.
    ///
    /// # Errors
    /// As the system call; `EAGAIN` when no connection waits.
    pub fn accept(&self) -> io::Result<(Self, Address)> {
        with_address(|address, len| {
            // SAFETY: `with_address` gives room for the address and its length.
            owned(unsafe {
                libc::accept4(self.raw(), address, len, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
            })
        })
    }

    /// `getsockname(2)`.
    ///
    /// # Errors
    /// As the system call.
    pub fn local_address(&self) -> io::Result<Address> {
        let ((), address) = with_address(|address, len| {
            // SAFETY: as in `accept`.
            check(unsafe { libc::getsockname(self.raw(), address, len) })
        })?;
        Ok(address)
    }

    /// `getpeername(2)`.
    ///
    /// # Errors
    /// As the system call.
    pub fn peer_address(&self) -> io::Result<Address> {
        let ((), address) = with_address(|address, len| {
            // SAFETY: as in `accept`.
            check(unsafe { libc::getpeername(self.raw(), address, len) })
        })?;
        Ok(address)
    }

    /// `sendmsg(2)` with `MSG_NOSIGNAL`; `control` is laid out as cmsg(3) says.
    ///
    /// # Errors
    /// As the system call.
    pub fn send(&self, data: &[u8], to: Option<&[u8]>, control: &[u8], flags: i32) -> io::Result<usize> {
        let mut vec = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        // SAFETY: an all-zero msghdr is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut vec;
        message.msg_iovlen = 1;
        if let Some(to) = to {
            message.msg_name = to.as_ptr().cast_mut().cast();
            message.msg_namelen = address_len(to)?;
        }
        if !control.is_empty() {
            message.msg_control = control.as_ptr().cast_mut().cast();
            message.msg_controllen = control.len();
        }
        // SAFETY: every pointer is to a live slice of the length beside it, which sendmsg only reads.
        let sent = unsafe { libc::sendmsg(self.raw(), &raw const message, flags | libc::MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// `recvmsg(2)`; control messages go to `control`.
    ///
    /// # Errors
    /// As the system call; `EAGAIN` when nothing is there.
    pub fn receive(&self, data: &mut [u8], control: &mut [u8], flags: i32) -> io::Result<Message> {
        let mut from = Address { bytes: [0; ADDRESS_MAX], len: 0 };
        let mut vec = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
        // SAFETY: an all-zero msghdr is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut vec;
        message.msg_iovlen = 1;
        message.msg_name = from.bytes.as_mut_ptr().cast();
        message.msg_namelen = ADDRESS_MAX as libc::socklen_t;
        if !control.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = control.len();
        }
        let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: every pointer is to a live, writable slice of the length beside it.
        let len = unsafe { libc::recvmsg(self.raw(), &raw mut message, flags) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        from.len = usize::try_from(message.msg_namelen).unwrap_or(0).min(ADDRESS_MAX);
        Ok(Message {
            len,
            flags: message.msg_flags,
            from,
            control_len: message.msg_controllen.min(control.len()),
        })
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// As the system call.
    pub fn shutdown(&self, how: i32) -> io::Result<()> {
        // SAFETY: integers only.
        check(unsafe { libc::shutdown(self.raw(), how) })
    }

    /// `setsockopt(2)`. The option must not be one whose value holds pointers.
    ///
    /// # Errors
    /// As the system call.
    pub fn set_option(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        let len = libc::socklen_t::try_from(value.len()).map_err(|_| invalid())?;
        // SAFETY: the kernel reads at most the given length of the live slice; a value with pointers in it (socket
        // filters) is excluded by contract and would only be read through.
        check(unsafe { libc::setsockopt(self.raw(), level, name, value.as_ptr().cast(), len) })
    }

    /// `getsockopt(2)`; returns how much of `value` is filled. The option must not be one whose value holds pointers.
    ///
    /// # Errors
    /// As the system call.
    pub fn option(&self, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
        let mut len = libc::socklen_t::try_from(value.len()).map_err(|_| invalid())?;
        // SAFETY: the kernel writes at most the given length to the live slice.
        check(unsafe { libc::getsockopt(self.raw(), level, name, value.as_mut_ptr().cast(), &raw mut len) })?;
        Ok(usize::try_from(len).unwrap_or(0).min(value.len()))
    }

    /// A request that yields one `int` (`FIONREAD`, `TIOCOUTQ`, `SIOCOUTQNSD`, `SIOCATMARK`).
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn int_request(&self, request: IntRequest) -> io::Result<i32> {
        let mut value: libc::c_int = 0;
        // SAFETY: each of the requests writes one int to the pointer.
        check(unsafe { libc::ioctl(self.raw(), request as libc::c_ulong, &raw mut value) })?;
        Ok(value)
    }

    /// A request of netdevice(7) that reads and fills a `struct ifreq` (40 bytes).
    ///
    /// # Errors
    /// As ioctl(2); `EINVAL` for a request that is not one to look at an interface.
    pub fn interface_request(&self, request: u32, ifreq: &mut [u8; IFREQ_LEN]) -> io::Result<()> {
        if !INTERFACE_REQUESTS.contains(&request) {
            return Err(invalid());
        }
        // SAFETY: the requests of the list read and write one struct ifreq, which has 40 bytes, and follow no
        // pointer in it.
        check(unsafe { libc::ioctl(self.raw(), libc::c_ulong::from(request), ifreq.as_mut_ptr()) })
    }

    /// The IPv4 addresses of all interfaces (`SIOCGIFCONF`): an array of `struct ifreq`.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn interfaces(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0u8; IFREQ_LEN * INTERFACES_MAX];
        let mut conf =
            IfConf { len: i32::try_from(buffer.len()).unwrap_or(0), pad: 0, buf: buffer.as_mut_ptr() };
        // SAFETY: SIOCGIFCONF reads a struct ifconf, whose pointer is to a live buffer of the length beside it.
        check(unsafe { libc::ioctl(self.raw(), libc::c_ulong::from(SIOCGIFCONF), &raw mut conf) })?;
        buffer.truncate(usize::try_from(conf.len).unwrap_or(0));
        Ok(buffer)
    }

    fn raw(&self) -> libc::c_int {
        self.0.as_raw_fd()
    }
}

impl AsFd for HostSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Requests of ioctl(2) that yield an `int`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum IntRequest {
    /// `FIONREAD`: bytes to read.
    Readable = 0x541b,
    /// `TIOCOUTQ`: bytes not acknowledged.
    Unacknowledged = 0x5411,
    /// `SIOCOUTQNSD`: bytes not sent.
    NotSent = 0x894b,
    /// `SIOCATMARK`: at the urgent mark.
    AtMark = 0x8905,
}

/// Size of `struct ifreq` on x86-64.
pub const IFREQ_LEN: usize = 40;

/// Most addresses that `SIOCGIFCONF` is asked for.
const INTERFACES_MAX: usize = 256;

/// `SIOCGIFCONF` (linux/sockios.h).
pub const SIOCGIFCONF: u32 = 0x8912;

/// Requests that look at an interface and have no pointer in their `struct ifreq` (linux/sockios.h): name, flags,
/// address, destination, broadcast, mask, metric, MTU, hardware address, index, queue length, map.
pub const INTERFACE_REQUESTS: [u32; 12] =
    [0x8910, 0x8913, 0x8915, 0x8917, 0x8919, 0x891b, 0x891d, 0x8921, 0x8927, 0x8933, 0x8942, 0x8970];

#[repr(C)]
struct IfConf {
    len: i32,
    pad: i32,
    buf: *mut u8,
}

fn with_address<T>(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> io::Result<T>,
) -> io::Result<(T, Address)> {
    let mut address = Address { bytes: [0; ADDRESS_MAX], len: 0 };
    let mut len = ADDRESS_MAX as libc::socklen_t;
    let result = call(address.bytes.as_mut_ptr().cast(), &raw mut len)?;
    address.len = usize::try_from(len).unwrap_or(0).min(ADDRESS_MAX);
    Ok((result, address))
}

fn address_len(address: &[u8]) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(address.len()).map_err(|_| invalid())
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn owned(raw: libc::c_int) -> io::Result<HostSocket> {
    check(raw)?;
    // SAFETY: the caller passes a descriptor that a system call just returned to us alone.
    Ok(HostSocket(unsafe { OwnedFd::from_raw_fd(raw) }))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct sockaddr_in` for a port of 127.0.0.1.
    fn loopback(port: u16) -> [u8; 16] {
        let mut address = [0; 16];
        // AF_INET is 2.
        address[0] = 2;
        address[2..4].copy_from_slice(&port.to_be_bytes());
        address[4..8].copy_from_slice(&[127, 0, 0, 1]);
        address
    }

    fn code<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
        result.unwrap_err().raw_os_error().unwrap()
    }

    #[test]
    fn nothing_waits() {
        let listener = HostSocket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        listener.bind(&loopback(0)).unwrap();
        listener.listen(1).unwrap();
        assert_eq!(code(listener.accept()), libc::EAGAIN);
        let socket = HostSocket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let address = listener.local_address().unwrap();
        assert_eq!(code(socket.connect(address.as_bytes())), libc::EINPROGRESS);
        let (accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.as_bytes(), socket.local_address().unwrap().as_bytes());
        assert_eq!(code(accepted.receive(&mut [0; 8], &mut [], 0)), libc::EAGAIN);
        assert_eq!(socket.send(b"hello", None, &[], 0).unwrap(), 5);
        assert_eq!(accepted.int_request(IntRequest::Readable).unwrap(), 5);
        let mut data = [0; 8];
        assert_eq!(accepted.receive(&mut data, &mut [], 0).unwrap().len, 5);
        assert_eq!(&data[..5], b"hello");
    }

    #[test]
    fn datagrams_come_with_their_sender_and_length() {
        let receiver = HostSocket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        receiver.bind(&loopback(0)).unwrap();
        let sender = HostSocket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        sender.bind(&loopback(0)).unwrap();
        sender.send(&[7; 10], Some(receiver.local_address().unwrap().as_bytes()), &[], 0).unwrap();
        let got = receiver.receive(&mut [0; 4], &mut [], libc::MSG_TRUNC).unwrap();
        assert_eq!((got.len, got.flags & libc::MSG_TRUNC), (10, libc::MSG_TRUNC));
        assert_eq!(got.from.as_bytes(), sender.local_address().unwrap().as_bytes());
    }

    #[test]
    fn interfaces_can_be_looked_at_and_not_changed() {
        let socket = HostSocket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        let mut ifreq = [0; IFREQ_LEN];
        ifreq[..2].copy_from_slice(b"lo");
        socket.interface_request(0x8913, &mut ifreq).unwrap();
        assert_eq!(ifreq[16] & 8, 8, "IFF_LOOPBACK");
        assert_eq!(code(socket.interface_request(0x8914, &mut ifreq)), libc::EINVAL);
        assert_eq!(socket.interfaces().unwrap().len() % IFREQ_LEN, 0);
    }
}
