//! The sockets that packets are for: the `socket` test, and rules that give packets to a proxy.
//!
//! A proxy listens somewhere, and takes packets to anywhere: a rule where packets arrive names its address and port, and a route of
//! kind [`Local`](crate::route::RouteKind::Local) keeps the packets here (Linux's Documentation/networking/tproxy.rst). Only sockets
//! with `IP_TRANSPARENT` are given packets like that.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use crate::sync::BriefMutex;
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::TcpFlags;

use super::icmp::quoted_tuple;
use super::subject::Subject;
use crate::conntrack::{ConnStatus, Direction, Identified, Tuple};
use crate::ip::zone_of;
use crate::nic::{InterfaceAddress, NicId};
use crate::port_table::{Found, Target};
use crate::socket::DatagramEndpoint;
use crate::tcp::{Flow, State};
use crate::tcp_endpoint::{ListenEndpoint, TcpEndpoint};

/// A socket that a rule has found for a packet.
#[derive(Debug, Clone)]
pub(crate) enum AssignedSocket {
    /// It takes new connections.
    Listener(Arc<ListenEndpoint>),
    /// It takes datagrams.
    Datagram(Arc<DatagramEndpoint>),
    /// The connection, which takes its segments wherever they are for.
    Connection,
}

/// Where a rule wants a packet to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProxyPlace {
    /// The address that the socket is bound to; that of the NIC if it is not set.
    pub(super) address: Option<IpAddr>,
    /// The port; the packet's if it is zero.
    pub(super) port: u16,
}

/// What is known of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketFacts {
    pub(super) is_transparent: bool,
    /// Whether it is bound to no address, and its mark. Of handshakes and of connections that are over nothing more is known.
    pub(super) full: Option<(bool, u32)>,
}

/// The listeners that rules have given segments to.
#[derive(Debug, Default)]
pub(crate) struct Proxies(BriefMutex<Vec<Proxy>>);

#[derive(Debug)]
struct Proxy {
    listener: Weak<ListenEndpoint>,
    /// The last flow that it was given.
    last: Flow,
}

impl Proxies {
    fn note(&self, listener: &Arc<ListenEndpoint>, flow: &Flow) {
        let mut proxies = self.0.lock();
        proxies.retain(|proxy| proxy.listener.strong_count() > 0);
        let known = proxies.iter().position(|proxy| proxy.listener.as_ptr() == Arc::as_ptr(listener));
        match known {
            Some(known) => proxies[known].last = *flow,
            None if proxies.len() < MAX_PROXIES => {
                proxies.push(Proxy { listener: Arc::downgrade(listener), last: *flow });
            }
            None => {}
        }
    }

    /// The listener in the middle of the handshake of a flow.
    pub(crate) fn knowing(&self, flow: &Flow) -> Option<Arc<ListenEndpoint>> {
        // Outside of the lock: listeners have locks of their own.
        let listeners: Vec<_> = self.0.lock().iter().filter_map(|proxy| proxy.listener.upgrade()).collect();
        listeners.into_iter().find(|listener| listener.knows(flow))
    }

    /// The listener that was given a flow at last.
    pub(crate) fn last_given(&self, flow: &Flow) -> Option<Arc<ListenEndpoint>> {
        let proxies = self.0.lock();
        proxies.iter().find(|proxy| proxy.last == *flow)?.listener.upgrade()
    }
}

/// The two ends of a packet's flow as its socket here has them.
struct Sought {
    protocol: Protocol,
    target: Target,
}

