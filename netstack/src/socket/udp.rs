//! UDP sockets (RFC 768).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::ip::Protocol;
use netstack_wire::udp::{self, UdpRepr};

use crate::buffer::Source;
use crate::cidr::family_of;
use crate::error::{BindError, ConnectError, SendError};
use crate::forward::{self, ForwardError};
use crate::ip::icmp::{Notice, Quote};
use crate::ip::{Cast, IcmpReason, IpMeta, Rx, reject, send, zone_of};
use crate::options::{Family, SendMeta, SocketOptions};
use crate::outbox::Outbox;
use crate::packet::{Body, Checksum, Gso, GsoKind, HEADROOM, Packet};
use crate::port_table::{Binding, Target};
use crate::socket::datagram::{DatagramEndpoint, Enqueued, Outgoing, Queued, gather, socket_addr};
use crate::socket::front::{datagram_front, membership_front};
use crate::socket::membership;
use crate::stack::{Core, Stack};
use crate::tcp::Flow;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    core: Arc<Core>,
    endpoint: Arc<DatagramEndpoint>,
}

impl UdpSocket {
    /// Makes an unbound socket.
    pub fn new(stack: &Stack, family: Family) -> Self {
        Self { core: Arc::clone(&stack.core), endpoint: Arc::new(DatagramEndpoint::new(family)) }
    }

    /// Binds to a local address; port zero picks one. An IPv6 scope id is a NIC's number.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        let parsed = self.endpoint.parse(local).ok_or(BindError::FamilyMismatch)?;
        let address = (!parsed.address.is_unspecified()).then_some(parsed.address);
        let mut state = self.endpoint.lock();
        if state.local_port != 0 {
            return Err(BindError::AlreadyBound);
        }
        if let Some(address) = address {
            check_local(&self.core, address, &state.options)?;
        }
        let binding = Binding {
            address,
            family: self.endpoint.family,
            only_v6: state.options.only_v6,
            nic: state.options.bound_nic.or(parsed.nic),
            reuse_address: state.options.reuse_address,
            reuse_port: state.options.reuse_port,
        };
        state.local_port = self.claim(parsed.port, binding)?;
        state.bound = address;
        Ok(())
    }

    /// The socket of a flow that a forwarder accepted, with its first datagram.
    pub(crate) fn of_flow(
        core: &Arc<Core>,
        ip: &IpMeta,
        header: &UdpRepr,
        payload: Body,
    ) -> Result<Self, ForwardError> {
        let family = family_of(ip.destination);
        let socket = Self { core: Arc::clone(core), endpoint: Arc::new(DatagramEndpoint::new(family)) };
        socket.set_options(|options| {
            options.free_bind = true;
            options.reuse_address = true;
            options.bound_nic = Some(ip.nic);
        });
        let local = socket_addr(family, ip.destination, header.destination_port, Some(ip.nic));
        socket.bind(local).map_err(|_| ForwardError::Exists)?;
        let remote = socket_addr(family, ip.source, header.source_port, Some(ip.nic));
        socket.connect(remote).map_err(|_| ForwardError::NetworkUnreachable)?;
        enqueue(core, ip, header, payload, &socket.endpoint);
        Ok(socket)
    }

    fn claim(&self, port: u16, binding: Binding) -> Result<u16, BindError> {
        let table = &self.core.udp;
        if port != 0 {
            return match table.bind(port, binding, &self.endpoint) {
                Ok(()) => Ok(port),
                Err(_) => Err(BindError::AddressInUse),
            };
        }
        let picked = table.bind_any(&self.core.ephemeral_ports, &self.core.secrets, binding, &self.endpoint);
        picked.map_err(|_| BindError::NoFreePort)
    }

    /// Gives an unbound socket a port, as sending and connecting do.
    fn autobind(&self) -> Result<u16, BindError> {
        let mut state = self.endpoint.lock();
        if state.local_port == 0 {
            let binding = Binding {
                address: None,
                family: self.endpoint.family,
                only_v6: state.options.only_v6,
                nic: state.options.bound_nic,
                reuse_address: state.options.reuse_address,
                reuse_port: state.options.reuse_port,
            };
            state.local_port = self.claim(0, binding)?;
        }
        Ok(state.local_port)
    }

    /// Fixes the peer: only its datagrams (and errors) are received, and sends need no destination.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        let peer = self.endpoint.parse(remote).ok_or(ConnectError::FamilyMismatch)?;
        let source = self.endpoint.connect(&self.core, peer)?;
        let port = self.autobind().map_err(|_| ConnectError::AddressNotAvailable)?;
        let peer = self.endpoint.lock().peer;
        let peer = peer.map(|peer| (peer.address, peer.port));
        self.core.udp.narrow(port, &self.endpoint, Some(source), peer);
        Ok(())
    }

    /// Undoes [`connect`](Self::connect).
    pub fn disconnect(&self) {
        self.endpoint.disconnect();
        let (port, bound) = {
            let state = self.endpoint.lock();
            (state.local_port, state.bound)
        };
        self.core.udp.narrow(port, &self.endpoint, bound, None);
    }

    /// Sends all that is left of `data` as one datagram and returns its length.
    pub fn try_send(&self, data: &mut dyn Source, meta: &SendMeta) -> Result<usize, SendError> {
        let len = data.remaining();
        let max = usize::from(u16::MAX) - udp::HEADER_LEN;
        if len > max {
            return Err(SendError::MessageTooLong);
        }
        let mut outgoing = self.endpoint.outgoing(&self.core, Protocol::UDP, meta)?;
        let port = match outgoing.local_port {
            0 => self.autobind().map_err(|_| SendError::AddressNotAvailable)?,
            port => port,
        };
        let packet = datagram(port, &outgoing, payload(data, meta.segment_size)?, meta.segment_size);
        let mut outbox = Outbox::default();
        let sent = send(&self.core, &mut outgoing.way.egress, &outgoing.output, packet, &mut outbox);
        outbox.flush(&self.core);
        self.endpoint.keep(outgoing.way);
        match sent {
            Ok(()) => {
                self.core.counters.udp_out_datagrams.increment();
                Ok(len)
            }
            Err(error) => {
                Err(self.endpoint.output_failed(error, (outgoing.output.destination, outgoing.port)))
            }
        }
    }
}

