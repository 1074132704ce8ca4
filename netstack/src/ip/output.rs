//! IP output: puts the IP header on a transport packet and takes it to the edge, whole, segmented or fragmented.

use std::net::IpAddr;
use std::sync::Arc;

use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::options::Overflow;
use netstack_wire::ipv4::{self, Ipv4Repr};
use netstack_wire::ipv6::{self, Ipv6Repr};
use netstack_wire::{checksum, udp};
use smallvec::SmallVec;

use crate::cidr::family_of;
use crate::filter;
use crate::ip::{Delivery, Egress, Transit, edge, fragment, gso, input_v4};
use crate::outbox::Outbox;
use crate::packet::{Checksum, GsoKind, Packet};
use crate::stack::Core;

/// The fields of an IP header that transports decide on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpOutput {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) flow_label: u32,
    pub(crate) fragmenting: Fragmenting,
    /// For groups and broadcasts: whether our own members get it too.
    pub(crate) loops: bool,
}

impl IpOutput {
    /// The length of the IP header.
    pub(crate) fn header_len(&self) -> usize {
        match self.destination {
            IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        }
    }

    /// Writes the IP header of a packet with that much behind it.
    pub(crate) fn emit_header(&self, ident: u16, transport_len: usize, out: &mut [u8]) {
        // Checked against the maximum before.
        let payload_len = u16::try_from(transport_len).unwrap_or(u16::MAX);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4Repr {
                source,
                destination,
                protocol: self.protocol,
                ttl: self.ttl,
                tos: self.tos,
                ident,
                dont_fragment: self.fragmenting != Fragmenting::Allowed,
                more_fragments: false,
                fragment_offset: 0,
                options_len: 0,
                payload_len,
            }
            .emit(out),
            (source, destination) => Ipv6Repr {
                source: v6(source),
                destination: v6(destination),
                next_header: self.protocol,
                hop_limit: self.ttl,
                traffic_class: self.tos,
                flow_label: self.flow_label,
                payload_len,
            }
            .emit(out),
        }
    }
}

/// What may happen to a packet that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragmenting {
    /// Nobody fragments it: DF, and an error here.
    Forbidden,
    /// Sent with DF if it fits the path, otherwise fragmented here.
    IfNeeded,
    /// Sent without DF, fragmented by whoever has to.
    Allowed,
}

/// Why a packet was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputError {
    /// It must not be fragmented and exceeds this MTU, or exceeds what IP can carry.
    TooLarge {
        /// The MTU.
        mtu: u32,
    },
    /// The next hop does not answer.
    HostUnreachable,
    /// The NIC is down.
    NetworkDown,
    /// The packet filter dropped it.
    Filtered,
}

/// Sends a transport packet: transport header first, its checksum either done or [`Checksum::Partial`] with a zero field.
pub(crate) fn send(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    if !egress.interface.is_up() {
        return Err(OutputError::NetworkDown);
    }
    if core.filter.is_active(family_of(output.source)) {
        return send_filtered(core, egress, output, packet, outbox);
    }
    send_unfiltered(core, egress, output, packet, outbox)
}

