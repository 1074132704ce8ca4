//! TCP sockets: one handle for the idle, the listening and the connected case, as BSD sockets have it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::hint::{cold_path, likely};
use crate::sync::{BriefMutex, RwLock};

use crate::bpf;
use crate::error::{AcceptError, BindError, ListenError, ShutdownError, SocketError};
use crate::ip::{unmapped, unspecified_like};
use crate::nic::NicId;
use crate::options::{Family, QueuedError, Shutdown, SocketOptions};
use crate::outbox::Outbox;
use crate::port_table::Binding;
use crate::port_users::PortUse;
use crate::socket::datagram::socket_addr;
use crate::socket::udp::check_local;
use crate::stack::{Core, Stack};
use crate::tcp::{self, CloseReason, Connection, Flow, IcmpError, State};
use crate::tcp_endpoint::{ListenEndpoint, TcpEndpoint};
use crate::wait::{Readiness, WaitQueue};

mod connect;
mod fast_open;
mod filter;
mod forwarded;
mod moved;
mod moved_bytes;
mod transfer;
mod zero_copy;

pub use moved::StreamSnapshot;
pub use moved_bytes::StreamSnapshotError;

/// A TCP socket.
#[derive(Debug)]
pub struct TcpSocket {
    core: Arc<Core>,
    family: Family,
    waiters: Arc<WaitQueue>,
    settings: BriefMutex<Settings>,
    role: RwLock<Role>,
    /// The first connection, and with hardly an exception the only one, for those who send and receive.
    first: OnceLock<Arc<TcpEndpoint>>,
}

/// What the user has set.
#[derive(Debug)]
struct Settings {
    /// Shared with the connection and, until changed, with other sockets.
    socket: Arc<SocketOptions>,
    /// Most sockets are accepted and never have any.
    early: Option<Box<Early>>,
}

/// Settings that sockets usually leave alone.
#[derive(Debug, Default)]
struct Early {
    /// For the connection or listener to come, if they were changed; theirs count once they exist.
    tcp: Option<tcp::Options>,
    /// The program that sees what arrives.
    filter: Option<bpf::Program>,
    /// For the group of sockets that the socket begins, once bound.
    group_filter: Option<bpf::Program>,
    /// What the socket held when it connected, and still does.
    claim: Option<Box<Claim>>,
    /// Of an accepted connection.
    saved_syn: Option<Vec<u8>>,
    /// What the connection that is being made goes on from.
    restored: Option<Box<tcp::Snapshot>>,
}

impl Settings {
    /// The options of the connection or listener to come.
    fn tcp_options(&self) -> Arc<tcp::Options> {
        match self.early.as_ref().and_then(|early| early.tcp) {
            Some(options) => Arc::new(options),
            None => tcp::Options::shared_default(),
        }
    }

    /// Takes what the socket held when it connected.
    fn take_claim(&mut self) -> Option<Box<Claim>> {
        self.early.as_mut().and_then(|early| early.claim.take())
    }

    /// Changes what is usually absent; what `is_something` has to be kept even then.
    fn early_mut(&mut self, is_something: bool, change: impl FnOnce(&mut Early)) {
        if is_something || self.early.is_some() {
            change(self.early.get_or_insert_default());
        }
    }
}

/// What the socket has become.
#[derive(Debug)]
enum Role {
    Idle,
    Bound(Box<Claim>),
    Listening(Box<Claim>),
    /// A connection, in whatever state. The claim of a socket that was bound before it connected is among the settings.
    Connected(Arc<TcpEndpoint>),
    Closed,
}

/// A local address and port that the socket holds.
#[derive(Debug, Clone)]
struct Claim {
    endpoint: Arc<ListenEndpoint>,
    port: u16,
}

impl TcpSocket {
    /// Makes an unbound socket.
    pub fn new(stack: &Stack, family: Family) -> Self {
        Self::with_role(
            Arc::clone(&stack.core),
            family,
            SocketOptions::shared_default(),
            Arc::default(),
            Role::Idle,
        )
    }

    fn with_role(
        core: Arc<Core>,
        family: Family,
        options: Arc<SocketOptions>,
        waiters: Arc<WaitQueue>,
        role: Role,
    ) -> Self {
        let filter = match &role {
            Role::Connected(endpoint) => endpoint.filter(),
            Role::Idle | Role::Bound(_) | Role::Listening(_) | Role::Closed => None,
        };
        let mut settings = Settings { socket: options, early: None };
        settings.early_mut(filter.is_some(), |early| early.filter = filter);
        let first = OnceLock::new();
        if let Role::Connected(endpoint) = &role {
            // It is empty.
            let _ = first.set(Arc::clone(endpoint));
        }
        Self { core, family, waiters, settings: BriefMutex::new(settings), role: RwLock::new(role), first }
    }

