//! The sockets of a stack by number, as a process has them: the lowest free number is given out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::c_int;
use netstack::wait::{Readiness, WaitQueue};
use netstack::{PingSocket, RawSocket, TcpSocket, UdpSocket};
use parking_lot::Mutex;

use crate::errno::Errno;

/// All sockets of a stack.
#[derive(Default)]
pub(crate) struct Descriptors {
    slots: Mutex<Vec<Option<Arc<Socket>>>>,
}

impl Descriptors {
    pub(crate) fn insert(&self, socket: Socket) -> Result<c_int, Errno> {
        let mut slots = self.slots.lock();
        let free = slots.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        let number = c_int::try_from(index).map_err(|_| Errno(libc::EMFILE))?;
        slots[index] = Some(Arc::new(socket));
        Ok(number)
    }

    pub(crate) fn get(&self, number: c_int) -> Result<Arc<Socket>, Errno> {
        let slots = self.slots.lock();
        let slot = usize::try_from(number).ok().and_then(|index| slots.get(index));
        slot.and_then(Clone::clone).ok_or(Errno(libc::EBADF))
    }

    pub(crate) fn remove(&self, number: c_int) -> Result<Arc<Socket>, Errno> {
        let mut slots = self.slots.lock();
        let slot = usize::try_from(number).ok().and_then(|index| slots.get_mut(index));
        slot.and_then(Option::take).ok_or(Errno(libc::EBADF))
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
        mut attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let timeout = match patience {
            Patience::None => return attempt(),
            Patience::Limited(timeout) => timeout,
        };
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let done = netstack::wait::block_until(self.wait_queue(), interest, end, || match attempt() {
            Err(Errno(libc::EAGAIN)) => None,
            result => Some(result),
        });
        done.unwrap_or(Err(Errno(libc::EAGAIN)))
    }
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// This long; without a limit if none is given.
    Limited(Option<Duration>),
}
