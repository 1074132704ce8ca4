//! The requests that a forwarder hands out, and what can be decided about each.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::seq::SeqNum;
use netstack_wire::udp::UdpRepr;

use crate::cidr::family_of;
use crate::forward::{ForwardEndpoint, ForwardError, Unreachable, reply};
use crate::ip::IpMeta;
use crate::nic::NicId;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::socket::{TcpSocket, UdpSocket, socket_addr};
use crate::stack::Core;
use crate::tcp::{self, Connection, Flow, SegmentIn};
use crate::tcp_endpoint::{facts_of, path_of, resolve, send_bare};

/// Something to decide about.
#[derive(Debug)]
pub enum Request {
    /// Somebody opens a TCP connection.
    Tcp(TcpRequest),
    /// Somebody sent a UDP datagram.
    Udp(UdpRequest),
    /// Somebody sent an echo request.
    Echo(EchoRequest),
}

/// A SYN, as it waits in the queue.
pub(super) struct SynAsked {
    pub(super) flow: Flow,
    pub(super) segment: SegmentIn,
    /// The flow was in TIME-WAIT; the new connection's numbers begin above this one.
    pub(super) isn_above: Option<SeqNum>,
}

/// A datagram, as it waits in the queue.
pub(super) struct UdpAsked {
    pub(super) ip: IpMeta,
    pub(super) header: UdpRepr,
    pub(super) payload: Body,
    /// For quoting.
    pub(super) packet: Packet,
}

/// An echo request, as it waits in the queue.
pub(super) struct EchoAsked {
    pub(super) ip: IpMeta,
    pub(super) ident: u16,
    pub(super) sequence: u16,
    /// From the IP header on.
    pub(super) message: Bytes,
    /// Where the data begins in it.
    pub(super) payload_at: usize,
}

/// A connection that somebody tries to open. Nothing is answered until the program decides; dropping it ignores the
/// SYN, and the next one of the flow is a new request.
pub struct TcpRequest {
    core: Arc<Core>,
    endpoint: Arc<ForwardEndpoint>,
    asked: SynAsked,
}

impl TcpRequest {
    pub(super) fn new(core: Arc<Core>, endpoint: Arc<ForwardEndpoint>, asked: SynAsked) -> Self {
        Self { core, endpoint, asked }
    }

    /// Who opens it.
    pub fn from(&self) -> SocketAddr {
        let Flow { remote_addr, remote_port, zone, .. } = self.asked.flow;
        socket_addr(family_of(remote_addr), remote_addr, remote_port, NicId::from_index(zone))
    }

    /// Whom it is meant for.
    pub fn to(&self) -> SocketAddr {
        let Flow { local_addr, local_port, zone, .. } = self.asked.flow;
        socket_addr(family_of(local_addr), local_addr, local_port, NicId::from_index(zone))
    }

    /// Answers the SYN. The socket is in SYN-RECEIVED and becomes writable when the handshake is complete; its own
    /// address is the one that was asked for.
    pub fn accept(self) -> Result<TcpSocket, ForwardError> {
        self.accept_with(tcp::Options::default())
    }

    /// The same with TCP options that hold from the SYN-ACK on.
    pub fn accept_with(self, options: impl Into<Arc<tcp::Options>>) -> Result<TcpSocket, ForwardError> {
        let (core, SynAsked { flow, segment, isn_above }) = (&self.core, &self.asked);
        let egress = resolve(core, flow, core.clock.now(), || facts_of(flow, &SocketOptions::default()))
            .map_err(|_| ForwardError::NetworkUnreachable)?;
        let now = core.clock.now();
        let config = Arc::clone(&core.tcp_config.lock());
        let mut seed = core.seeds.seed(now, flow);
        if let Some(above) = *isn_above {
            seed.iss = seed.iss.max(above);
        }
        let machine = Connection::answer(now, &config, options, flow, path_of(&egress), seed, segment);
        let socket = TcpSocket::of_machine(core, *flow, machine, egress).ok_or(ForwardError::Exists)?;
        core.counters.tcp_passive_opens.increment();
        Ok(socket)
    }

    /// Answers with a reset, as a host without a listener does.
    pub fn refuse(self) {
        let mut outbox = Outbox::default();
        if let Some(reset) = tcp::reset_reply(&self.asked.segment) {
            send_bare(&self.core, &self.asked.flow, &SocketOptions::default(), reset, &mut outbox);
        }
        outbox.flush(&self.core);
    }

    /// Answers with an ICMP error.
    pub fn reject(self, reason: Unreachable) {
        reply::reject_syn(&self.core, &self.asked.flow, &self.asked.segment.repr, reason);
    }
}