    /// Binds to a local address; port zero picks one. An IPv6 scope id is a NIC's number.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        let (address, nic) = self.parse(local).ok_or(BindError::FamilyMismatch)?;
        let address = (!address.is_unspecified()).then_some(address);
        let mut role = self.role.write();
        let Role::Idle = *role else { return Err(BindError::AlreadyBound) };
        if let Some(address) = address {
            let is_group = address.is_multicast();
            if is_group {
                return Err(BindError::AddressNotAvailable);
            }
            check_local(&self.core, address, &self.settings.lock().socket)?;
        }
        *role = Role::Bound(self.claim(address, nic, local.port())?);
        Ok(())
    }

    fn claim(&self, address: Option<IpAddr>, nic: Option<NicId>, port: u16) -> Result<Box<Claim>, BindError> {
        let (binding, range) = {
            let options = &self.settings.lock().socket;
            let range = self.core.ephemeral_ports(options);
            let binding = Binding {
                address,
                family: self.family,
                only_v6: options.only_v6,
                nic: options.bound_nic.or(nic),
                reuse_address: options.reuse_address,
                reuse_port: options.reuse_port,
            };
            (binding, range)
        };
        let (filter, group_filter) = {
            let settings = self.settings.lock();
            let early = settings.early.as_ref();
            early.map_or((None, None), |early| (early.filter.clone(), early.group_filter.clone()))
        };
        let endpoint = ListenEndpoint::new(address, Arc::clone(&self.waiters), filter);
        let table = &self.core.tcp_ports;
        let port = match port {
            0 => {
                let picked = table.bind_any(&range, &self.core.secrets, binding, &endpoint);
                picked.map_err(|_| BindError::NoFreePort)?
            }
            port => {
                let has_rival = || self.core.tcp.any(|connection| connection.excludes(port, &binding));
                let bound = table.bind_beside(port, binding, &endpoint, has_rival);
                bound.map_err(|_| BindError::AddressInUse)?;
                port
            }
        };
        if let Some(program) = group_filter {
            table.found(port, &endpoint, &program);
        }
        Ok(Box::new(Claim { endpoint, port }))
    }

    /// Starts to listen, or changes the backlog of a listening socket. An unbound socket gets a port.
    pub fn listen(&self, backlog: u32) -> Result<(), ListenError> {
        let mut role = self.role.write();
        if let Role::Idle = *role {
            *role = Role::Bound(self.claim(None, None, 0).map_err(|_| ListenError::NoFreePort)?);
        }
        let claim = match &*role {
            Role::Bound(claim) | Role::Listening(claim) => claim.clone(),
            Role::Idle | Role::Connected(..) | Role::Closed => return Err(ListenError::InvalidState),
        };
        let started = self.core.tcp_ports.start_receiving(claim.port, &claim.endpoint);
        started.map_err(|_| ListenError::AddressInUse)?;
        let options = Arc::clone(&self.settings.lock().socket);
        let port_use = if options.reuse_address { PortUse::Shared } else { PortUse::Exclusive };
        claim.endpoint.listen(&self.core, backlog, *self.early_options(), options, port_use);
        *role = Role::Listening(claim);
        Ok(())
    }

    /// Takes the oldest established connection and its peer.
    pub fn try_accept(&self) -> Result<(Self, SocketAddr), AcceptError> {
        let (endpoint, saved_syn) = match &*self.role.read() {
            Role::Listening(claim) => claim.endpoint.accept().ok_or(AcceptError::WouldBlock)?,
            Role::Idle | Role::Bound(_) | Role::Connected(..) | Role::Closed => {
                return Err(AcceptError::NotListening);
            }
        };
        let peer = self.peer_of(&endpoint.flow);
        let options = endpoint.socket_options();
        let waiters = Arc::clone(&endpoint.waiters);
        let role = Role::Connected(endpoint);
        let accepted = Self::with_role(Arc::clone(&self.core), self.family, options, waiters, role);
        if saved_syn.is_some() {
            accepted.settings.lock().early_mut(true, |early| early.saved_syn = saved_syn);
        }
        Ok((accepted, peer))
    }

    /// The headers of the SYN with which an accepted connection began, if its listener kept them
    /// ([`save_syn`](tcp::Options::save_syn)).
    pub fn saved_syn(&self) -> Option<Vec<u8>> {
        self.settings.lock().early.as_ref().and_then(|early| early.saved_syn.clone())
    }

    /// Forgets what [`saved_syn`](Self::saved_syn) gives.
    pub fn forget_saved_syn(&self) {
        self.settings.lock().early_mut(false, |early| early.saved_syn = None);
    }

    /// Shuts directions: `Write` queues a FIN behind the data, `Read` discards what comes later and sends nothing.
    /// On a listener, `Read` stops listening.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), ShutdownError> {
        let mut outbox = Outbox::default();
        // Observers look at the socket: none is told while the role is locked.
        let result = if let Some(endpoint) = self.connection() {
            let how = match how {
                Shutdown::Read => tcp::Shutdown::Read,
                Shutdown::Write => tcp::Shutdown::Write,
                Shutdown::Both => tcp::Shutdown::Both,
            };
            endpoint.with(&self.core, &mut outbox, |inner| {
                let outcome = inner.machine.shutdown(self.core.clock.now(), how);
                outcome.map(|outcome| inner.note(outcome))
            })
        } else {
            let mut role = self.role.write();
            match &*role {
                Role::Listening(claim) => {
                    let claim = claim.clone();
                    if how != Shutdown::Write {
                        self.core.tcp_ports.stop_receiving(claim.port, &claim.endpoint);
                        claim.endpoint.close(&self.core, &mut outbox);
                        *role = Role::Bound(claim);
                    }
                    Ok(())
                }
                // Connected since: by another thread, for which this came too early.
                Role::Idle | Role::Bound(_) | Role::Connected(_) | Role::Closed => {
                    Err(tcp::ShutdownError::NotConnected)
                }
            }
        };
        outbox.flush(&self.core);
        // Linux wakes pollers after any shutdown; what they find is computed anew.
        self.waiters.notify(Readiness::IN | Readiness::OUT | Readiness::RDHUP | Readiness::HUP);
        result.map_err(|tcp::ShutdownError::NotConnected| ShutdownError::NotConnected)
    }

    /// Closes in order; dropping the handle does the same. Unread data turns it into a reset.
    pub fn close(&self) {
        self.end(Connection::close);
    }

    /// Resets the connection (close with a linger time of zero).
    pub fn abort(&self) {
        self.end(Connection::abort);
    }

    fn end(&self, how: impl FnOnce(&mut Connection, crate::time::Instant) -> tcp::Outcome) {
        let role = {
            let mut role = self.role.write();
            if let Role::Connected(endpoint) = &*role {
                endpoint.leave();
            }
            std::mem::replace(&mut *role, Role::Closed)
        };
        role.end(&self.core, how, || self.settings.lock().take_claim());
    }

    /// The state of the connection.
    pub fn state(&self) -> State {
        match &*self.role.read() {
            Role::Connected(endpoint) => endpoint.inspect(|inner| inner.machine.state()),
            Role::Listening(_) => State::Listen,
            Role::Idle | Role::Bound(_) | Role::Closed => State::Closed,
        }
    }

    /// The figures of the connection (`TCP_INFO`); `None` unless there is one.
    pub fn info(&self) -> Option<tcp::Info> {
        let endpoint = self.connection()?;
        endpoint.inspect(|inner| inner.machine.info(self.core.clock.now()))
    }

    /// The lengths of a listener's queues: connections to accept, and handshakes under way.
    pub fn listen_queue_lens(&self) -> (usize, usize) {
        match &*self.role.read() {
            Role::Listening(claim) => claim.endpoint.queue_lens(),
            Role::Idle | Role::Bound(_) | Role::Connected(..) | Role::Closed => (0, 0),
        }
    }

    /// The TCP options.
    pub fn tcp_options(&self) -> tcp::Options {
        match self.connection() {
            Some(endpoint) => endpoint.inspect(|inner| *inner.machine.options()),
            None => *self.early_options(),
        }
    }

    fn early_options(&self) -> Arc<tcp::Options> {
        self.settings.lock().tcp_options()
    }

    fn change_early_options(&self, change: impl FnOnce(&mut tcp::Options)) -> tcp::Options {
        let mut settings = self.settings.lock();
        let options = settings.early.get_or_insert_default().tcp.get_or_insert_default();
        change(options);
        *options
    }

    /// Changes TCP options; the new ones take effect at once where Linux's do.
    pub fn set_tcp_options(&self, change: impl FnOnce(&mut tcp::Options)) {
        let mut outbox = Outbox::default();
        let core = &self.core;
        let change = |options: &mut tcp::Options| {
            change(options);
            if options.save_syn != tcp::SaveSyn::Off {
                core.saves_syns.store(true, Ordering::Relaxed);
            }
        };
        let role = self.role.read();
        let endpoint = match &*role {
            Role::Connected(endpoint) => Arc::clone(endpoint),
            Role::Listening(claim) => {
                let options = self.change_early_options(change);
                return claim.endpoint.set_options(|current| *current = options);
            }
            Role::Idle | Role::Bound(_) | Role::Closed => {
                self.change_early_options(change);
                return;
            }
        };
        // What follows may tell observers, who look at the socket.
        drop(role);
        endpoint.with(core, &mut outbox, |inner| {
            let mut options = *inner.machine.options();
            change(&mut options);
            inner.machine.set_options(core.clock.now(), options);
        });
        outbox.flush(core);
    }

    /// Acknowledge at once for a while, or go back to delayed ACKs (`TCP_QUICKACK`).
    pub fn set_quick_ack(&self, on: bool) {
        if let Some(endpoint) = self.connection() {
            let mut outbox = Outbox::default();
            endpoint.with(&self.core, &mut outbox, |inner| inner.machine.set_quick_ack(on));
            outbox.flush(&self.core);
        }
    }

    /// Bytes that can be received without waiting (`FIONREAD`).
    pub fn recv_queue_len(&self) -> usize {
        self.connection().map_or(0, |endpoint| endpoint.inspect(|inner| inner.machine.receive_queued()))
    }

    /// Bytes sent or queued and not acknowledged (`SIOCOUTQ`).
    pub fn send_queue_len(&self) -> usize {
        self.connection().map_or(0, |endpoint| endpoint.inspect(|inner| inner.machine.send_queued().0))
    }

    /// Takes the oldest entry of the error queue (`MSG_ERRQUEUE`). TCP keeps none: its errors are those of the
    /// connection.
    pub fn take_queued_error(&self) -> Option<QueuedError> {
        None
    }

    /// The address and port of this end; unspecified parts are zero.
    pub fn local_addr(&self) -> SocketAddr {
        let any = match self.family {
            Family::V4 => unspecified_like(std::net::Ipv4Addr::UNSPECIFIED.into()),
            Family::V6 => unspecified_like(std::net::Ipv6Addr::UNSPECIFIED.into()),
        };
        match &*self.role.read() {
            Role::Idle | Role::Closed => socket_addr(self.family, any, 0, None),
            Role::Bound(claim) | Role::Listening(claim) => match claim.endpoint.address {
                Some(address) => socket_addr(self.family, address, claim.port, None),
                None => SocketAddr::new(any, claim.port),
            },
            Role::Connected(endpoint) => {
                let Flow { local_addr, local_port, zone, .. } = endpoint.flow;
                socket_addr(self.family, local_addr, local_port, NicId::from_index(zone))
            }
        }
    }

    /// The address and port of the other end, if connected.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let endpoint = self.connection()?;
        let is_connected = endpoint.inspect(|inner| {
            !matches!(inner.machine.state(), State::Closed | State::SynSent | State::SynReceived)
        });
        is_connected.then(|| self.peer_of(&endpoint.flow))
    }

    /// What can be done now.
    pub fn readiness(&self) -> Readiness {
        match &*self.role.read() {
            // Linux: tcp_poll on a socket that is not connected.
            Role::Idle | Role::Bound(_) | Role::Closed => Readiness::OUT | Readiness::HUP,
            Role::Listening(claim) => claim.endpoint.readiness(),
            Role::Connected(endpoint) => endpoint.readiness(),
        }
    }

    /// Where to wait for changes of the readiness.
    pub fn wait_queue(&self) -> &WaitQueue {
        &self.waiters
    }

    /// The options.
    pub fn options(&self) -> SocketOptions {
        SocketOptions::clone(&self.settings.lock().socket)
    }

    /// Changes options; the new ones take effect at once.
    ///
    /// The buffer sizes are those of [`tcp::Options`], which this keeps in step when they are changed here.
    pub fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        let (shared, send_buffer, recv_buffer) = {
            let mut settings = self.settings.lock();
            let options = Arc::make_mut(&mut settings.socket);
            let before = (options.send_buffer, options.recv_buffer);
            change(options);
            if options.min_ttl > 0 || options.min_hop_limit > 0 {
                self.core.filters_streams.store(true, Ordering::Relaxed);
            }
            let changed =
                |old: usize, new: usize| (old != new).then(|| u32::try_from(new).unwrap_or(u32::MAX));
            let (send, recv) =
                (changed(before.0, options.send_buffer), changed(before.1, options.recv_buffer));
            (Arc::clone(&settings.socket), send, recv)
        };
        if send_buffer.is_some() || recv_buffer.is_some() {
            self.set_tcp_options(|options| {
                options.send_buffer = send_buffer.or(options.send_buffer);
                options.receive_buffer = recv_buffer.or(options.receive_buffer);
            });
        }
        match &*self.role.read() {
            Role::Connected(endpoint) => endpoint.set_socket_options(shared),
            Role::Listening(claim) => claim.endpoint.set_socket_options(shared),
            Role::Idle | Role::Bound(_) | Role::Closed => {}
        }
    }

    /// Takes the pending error, if there is one (`SO_ERROR`).
    pub fn take_error(&self) -> Option<SocketError> {
        let endpoint = self.connection()?;
        let mut outbox = Outbox::default();
        let reason = endpoint.with(&self.core, &mut outbox, |inner| inner.machine.take_error());
        outbox.flush(&self.core);
        reason.map(socket_error)
    }

    #[inline(never)]
    fn connection(&self) -> Option<Arc<TcpEndpoint>> {
        match &*self.role.read() {
            Role::Connected(endpoint) => Some(Arc::clone(endpoint)),
            Role::Idle | Role::Bound(_) | Role::Listening(_) | Role::Closed => None,
        }
    }

    /// The connection if it is the socket's first, without the lock and a reference of its own. Otherwise
    /// [`connection`](Self::connection) may know one.
    #[inline]
    fn quick_connection(&self) -> Option<&Arc<TcpEndpoint>> {
        match self.first.get() {
            Some(endpoint) if likely(!endpoint.is_left()) => Some(endpoint),
            _ => {
                cold_path();
                None
            }
        }
    }

    fn peer_of(&self, flow: &Flow) -> SocketAddr {
        socket_addr(self.family, flow.remote_addr, flow.remote_port, NicId::from_index(flow.zone))
    }

    fn parse(&self, address: SocketAddr) -> Option<(IpAddr, Option<NicId>)> {
        let nic = match address {
            SocketAddr::V6(address) => NicId::from_index(address.scope_id()),
            SocketAddr::V4(_) => None,
        };
        match (self.family, address.ip()) {
            (Family::V4, IpAddr::V6(_)) => None,
            (Family::V4 | Family::V6, ip) => Some((unmapped(ip), nic)),
        }
    }
}