impl Sought {
    fn of(subject: &Subject<'_>) -> Option<Self> {
        let transit = &*subject.transit;
        let nic = subject.input.or(subject.output)?.id;
        let identified =
            Tuple::identify(transit.source, transit.destination, transit.protocol, transit.transport());
        let is_arriving = subject.input.is_some();
        let ((local, local_port), (remote, remote_port), protocol) = match identified {
            Identified::Flow(tuple) if is_arriving => (to(&tuple), from(&tuple), tuple.protocol),
            Identified::Flow(tuple) => (from(&tuple), to(&tuple), tuple.protocol),
            // An error is for the socket that sent what it quotes.
            Identified::Error if is_arriving => {
                let message = transit.packet.to_bytes();
                let tuple = quoted_tuple(message.get(netstack_wire::icmpv4::HEADER_LEN..)?)?;
                (from(&tuple), to(&tuple), tuple.protocol)
            }
            _ => return None,
        };
        matches!(protocol, Protocol::TCP | Protocol::UDP).then_some(())?;
        let (local, local_port) = untranslated(subject).unwrap_or((local, local_port));
        Some(Self { protocol, target: Target { local, local_port, remote, remote_port, nic } })
    }

    fn flow(&self) -> Flow {
        flow_of(&self.target)
    }
}

fn from(tuple: &Tuple) -> (IpAddr, u16) {
    (tuple.source, tuple.source_id)
}

fn to(tuple: &Tuple) -> (IpAddr, u16) {
    (tuple.destination, tuple.destination_id)
}

fn flow_of(target: &Target) -> Flow {
    Flow {
        local_addr: target.local,
        remote_addr: target.remote,
        local_port: target.local_port,
        remote_port: target.remote_port,
        zone: zone_of(target.remote, target.nic),
    }
}

/// The end of ours of an answer to a flow whose source is translated (`nf_sk_lookup_slow_v4`).
fn untranslated(subject: &Subject<'_>) -> Option<(IpAddr, u16)> {
    let tracking = subject.tracking.filter(|_| subject.input.is_some())?;
    let is_answer =
        tracking.direction == Direction::Reply && tracking.conn.status().contains(ConnStatus::SNAT);
    is_answer.then(|| from(&tracking.conn.tuple(Direction::Original)))
}

/// What is known of the socket that a packet is for, or was sent by.
pub(super) fn facts(subject: &Subject<'_>) -> Option<SocketFacts> {
    match &subject.assigned {
        Some(AssignedSocket::Listener(listener)) => return Some(of_listener(listener)),
        Some(AssignedSocket::Datagram(endpoint)) => return Some(of_datagram(endpoint)),
        Some(AssignedSocket::Connection) | None => {}
    }
    let sought = Sought::of(subject)?;
    let core = subject.core;
    if sought.protocol == Protocol::UDP {
        let found = core.udp.lookup(&sought.target, || core.secrets.hash_flow(&sought.flow()))?;
        return Some(of_datagram(&found.by_hash()));
    }
    let flow = sought.flow();
    if let Some(endpoint) = core.tcp.get(&core.secrets, &flow) {
        return Some(of_connection(&endpoint));
    }
    let listener =
        core.tcp_ports.lookup(&sought.target, || core.secrets.hash_flow(&flow)).map(Found::by_hash);
    let begun = listener.clone().filter(|listener| listener.knows(&flow));
    match begun.or_else(|| core.filter.proxies.knowing(&flow)) {
        Some(begun) => Some(SocketFacts { full: None, ..of_listener(&begun) }),
        None => listener.map(|listener| of_listener(&listener)),
    }
}

fn of_listener(listener: &ListenEndpoint) -> SocketFacts {
    let (is_transparent, mark) =
        listener.look_at_options(|options| (options.transparent, options.mark)).unwrap_or_default();
    SocketFacts { is_transparent, full: Some((listener.address.is_none(), mark)) }
}

fn of_connection(endpoint: &TcpEndpoint) -> SocketFacts {
    let options = endpoint.socket_options();
    let is_over = endpoint.inspect(|inner| inner.machine.state()) == State::TimeWait;
    SocketFacts { is_transparent: options.transparent, full: (!is_over).then_some((false, options.mark)) }
}

fn of_datagram(endpoint: &DatagramEndpoint) -> SocketFacts {
    let state = endpoint.lock();
    let is_anywhere = state.bound.or(state.connected_from).is_none();
    SocketFacts { is_transparent: state.options.transparent, full: Some((is_anywhere, state.options.mark)) }
}

