//! A local socket: its state, and the operations of `socket(2)` on it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::socket::{AF_UNIX, AF_UNSPEC, FIONREAD, SIOCATMARK, TIOCOUTQ, Ucred};

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::socket::base::{SocketBase, SocketType, Switches, credentials_of};
use crate::socket::ops::{
    Accepted, Family, RawAddr, Received, RecvRequest, SendRequest, ShutdownHow, Socket,
};
use crate::socket::unix::address::{Name, Wanted};
use crate::socket::unix::message::{DEFAULT_BUFFER, Message, SendAccount};
use crate::task::CurrentTask;
use crate::vfs::File;
use crate::vfs::VfsPath;
use crate::wait::{Readiness, WaitQueue};

/// A local socket.
pub struct UnixSocket {
    pub(super) base: SocketBase,
    pub(super) namespace: Arc<NetNamespace>,
    /// Tells sockets apart in listings and spreads automatic names.
    pub(super) serial: u64,
    /// Held by who changes the role or the name.
    pub(super) control: Mutex<()>,
    /// Held by who receives.
    pub(super) reader: Mutex<()>,
    pub(super) state: Mutex<State>,
    /// What this socket has in other inboxes.
    pub(super) account: Arc<SendAccount>,
    /// `SO_RCVBUF`: kept and reported; as in Linux nothing is charged to the receiver.
    recv_buffer: AtomicUsize,
    queue: Arc<WaitQueue>,
    /// Ourselves, for the abstract namespace and for peers.
    me: Weak<Self>,
}

/// What `state` protects.
#[derive(Default)]
pub(super) struct State {
    pub name: Option<Name>,
    /// The socket file, which keeps its inode and what is attached to it in memory.
    pub place: Option<VfsPath>,
    pub role: Role,
    /// `shutdown(2)` of our receiving side, or of the peer's sending side.
    pub is_read_shut: bool,
    /// The same for sending.
    pub is_write_shut: bool,
    /// Nobody uses the socket any more.
    pub is_closed: bool,
    /// `SO_ERROR`.
    pub error: Option<Errno>,
    /// Who was there when the connection was made (`SO_PEERCRED`).
    pub peer_credentials: Option<Ucred>,
    pub inbox: VecDeque<Message>,
    /// Those who wait for room in the inbox or in the accept queue.
    pub blocked: Vec<Weak<UnixSocket>>,
}

/// What a socket is being used for.
#[derive(Default)]
pub(super) enum Role {
    /// Nothing yet.
    #[default]
    Idle,
    /// Waiting for connections.
    Listening {
        /// The limit of `queue`; one more is let in, as in Linux.
        backlog: usize,
        /// Connections not accepted yet: our ends of them.
        queue: VecDeque<Arc<UnixSocket>>,
    },
    /// One end of a connection, or a datagram socket with a default destination. The peer may be closed already.
    /// Two connected sockets hold each other; closing one lets go of the other.
    Connected(Arc<UnixSocket>),
}

impl State {
    /// The peer, where there is one.
    pub(super) fn peer(&self) -> Option<Arc<UnixSocket>> {
        match &self.role {
            Role::Connected(peer) => Some(peer.clone()),
            Role::Idle | Role::Listening { .. } => None,
        }
    }

    /// Takes those who wait for room.
    pub(super) fn take_blocked(&mut self) -> Vec<Weak<UnixSocket>> {
        std::mem::take(&mut self.blocked)
    }
}

/// Tells senders or connectors that there is room again; no lock is held.
pub(super) fn unblock(blocked: Vec<Weak<UnixSocket>>) {
    for socket in blocked.iter().filter_map(Weak::upgrade) {
        socket.queue.notify(Readiness::OUT);
    }
}

impl UnixSocket {
    /// An unbound socket.
    #[must_use]
    pub fn new(namespace: Arc<NetNamespace>, kind: SocketType, owner: Ucred) -> Arc<Self> {
        Self::with_base(namespace, SocketBase::new(AF_UNIX, kind, 0, owner))
    }

    pub(super) fn with_base(namespace: Arc<NetNamespace>, base: SocketBase) -> Arc<Self> {
        let queue = Arc::<WaitQueue>::default();
        Arc::new_cyclic(|me| Self {
            base,
            serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
            namespace,
            control: Mutex::new(()),
            reader: Mutex::new(()),
            state: Mutex::new(State::default()),
            account: SendAccount::new(queue.clone()),
            recv_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            queue,
            me: me.clone(),
        })
    }