datagram_front!(UdpSocket);
membership_front!(UdpSocket);

impl Drop for UdpSocket {
    fn drop(&mut self) {
        membership::leave_all(&self.core, &self.endpoint);
        let port = self.endpoint.lock().local_port;
        if port != 0 {
            self.core.udp.unbind(port, &self.endpoint);
        }
    }
}

/// An address to bind to must be ours, a group, or a broadcast address.
pub(super) fn check_local(core: &Core, address: IpAddr, options: &SocketOptions) -> Result<(), BindError> {
    let topology = core.topology.load();
    let is_special = match address {
        IpAddr::V4(address) => address.is_multicast() || topology.is_broadcast(address),
        IpAddr::V6(address) => address.is_multicast(),
    };
    let is_fine = is_special || options.free_bind || topology.local_address(address).is_some();
    if is_fine { Ok(()) } else { Err(BindError::AddressNotAvailable) }
}

/// The datagram's payload. A few bytes go where the headers go: they need no buffer of their own, and the link gets the
/// whole packet in one piece. What is to be segmented stays in the body.
fn payload(data: &mut dyn Source, segment_size: Option<u16>) -> Result<Packet, SendError> {
    let len = data.remaining();
    if len > MAX_IN_HEAD || segment_size.is_some() {
        return Ok(Packet::from_frame(gather(data)?));
    }
    let mut packet = Packet::default();
    data.read_into(packet.push_header(len))?;
    Ok(packet)
}

/// What the headroom has left beside the headers of Ethernet (14), IPv6 (40) and UDP.
const MAX_IN_HEAD: usize = HEADROOM - 14 - 40 - udp::HEADER_LEN;

fn datagram(port: u16, outgoing: &Outgoing, mut packet: Packet, segment_size: Option<u16>) -> Packet {
    let payload_len = packet.len();
    let header = UdpRepr {
        source_port: port,
        destination_port: outgoing.port,
        // Checked against the maximum before.
        len: u16::try_from(udp::HEADER_LEN + payload_len).unwrap_or(u16::MAX),
        checksum: 0,
    };
    header.emit(packet.push_header(udp::HEADER_LEN));
    if !(outgoing.no_checksum && outgoing.output.destination.is_ipv4()) {
        // CHECKSUM_OFFSET is 6.
        packet.meta.checksum = Checksum::Partial { start: 0, offset: udp::CHECKSUM_OFFSET as u16 };
    }
    let segment_size = segment_size.filter(|&size| size > 0 && usize::from(size) < packet.body_len());
    packet.meta.gso = segment_size.map(|size| Gso { kind: GsoKind::Udp, size });
    packet.meta.mark = outgoing.mark;
    packet.meta.owner = outgoing.owner;
    packet
}

