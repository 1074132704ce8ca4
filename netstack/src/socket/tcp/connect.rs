//! Opening connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use netstack_wire::ip::Protocol;

use super::{Claim, Role, Settings, TcpSocket, socket_error};
use crate::bpf::Program;
use crate::cidr::family_of;
use crate::error::{ConnectError, RouteError, SocketError};
use crate::ip::flow_label::{self, ConnectionLabel};
use crate::ip::{Delivery, Egress, Origin, RouteQuery, zone_of};
use crate::nic::NicId;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::port_users::PortUse;
use crate::route::PacketFacts;
use crate::socket::udp::may_send_from;
use crate::tcp::{self, Connection, Flow, State};
use crate::tcp_endpoint::{TcpEndpoint, facts_of, path_of};
use crate::time::Instant;

impl TcpSocket {
    /// Starts a connection. Success means that the handshake is under way: the socket becomes writable when it is
    /// done, and [`take_error`](Self::take_error) tells if it failed. Calling again gives `AlreadyConnecting`, later
    /// `AlreadyConnected`. A socket whose handshake failed may try again.
    ///
    /// With [`fast_open_connect`](tcp::Options::fast_open_connect), the SYN may wait for the first data:
    /// [`waits_for_data`](Self::waits_for_data).
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        let opening = self.opening(remote);
        self.begin(remote, opening)
    }

    /// Starts a connection without Fast Open.
    pub(super) fn connect_plainly(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        self.begin(remote, Opening::Plain)
    }

    /// Starts a connection; with Fast Open, the SYN carries what it says.
    pub(super) fn begin(&self, remote: SocketAddr, opening: Opening) -> Result<(), ConnectError> {
        let (address, nic) = self.parse(remote).ok_or(ConnectError::FamilyMismatch)?;
        // Not under the lock, which observers that are told take to look at the socket.
        let previous = self.connection();
        if let Some(endpoint) = &previous {
            self.may_connect_again(endpoint)?;
        }
        let mut role = self.role.write();
        let claim = match &*role {
            Role::Idle => None,
            Role::Bound(claim) => Some(claim.clone()),
            Role::Connected(endpoint) => {
                // Another thread was faster.
                if !previous.is_some_and(|previous| Arc::ptr_eq(&previous, endpoint)) {
                    return Err(ConnectError::AlreadyConnecting);
                }
                self.settings.lock().early.as_ref().and_then(|early| early.claim.clone())
            }
            Role::Listening(_) => return Err(ConnectError::AlreadyConnected),
            Role::Closed => return Err(ConnectError::InvalidState),
        };
        let label = match remote {
            SocketAddr::V6(remote) => remote.flowinfo() & flow_label::MASK,
            SocketAddr::V4(_) => 0,
        };
        let mut outbox = Outbox::default();
        let set = Set::of(&self.settings.lock());
        let keeps_claim = claim.is_some() || set.has_early;
        let started = self.start(address, remote.port(), nic, claim.as_deref(), set, &mut outbox);
        if let Ok(endpoint) = &started {
            if keeps_claim {
                self.settings.lock().early_mut(claim.is_some(), |early| early.claim = claim);
            }
            if self.first.set(Arc::clone(endpoint)).is_err() {
                // A handshake has failed before.
                self.first.get().into_iter().for_each(|first| first.leave());
            }
            *role = Role::Connected(Arc::clone(endpoint));
        }
        drop(role);
        if let Ok(endpoint) = &started {
            if label != 0 {
                endpoint.set_label(ConnectionLabel::Fixed(label));
            }
            // The first use of the machine: what it sends depends on that.
            endpoint.with(&self.core, &mut outbox, |inner| match opening {
                Opening::Plain => {}
                Opening::Deferred => inner.machine.hold_syn(),
                // It is fresh.
                Opening::With(fast_open) => drop(inner.machine.fast_open(fast_open)),
            });
        }
        outbox.flush(&self.core);
        started.map(drop)
    }

    fn may_connect_again(&self, endpoint: &Arc<TcpEndpoint>) -> Result<(), ConnectError> {
        let (state, error) = endpoint.with(&self.core, &mut Outbox::default(), |inner| {
            let state = inner.machine.state();
            let error = if state == State::Closed { inner.machine.take_error() } else { None };
            // For the user, a deferred connection is one that exists (Linux, __inet_stream_connect).
            let state = if inner.machine.is_syn_held() { State::Established } else { state };
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
        set: Set,
        outbox: &mut Outbox,
    ) -> Result<Arc<TcpEndpoint>, ConnectError> {
        let core = &self.core;
        let options = &set.socket;
        if options.only_v6 && address.is_ipv4() {
            return Err(ConnectError::NetworkUnreachable);
        }
        let bound = claim.and_then(|claim| claim.endpoint.address);
        if bound.is_some_and(|bound| family_of(bound) != family_of(address)) {
            return Err(ConnectError::FamilyMismatch);
        }
        if bound.is_some_and(|bound| !may_send_from(core, bound, options)) {
            return Err(ConnectError::NetworkUnreachable);
        }
        let nic = options.bound_nic.or(nic);
        let hop = options.extensions.as_ref().filter(|_| address.is_ipv6());
        let hop = hop.and_then(|extensions| extensions.first_hop()).map(IpAddr::V6);
        let query = RouteQuery { destination: hop.unwrap_or(address), source: bound, nic };
        let local_port = claim.map_or(0, |claim| claim.port);
        let facts = || PacketFacts::of_socket(options, Protocol::TCP.0, (local_port, port), address);
        let resolved = match (nic, options.mark) {
            (None, 0) if hop.is_none() => core.ways.find(core, bound, address, outbox.now(core), facts),
            (None | Some(_), mark) => {
                Egress::resolve_for(core, query, Origin { mark, arrived_on: None, packet: facts() })
            }
        };
        let egress = resolved.map_err(refusal)?;
        match egress.delivery {
            Delivery::Unicast | Delivery::Local(_) => {}
            // Linux: tcp_v4_connect refuses what is multicast or broadcast.
            Delivery::Broadcast | Delivery::Multicast => return Err(ConnectError::NetworkUnreachable),
        }
        let remote_addr = if address.is_unspecified() { egress.next_hop } else { address };
        let flow = Flow {
            local_addr: egress.source,
            remote_addr,
            local_port,
            remote_port: port,
            zone: zone_of(remote_addr, egress_nic(&egress)),
        };
        let port_use = if options.reuse_address { PortUse::Shared } else { PortUse::Exclusive };
        let now = outbox.now(core);
        match claim {
            Some(_) => {
                let opened = self.open(&flow, egress, set, port_use, now);
                opened.map_err(|_| ConnectError::AddressNotAvailable)
            }
            None => self.open_ephemeral(flow, (egress, nic), set, port_use, now),
        }
    }

    /// Tries the ephemeral ports in the order of RFC 6056 section 3.3.3: from an offset that a hash of the destination
    /// gives, and a counter.
    fn open_ephemeral(
        &self,
        flow: Flow,
        (mut egress, nic): (Egress, Option<NicId>),
        mut set: Set,
        port_use: PortUse,
        now: Instant,
    ) -> Result<Arc<TcpEndpoint>, ConnectError> {
        let core = &self.core;
        let range = core.ephemeral_ports(&set.socket);
        let count = u32::from(*range.end() - *range.start()) + 1;
        let offset = core.secrets.hash_pair(flow.local_addr, flow.remote_addr, u64::from(flow.remote_port));
        // Most tries are the first and succeed: the table is asked before a connection is made for it only after that.
        let mut is_crowded = false;
        for _ in 0..count {
            let step = core.next_port.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // Below `count`, which is at most 2^16.
            let index = (offset.wrapping_add(u64::from(step)) % u64::from(count)) as u16;
            let flow = Flow { local_port: range.start() + index, ..flow };
            let is_taken = core.tcp_ports.is_claimed(flow.local_port)
                || is_crowded && core.tcp.contains(&core.secrets, &flow);
            if is_taken {
                continue;
            }
            // ip_route_newports: rules may choose by the port. IPv6 does not ask them again.
            if egress.is_particular() && flow.local_addr.is_ipv4() {
                let (destination, source) = (flow.remote_addr, Some(flow.local_addr));
                let packet = facts_of(&flow, &set.socket);
                let origin = Origin { mark: set.socket.mark, arrived_on: None, packet };
                let query = RouteQuery { destination, source, nic };
                egress = Egress::resolve_for(core, query, origin).map_err(refusal)?;
            }
            egress = match self.open(&flow, egress, set, port_use, now) {
                Ok(endpoint) => return Ok(endpoint),
                Err(unused) => unused.ok_or(ConnectError::AddressNotAvailable)?,
            };
            set = Set::of(&self.settings.lock());
            is_crowded = true;
        }
        Err(ConnectError::AddressNotAvailable)
    }

    /// Makes the connection, whose SYN is the next thing to be sent; gives back the way if the flow exists.
    fn open(
        &self,
        flow: &Flow,
        egress: Egress,
        set: Set,
        port_use: PortUse,
        now: Instant,
    ) -> Result<Arc<TcpEndpoint>, Option<Egress>> {
        let core = &self.core;
        let Set { socket, tcp, filter, has_early: _, restored } = set;
        let path = path_of(&egress);
        let machine = match restored {
            None => {
                let seed = core.seeds.seed(now, flow);
                Connection::connect(now, &core.tcp_config.lock(), tcp, flow, path, seed)
            }
            Some(snapshot) => Connection::restore(now, &core.tcp_config.lock(), tcp, flow, path, &snapshot),
        };
        let waiters = Arc::clone(&self.waiters);
        let endpoint = TcpEndpoint::new(*flow, machine, Some(egress), socket, waiters, filter, port_use);
        if !endpoint.register(core) {
            return Err(TcpEndpoint::into_egress(endpoint));
        }
        core.counters.tcp_active_opens.increment();
        Ok(endpoint)
    }
}

/// What the user has set, for the connection that begins.
struct Set {
    socket: Arc<SocketOptions>,
    tcp: Arc<tcp::Options>,
    filter: Option<Program>,
    /// Something unusual was set.
    has_early: bool,
    /// What the connection goes on from, if it is not a new one.
    restored: Option<Box<tcp::Snapshot>>,
}

impl Set {
    fn of(settings: &Settings) -> Self {
        let early = settings.early.as_ref();
        Self {
            socket: Arc::clone(&settings.socket),
            tcp: settings.tcp_options(),
            filter: early.and_then(|early| early.filter.clone()),
            has_early: early.is_some(),
            restored: early.and_then(|early| early.restored.clone()),
        }
    }
}

/// How a connection begins.
#[derive(Debug)]
pub(super) enum Opening {
    /// With an ordinary SYN.
    Plain,
    /// With a SYN that carries data or asks for a cookie.
    With(tcp::FastOpen),
    /// With a SYN that waits for data.
    Deferred,
}

fn refusal(error: RouteError) -> ConnectError {
    match error {
        RouteError::NetworkUnreachable | RouteError::NetworkDown => ConnectError::NetworkUnreachable,
        RouteError::NoSource => ConnectError::AddressNotAvailable,
        RouteError::Blackhole => ConnectError::InvalidAddress,
        RouteError::Unreachable => ConnectError::Pending(SocketError::HostUnreachable),
        RouteError::Prohibited => ConnectError::Pending(SocketError::Prohibited),
    }
}

fn egress_nic(egress: &Egress) -> NicId {
    match egress.delivery {
        Delivery::Local(nic) => nic,
        Delivery::Unicast | Delivery::Broadcast | Delivery::Multicast => egress.interface.id,
    }
}
