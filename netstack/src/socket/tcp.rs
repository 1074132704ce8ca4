//! TCP sockets: one handle for the idle, the listening and the connected case, as BSD sockets have it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::buffer::{Sink, Source};
use crate::cidr::family_of;
use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, RecvError, SendError, ShutdownError, SocketError,
};
use crate::ip::{Delivery, Egress, Origin, RouteError, RouteQuery, unmapped, unspecified_like, zone_of};
use crate::nic::NicId;
use crate::options::{Family, QueuedError, RecvFlags, Shutdown, SocketOptions};
use crate::outbox::Outbox;
use crate::port_table::{Binding, PortUse};
use crate::socket::copy_in::Copied;
use crate::socket::datagram::socket_addr;
use crate::socket::udp::check_local;
use crate::stack::{Core, Stack};
use crate::tcp::{self, CloseReason, Connection, Flow, IcmpError, State};
use crate::tcp_endpoint::{IpSettings, ListenEndpoint, TcpEndpoint, path_of};
use crate::wait::{Readiness, WaitQueue};

mod fast_open;
mod forwarded;
mod zero_copy;

/// A TCP socket.
#[derive(Debug)]
pub struct TcpSocket {
    core: Arc<Core>,
    family: Family,
    waiters: Arc<WaitQueue>,
    options: Mutex<SocketOptions>,
    /// For the connection or listener to come, if they were changed; theirs count once they exist. Most sockets are
    /// accepted and never have any.
    tcp_options: Mutex<Option<Box<tcp::Options>>>,
    role: RwLock<Role>,
}