/// Sends a transport packet with options of IPv4, whole words of them that were checked. This stack is the first to
/// write into those that record the route or the time (Linux's `ip_options_build`).
#[cold]
pub(crate) fn send_with_options(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    options: &[u8],
    mut packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    if !egress.interface.is_up() {
        return Err(OutputError::NetworkDown);
    }
    let transport_len = packet.len();
    let total = output.header_len() + options.len() + transport_len;
    let fits = total <= usize::try_from(egress.mtu).unwrap_or(usize::MAX);
    let is_possible = fits || output.fragmenting != Fragmenting::Forbidden;
    if total > ipv4::MAX_PACKET_LEN || !is_possible {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    begin_checksum(output.source, output.destination, output.protocol, &mut packet, transport_len);
    core.counters.ip_out_requests.increment();
    let mut buffer = SmallVec::<[u8; ipv4::options::MAX_LEN]>::from_slice(options);
    if let IpAddr::V4(source) = output.source {
        let topology = core.topology.load();
        let stamp = input_v4::stamp(core, &topology, source);
        // One without room stays as it is.
        ipv4::options::record(&mut buffer, &stamp, Overflow::Ignored);
    }
    let mut transit = filter::transit_of(core, output, packet);
    transit.insert_options(&buffer);
    if core.filter.is_active(family_of(output.source)) {
        return filter::output(core, egress, output.fragmenting, transit, outbox);
    }
    transit.send(core, egress, output.fragmenting, outbox)
}

/// Shows a packet to the rules before it is sent.
#[cold]
fn send_filtered(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    mut packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    let transport_len = packet.len();
    let total = output.header_len() + transport_len;
    let fits = packet.meta.gso.is_some() || total <= usize::try_from(egress.mtu).unwrap_or(usize::MAX);
    let is_possible = fits || output.fragmenting != Fragmenting::Forbidden;
    if transport_len > ipv4::MAX_PACKET_LEN - ipv4::MIN_HEADER_LEN || !is_possible {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    begin_checksum(output.source, output.destination, output.protocol, &mut packet, transport_len);
    core.counters.ip_out_requests.increment();
    let transit = filter::transit_of(core, output, packet);
    filter::output(core, egress, output.fragmenting, transit, outbox)
}

/// Sends a transport packet that rules have nothing to say about.
pub(crate) fn send_unfiltered(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    // A stream does not mind how its bytes come back to us; datagrams keep their boundaries.
    let is_stream = packet.meta.gso.is_some_and(|gso| gso.kind != GsoKind::Udp);
    let passes_whole = (egress.is_local() && is_stream) || edge::can_segment(egress, output, &packet);
    if packet.meta.gso.is_some() && !passes_whole {
        for segment in gso::segments(packet) {
            send_one(core, egress, output, segment, outbox)?;
        }
        return Ok(());
    }
    send_one(core, egress, output, packet, outbox)
}

/// Sends a packet that has its IP header already (`IP_HDRINCL`).
pub(crate) fn send_with_header(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    if !egress.interface.is_up() {
        return Err(OutputError::NetworkDown);
    }
    if packet.len() > usize::try_from(egress.mtu).unwrap_or(usize::MAX) {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    core.counters.ip_out_requests.increment();
    if core.filter.is_active(family_of(output.source))
        && let Some(transit) = Transit::new(packet.clone())
    {
        return filter::output(core, egress, Fragmenting::Allowed, transit, outbox);
    }
    deliver(core, egress, output.destination, output.loops, packet, outbox)
}

fn send_one(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    mut packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    let header_len = output.header_len();
    let transport_len = packet.len();
    let total = header_len + transport_len;
    let max_total = ipv4::MAX_PACKET_LEN + if output.destination.is_ipv6() { header_len } else { 0 };
    if total > max_total {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    let fits = packet.meta.gso.is_some() || total <= usize::try_from(egress.mtu).unwrap_or(usize::MAX);
    if !fits && output.fragmenting == Fragmenting::Forbidden {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    begin_checksum(output.source, output.destination, output.protocol, &mut packet, transport_len);
    // The checksums of a super-segment are finished when it is cut, if not by the link.
    let is_super = packet.meta.gso.is_some();
    let finishes_checksum =
        fits && (is_super || egress.is_local() || egress.interface.capabilities().tx_checksum);
    if !finishes_checksum {
        finish_checksum(output.protocol, &mut packet);
    }
    core.counters.ip_out_requests.increment();
    if !fits {
        return fragment::send(core, egress, output, packet, outbox);
    }
    // RFC 6864 section 4.1: the identification of atomic packets may have any value.
    let has_df = output.fragmenting != Fragmenting::Allowed;
    let ident = if has_df { 0 } else { core.next_ident(output) };
    output.emit_header(ident, transport_len, packet.push_header(header_len));
    deliver(core, egress, output.destination, output.loops, packet, outbox)
}

/// Hands a complete IP packet to the edge or back to ourselves.
pub(super) fn deliver(
    core: &Arc<Core>,
    egress: &mut Egress,
    destination: IpAddr,
    loops: bool,
    mut packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    match egress.delivery {
        Delivery::Local(nic) => {
            outbox.loop_back(nic, packet);
            return Ok(());
        }
        Delivery::Multicast | Delivery::Broadcast if loops => {
            let mut copy = packet.clone();
            // As Linux (dev_loopback_xmit).
            copy.meta.checksum = Checksum::Verified;
            outbox.loop_back(egress.interface.id, copy);
            // What leaves is known to us alone.
            packet.meta.carried = None;
        }
        Delivery::Unicast | Delivery::Multicast | Delivery::Broadcast => {}
    }
    edge::send(core, egress, destination, packet, outbox)
}

/// Mixed families are refused at the sockets; a mapped address is then as good as any.
pub(super) fn v6(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Puts the pseudo-header's sum into the field of a partial checksum.
pub(super) fn begin_checksum(
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    packet: &mut Packet,
    transport_len: usize,
) {
    let Checksum::Partial { start, offset } = packet.meta.checksum else { return };
    let len = u32::try_from(transport_len).unwrap_or(u32::MAX);
    let sum = checksum::pseudo_header(source, destination, protocol.0, len);
    let field = usize::from(start) + usize::from(offset);
    if let Some(field) = packet.head_mut().get_mut(field..field + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Does in software what a link with checksum offload does.
pub(super) fn finish_checksum(protocol: Protocol, packet: &mut Packet) {
    let Checksum::Partial { start, offset } = packet.meta.checksum else { return };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let mut total = checksum::Accumulator::default();
    total.add(packet.head().get(start..).unwrap_or_default());
    packet.body().iter().for_each(|range| total.add(range));
    let value = match protocol {
        Protocol::UDP => udp::checksum_on_wire(total.checksum()),
        _ => total.checksum(),
    };
    if let Some(field) = packet.head_mut().get_mut(start + offset..start + offset + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
    packet.meta.checksum = Checksum::Plain;
}