/// Gives a packet that arrives to the socket of its flow, or to the one at a place; false if there is none, or none that may have
/// packets to anywhere (`nft_tproxy_eval_v4`).
pub(super) fn give(subject: &mut Subject<'_>, place: &ProxyPlace) -> bool {
    let found = find_proxy(subject, place);
    let is_found = found.is_some();
    if let Some(found) = found {
        subject.assigned = Some(found);
    }
    is_found
}

fn find_proxy(subject: &Subject<'_>, place: &ProxyPlace) -> Option<AssignedSocket> {
    let transit = &*subject.transit;
    let nic = subject.input?.id;
    let Identified::Flow(tuple) =
        Tuple::identify(transit.source, transit.destination, transit.protocol, transit.transport())
    else {
        return None;
    };
    let ((local, local_port), (remote, remote_port)) = (to(&tuple), from(&tuple));
    let own = Target { local, local_port, remote, remote_port, nic };
    let local = place.address.unwrap_or_else(|| address_of(subject, nic).unwrap_or(local));
    let local_port = if place.port == 0 { local_port } else { place.port };
    let there = Target { local, local_port, ..own };
    match tuple.protocol {
        Protocol::TCP => find_stream(subject, &own, &there),
        Protocol::UDP => find_datagram(subject, &own, &there),
        _ => None,
    }
}

fn find_stream(subject: &Subject<'_>, own: &Target, there: &Target) -> Option<AssignedSocket> {
    let core = subject.core;
    let flow = flow_of(own);
    if let Some(endpoint) = core.tcp.get(&core.secrets, &flow) {
        // A SYN for a connection that is over begins another one, if somebody listens.
        let flags = subject.transit.transport().get(TCP_FLAGS_OFFSET).copied().unwrap_or(0);
        let is_opening = TcpFlags::from_bits_retain(flags) & OPENING == TcpFlags::SYN;
        let is_over = is_opening && endpoint.inspect(|inner| inner.machine.state()) == State::TimeWait;
        if !is_over {
            return endpoint.socket_options().transparent.then_some(AssignedSocket::Connection);
        }
    }
    let begun = core.filter.proxies.knowing(&flow);
    let listener = match begun {
        Some(listener) => listener,
        None => core.tcp_ports.lookup(there, || core.secrets.hash_flow(&flow))?.by_hash(),
    };
    if !of_listener(&listener).is_transparent {
        return None;
    }
    core.filter.proxies.note(&listener, &flow);
    Some(AssignedSocket::Listener(listener))
}

fn find_datagram(subject: &Subject<'_>, own: &Target, there: &Target) -> Option<AssignedSocket> {
    let core = subject.core;
    let find = |target: &Target, is_connected: bool| {
        let found = core.udp.lookup(target, || core.secrets.hash_flow(&flow_of(target)))?.by_hash();
        let fits = found.lock().peer.is_some() == is_connected;
        fits.then_some(found)
    };
    let found = find(own, true).or_else(|| find(there, false))?;
    of_datagram(&found).is_transparent.then_some(AssignedSocket::Datagram(found))
}

/// The first address of a NIC of the packet's family, of the widest scope.
fn address_of(subject: &Subject<'_>, nic: NicId) -> Option<IpAddr> {
    let topology = subject.core.topology.load();
    let is_v4 = subject.transit.is_v4();
    let addresses = || {
        let entry = topology.nics.get(&nic);
        let own = entry.into_iter().flat_map(|entry| &entry.addresses);
        own.filter(|own| own.address().is_ipv4() == is_v4 && own.state.is_usable())
            .map(InterfaceAddress::address)
    };
    let is_narrow =
        |address: &IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    addresses().find(|address| !is_narrow(address)).or_else(|| addresses().next())
}

const TCP_FLAGS_OFFSET: usize = 13;
/// What a segment that opens a connection has only the first of.
const OPENING: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK).union(TcpFlags::RST).union(TcpFlags::FIN);
/// Bounds the memory for listeners that rules lead to. Those beyond have handshakes that tests do not see.
const MAX_PROXIES: usize = 256;