/// What the socket has become.
#[derive(Debug)]
enum Role {
    Idle,
    Bound(Claim),
    Listening(Claim),
    /// A connection, in whatever state, and the claim of a socket that was bound before it connected.
    Connected(Arc<TcpEndpoint>, Option<Claim>),
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
        Self::with_role(Arc::clone(&stack.core), family, SocketOptions::default(), Arc::default(), Role::Idle)
    }

    fn with_role(
        core: Arc<Core>,
        family: Family,
        options: SocketOptions,
        waiters: Arc<WaitQueue>,
        role: Role,
    ) -> Self {
        let (options, tcp_options) = (Mutex::new(options), Mutex::default());
        Self { core, family, waiters, options, tcp_options, role: RwLock::new(role) }
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
            check_local(&self.core, address, &self.options.lock())?;
        }
        *role = Role::Bound(self.claim(address, nic, local.port())?);
        Ok(())
    }

    fn claim(&self, address: Option<IpAddr>, nic: Option<NicId>, port: u16) -> Result<Claim, BindError> {
        let binding = {
            let options = self.options.lock();
            Binding {
                address,
                family: self.family,
                only_v6: options.only_v6,
                nic: options.bound_nic.or(nic),
                reuse_address: options.reuse_address,
                reuse_port: options.reuse_port,
            }
        };
        let endpoint = ListenEndpoint::new(address, Arc::clone(&self.waiters));
        let table = &self.core.tcp_ports;
        let port = match port {
            0 => {
                let core = &self.core;
                let picked = table.bind_any(&core.ephemeral_ports, &core.secrets, binding, &endpoint);
                picked.map_err(|_| BindError::NoFreePort)?
            }
            port => {
                table.bind(port, binding, &endpoint).map_err(|_| BindError::AddressInUse)?;
                port
            }
        };
        Ok(Claim { endpoint, port })
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
        let (settings, port_use) = {
            let options = self.options.lock();
            let port_use = if options.reuse_address { PortUse::Shared } else { PortUse::Exclusive };
            (IpSettings::of(&options), port_use)
        };
        claim.endpoint.listen(&self.core, backlog, self.early_options(), settings, port_use);
        *role = Role::Listening(claim);
        Ok(())
    }

    /// Takes the oldest established connection and its peer.
    pub fn try_accept(&self) -> Result<(Self, SocketAddr), AcceptError> {
        let endpoint = match &*self.role.read() {
            Role::Listening(claim) => claim.endpoint.accept().ok_or(AcceptError::WouldBlock)?,
            Role::Idle | Role::Bound(_) | Role::Connected(..) | Role::Closed => {
                return Err(AcceptError::NotListening);
            }
        };
        let peer = self.peer_of(&endpoint.flow);
        let options = self.options.lock().clone();
        let waiters = Arc::clone(&endpoint.waiters);
        let role = Role::Connected(endpoint, None);
        Ok((Self::with_role(Arc::clone(&self.core), self.family, options, waiters, role), peer))
    }

    /// Starts a connection. Success means that the handshake is under way: the socket becomes writable when it is
    /// done, and [`take_error`](Self::take_error) tells if it failed. Calling again gives `AlreadyConnecting`, later
    /// `AlreadyConnected`. A socket whose handshake failed may try again.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        self.begin(remote, None)
    }

    /// Starts a connection; with Fast Open, the SYN carries what it says.
    fn begin(&self, remote: SocketAddr, fast_open: Option<tcp::FastOpen>) -> Result<(), ConnectError> {
        let (address, nic) = self.parse(remote).ok_or(ConnectError::FamilyMismatch)?;
        let mut role = self.role.write();
        let claim = match &*role {
            Role::Idle => None,
            Role::Bound(claim) => Some(claim.clone()),
            Role::Connected(endpoint, claim) => {
                self.may_connect_again(endpoint)?;
                claim.clone()
            }
            Role::Listening(_) => return Err(ConnectError::AlreadyConnected),
            Role::Closed => return Err(ConnectError::InvalidState),
        };
        let mut outbox = Outbox::default();
        let started = self.start(address, remote.port(), nic, claim.as_ref(), &mut outbox);
        if let Ok(endpoint) = &started {
            *role = Role::Connected(Arc::clone(endpoint), claim);
        }
        drop(role);
        if let (Ok(endpoint), Some(fast_open)) = (&started, fast_open) {
            // Before the outbox sends the SYN. Nobody else has seen the connection yet.
            let _ = endpoint.with(&self.core, &mut outbox, |inner| inner.machine.fast_open(fast_open));
        }
        outbox.flush(&self.core);
        started.map(drop)
    }

    fn may_connect_again(&self, endpoint: &Arc<TcpEndpoint>) -> Result<(), ConnectError> {
        let (state, error) = endpoint.with(&self.core, &mut Outbox::default(), |inner| {
            let state = inner.machine.state();
            let error = if state == State::Closed { inner.machine.take_error() } else { None };
            (state, error)
        });
        match (state, error) {
            (State::SynSent | State::SynReceived, _) => Err(ConnectError::AlreadyConnecting),
            (State::Closed, Some(reason)) => Err(ConnectError::Pending(socket_error(reason))),
            (State::Closed, None) => Ok(()),
            _ => Err(ConnectError::AlreadyConnected),
        }
    }

    fn start(
        &self,
        address: IpAddr,
        port: u16,
        nic: Option<NicId>,
        claim: Option<&Claim>,
        outbox: &mut Outbox,
    ) -> Result<Arc<TcpEndpoint>, ConnectError> {
        let core = &self.core;
        let options = self.options.lock().clone();
        if options.only_v6 && address.is_ipv4() {
            return Err(ConnectError::NetworkUnreachable);
        }
        let bound = claim.and_then(|claim| claim.endpoint.address);
        if bound.is_some_and(|bound| family_of(bound) != family_of(address)) {
            return Err(ConnectError::FamilyMismatch);
        }
        let nic = options.bound_nic.or(nic);
        let query = RouteQuery { destination: address, source: bound, nic };
        let origin = Origin { mark: options.mark, arrived_on: None };
        let egress = Egress::resolve_for(core, query, origin).map_err(|error| match error {
            RouteError::NetworkUnreachable | RouteError::NetworkDown => ConnectError::NetworkUnreachable,
            RouteError::NoSource => ConnectError::AddressNotAvailable,
            RouteError::Blackhole => ConnectError::InvalidAddress,
            RouteError::Unreachable => ConnectError::Pending(SocketError::HostUnreachable),
            RouteError::Prohibited => ConnectError::Pending(SocketError::Prohibited),
        })?;
        match egress.delivery {
            Delivery::Unicast | Delivery::Local(_) => {}
            // Linux: tcp_v4_connect refuses what is multicast or broadcast.
            Delivery::Broadcast | Delivery::Multicast => return Err(ConnectError::NetworkUnreachable),
        }
        let remote_addr = if address.is_unspecified() { egress.next_hop } else { address };
        let flow = Flow {
            local_addr: egress.source,
            remote_addr,
            local_port: claim.map_or(0, |claim| claim.port),
            remote_port: port,
            zone: zone_of(remote_addr, egress_nic(&egress)),
        };
        let port_use = if options.reuse_address { PortUse::Shared } else { PortUse::Exclusive };
        let settings = IpSettings::of(&options);
        match claim {
            Some(_) => {
                let endpoint = self.open(&flow, egress, settings, port_use, outbox);
                endpoint.ok_or(ConnectError::AddressNotAvailable)
            }
            None => self.open_ephemeral(flow, &egress, settings, port_use, outbox),
        }
    }

    /// Tries the ephemeral ports in the order of RFC 6056 section 3.3.3: from an offset that a hash of the destination
    /// gives, and a counter.
    fn open_ephemeral(
        &self,
        flow: Flow,
        egress: &Egress,
        settings: IpSettings,
        port_use: PortUse,
        outbox: &mut Outbox,
    ) -> Result<Arc<TcpEndpoint>, ConnectError> {
        let core = &self.core;
        let range = &core.ephemeral_ports;
        let count = u32::from(*range.end() - *range.start()) + 1;
        let offset = core.secrets.hash_pair(flow.local_addr, flow.remote_addr, u64::from(flow.remote_port));
        for _ in 0..count {
            let step = core.next_port.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // Below `count`, which is at most 2^16.
            let index = (offset.wrapping_add(u64::from(step)) % u64::from(count)) as u16;
            let flow = Flow { local_port: range.start() + index, ..flow };
            if core.tcp_ports.is_claimed(flow.local_port) || core.tcp.contains(&core.secrets, &flow) {
                continue;
            }
            if let Some(endpoint) = self.open(&flow, egress.clone(), settings, port_use, outbox) {
                return Ok(endpoint);
            }
        }
        Err(ConnectError::AddressNotAvailable)
    }

    /// Makes the connection and sends the SYN; `None` if the flow exists.
    fn open(
        &self,
        flow: &Flow,
        egress: Egress,
        settings: IpSettings,
        port_use: PortUse,
        outbox: &mut Outbox,
    ) -> Option<Arc<TcpEndpoint>> {
        let core = &self.core;
        let now = core.clock.now();
        let config = Arc::clone(&core.tcp_config.read());
        let options = self.early_options();
        let seed = core.seeds.seed(now, flow);
        let machine = Connection::connect(now, &config, options, flow, path_of(&egress), seed);
        let waiters = Arc::clone(&self.waiters);
        let endpoint = TcpEndpoint::new(*flow, machine, Some(egress), settings, waiters, port_use);
        if !endpoint.register(core) {
            return None;
        }
        core.counters.tcp_active_opens.increment();
        endpoint.touch(outbox);
        Some(endpoint)
    }

    /// Queues as much of `data` as fits and returns how much that was (never zero unless `data` is empty).
    pub fn try_send(&self, data: &mut dyn Source) -> Result<usize, SendError> {
        let endpoint = self.connection().ok_or(SendError::NotConnected)?;
        let core = &self.core;
        let room = endpoint.inspect(|inner| inner.machine.send_room());
        // Without room the machine still has to say why.
        let len = data.remaining().min(room).min(MAX_SEND);
        let mut copied = Copied::new();
        copied.copy_in(&core.send_pool, data, len)?;
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let result = endpoint.with(core, &mut outbox, |inner| match copied.send(&mut inner.machine, now) {
            Ok(0) if data.remaining() > 0 => Err(tcp::SendError::WouldBlock),
            result => result,
        });
        outbox.flush(core);
        result.map_err(send_error)
    }

    /// Receives what is there, up to the room of `out`. Zero is the end of the stream.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<usize, RecvError> {
        let endpoint = self.connection().ok_or(RecvError::NotConnected)?;
        if flags.peek {
            return self.peek(&endpoint, out);
        }
        let (mut total, mut ranges) = (0, Ranges::new());
        loop {
            let room = out.room();
            match self.take(&endpoint, room, &mut ranges) {
                Ok(()) => {}
                Err(_) if total > 0 => return Ok(total),
                Err(tcp::RecvError::WouldBlock) => return Err(RecvError::WouldBlock),
                Err(tcp::RecvError::Failed(reason)) => return Err(RecvError::Pending(socket_error(reason))),
            }
            let before = total;
            for (at, range) in ranges.iter().enumerate() {
                if let Err(fault) = out.write_from(range) {
                    self.put_back(&endpoint, &ranges[at..]);
                    // Linux reports what was copied before the fault.
                    return if total > 0 { Ok(total) } else { Err(fault.into()) };
                }
                total += range.len();
            }
            // Fewer ranges than one round takes: the queue is empty.
            let is_drained = ranges.len() < RANGES_PER_ROUND
                || endpoint.inspect(|inner| inner.machine.receive_queued()) == 0;
            if total - before == room || is_drained {
                return Ok(total);
            }
            ranges.clear();
        }
    }

    /// Takes some ranges of the receive queue under one lock; none at the end of the stream.
    fn take(
        &self,
        endpoint: &Arc<TcpEndpoint>,
        room: usize,
        ranges: &mut Ranges,
    ) -> Result<(), tcp::RecvError> {
        let core = &self.core;
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let result = endpoint.with(core, &mut outbox, |inner| {
            let mut left = room;
            while left > 0 && ranges.len() < RANGES_PER_ROUND {
                if !ranges.is_empty() && inner.machine.receive_queued() == 0 {
                    // An error that waits behind the data is for the next call.
                    break;
                }
                match inner.machine.take(now, left) {
                    Ok(range) if range.is_empty() => break,
                    Ok(range) => {
                        left -= range.len();
                        ranges.push(range);
                    }
                    Err(_) if !ranges.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        outbox.flush(core);
        result
    }

    /// Puts back what was taken and could not be stored, for the next reader.
    fn put_back(&self, endpoint: &Arc<TcpEndpoint>, ranges: &[Bytes]) {
        let mut outbox = Outbox::default();
        endpoint.with(&self.core, &mut outbox, |inner| {
            ranges.iter().rev().for_each(|range| inner.machine.put_back(range.clone()));
        });
        outbox.flush(&self.core);
    }

    fn peek(&self, endpoint: &Arc<TcpEndpoint>, out: &mut dyn Sink) -> Result<usize, RecvError> {
        let core = &self.core;
        let mut outbox = Outbox::default();
        let result = endpoint.with(core, &mut outbox, |inner| {
            let mut seen = vec![0; out.room().min(inner.machine.receive_queued())];
            inner.machine.peek(0, &mut seen).map(|len| {
                seen.truncate(len);
                seen
            })
        });
        outbox.flush(core);
        match result {
            Ok(seen) => {
                out.write_from(&seen)?;
                Ok(seen.len())
            }
            Err(tcp::RecvError::WouldBlock) => Err(RecvError::WouldBlock),
            Err(tcp::RecvError::Failed(reason)) => Err(RecvError::Pending(socket_error(reason))),
        }
    }

    /// Shuts directions: `Write` queues a FIN behind the data, `Read` discards what comes later and sends nothing.
    /// On a listener, `Read` stops listening.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), ShutdownError> {
        let mut outbox = Outbox::default();
        let result = {
            let mut role = self.role.write();
            match &*role {
                Role::Connected(endpoint, _) => {
                    let how = match how {
                        Shutdown::Read => tcp::Shutdown::Read,
                        Shutdown::Write => tcp::Shutdown::Write,
                        Shutdown::Both => tcp::Shutdown::Both,
                    };
                    endpoint.with(&self.core, &mut outbox, |inner| {
                        let outcome = inner.machine.shutdown(self.core.clock.now(), how);
                        outcome.map(|outcome| inner.note(outcome))
                    })
                }
                Role::Listening(claim) => {
                    let claim = claim.clone();
                    if how != Shutdown::Write {
                        self.core.tcp_ports.stop_receiving(claim.port, &claim.endpoint);
                        claim.endpoint.close(&self.core, &mut outbox);
                        *role = Role::Bound(claim);
                    }
                    Ok(())
                }
                Role::Idle | Role::Bound(_) | Role::Closed => Err(tcp::ShutdownError::NotConnected),
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
        let role = std::mem::replace(&mut *self.role.write(), Role::Closed);
        let mut outbox = Outbox::default();
        let claim = match role {
            Role::Idle | Role::Closed => None,
            Role::Bound(claim) => Some(claim),
            Role::Listening(claim) => {
                self.core.tcp_ports.stop_receiving(claim.port, &claim.endpoint);
                claim.endpoint.close(&self.core, &mut outbox);
                Some(claim)
            }
            Role::Connected(endpoint, claim) => {
                endpoint.with(&self.core, &mut outbox, |inner| {
                    let outcome = how(&mut inner.machine, self.core.clock.now());
                    inner.note(outcome);
                });
                claim
            }
        };
        if let Some(claim) = claim {
            self.core.tcp_ports.unbind(claim.port, &claim.endpoint);
        }
        outbox.flush(&self.core);
    }

    /// The state of the connection.
    pub fn state(&self) -> State {
        match &*self.role.read() {
            Role::Connected(endpoint, _) => endpoint.inspect(|inner| inner.machine.state()),
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
            None => self.early_options(),
        }
    }

    fn early_options(&self) -> tcp::Options {
        self.tcp_options.lock().as_deref().copied().unwrap_or_default()
    }

    fn change_early_options(&self, change: impl FnOnce(&mut tcp::Options)) -> tcp::Options {
        let mut early = self.tcp_options.lock();
        let options = early.get_or_insert_default();
        change(options);
        **options
    }

    /// Changes TCP options; the new ones take effect at once where Linux's do.
    pub fn set_tcp_options(&self, change: impl FnOnce(&mut tcp::Options)) {
        let mut outbox = Outbox::default();
        match &*self.role.read() {
            Role::Connected(endpoint, _) => endpoint.with(&self.core, &mut outbox, |inner| {
                let mut options = *inner.machine.options();
                change(&mut options);
                inner.machine.set_options(self.core.clock.now(), options);
            }),
            Role::Listening(claim) => {
                let options = self.change_early_options(change);
                claim.endpoint.set_options(|current| *current = options);
            }
            Role::Idle | Role::Bound(_) | Role::Closed => drop(self.change_early_options(change)),
        }
        outbox.flush(&self.core);
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
            Role::Connected(endpoint, _) => {
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
            Role::Connected(endpoint, _) => endpoint.readiness(),
        }
    }

    /// Where to wait for changes of the readiness.
    pub fn wait_queue(&self) -> &WaitQueue {
        &self.waiters
    }

    /// The options.
    pub fn options(&self) -> SocketOptions {
        self.options.lock().clone()
    }

    /// Changes options; the new ones take effect at once.
    ///
    /// The buffer sizes are those of [`tcp::Options`], which this keeps in step when they are changed here.
    pub fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        let (settings, send_buffer, recv_buffer) = {
            let mut options = self.options.lock();
            let before = (options.send_buffer, options.recv_buffer);
            change(&mut options);
            let changed =
                |old: usize, new: usize| (old != new).then(|| u32::try_from(new).unwrap_or(u32::MAX));
            (
                IpSettings::of(&options),
                changed(before.0, options.send_buffer),
                changed(before.1, options.recv_buffer),
            )
        };
        if send_buffer.is_some() || recv_buffer.is_some() {
            self.set_tcp_options(|options| {
                options.send_buffer = send_buffer.or(options.send_buffer);
                options.receive_buffer = recv_buffer.or(options.receive_buffer);
            });
        }
        match &*self.role.read() {
            Role::Connected(endpoint, _) => endpoint.set_ip_settings(settings),
            Role::Listening(claim) => claim.endpoint.set_ip_settings(settings),
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

    fn connection(&self) -> Option<Arc<TcpEndpoint>> {
        match &*self.role.read() {
            Role::Connected(endpoint, _) => Some(Arc::clone(endpoint)),
            Role::Idle | Role::Bound(_) | Role::Listening(_) | Role::Closed => None,
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

impl Drop for TcpSocket {
    fn drop(&mut self) {
        self.close();
    }
}

fn egress_nic(egress: &Egress) -> NicId {
    match egress.delivery {
        Delivery::Local(nic) => nic,
        Delivery::Unicast | Delivery::Broadcast | Delivery::Multicast => egress.interface.id,
    }
}

fn send_error(error: tcp::SendError) -> SendError {
    match error {
        tcp::SendError::WouldBlock => SendError::WouldBlock,
        tcp::SendError::WriteClosed => SendError::Shutdown,
        tcp::SendError::Failed(reason) => SendError::Pending(socket_error(reason)),
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

/// The most that one call copies: enough to fill several super-segments, little enough to stay in the cache.
const MAX_SEND: usize = 256 << 10;
/// Ranges on their way from the receive queue to the application.
type Ranges = SmallVec<[Bytes; RANGES_PER_ROUND]>;

/// Ranges taken per lock; more than a reader's buffer usually spans.
const RANGES_PER_ROUND: usize = 16;
