//! From the machines' segments to IP packets.

use std::net::IpAddr;
use std::sync::Arc;

use netstack_wire::ethernet::{self, EtherType};
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::{CHECKSUM_OFFSET, TcpFlags};

use crate::hint::{cold_path, unlikely};
use crate::ip::flow_label::ConnectionLabel;
use crate::ip::{
    Egress, Fragmenting, IpOutput, Origin, OutputError, PlainHeader, RouteQuery, plain_frame, plain_way,
    segments, send, send_plain, send_with_extensions, send_with_options,
};
use crate::nic::NicId;
use crate::options::{PmtuDiscovery, SocketOptions};
use crate::outbox::Outbox;
use crate::packet::{Checksum, Gso, GsoKind, Packet};
use crate::route::PacketFacts;
use crate::stack::Core;
use crate::tcp::{Connection, Ecn, Flow, PathInfo, PlainTransmit, Transmit};
use crate::tcp_endpoint::connection::Shown;
use crate::time::Instant;

/// Sends a machine's segment.
pub(super) fn send_segment(
    core: &Arc<Core>,
    flow: &Flow,
    egress: &mut Egress,
    options: &SocketOptions,
    label: ConnectionLabel,
    transmit: Transmit,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    let Transmit { repr, payload, gso_size, ecn } = transmit;
    if repr.flags.contains(TcpFlags::RST) {
        core.counters.tcp_out_rsts.increment();
    }
    let tcp_len = repr.header_len() + payload.len();
    let mut packet = match gso_size {
        None => {
            let (head, body) = payload.into_parts();
            Packet::from_parts(head, body)
        }
        // Whoever cuts it looks for the payload behind the headers.
        Some(_) => Packet::from_body(payload.into_ranges()),
    };
    packet.meta.mark = options.mark;
    packet.meta.priority = options.priority;
    packet.meta.owner = options.owner;
    if gso_size.is_none()
        && may_go_plainly(options, egress)
        && let Some(link) = plain_way(core, egress, tcp_len, outbox)
    {
        let header = plain_header(core, flow, egress, options, (label, ecn));
        send_plain(core, egress, link, (flow, &header), &repr, packet, outbox);
        return Ok(());
    }
    // The longest TCP header has 60 bytes, which fits the headroom, and the slice is as long as the header.
    let _ = repr.emit(packet.push_header(repr.header_len()));
    // CHECKSUM_OFFSET is 16.
    packet.meta.checksum = Checksum::Partial { start: 0, offset: CHECKSUM_OFFSET as u16 };
    let kind = if flow.remote_addr.is_ipv4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
    packet.meta.gso = gso_size.map(|size| Gso { kind, size: size.get() });
    let output = IpOutput {
        flow_label: label.label(core, flow, options),
        ..output_without_label(core, flow, egress, options, ecn)
    };
    core.counters.tcp_out_segs.increment();
    if options.has_plain_headers() {
        return send(core, egress, &output, packet, outbox);
    }
    send_with_headers(core, egress, &output, options, packet, outbox)
}

/// What the network layer is told about a segment.
fn output_without_label(
    core: &Core,
    flow: &Flow,
    egress: &Egress,
    options: &SocketOptions,
    ecn: Ecn,
) -> IpOutput {
    let (ttl, tos) = ttl_and_tos(core, flow, egress, options, ecn);
    IpOutput {
        source: flow.local_addr,
        destination: flow.remote_addr,
        protocol: Protocol::TCP,
        ttl,
        tos,
        flow_label: 0,
        fragmenting: fragmenting(options.pmtu_discovery, egress),
        loops: false,
    }
}

/// A segment as it leaves, from the station addresses on, of which nothing is known yet, and its payload.
#[cold]
pub(super) fn shown(
    core: &Core,
    flow: &Flow,
    egress: &Egress,
    options: &SocketOptions,
    Transmit { repr, payload, ecn, .. }: &Transmit,
) -> Shown {
    let output = output_without_label(core, flow, egress, options, *ecn);
    let payload = payload.to_bytes();
    let mut bytes = vec![0; ethernet::HEADER_LEN + output.header_len() + repr.header_len()];
    let kind = if flow.remote_addr.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    bytes[ethernet::HEADER_LEN - 2..ethernet::HEADER_LEN].copy_from_slice(&kind.0.to_be_bytes());
    let (ip, tcp) = bytes[ethernet::HEADER_LEN..].split_at_mut(output.header_len());
    output.emit_header(0, tcp.len() + payload.len(), ip);
    // The slice is as long as the header.
    let _ = repr.emit(tcp);
    bytes.extend_from_slice(&payload);
    Shown { packet: bytes.into(), payload }
}