    /// Two sockets connected to each other (`socketpair(2)`).
    #[must_use]
    pub fn pair(namespace: &Arc<NetNamespace>, kind: SocketType, owner: Ucred) -> (Arc<Self>, Arc<Self>) {
        let first = Self::new(namespace.clone(), kind, owner);
        let second = Self::new(namespace.clone(), kind, owner);
        for (socket, peer) in [(&first, &second), (&second, &first)] {
            let mut state = socket.state.lock();
            state.role = Role::Connected(peer.clone());
            state.peer_credentials = Some(owner);
        }
        (first, second)
    }

    /// Ourselves. The socket is alive while it is used, so this does not fail then.
    ///
    /// # Errors
    /// `EBADF` while being dropped.
    pub(super) fn me(&self) -> Result<Arc<Self>, Errno> {
        self.me.upgrade().ok_or(Errno::EBADF)
    }

    pub(super) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    /// True for streams and sequenced packets.
    pub(super) fn has_connections(&self) -> bool {
        self.base.kind != SocketType::Datagram
    }

    /// Who is at the other end (`SO_PEERCRED`): "no process" while nobody is.
    #[must_use]
    pub fn peer_credentials(&self) -> Ucred {
        let nobody = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        self.state.lock().peer_credentials.unwrap_or(nobody)
    }

    /// `SO_SNDBUF`.
    #[must_use]
    pub fn send_buffer(&self) -> usize {
        self.account.limit()
    }

    /// Sets `SO_SNDBUF`, doubled already.
    pub fn set_send_buffer(&self, bytes: usize) {
        self.account.set_limit(bytes);
    }

    /// `SO_RCVBUF`.
    #[must_use]
    pub fn recv_buffer(&self) -> usize {
        self.recv_buffer.load(Ordering::Relaxed)
    }

    /// Sets `SO_RCVBUF`, doubled already.
    pub fn set_recv_buffer(&self, bytes: usize) {
        self.recv_buffer.store(bytes, Ordering::Relaxed);
    }

    /// The name, for listings.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.state.lock().name.clone()
    }

    /// True when connected, for listings.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.state.lock().role, Role::Connected(_))
    }

    /// The inode of the other end, for listings.
    #[must_use]
    pub fn peer_ino(&self) -> Option<u64> {
        let peer = self.state.lock().peer()?;
        Some(peer.base.ino())
    }

    /// Puts the socket's error, shutdown and wake-ups into effect after the peer or the listener went away.
    pub(super) fn disconnected(&self, error: Option<Errno>) {
        {
            let mut state = self.state.lock();
            state.is_read_shut = true;
            state.is_write_shut = true;
            state.error = error.or(state.error);
        }
        self.queue.notify(Readiness::all());
    }

    /// Bytes of the next read: of a stream all that is there, of others the first message (`FIONREAD`).
    fn readable_bytes(&self) -> Result<usize, Errno> {
        let state = self.state.lock();
        match (&state.role, self.base.kind) {
            (Role::Listening { .. }, _) => Err(Errno::EINVAL),
            (_, SocketType::Stream | SocketType::SeqPacket) => {
                Ok(state.inbox.iter().map(|message| message.data.len()).sum())
            }
            _ => Ok(state.inbox.front().map_or(0, |message| message.data.len())),
        }
    }

    /// How many connections or messages wait, for listings.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        let state = self.state.lock();
        match &state.role {
            Role::Listening { queue, .. } => queue.len(),
            Role::Idle | Role::Connected(_) => state.inbox.iter().map(|m| m.data.len()).sum(),
        }
    }

    /// Lets go of everything; see [`Socket::close`]. An unaccepted end of a connection resets its peer.
    pub(super) fn release(&self, was_accepted: bool) {
        let (old, had_unread) = {
            let mut state = self.state.lock();
            if state.is_closed {
                return;
            }
            state.is_closed = true;
            state.is_read_shut = true;
            state.is_write_shut = true;
            let had_unread = !state.inbox.is_empty();
            let old = State {
                name: state.name.take(),
                place: state.place.take(),
                role: std::mem::take(&mut state.role),
                inbox: std::mem::take(&mut state.inbox),
                blocked: state.take_blocked(),
                ..State::default()
            };
            (old, had_unread)
        };
        let State { name, place, role, inbox, blocked, .. } = old;
        if let Some(Name::Abstract(name)) = &name {
            // An accepted connection has its listener's name without owning it.
            self.namespace.abstract_names().unbind_if(self.base.kind, name, &self.me);
        }
        match role {
            Role::Connected(peer) if self.has_connections() => {
                let reset = had_unread || !was_accepted;
                peer.disconnected(reset.then_some(Errno::ECONNRESET));
            }
            // Datagram sockets that send here find out when they do.
            Role::Connected(_) | Role::Idle => {}
            Role::Listening { queue, .. } => queue.iter().for_each(|socket| socket.release(false)),
        }
        drop((place, inbox));
        unblock(blocked);
        self.queue.notify(Readiness::all());
    }
}

