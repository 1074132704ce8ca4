//! Sockets whose connection is taken apart or put together (`TCP_REPAIR`; CRIU does so): nothing of what is done to them is
//! seen by the other end.

use std::net::SocketAddr;

use bytes::Bytes;
use netstack::TcpSocket;
use netstack::buffer::Source;
use netstack::options::RecvFlags;
use netstack::tcp::{Snapshot, State};
use sentry_abi::inet::{TCP_QUEUE_SEQ, TCP_REPAIR_QUEUE, TCP_REPAIR_WINDOW};
use sentry_abi::socket::{MsgFlags, SOL_TCP};

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::socket::base::{SocketBase, Switches};
use crate::socket::inet::ToErrno;
use crate::socket::inet::copy::{GuestSink, GuestSource};
use crate::socket::ops::{Received, RecvRequest};

/// Which queue reads, writes and sequence numbers are about (`TCP_REPAIR_QUEUE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Neither.
    None,
    /// What the user has not read.
    Receive,
    /// What the other end has not acknowledged.
    Send,
}

impl Queue {
    /// The queue with that number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Receive,
            2 => Self::Send,
            _ => return None,
        })
    }

    /// That of a socket.
    #[must_use]
    pub fn of(base: &SocketBase) -> Self {
        Self::from_number(base.kept(QUEUE).unwrap_or(0)).unwrap_or(Self::None)
    }

    /// Makes it that of a socket.
    pub fn choose(self, base: &SocketBase) {
        base.keep(QUEUE, self as i32);
    }

    /// Where the number is kept with which the queue of a connection that is to be made begins.
    fn key(self) -> (i32, i32) {
        // Numbers of options whose values are kept nowhere.
        (SOL_TCP, if self == Self::Send { TCP_QUEUE_SEQ } else { TCP_REPAIR_WINDOW })
    }

    /// The number with which the queue of the connection to be made begins.
    #[must_use]
    pub fn first_number(self, base: &SocketBase) -> u32 {
        base.kept(self.key()).unwrap_or(0).cast_unsigned()
    }

    /// Sets what [`first_number`](Self::first_number) gives.
    pub fn begin_at(self, base: &SocketBase, number: u32) {
        base.keep(self.key(), number.cast_signed());
    }
}

/// Whether a socket is being repaired.
#[must_use]
pub fn is_on(base: &SocketBase) -> bool {
    base.has(Switches::REPAIR)
}

/// The connection of a socket, without a segment (`tcp_connect` in this mode).
pub(super) fn connect(base: &SocketBase, tcp: &TcpSocket, remote: SocketAddr) -> Result<(), Errno> {
    let (rcv_nxt, snd_una) = (Queue::Receive.first_number(base), Queue::Send.first_number(base));
    let snapshot = Snapshot {
        snd_una,
        rcv_nxt,
        rcv_wup: rcv_nxt,
        rcv_wnd: FIRST_WINDOW,
        // What the route says is less.
        advertised_mss: u16::MAX,
        ..Snapshot::default()
    };
    tcp.connect_restored(remote, snapshot).map_err(|e| e.to_errno())
}

/// Puts data behind that of the chosen queue: as received, or as sent.
pub(super) fn send(base: &SocketBase, tcp: &TcpSocket, src: &mut dyn IoSrc) -> Result<usize, Errno> {
    if !matches!(tcp.state(), State::Established | State::CloseWait) {
        return Err(Errno::EPIPE);
    }
    let queue = Queue::of(base);
    if queue == Queue::None {
        return Err(Errno::EINVAL);
    }
    let mut data = vec![0; src.remaining().min(MOST_AT_ONCE)];
    GuestSource(src).read_into(&mut data).map_err(|_| Errno::EFAULT)?;
    let append = |snapshot: &mut Snapshot| match queue {
        Queue::Receive => {
            // At most `MOST_AT_ONCE`.
            snapshot.rcv_nxt = snapshot.rcv_nxt.wrapping_add(u32::try_from(data.len()).unwrap_or(0));
            join(&mut snapshot.unread, &data);
        }
        Queue::Send | Queue::None => {
            join(&mut snapshot.unacked, &data);
            snapshot.sent = u32::try_from(snapshot.unacked.len()).unwrap_or(u32::MAX);
        }
    };
    tcp.repair(append).ok_or(Errno::EPIPE)?;
    Ok(data.len())
}

fn join(queue: &mut Bytes, data: &[u8]) {
    let mut all = queue.to_vec();
    all.extend_from_slice(data);
    *queue = all.into();
}

/// Shows what is in the chosen queue (`tcp_recvmsg_locked`, `tcp_peek_sndq`).
pub(super) fn receive(
    base: &SocketBase,
    tcp: &TcpSocket,
    dst: &mut dyn IoDst,
    request: RecvRequest,
) -> Result<Received, Errno> {
    if !request.flags.contains(MsgFlags::PEEK) {
        return Err(Errno::EPERM);
    }
    let copied = match Queue::of(base) {
        Queue::None => return Err(Errno::EINVAL),
        Queue::Receive => {
            let flags = RecvFlags { peek: true, skip: base.peek_skip(request.flags) };
            tcp.try_recv(&mut GuestSink(dst), flags).map_err(|e| e.to_errno())?
        }
        Queue::Send => {
            let queue = tcp.snapshot().map(|snapshot| snapshot.connection.unacked).unwrap_or_default();
            let len = queue.len().min(dst.remaining());
            if len == 0 { 0 } else { dst.put(&queue[..len])? }
        }
    };
    Ok(Received { copied, len: copied, ..Received::default() })
}

const QUEUE: (i32, i32) = (SOL_TCP, TCP_REPAIR_QUEUE);
/// A queue is copied with each write: more goes in with the next one.
const MOST_AT_ONCE: usize = 1 << 20;
/// Until the window is set.
const FIRST_WINDOW: u32 = 65_535;