/// Whether a segment may have the headers that most have.
#[inline]
fn may_go_plainly(options: &SocketOptions, egress: &Egress) -> bool {
    fragmenting(options.pmtu_discovery, egress) == Fragmenting::IfNeeded && options.has_plain_headers()
}

/// Sends a segment with what its socket wants between the headers: no link cuts super-segments of that kind for us.
#[cold]
fn send_with_headers(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    options: &SocketOptions,
    packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    match (output.destination, &options.ip_options, &options.extensions) {
        (IpAddr::V4(_), Some(ip_options), _) => segments(packet).try_for_each(|segment| {
            send_with_options(core, egress, output, ip_options.as_slice(), segment, outbox)
        }),
        (IpAddr::V6(_), _, Some(extensions)) => segments(packet)
            .try_for_each(|segment| send_with_extensions(core, egress, output, extensions, segment, outbox)),
        _ => send(core, egress, output, packet, outbox),
    }
}

/// Makes of an empty packet the frame of a machine's segment with a few bytes, which `data` queues and gives out, if all of it
/// takes the plain way. Otherwise nothing has happened.
///
/// In place, as what it is made of: a value that is moved right after its fields were written waits until they are.
#[inline]
pub(super) fn frame_of_few(
    packet: &mut Packet,
    core: &Arc<Core>,
    (flow, egress): (&Flow, &mut Egress),
    (options, label): (&SocketOptions, ConnectionLabel),
    (machine, now): (&mut Connection, Instant),
    data: &[u8],
    outbox: &mut Outbox,
) -> bool {
    if unlikely(!egress.is_current(core)) || unlikely(!may_go_plainly(options, egress)) {
        return false;
    }
    let link = plain_way(core, egress, LONGEST_PLAIN_HEADER + data.len(), outbox);
    let Some(link) = link else {
        cold_path();
        return false;
    };
    packet.meta.mark = options.mark;
    packet.meta.priority = options.priority;
    packet.meta.owner = options.owner;
    let segment = machine.send_now(now, data);
    let Some(segment) = &segment else {
        cold_path();
        return false;
    };
    let header = plain_header(core, flow, egress, options, (label, segment.ecn));
    plain_frame(packet, core, egress, link, &header, (flow, segment), data);
    true
}

/// Sends a plain segment without payload.
#[inline]
pub(super) fn send_plain_segment(
    core: &Arc<Core>,
    flow: &Flow,
    egress: &mut Egress,
    (options, label): (&SocketOptions, ConnectionLabel),
    segment: PlainTransmit,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    if may_go_plainly(options, egress)
        && let Some(link) = plain_way(core, egress, LONGEST_PLAIN_HEADER, outbox)
    {
        let header = plain_header(core, flow, egress, options, (label, segment.ecn));
        let mut packet = Packet::default();
        packet.meta.mark = options.mark;
        packet.meta.priority = options.priority;
        packet.meta.owner = options.owner;
        plain_frame(&mut packet, core, egress, link, &header, (flow, &segment), &[]);
        outbox.send_unseen(&egress.interface, packet);
        return Ok(());
    }
    let transmit = segment.into_transmit(flow.local_port, flow.remote_port);
    send_segment(core, flow, egress, options, label, transmit, outbox)
}

/// What a connection's options say about its IP headers.
#[inline]
fn plain_header(
    core: &Core,
    flow: &Flow,
    egress: &Egress,
    options: &SocketOptions,
    (label, ecn): (ConnectionLabel, Ecn),
) -> PlainHeader {
    let (ttl, tos) = ttl_and_tos(core, flow, egress, options, ecn);
    PlainHeader { ttl, tos, flow_label: label.label(core, flow, options) }
}

#[inline]
fn ttl_and_tos(core: &Core, flow: &Flow, egress: &Egress, options: &SocketOptions, ecn: Ecn) -> (u8, u8) {
    let (ttl, tos) = match flow.remote_addr {
        IpAddr::V4(_) => (options.ttl, options.tos),
        IpAddr::V6(_) => (options.hop_limit, options.traffic_class),
    };
    // RFC 3168: the two ECN bits are TCP's.
    (ttl.unwrap_or_else(|| egress.default_ttl(core)), (tos & !3) | ecn_bits(ecn))
}

/// Sends a segment that belongs to no connection's endpoint: a reset, a SYN-ACK, a cookie.
pub(crate) fn send_bare(
    core: &Arc<Core>,
    flow: &Flow,
    options: &SocketOptions,
    transmit: Transmit,
    outbox: &mut Outbox,
) {
    send_labelled(core, flow, options, ConnectionLabel::OfFlow, transmit, outbox);
}