/// Takes a UDP datagram for us.
pub(crate) fn input(rx: &mut Rx<'_>, ip: &IpMeta, mut packet: Packet) {
    let counters = &rx.core.counters;
    if !packet.make_contiguous(ip.offset, udp::HEADER_LEN) {
        return counters.udp_in_errors.increment();
    }
    let Some(header) = UdpRepr::parse(packet.contiguous(ip.offset)) else {
        return counters.udp_in_errors.increment();
    };
    let len = usize::from(header.len);
    // A super-segment that we sent to ourselves announces the length of one segment only.
    if len > ip.len {
        return counters.udp_in_errors.increment();
    }
    packet.truncate(ip.offset + len);
    if packet.meta.checksum == Checksum::Plain && !has_right_checksum(ip, &header, &packet) {
        return counters.udp_in_checksum_errors.increment();
    }
    let target = Target {
        local: ip.destination,
        local_port: header.destination_port,
        remote: ip.source,
        remote_port: header.source_port,
        nic: ip.nic,
    };
    if ip.cast == Cast::Unicast {
        let Some(endpoint) = rx.core.udp.lookup(&target, flow_hash(rx.core, &target)) else {
            if forward::offer_datagram(rx, ip, &header, &packet) {
                return;
            }
            counters.udp_no_ports.increment();
            return reject(rx, ip, &packet, IcmpReason::PortUnreachable);
        };
        deliver(rx.core, ip, &header, packet, &endpoint);
        return;
    }
    let wanted = |endpoint: &Arc<DatagramEndpoint>| membership::wants(endpoint, ip);
    for endpoint in rx.core.udp.lookup_all(&target).iter().filter(|endpoint| wanted(endpoint)) {
        deliver(rx.core, ip, &header, packet.clone(), endpoint);
    }
}

fn deliver(core: &Core, ip: &IpMeta, header: &UdpRepr, packet: Packet, endpoint: &DatagramEndpoint) {
    enqueue(core, ip, header, packet.into_payload(ip.offset + udp::HEADER_LEN), endpoint);
}

fn enqueue(core: &Core, ip: &IpMeta, header: &UdpRepr, data: Body, endpoint: &DatagramEndpoint) {
    let datagram = Queued {
        data,
        source: ip.source,
        source_port: header.source_port,
        destination: ip.destination,
        destination_port: header.destination_port,
        nic: ip.nic,
        ttl: ip.ttl,
        tos: ip.tos,
        arrival: ip.arrival,
    };
    match endpoint.enqueue(datagram) {
        Enqueued::Yes => core.counters.udp_in_datagrams.increment(),
        Enqueued::Full => core.counters.udp_rcvbuf_errors.increment(),
    }
}

fn has_right_checksum(ip: &IpMeta, header: &UdpRepr, packet: &Packet) -> bool {
    if header.checksum == 0 {
        // RFC 768 allows it, RFC 8200 section 8.1 does not.
        return ip.source.is_ipv4();
    }
    let pseudo = checksum::pseudo_header(ip.source, ip.destination, Protocol::UDP.0, u32::from(header.len));
    let mut total = Accumulator::new(pseudo);
    let mut skip = ip.offset;
    for piece in packet.slices() {
        let now = skip.min(piece.len());
        skip -= now;
        total.add(&piece[now..]);
    }
    total.is_valid()
}

fn flow_hash(core: &Core, target: &Target) -> u64 {
    core.secrets.hash_flow(&Flow {
        local_addr: target.local,
        remote_addr: target.remote,
        local_port: target.local_port,
        remote_port: target.remote_port,
        zone: zone_of(target.remote, target.nic),
    })
}

/// An ICMP error about a datagram of ours.
pub(crate) fn on_icmp(core: &Core, quote: &Quote<'_>, notice: &Notice) {
    let Some(header) = UdpRepr::parse(quote.bytes) else { return };
    let nic = core.topology.load().local_address(quote.source).map(|local| local.nic);
    let Some(nic) = nic.or_else(|| forward::nic_towards(core, quote.destination)) else { return };
    let target = Target {
        local: quote.source,
        local_port: header.source_port,
        remote: quote.destination,
        remote_port: header.destination_port,
        nic,
    };
    if let Some(endpoint) = core.udp.lookup(&target, flow_hash(core, &target)) {
        let payload = quote.bytes.get(udp::HEADER_LEN..).unwrap_or_default();
        endpoint.on_icmp(notice, (quote.destination, header.destination_port), payload);
    }
}
