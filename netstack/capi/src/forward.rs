//! Forwarders: the program decides about what no socket wants, whatever address it is for.

use std::mem::size_of;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_uint, size_t, sockaddr, sockaddr_storage, socklen_t, ssize_t};
use netstack::buffer::Sink;
use netstack::forward::{ForwardError, ForwardOptions, Forwarded, Forwarder, Request, Unreachable};
use netstack::packet::Body;
use netstack::wait::{Readiness, WaitQueue};

use crate::address;
use crate::descriptor::{Entry, Kind, Patience, Socket, wait};
use crate::errno::{Errno, answer, answer_count};
use crate::frame::{bytes, bytes_mut, nic_of};
use crate::stack::ns_stack;
use crate::transfer::copy_some;

/// Somebody opens a TCP connection.
pub const NS_FORWARD_TCP: c_uint = 1;
/// Somebody sent a UDP datagram.
pub const NS_FORWARD_UDP: c_uint = 2;
/// Somebody sent an echo request (ping) to an address that the stack does not have.
pub const NS_FORWARD_ECHO: c_uint = 4;

/// What somebody wants from somebody else.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ns_request {
    /// `NS_FORWARD_TCP`, `NS_FORWARD_UDP` or `NS_FORWARD_ECHO`.
    pub kind: c_uint,
    /// Who asks.
    pub from: sockaddr_storage,
    /// Whom it is meant for. Echo requests have no ports.
    pub to: sockaddr_storage,
    /// How many bytes of data there are, for `ns_request_data`; zero for TCP.
    pub len: size_t,
    /// The time to live or hop limit that it arrived with; zero for TCP.
    pub ttl: u8,
    /// The identifier of an echo request.
    pub ident: u16,
    /// The sequence number of an echo request.
    pub sequence: u16,
}

/// A forwarder by number.
pub(crate) struct Catcher {
    forwarder: Forwarder,
    is_nonblocking: AtomicBool,
}

impl Catcher {
    pub(crate) fn set_nonblocking(&self, is_nonblocking: bool) {
        // Relaxed: it concerns later calls only.
        self.is_nonblocking.store(is_nonblocking, Ordering::Relaxed);
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.forwarder.readiness()
    }

    pub(crate) fn wait_queue(&self) -> &WaitQueue {
        self.forwarder.wait_queue()
    }

    fn next(&self, handle: &ns_stack) -> Result<Request, Errno> {
        let patience = match handle.is_manual || self.is_nonblocking.load(Ordering::Relaxed) {
            true => Patience::None,
            false => Patience::Limited(None),
        };
        wait(self.wait_queue(), Readiness::IN, patience, || self.forwarder.next().ok_or(Errno(libc::EAGAIN)))
    }
}

/// Takes what no socket wants from an interface, for any unicast destination, and lets the program decide about each flow.
///
/// `kinds` says what about (`NS_FORWARD_TCP` and so on, added up). At most `max_pending` requests wait; zero is 1024. What comes
/// beyond that is dropped: whoever it came from sends it again. Returns the forwarder's number, for `ns_forwarder_next`, `ns_poll`,
/// `ns_set_nonblocking` and `ns_close`; `-EEXIST` if the interface has a forwarder, `-EINVAL` for unknown kinds or none.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_forwarder_new(
    stack: *const ns_stack,
    nic: c_uint,
    kinds: c_uint,
    max_pending: size_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        let nic = nic_of(handle, nic)?;
        let kinds = u8::try_from(kinds).ok().and_then(Forwarded::from_bits);
        let kinds = kinds.filter(|kinds| !kinds.is_empty()).ok_or(Errno(libc::EINVAL))?;
        let defaults = ForwardOptions::default();
        let max_pending = if max_pending == 0 { defaults.max_pending } else { max_pending };
        let forwarder = Forwarder::new(&handle.stack, nic, ForwardOptions { kinds, max_pending })?;
        let catcher = Catcher { forwarder, is_nonblocking: AtomicBool::new(false) };
        handle.sockets.insert(Entry::Forwarder(catcher.into()))
    }))
}

