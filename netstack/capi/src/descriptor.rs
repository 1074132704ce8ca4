//! What a stack's program has by number, as a process has descriptors: sockets, forwarders and the requests of these. The
//! lowest free number is given out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::c_int;
use netstack::forward::Request;
use netstack::options::Family;
use netstack::wait::{Readiness, WaitQueue};
use netstack::{PingSocket, RawSocket, TcpSocket, UdpSocket};
use parking_lot::Mutex;

use crate::control::Receive;
use crate::errno::Errno;
use crate::forward::Catcher;
use crate::packet::Packets;

/// All numbers of a stack.
#[derive(Default)]
pub(crate) struct Descriptors {
    slots: Mutex<Vec<Option<Entry>>>,
}

/// What a number stands for.
pub(crate) enum Entry {
    Socket(Arc<Socket>),
    Packet(Arc<Packets>),
    Forwarder(Arc<Catcher>),
    /// What a forwarder has handed out and nobody has decided about.
    Request(Box<Request>),
}

impl Descriptors {
    pub(crate) fn insert_socket(&self, socket: Socket) -> Result<c_int, Errno> {
        self.insert(Entry::Socket(Arc::new(socket)))
    }

    pub(crate) fn insert(&self, entry: Entry) -> Result<c_int, Errno> {
        let mut slots = self.slots.lock();
        let free = slots.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        let number = c_int::try_from(index).map_err(|_| Errno(libc::EMFILE))?;
        slots[index] = Some(entry);
        Ok(number)
    }

    /// Looks at an entry while the table is locked.
    pub(crate) fn look<T>(
        &self,
        number: c_int,
        look: impl FnOnce(&Entry) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let slots = self.slots.lock();
        let slot = usize::try_from(number).ok().and_then(|index| slots.get(index));
        look(slot.and_then(Option::as_ref).ok_or(Errno(libc::EBADF))?)
    }

    /// `ENOTSOCK` for numbers of other things, as a process gets for its files. Packet sockets have calls of their own.
    pub(crate) fn socket(&self, number: c_int) -> Result<Arc<Socket>, Errno> {
        self.look(number, |entry| match entry {
            Entry::Socket(socket) => Ok(Arc::clone(socket)),
            Entry::Packet(_) => Err(Errno(libc::EOPNOTSUPP)),
            Entry::Forwarder(_) | Entry::Request(_) => Err(Errno(libc::ENOTSOCK)),
        })
    }

    /// The packet socket with a number, if it is one.
    pub(crate) fn packet(&self, number: c_int) -> Option<Arc<Packets>> {
        let found = self.look(number, |entry| match entry {
            Entry::Packet(packets) => Ok(Some(Arc::clone(packets))),
            Entry::Socket(_) | Entry::Forwarder(_) | Entry::Request(_) => Ok(None),
        });
        found.ok().flatten()
    }

    pub(crate) fn remove(&self, number: c_int) -> Result<Entry, Errno> {
        self.remove_if(number, |_| Ok(()))
    }

    /// Takes an entry out unless `check` objects to it.
    pub(crate) fn remove_if(
        &self,
        number: c_int,
        check: impl FnOnce(&Entry) -> Result<(), Errno>,
    ) -> Result<Entry, Errno> {
        let mut slots = self.slots.lock();
        let slot = usize::try_from(number).ok().and_then(|index| slots.get_mut(index));
        let slot = slot.ok_or(Errno(libc::EBADF))?;
        check(slot.as_ref().ok_or(Errno(libc::EBADF))?)?;
        slot.take().ok_or(Errno(libc::EBADF))
    }
}

/// A socket and what the C interface remembers about it.
pub(crate) struct Socket {
    pub(crate) kind: Kind,
    is_nonblocking: AtomicBool,
    pub(crate) settings: Mutex<Settings>,
}

/// The kinds of sockets.
pub(crate) enum Kind {
    Tcp(TcpSocket),
    Udp(UdpSocket),
    Raw(RawSocket, u8),
    Ping(PingSocket),
}

/// What `setsockopt` stores and the stack does not know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    /// `SO_RCVTIMEO`.
    pub(crate) receive_timeout: Option<Duration>,
    /// `SO_SNDTIMEO`.
    pub(crate) send_timeout: Option<Duration>,
    /// `SO_LINGER`, if it is on.
    pub(crate) linger: Option<Duration>,
    /// Which control messages are wanted with what is received.
    pub(crate) receive: Receive,
}

/// Calls the method of the same name on whatever socket it is.
macro_rules! each {
    ($kind:expr, $socket:ident => $do:expr) => {
        match $kind {
            $crate::descriptor::Kind::Tcp($socket) => $do,
            $crate::descriptor::Kind::Udp($socket) => $do,
            $crate::descriptor::Kind::Raw($socket, _) => $do,
            $crate::descriptor::Kind::Ping($socket) => $do,
        }
    };
}
pub(crate) use each;

impl Socket {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, is_nonblocking: AtomicBool::new(false), settings: Mutex::default() }
    }

    pub(crate) fn tcp(&self) -> Option<&TcpSocket> {
        match &self.kind {
            Kind::Tcp(socket) => Some(socket),
            Kind::Udp(_) | Kind::Raw(..) | Kind::Ping(_) => None,
        }
    }

    pub(crate) fn family(&self) -> Family {
        let local = each!(&self.kind, socket => socket.local_addr());
        if local.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(crate) fn set_nonblocking(&self, is_nonblocking: bool) {
        // Relaxed: it concerns later calls only.
        self.is_nonblocking.store(is_nonblocking, Ordering::Relaxed);
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.is_nonblocking.load(Ordering::Relaxed)
    }

    pub(crate) fn wait_queue(&self) -> &WaitQueue {
        each!(&self.kind, socket => socket.wait_queue())
    }

    pub(crate) fn readiness(&self) -> Readiness {
        each!(&self.kind, socket => socket.readiness())
    }

    /// Repeats `attempt` while it answers `EAGAIN`, unless the socket, the stack or the call must not wait.
    pub(crate) fn wait<T>(
        &self,
        interest: Readiness,
        patience: Patience,
        attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        wait(self.wait_queue(), interest, patience, attempt)
    }
}

/// Repeats `attempt` while it answers `EAGAIN` and the patience lasts.
pub(crate) fn wait<T>(
    queue: &WaitQueue,
    interest: Readiness,
    patience: Patience,
    mut attempt: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let timeout = match patience {
        Patience::None => return attempt(),
        Patience::Limited(timeout) => timeout,
    };
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let done = netstack::wait::block_until(queue, interest, end, || match attempt() {
        Err(Errno(libc::EAGAIN)) => None,
        result => Some(result),
    });
    done.unwrap_or(Err(Errno(libc::EAGAIN)))
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// This long; without a limit if none is given.
    Limited(Option<Duration>),
}