impl Role {
    /// Ends what the socket was. `early_claim` takes what a connected one still held.
    fn end(
        self,
        core: &Arc<Core>,
        how: impl FnOnce(&mut Connection, crate::time::Instant) -> tcp::Outcome,
        early_claim: impl FnOnce() -> Option<Box<Claim>>,
    ) {
        let mut outbox = Outbox::default();
        let claim = match self {
            Self::Idle | Self::Closed => None,
            Self::Bound(claim) => Some(claim),
            Self::Listening(claim) => {
                core.tcp_ports.stop_receiving(claim.port, &claim.endpoint);
                claim.endpoint.close(core, &mut outbox);
                Some(claim)
            }
            Self::Connected(endpoint) => {
                let now = outbox.now(core);
                endpoint.with(core, &mut outbox, |inner| {
                    let outcome = how(&mut inner.machine, now);
                    inner.note(outcome);
                });
                early_claim()
            }
        };
        if let Some(claim) = claim {
            core.tcp_ports.unbind(claim.port, &claim.endpoint);
        }
        outbox.flush(core);
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        // Nobody else has the socket, so nothing of it is locked.
        let Self { core, settings, role, .. } = self;
        let role = std::mem::replace(role.get_mut(), Role::Closed);
        role.end(core, Connection::close, || settings.get_mut().take_claim());
    }
}

/// Why a connection ended, in the words of sockets.
fn socket_error(reason: CloseReason) -> SocketError {
    match reason {
        CloseReason::Refused => SocketError::ConnectionRefused,
        CloseReason::Reset => SocketError::ConnectionReset,
        CloseReason::ResetAfterFin => SocketError::BrokenPipe,
        CloseReason::Done | CloseReason::Aborted => SocketError::ConnectionAborted,
        CloseReason::TimedOut => SocketError::TimedOut,
        CloseReason::Unreachable(error) => match error {
            IcmpError::NetUnreachable => SocketError::NetworkUnreachable,
            IcmpError::HostUnreachable | IcmpError::TimeExceeded => SocketError::HostUnreachable,
            IcmpError::ProtocolUnreachable => SocketError::ProtocolUnreachable,
            IcmpError::PortUnreachable => SocketError::ConnectionRefused,
            IcmpError::Prohibited => SocketError::Prohibited,
            IcmpError::ParameterProblem => SocketError::ParameterProblem,
        },
    }
}
