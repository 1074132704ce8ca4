//! The host's system calls, each behind a safe function: slices in, `io::Result` out.

mod mapping;
mod poll;
mod xdp;

use std::ffi::{c_int, c_long};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub(crate) use mapping::Mapping;
pub(crate) use poll::{
    Keys, Patience, Trigger, epoll_add, epoll_create, epoll_remove, epoll_wait, poll, readable, set_timer,
    timerfd,
};
pub(crate) use xdp::{
    BpfMap, bind_xdp, bpf_attach_xdp, bpf_create_map, bpf_load_xdp, bpf_update_element, kick, xdp_offsets,
};

/// The system calls that open links, a [`Pump`](crate::Pump) and a [`Reader`](crate::Reader) make, for an allow-list.
/// Opening and dropping them needs more; memory and threads are the program's own business.
#[must_use]
pub fn host_syscalls() -> &'static [i64] {
    &[
        libc::SYS_recvmmsg,
        libc::SYS_sendmmsg,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_ctl,
        libc::SYS_timerfd_settime,
        libc::SYS_ppoll,
        libc::SYS_futex,
    ]
}

/// Turns `-1` into the error of the calling thread.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: impl TryInto<usize>) -> io::Result<usize> {
    result.try_into().map_err(|_| io::Error::last_os_error())
}

/// read(2), or a call with the same form.
///
/// Not through the C library's function of that name: those for calls that may block are points of cancellation, and allow
/// the thread to be cancelled and forbid it again with two atomic operations (pthreads(7)), a fiftieth of what a frame costs.
///
/// # Safety
/// `address` and `count` are what the call wants, and what they describe is live and, if the call writes to it, exclusive.
unsafe fn transfer<T>(
    number: c_long,
    fd: BorrowedFd<'_>,
    address: *const T,
    count: usize,
) -> io::Result<usize> {
    // SAFETY: the caller's; the descriptor is open.
    check_len(unsafe { libc::syscall(number, fd.as_raw_fd(), address, count) })
}

/// read(2).
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer stays valid and exclusive during the call, and is as long as said.
    unsafe { transfer(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) }
}

/// readv(2).
pub(crate) fn readv(fd: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    // SAFETY: IoSliceMut has the layout of iovec and borrows memory that stays valid and exclusive during the call.
    unsafe { transfer(libc::SYS_readv, fd, buffers.as_mut_ptr(), buffers.len()) }
}

/// writev(2).
pub(crate) fn writev(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: IoSlice has the layout of iovec and borrows memory that stays valid during the call.
    unsafe { transfer(libc::SYS_writev, fd, buffers.as_ptr(), buffers.len()) }
}

/// sendmmsg(2) without waiting: one message from each range of `buffers`, given by its end. Returns how many were sent.
pub(crate) fn sendmmsg(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>], ends: &[usize]) -> io::Result<usize> {
    let mut messages: smallvec::SmallVec<[libc::mmsghdr; MAX_BATCH]> = smallvec::SmallVec::new();
    let mut start = 0;
    for &end in ends.iter().take(MAX_BATCH) {
        let range = &buffers[start..end];
        // SAFETY: an all-zero mmsghdr is a valid value: no address, no buffers, no control data.
        let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
        message.msg_hdr.msg_iov = range.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_iovlen = range.len();
        messages.push(message);
        start = end;
    }
    // At most MAX_BATCH.
    let count = messages.len() as libc::c_uint;
    // SAFETY: each message names a live range of IoSlices, which have the layout of iovec and borrow live memory; the
    // kernel only reads them, and writes the lengths into `messages`.
    let sent = check(unsafe {
        libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _)
    })?;
    Ok(usize::try_from(sent).unwrap_or(0))
}

/// The most messages of one sendmmsg or recvmmsg.
pub(crate) const MAX_BATCH: usize = 64;

/// Waits until more can be sent, at most for `limit`. True if so.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut fds = [libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 }];
    matches!(poll(&mut fds, Some(limit)), Ok(1..))
}

/// eventfd(2), not blocking.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes integers and returns a new descriptor or -1.
    let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the descriptor was just returned to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// write(2).
pub(crate) fn write(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and as long as said.
    check_len(unsafe { libc::write(fd.as_raw_fd(), buffer.as_ptr().cast(), buffer.len()) })
}

/// socket(2), closed on exec.
pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket takes integers and returns a new descriptor or -1.
    let raw = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the descriptor was just returned to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// socketpair(2) of `SOCK_SEQPACKET` in the Unix domain, closed on exec and not blocking.
pub(crate) fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut raw = [-1; 2];
    // SAFETY: the array is live and has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, raw.as_mut_ptr()) })?;
    // SAFETY: both were just returned to us alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(raw[0]), OwnedFd::from_raw_fd(raw[1])) })
}

/// getsockopt(2) of some words.
pub(crate) fn get_words<const N: usize>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
) -> io::Result<[u32; N]> {
    let mut words = [0; N];
    let mut len = libc::socklen_t::try_from(size_of_val(&words)).unwrap_or(0);
    // SAFETY: value and length are live and exclusive, and the length is the value's.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, words.as_mut_ptr().cast(), &raw mut len) })?;
    Ok(words)
}

/// setsockopt(2) with a plain value.
///
/// `T` must be plain data without padding: it is read as bytes.
pub(crate) fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the pointer is to a live T and the length is its size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) })?;
    Ok(())
}

/// Binds a packet socket to an interface, for all protocols.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr_ll is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    // AF_PACKET is 17 and ETH_P_ALL is 3, so both fit.
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = c_int::try_from(ifindex).map_err(|_| io::ErrorKind::NotFound)?;
    let len = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the pointer is to a live sockaddr_ll and the length is its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// An interface request with that name; `None` if the name does not fit.