impl Drop for TcpRequest {
    fn drop(&mut self) {
        // After the decision took effect: a connection that exists takes the next SYN itself.
        self.endpoint.settle(&self.asked.flow);
    }
}

impl std::fmt::Debug for TcpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpRequest").field("flow", &self.asked.flow).finish_non_exhaustive()
    }
}

/// A datagram for somebody else. Dropping it ignores it.
pub struct UdpRequest {
    core: Arc<Core>,
    asked: UdpAsked,
}

impl UdpRequest {
    pub(super) fn new(core: Arc<Core>, asked: UdpAsked) -> Self {
        Self { core, asked }
    }

    /// Who sent it.
    pub fn from(&self) -> SocketAddr {
        let UdpAsked { ip, header, .. } = &self.asked;
        socket_addr(family_of(ip.source), ip.source, header.source_port, Some(ip.nic))
    }

    /// Whom it is meant for.
    pub fn to(&self) -> SocketAddr {
        let UdpAsked { ip, header, .. } = &self.asked;
        socket_addr(family_of(ip.destination), ip.destination, header.destination_port, Some(ip.nic))
    }

    /// Its data, in pieces.
    pub fn payload(&self) -> &Body {
        &self.asked.payload
    }

    /// How much data there is.
    pub fn payload_len(&self) -> usize {
        self.asked.payload.iter().map(Bytes::len).sum()
    }

    /// Its time to live or hop limit.
    pub fn ttl(&self) -> u8 {
        self.asked.ip.ttl
    }

    /// Makes a socket of its flow: bound to the address that was asked for, connected to the sender, with this
    /// datagram as the first one to receive. Later datagrams of the flow go to the socket.
    ///
    /// Flows that share a destination port share a list in the stack; a program with thousands of flows to one port
    /// does better with a table of its own and [`Forwarder::send_udp`](super::Forwarder::send_udp).
    pub fn accept(self) -> Result<UdpSocket, ForwardError> {
        let UdpAsked { ip, header, payload, packet: _ } = self.asked;
        UdpSocket::of_flow(&self.core, &ip, &header, payload)
    }

    /// Answers with an ICMP error.
    pub fn reject(self, reason: Unreachable) {
        let UdpAsked { ip, packet, .. } = &self.asked;
        let mut quoted = packet.clone();
        quoted.trim_front(usize::from(packet.meta.l3_offset));
        quoted.truncate(MAX_QUOTE);
        reply::reject(&self.core, &quoted.to_bytes(), ip.source, ip.destination, reason);
    }
}

impl std::fmt::Debug for UdpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpRequest")
            .field("from", &self.from())
            .field("to", &self.to())
            .finish_non_exhaustive()
    }
}

/// An echo request for somebody else. Dropping it ignores it.
pub struct EchoRequest {
    core: Arc<Core>,
    asked: EchoAsked,
}

impl EchoRequest {
    pub(super) fn new(core: Arc<Core>, asked: EchoAsked) -> Self {
        Self { core, asked }
    }

    /// Who sent it.
    pub fn from(&self) -> IpAddr {
        self.asked.ip.source
    }

    /// Whom it is meant for.
    pub fn to(&self) -> IpAddr {
        self.asked.ip.destination
    }

    /// The identifier, which names the sending program.
    pub fn ident(&self) -> u16 {
        self.asked.ident
    }

    /// The sequence number.
    pub fn sequence(&self) -> u16 {
        self.asked.sequence
    }

    /// Its time to live or hop limit.
    pub fn ttl(&self) -> u8 {
        self.asked.ip.ttl
    }

    /// Its data.
    pub fn payload(&self) -> Bytes {
        self.asked.message.slice(self.asked.payload_at..)
    }

    /// Answers as the destination.
    pub fn reply(self) {
        let EchoAsked { ip, ident, sequence, .. } = self.asked;
        // An answer that cannot be sent is what the asker looks for.
        let payload = self.payload();
        let _ =
            reply::send_echo_reply(&self.core, ip.nic, ip.destination, ip.source, (ident, sequence), payload);
    }

    /// Answers with an ICMP error.
    pub fn reject(self, reason: Unreachable) {
        let EchoAsked { ip, message, .. } = &self.asked;
        reply::reject(&self.core, message, ip.source, ip.destination, reason);
    }
}

impl std::fmt::Debug for EchoRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EchoRequest")
            .field("from", &self.from())
            .field("to", &self.to())
            .finish_non_exhaustive()
    }
}

/// More than any ICMP error quotes (RFC 4443 section 2.4 (c)).
const MAX_QUOTE: usize = 1280;