/// Takes a forwarder's oldest request, waiting for one, and describes it in `out`. Returns the request's number.
///
/// Nothing is answered until `ns_request_accept`, `ns_request_refuse` or `ns_request_reject` decides; `ns_close` ignores it.
///
/// # Safety
/// `stack` is a valid stack and `out` points to the room for the description.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_forwarder_next(
    stack: *const ns_stack,
    forwarder: c_int,
    out: *mut ns_request,
) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        let catcher = handle.sockets.look(forwarder, |entry| match entry {
            Entry::Forwarder(catcher) => Ok(catcher.clone()),
            Entry::Socket(_) | Entry::Packet(_) | Entry::Request(_) => Err(Errno(libc::EINVAL)),
        })?;
        if out.is_null() {
            return Err(Errno(libc::EFAULT));
        }
        let request = catcher.next(handle)?;
        let description = describe(&request);
        let number = handle.sockets.insert(Entry::Request(request.into()))?;
        // SAFETY: as required of the caller; the room may hold anything before.
        unsafe { out.write(description) };
        Ok(number)
    }))
}

/// Copies a request's data: the datagram, or what is to be echoed. Returns how many bytes were copied.
///
/// # Safety
/// `stack` is a valid stack and `buffer` points to `len` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_request_data(
    stack: *const ns_stack,
    request: c_int,
    buffer: *mut u8,
    len: size_t,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let (handle, buffer) = unsafe { (ns_stack::from_raw(stack), bytes_mut(buffer, len)) };
    let copy = || {
        let (handle, mut buffer) = (handle?, buffer?);
        // By reference, so that the copy is made after the table is unlocked.
        let data = handle.sockets.look(request, |entry| match entry {
            Entry::Request(request) => Ok(match &**request {
                Request::Tcp(_) => Body::new(),
                Request::Udp(request) => request.payload().clone(),
                Request::Echo(request) => Body::from_iter([request.payload()]),
            }),
            Entry::Socket(_) | Entry::Packet(_) | Entry::Forwarder(_) => Err(Errno(libc::EINVAL)),
        })?;
        let mut copied = 0;
        for part in &data {
            copied += copy_some(part, &mut buffer)?;
            if buffer.room() == 0 {
                break;
            }
        }
        Ok(copied)
    };
    answer_count(copy())
}

/// Accepts a request. `flags` is 0 or `SOCK_NONBLOCK`.
///
/// A connection or a flow of datagrams becomes a socket, whose number is returned: its own address is the one that was asked for.
/// A stream's handshake goes on in the background (`ns_poll` tells when it is writable); the first datagram of a flow is the one
/// that was asked about. An echo request is answered, and 0 returned. The request's number is free afterwards, unless the answer
/// is `-EINVAL`; `-ENETUNREACH` if there is no route back, `-EADDRINUSE` if the flow has a socket.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_request_accept(stack: *const ns_stack, request: c_int, flags: c_int) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let kind = match take(handle, request)? {
            Request::Tcp(request) => Kind::Tcp(request.accept()?),
            Request::Udp(request) => Kind::Udp(request.accept()?),
            Request::Echo(request) => {
                request.reply();
                return Ok(0);
            }
        };
        let socket = Socket::new(kind);
        socket.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
        handle.sockets.insert_socket(socket)
    }))
}

/// Refuses a request as a host without a listener does: a connection with a reset, a datagram with "port unreachable". An echo
/// request is rejected as administratively prohibited. The request's number is free afterwards.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_request_refuse(stack: *const ns_stack, request: c_int) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        match take(handle, request)? {
            Request::Tcp(request) => request.refuse(),
            Request::Udp(request) => request.reject(Unreachable::Port),
            Request::Echo(request) => request.reject(Unreachable::Prohibited),
        }
        Ok(0)
    }))
}