pub(crate) fn ifreq(name: &str) -> Option<libc::ifreq> {
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.bytes().any(|byte| byte == 0) {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Some(request)
}

/// An ioctl(2) of netdevice(7) or tun that takes an `ifreq`. `code` must be one of those.
pub(crate) fn ioctl_ifreq(
    fd: BorrowedFd<'_>,
    code: libc::Ioctl,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: the request is live and exclusive, and the caller's code is one that takes an ifreq.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), code, std::ptr::from_mut(request)) })?;
    Ok(())
}

/// An ioctl(2) that takes a number by value. `code` must be one of those.
pub(crate) fn ioctl_number(fd: BorrowedFd<'_>, code: libc::Ioctl, value: u32) -> io::Result<()> {
    // SAFETY: the caller's code takes a number, so no memory is touched.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), code, libc::c_ulong::from(value)) })?;
    Ok(())
}

/// Adds flags to the descriptor's status flags.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes a number.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// What the host tells about a received message besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes that were stored.
    pub(crate) len: usize,
    /// The frame did not fit; the rest is lost.
    pub(crate) is_truncated: bool,
    /// `sll_pkttype`, see packet(7).
    pub(crate) packet_type: u8,
    /// `tp_status` of the auxiliary data, if the socket delivers it, else zero.
    pub(crate) status: u32,
}

/// The results of one recvmmsg.
pub(crate) type ReceivedBatch = smallvec::SmallVec<[Received; MAX_BATCH]>;

/// Whether to ask for auxiliary data (`PACKET_AUXDATA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auxiliary {
    Wanted,
    Unwanted,
}

/// recvmmsg(2) on a packet socket, without waiting: each message goes to the next `pieces` buffers. Appends what
/// arrived to `received`.
pub(crate) fn recvmmsg_packet(
    fd: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
    pieces: usize,
    auxiliary: Auxiliary,
    received: &mut ReceivedBatch,
) -> io::Result<()> {
    let mut envelopes: smallvec::SmallVec<[Envelope; MAX_BATCH]> = smallvec::SmallVec::new();
    let mut messages: smallvec::SmallVec<[libc::mmsghdr; MAX_BATCH]> = smallvec::SmallVec::new();
    let count = (buffers.len() / pieces).min(MAX_BATCH);
    // SAFETY: an all-zero sockaddr_ll is a valid value.
    envelopes.extend((0..count).map(|_| Envelope { sender: unsafe { mem::zeroed() }, control: [0; 5] }));
    for (range, envelope) in buffers.chunks_exact_mut(pieces).zip(&mut envelopes) {
        // SAFETY: an all-zero mmsghdr is a valid value: no address, no buffers, no control data.
        let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
        let header = &mut message.msg_hdr;
        header.msg_iov = range.as_mut_ptr().cast();
        header.msg_iovlen = range.len();
        header.msg_name = std::ptr::from_mut(&mut envelope.sender).cast();
        header.msg_namelen = libc::socklen_t::try_from(size_of_val(&envelope.sender)).unwrap_or(0);
        if auxiliary == Auxiliary::Wanted {
            header.msg_control = envelope.control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&envelope.control);
        }
        messages.push(message);
    }
    // At most MAX_BATCH.
    let vlen = messages.len() as libc::c_uint;
    // SAFETY: each message names live, exclusive buffers (IoSliceMut has the layout of iovec), a sender address and
    // control room of the lengths said, all of which outlive the call; `envelopes` is not moved after it was named.
    let count = check(unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr(),
            vlen,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    })?;
    let count = usize::try_from(count).unwrap_or(0);
    for (message, envelope) in messages.iter().zip(&envelopes).take(count) {
        received.push(Received {
            // A frame is shorter than 4 GiB and usize has at least 32 bits here.
            len: message.msg_len as usize,
            is_truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            packet_type: envelope.sender.sll_pkttype,
            status: auxiliary_status(&message.msg_hdr),
        });
    }
    Ok(())
}

/// Where the host puts the sender and the control data of a message. The control data is aligned as `cmsghdr`, with
/// room for one `tpacket_auxdata`.
struct Envelope {
    sender: libc::sockaddr_ll,
    control: [u64; 5],
}

/// The status in the auxiliary data of a received message; zero without.
fn auxiliary_status(header: &libc::msghdr) -> u32 {
    // SAFETY: the host has filled the control room that the header names, and set its length.
    let control = unsafe { libc::CMSG_FIRSTHDR(header) };
    if control.is_null() {
        return 0;
    }
    // SAFETY: not null, so it points to a whole cmsghdr within the control room, aligned as the room is.
    let found = unsafe { &*control };
    let needed = size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    if (found.cmsg_level, found.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA)
        || found.cmsg_len < needed
    {
        return 0;
    }
    // SAFETY: the length says that a tpacket_auxdata follows the header; it is read without asking for alignment.
    unsafe { libc::CMSG_DATA(control).cast::<libc::tpacket_auxdata>().read_unaligned() }.tp_status
}

/// Tells whether the running kernel has at least that version (uname(2)).
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    // SAFETY: an all-zero utsname is a valid value.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: the structure is live and exclusive.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return false;
    }
    let release: Vec<u8> = names.release.iter().map(|byte| byte.cast_unsigned()).collect();
    let mut numbers = release
        .split(|byte| !byte.is_ascii_digit())
        .map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0u32);
    (next(), next()) >= (major, minor)
}