impl Socket for UnixSocket {
    fn base(&self) -> &SocketBase {
        &self.base
    }

    fn family(&self) -> Family<'_> {
        Family::Unix(self)
    }

    fn bind(&self, task: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        self.me()?.bind_to(task, Wanted::decode(address)?)
    }

    fn listen(&self, task: &mut CurrentTask, backlog: u32) -> Result<(), Errno> {
        self.start_listening(credentials_of(task), backlog)
    }

    fn try_accept(&self) -> Result<Accepted, Errno> {
        let (socket, peer) = self.accept_connection()?;
        Ok(Accepted { socket, peer })
    }

    fn connect(&self, task: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        let unspecified = address.get(..2) == Some(&AF_UNSPEC.to_ne_bytes());
        if self.base.kind == SocketType::Datagram && unspecified {
            return self.dissolve();
        }
        let wanted = Wanted::decode(address)?;
        let me = self.me()?;
        if self.base.has(Switches::PASS_CREDENTIALS) || self.base.has(Switches::PASS_PROCESS) {
            me.autobind()?;
        }
        if self.has_connections() {
            let listener = self.find(task, &wanted)?;
            me.connect_to(&listener, credentials_of(task))
        } else {
            let peer = self.find(task, &wanted)?;
            me.set_peer(&peer)
        }
    }

    fn local_address(&self) -> Result<RawAddr, Errno> {
        Ok(Name::encode(self.state.lock().name.as_ref()))
    }

    fn peer_address(&self) -> Result<RawAddr, Errno> {
        let peer = self.state.lock().peer().ok_or(Errno::ENOTCONN)?;
        let state = peer.state.lock();
        Ok(Name::encode(state.name.as_ref()))
    }

    fn try_send(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno> {
        match self.base.kind {
            SocketType::Stream => self.send_stream(src, request),
            SocketType::Datagram | SocketType::SeqPacket | SocketType::Raw => self.send_packet(src, request),
        }
    }

    fn try_recv(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        match self.base.kind {
            SocketType::Stream => self.recv_stream(dst, request),
            SocketType::Datagram | SocketType::SeqPacket | SocketType::Raw => self.recv_packet(dst, request),
        }
    }

    fn shutdown(&self, how: ShutdownHow) -> Result<(), Errno> {
        let peer = {
            let mut state = self.state.lock();
            state.is_read_shut |= how.is_read();
            state.is_write_shut |= how.is_write();
            state.peer()
        };
        if let Some(peer) = peer.filter(|_| self.has_connections()) {
            {
                let mut state = peer.state.lock();
                state.is_write_shut |= how.is_read();
                state.is_read_shut |= how.is_write();
            }
            peer.queue.notify(Readiness::all());
        }
        self.queue.notify(Readiness::all());
        Ok(())
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        let value = match request {
            FIONREAD => self.readable_bytes()?,
            TIOCOUTQ => self.account.used(),
            SIOCATMARK => 0,
            _ => return Err(Errno::ENOTTY.into()),
        };
        let value = i32::try_from(value).unwrap_or(i32::MAX);
        task.mm().write_obj(UserAddr(arg), &value)?;
        Ok(0)
    }

    fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    fn is_listening(&self) -> bool {
        matches!(self.state.lock().role, Role::Listening { .. })
    }

    fn readiness(&self) -> Readiness {
        let (mut ready, peer, is_listening) = {
            let state = self.state.lock();
            let mut ready = Readiness::empty();
            ready.set(Readiness::ERR, state.error.is_some());
            ready.set(Readiness::HUP, state.is_read_shut && state.is_write_shut);
            ready.set(Readiness::RDHUP, state.is_read_shut);
            ready.set(Readiness::IN, state.is_read_shut || !state.inbox.is_empty());
            let is_listening = match &state.role {
                Role::Listening { queue, .. } => {
                    ready.set(Readiness::IN, !queue.is_empty());
                    true
                }
                // unix_poll: "Connection-based need to check for termination and startup".
                Role::Idle => {
                    ready.set(Readiness::HUP, ready.contains(Readiness::HUP) || self.has_connections());
                    false
                }
                Role::Connected(_) => false,
            };
            (ready, state.peer(), is_listening)
        };
        let is_peer_full = || peer.is_some_and(|peer| !self.has_connections() && self.is_refused_by(&peer));
        ready.set(Readiness::OUT, !is_listening && self.account.is_writable() && !is_peer_full());
        ready
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn close(&self) {
        self.release(true);
    }
}

impl std::fmt::Debug for UnixSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnixSocket")
            .field("base", &self.base)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