/// Rejects a request with an ICMP error, by the error number that the sender's calls will give: `ECONNREFUSED` (port
/// unreachable), `EHOSTUNREACH`, `ENETUNREACH` or `EACCES` (administratively prohibited); a proxy passes on what its own `connect`
/// said. `-EINVAL` for other numbers, and the request stays.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_request_reject(stack: *const ns_stack, request: c_int, error: c_int) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        let reason = match error {
            libc::ECONNREFUSED => Unreachable::Port,
            libc::EHOSTUNREACH => Unreachable::Host,
            libc::ENETUNREACH => Unreachable::Network,
            libc::EACCES => Unreachable::Prohibited,
            _ => return Err(Errno(libc::EINVAL)),
        };
        match take(handle, request)? {
            Request::Tcp(request) => request.reject(reason),
            Request::Udp(request) => request.reject(reason),
            Request::Echo(request) => request.reject(reason),
        }
        Ok(0)
    }))
}

/// Sends a datagram on a forwarder's interface from any address: the answer to a request goes from its `to` to its `from`. For
/// programs that keep a table of flows of their own; a socket of `ns_request_accept` does this by itself.
///
/// # Safety
/// `stack` is a valid stack, `data` points to `len` readable bytes, `from` and `to` to `address_len` of them each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_forwarder_sendto(
    stack: *const ns_stack,
    forwarder: c_int,
    data: *const u8,
    len: size_t,
    from: *const sockaddr,
    to: *const sockaddr,
    address_len: socklen_t,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let (handle, data) = unsafe { (ns_stack::from_raw(stack), bytes(data, len)) };
    // SAFETY: as required of the caller.
    let (from, to) = unsafe { (address::read(from, address_len), address::read(to, address_len)) };
    let send = || {
        let (handle, data) = (handle?, data?);
        let catcher = handle.sockets.look(forwarder, |entry| match entry {
            Entry::Forwarder(catcher) => Ok(catcher.clone()),
            Entry::Socket(_) | Entry::Packet(_) | Entry::Request(_) => Err(Errno(libc::EINVAL)),
        })?;
        catcher.forwarder.send_udp(from?, to?, data.to_vec().into())?;
        Ok(data.len())
    };
    answer_count(send())
}

/// Takes a request out of the table, for a decision about it.
fn take(handle: &ns_stack, number: c_int) -> Result<Request, Errno> {
    let entry = handle.sockets.remove_if(number, |entry| match entry {
        Entry::Request(_) => Ok(()),
        Entry::Socket(_) | Entry::Packet(_) | Entry::Forwarder(_) => Err(Errno(libc::EINVAL)),
    })?;
    match entry {
        Entry::Request(request) => Ok(*request),
        Entry::Socket(_) | Entry::Packet(_) | Entry::Forwarder(_) => Err(Errno(libc::EINVAL)),
    }
}

fn describe(request: &Request) -> ns_request {
    let (kind, from, to) = match request {
        Request::Tcp(request) => (NS_FORWARD_TCP, request.from(), request.to()),
        Request::Udp(request) => (NS_FORWARD_UDP, request.from(), request.to()),
        Request::Echo(request) => {
            (NS_FORWARD_ECHO, SocketAddr::new(request.from(), 0), SocketAddr::new(request.to(), 0))
        }
    };
    let mut described =
        ns_request { kind, from: storage(from), to: storage(to), len: 0, ttl: 0, ident: 0, sequence: 0 };
    match request {
        Request::Tcp(_) => {}
        Request::Udp(request) => {
            described.len = request.payload_len();
            described.ttl = request.ttl();
        }
        Request::Echo(request) => {
            described.len = request.payload().len();
            described.ttl = request.ttl();
            described.ident = request.ident();
            described.sequence = request.sequence();
        }
    }
    described
}

fn storage(address: SocketAddr) -> sockaddr_storage {
    // SAFETY: it is made of integers, for which zero is a value.
    let mut storage: sockaddr_storage = unsafe { std::mem::zeroed() };
    // 128 bytes.
    let mut len = size_of::<sockaddr_storage>() as socklen_t;
    // SAFETY: `storage` has as many bytes as `len` says.
    let written = unsafe { address::write(address, (&raw mut storage).cast(), &raw mut len) };
    debug_assert_eq!(written, Ok(()));
    storage
}

impl From<ForwardError> for Errno {
    fn from(error: ForwardError) -> Self {
        Self(match error {
            ForwardError::NetworkUnreachable => libc::ENETUNREACH,
            ForwardError::Exists => libc::EADDRINUSE,
        })
    }
}