/// The same with a flow label.
pub(super) fn send_labelled(
    core: &Arc<Core>,
    flow: &Flow,
    options: &SocketOptions,
    label: ConnectionLabel,
    transmit: Transmit,
    outbox: &mut Outbox,
) {
    let resolved = match &options.extensions {
        None => resolve(core, flow, outbox.now(core), || facts_of(flow, options)),
        Some(_) => resolve_with(core, flow, options),
    };
    let Ok(mut egress) = resolved else { return };
    // What is lost here is repeated by whoever needs it.
    let _ = send_segment(core, flow, &mut egress, options, label, transmit, outbox);
}

/// The way to a flow's other end. `facts` is asked what rules may look at when there is no way to remember.
pub(crate) fn resolve(
    core: &Core,
    flow: &Flow,
    now: Instant,
    facts: impl FnOnce() -> PacketFacts,
) -> Result<Egress, crate::error::RouteError> {
    match flow.zone {
        0 => core.ways.find(core, Some(flow.local_addr), flow.remote_addr, now, facts),
        _ => resolve_marked(core, flow, flow.remote_addr, Origin::of(facts())),
    }
}

/// The same for a connection with a firewall mark, or whose segments go by a route of their sender's.
pub(super) fn resolve_with(
    core: &Core,
    flow: &Flow,
    options: &SocketOptions,
) -> Result<Egress, crate::error::RouteError> {
    let hop = options.extensions.as_ref().filter(|_| flow.remote_addr.is_ipv6());
    let hop = hop.and_then(|extensions| extensions.first_hop()).map(IpAddr::V6);
    let origin = Origin { mark: options.mark, arrived_on: None, packet: facts_of(flow, options) };
    resolve_marked(core, flow, hop.unwrap_or(flow.remote_addr), origin)
}

fn resolve_marked(
    core: &Core,
    flow: &Flow,
    destination: IpAddr,
    origin: Origin,
) -> Result<Egress, crate::error::RouteError> {
    let nic = NicId::from_index(flow.zone);
    let query = RouteQuery { destination, source: Some(flow.local_addr), nic };
    Egress::resolve_for(core, query, origin)
}

/// What rules may look at in segments of a connection.
pub(crate) fn facts_of(flow: &Flow, options: &SocketOptions) -> PacketFacts {
    PacketFacts::of_socket(options, Protocol::TCP.0, (flow.local_port, flow.remote_port), flow.remote_addr)
}

/// The path as the machines see it.
pub(crate) fn path_of(egress: &Egress) -> PathInfo {
    let headers = if egress.next_hop.is_ipv4() { 40 } else { 60 };
    // Linux's loopback has an MTU of 65536, one more than an IPv4 packet can have.
    let mss = |mtu: u32| u16::try_from(mtu.min(MAX_PACKET).saturating_sub(headers)).unwrap_or(u16::MAX);
    let link = if egress.is_local() { egress.mtu } else { egress.interface.mtu() };
    PathInfo { link_mss: mss(link), path_mss: mss(egress.mtu) }
}

/// The most payload for one super-segment: 64 KiB less the longest headers, or what the link takes.
pub(super) fn max_payload(egress: &Egress, flow: &Flow) -> u32 {
    let capabilities = &egress.interface.capabilities();
    let limit = match flow.remote_addr {
        IpAddr::V4(_) => capabilities.gso_max_v4,
        IpAddr::V6(_) => capabilities.gso_max_v6,
    };
    let limit = if limit == 0 || egress.is_local() { MAX_PACKET } else { limit.min(MAX_PACKET) };
    limit.saturating_sub(MAX_HEADERS)
}

fn fragmenting(discovery: PmtuDiscovery, egress: &Egress) -> Fragmenting {
    match discovery {
        PmtuDiscovery::Want if unlikely(egress.is_mtu_locked) => Fragmenting::Allowed,
        PmtuDiscovery::Want | PmtuDiscovery::Do | PmtuDiscovery::Probe => Fragmenting::IfNeeded,
        PmtuDiscovery::Dont | PmtuDiscovery::Interface | PmtuDiscovery::Omit => Fragmenting::Allowed,
    }
}

fn ecn_bits(ecn: Ecn) -> u8 {
    match ecn {
        Ecn::NotCapable => 0,
        Ecn::Capable1 => 1,
        Ecn::Capable0 => 2,
        Ecn::CongestionExperienced => 3,
    }
}

/// The largest IP packet.
const MAX_PACKET: u32 = 65_535;
/// IPv6 and the longest TCP header.
const MAX_HEADERS: u32 = 100;
/// TCP's header with timestamps.
const LONGEST_PLAIN_HEADER: usize = 32;
