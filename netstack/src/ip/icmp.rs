//! ICMP input: answers echo requests and carries errors to the sockets they concern.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::icmpv4::{self, Icmpv4Message};
use netstack_wire::icmpv6::{self, Icmpv6Message};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::options::{self, Overflow};
use netstack_wire::ipv4::{self, Ipv4Repr};
use netstack_wire::ipv6::{self, Extensions, FragmentRepr, Ipv6Repr};
use netstack_wire::ndp;

use crate::error::SocketError;
use crate::filter;
use crate::forward;
use crate::ip::icmp_error::{self, IcmpReason};
use crate::ip::{
    Cast, Egress, Fragmenting, IpMeta, IpOutput, Origin, OutputError, PathMtu, RouteQuery, Rx, Transit,
    flow_label, group, input_v4, output, redirect,
};
use crate::options::{ErrorOrigin, Family};
use crate::outbox::Outbox;
use crate::packet::{Body, Checksum, Packet};
use crate::route::PacketFacts;
use crate::socket;
use crate::stack::Core;
use crate::tcp_endpoint;

/// An ICMP error, or a local one of the same meaning, about a packet of ours.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) error: SocketError,
    pub(crate) origin: ErrorOrigin,
    pub(crate) icmp_type: u8,
    pub(crate) icmp_code: u8,
    /// The MTU for `MessageTooLong`.
    pub(crate) info: u32,
    pub(crate) offender: Option<IpAddr>,
    /// Linux reports these to connected datagram sockets even without an error queue.
    pub(crate) is_hard: bool,
}

/// The packet that an error is about.
#[derive(Debug, Clone)]
pub(crate) struct Quote<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    /// From the transport header on, as much as was quoted.
    pub(crate) bytes: &'a [u8],
}

/// Takes an ICMPv4 message for us.
pub(super) fn input_v4(rx: &mut Rx<'_>, ip: &IpMeta, packet: Packet) {
    let counters = &rx.core.counters;
    counters.icmp_in_msgs.increment();
    let message = message_bytes(ip, &packet);
    if packet.meta.checksum == Checksum::Plain && checksum::sum(&message) != 0xffff {
        return counters.icmp_in_checksum_errors.increment();
    }
    let Some(header) = Icmpv4Message::parse(&message) else {
        return counters.icmp_in_errors.increment();
    };
    let notice = match header {
        Icmpv4Message::EchoRequest { ident, sequence } => {
            // RFC 1122 section 3.2.2.6 lets a host ignore requests to groups; Linux does.
            if is_for_other(rx, ip) {
                forward::offer_echo(rx, ip, ident, sequence, &packet);
            } else if ip.cast == Cast::Unicast && !rx.core.ignores_echo(true) {
                let reply = Icmpv4Message::EchoReply { ident, sequence };
                echo(rx, ip, packet, |header| reply.emit(header));
            }
            return;
        }
        Icmpv4Message::EchoReply { ident, .. } => {
            let options = ip.options(&packet);
            return socket::ping::deliver(rx, ip, ident, &message, options);
        }
        Icmpv4Message::Unreachable { code, mtu } => notice_v4(ip, &header, code, mtu),
        Icmpv4Message::TimeExceeded { code } => {
            Notice { error: SocketError::HostUnreachable, ..notice_v4(ip, &header, code, 0) }
        }
        Icmpv4Message::ParameterProblem { code, .. } => {
            Notice { error: SocketError::ParameterProblem, is_hard: true, ..notice_v4(ip, &header, code, 0) }
        }
        Icmpv4Message::Redirect { gateway, .. } => {
            let quoted = message.slice(icmpv4::HEADER_LEN..);
            return redirect::follow_v4(rx, ip.source, gateway, &quoted);
        }
        Icmpv4Message::Other { kind: icmpv4::TIMESTAMP, code: 0, rest } => {
            return timestamp(rx, ip, &packet, rest, &message);
        }
        Icmpv4Message::Other { .. } => return counters.icmp_in_errors.increment(),
    };
    dispatch(rx.core, rx.outbox, &message.slice(icmpv4::HEADER_LEN..), notice);
}

fn notice_v4(ip: &IpMeta, header: &Icmpv4Message, code: u8, mtu: u16) -> Notice {
    let error = match code {
        icmpv4::HOST_UNREACHABLE | icmpv4::HOST_UNKNOWN => SocketError::HostUnreachable,
        icmpv4::PROTOCOL_UNREACHABLE => SocketError::ProtocolUnreachable,
        icmpv4::PORT_UNREACHABLE => SocketError::ConnectionRefused,
        icmpv4::FRAGMENTATION_NEEDED => SocketError::MessageTooLong,
        icmpv4::NET_UNREACHABLE | icmpv4::NET_UNKNOWN | icmpv4::NET_PROHIBITED | 11 => {
            SocketError::NetworkUnreachable
        }
        // Linux's table has EHOSTUNREACH for all the rest.
        _ => SocketError::HostUnreachable,
    };
    let is_hard = matches!(
        code,
        icmpv4::PROTOCOL_UNREACHABLE
            | icmpv4::PORT_UNREACHABLE
            | icmpv4::FRAGMENTATION_NEEDED
            | icmpv4::SOURCE_ROUTE_FAILED
    );
    Notice {
        error,
        origin: ErrorOrigin::Icmp4,
        icmp_type: header.kind(),
        icmp_code: code,
        info: u32::from(mtu),
        offender: Some(ip.source),
        is_hard: is_hard && header.kind() == 3,
    }
}

/// Takes an ICMPv6 message for us.
pub(super) fn input_v6(rx: &mut Rx<'_>, ip: &IpMeta, packet: Packet) {
    let counters = &rx.core.counters;
    counters.icmp_in_msgs.increment();
    let message = message_bytes(ip, &packet);
    if packet.meta.checksum == Checksum::Plain {
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let pseudo = checksum::pseudo_header(ip.source, ip.destination, Protocol::ICMPV6.0, len);
        let mut total = Accumulator::new(pseudo);
        total.add(&message);
        if !total.is_valid() {
            return counters.icmp_in_checksum_errors.increment();
        }
    }
    let Some(header) = Icmpv6Message::parse(&message) else {
        return counters.icmp_in_errors.increment();
    };
    let notice = |error, code, info, is_hard| Notice {
        error,
        origin: ErrorOrigin::Icmp6,
        icmp_type: header.kind(),
        icmp_code: code,
        info,
        offender: Some(ip.source),
        is_hard,
    };
    let notice = match header {
        Icmpv6Message::EchoRequest { ident, sequence } => {
            if is_for_other(rx, ip) {
                forward::offer_echo(rx, ip, ident, sequence, &packet);
                return;
            }
            if rx.core.ignores_echo(false) {
                return;
            }
            let reply = Icmpv6Message::EchoReply { ident, sequence };
            return echo(rx, ip, packet, |header| reply.emit(header));
        }
        Icmpv6Message::EchoReply { ident, .. } => {
            return socket::ping::deliver(rx, ip, ident, &message, None);
        }
        Icmpv6Message::Unreachable { code } => match code {
            icmpv6::NO_ROUTE => notice(SocketError::NetworkUnreachable, code, 0, false),
            icmpv6::PORT_UNREACHABLE => notice(SocketError::ConnectionRefused, code, 0, true),
            icmpv6::PROHIBITED | icmpv6::POLICY_FAILED | icmpv6::REJECT_ROUTE => {
                notice(SocketError::Prohibited, code, 0, true)
            }
            _ => notice(SocketError::HostUnreachable, code, 0, false),
        },
        Icmpv6Message::PacketTooBig { mtu } => notice(SocketError::MessageTooLong, 0, mtu, true),
        Icmpv6Message::TimeExceeded { code } => notice(SocketError::HostUnreachable, code, 0, false),
        Icmpv6Message::ParameterProblem { code, pointer } => {
            notice(SocketError::ParameterProblem, code, pointer, true)
        }
        Icmpv6Message::Other { kind, .. } => {
            if (ndp::ROUTER_SOLICITATION..=ndp::REDIRECT).contains(&kind) {
                if was_fragmented(&packet) {
                    return counters.ndp_fragmented.increment();
                }
                super::ndp::input(rx, ip, &message);
            } else if MLD_KINDS.contains(&kind) {
                group::input_mld(rx, ip, &message);
            } else {
                counters.icmp_in_errors.increment();
            }
            return;
        }
    };
    dispatch(rx.core, rx.outbox, &message.slice(icmpv6::HEADER_LEN..), notice);
}

/// RFC 6980 section 5: "Nodes MUST silently ignore" neighbour discovery "if the packet carrying it includes an IPv6
/// Fragmentation Header", also of a fragment that is the whole packet.
fn was_fragmented(packet: &Packet) -> bool {
    let bytes = packet.contiguous(usize::from(packet.meta.l3_offset));
    let Ok(header) = Ipv6Repr::parse_unchecked(bytes) else { return true };
    let chain = bytes.get(ipv6::HEADER_LEN..).unwrap_or_default();
    packet.meta.was_fragmented
        || Extensions::new(header.next_header, chain)
            .any(|extension| extension.is_ok_and(|extension| extension.kind == Protocol::FRAGMENT))
}

/// Whether the packet is for an address that is not ours, and was taken for a forwarder.
fn is_for_other(rx: &Rx<'_>, ip: &IpMeta) -> bool {
    ip.cast == Cast::Unicast && rx.takes_for_others() && rx.topology.local_address(ip.destination).is_none()
}

pub(super) fn message_bytes(ip: &IpMeta, packet: &Packet) -> Bytes {
    let mut message = packet.clone();
    message.trim_front(ip.offset);
    message.truncate(ip.len);
    message.to_bytes()
}

/// Answers a timestamp request (RFC 1122 section 3.2.2.8), though not one to a group or broadcast.
fn timestamp(rx: &mut Rx<'_>, ip: &IpMeta, packet: &Packet, rest: [u8; 4], message: &Bytes) {
    let Some(originated) = message.get(icmpv4::HEADER_LEN..icmpv4::HEADER_LEN + 4) else {
        return rx.core.counters.icmp_in_errors.increment();
    };
    if ip.cast != Cast::Unicast || is_for_other(rx, ip) {
        return;
    }
    let now = rx.core.clock.milliseconds_of_day().to_be_bytes();
    let times = Bytes::from([originated, &now, &now].concat());
    let reply = Icmpv4Message::Other { kind: icmpv4::TIMESTAMP_REPLY, code: 0, rest };
    answer(rx, ip, packet, Body::from_iter([times]), |header| reply.emit(header));
}

/// Sends the request's data back (RFC 792, RFC 4443 section 4.2).
fn echo(rx: &mut Rx<'_>, ip: &IpMeta, packet: Packet, emit: impl FnOnce(&mut [u8])) {
    let data = packet.clone().into_payload(ip.offset + icmpv4::HEADER_LEN);
    rx.core.counters.icmp_out_echo_replies.increment();
    answer(rx, ip, &packet, data, emit);
}

/// Sends an answer to whoever sent a packet.
fn answer(rx: &mut Rx<'_>, ip: &IpMeta, packet: &Packet, data: Body, emit: impl FnOnce(&mut [u8])) {
    let source = (ip.cast == Cast::Unicast).then_some(ip.destination);
    // A link-local asker can only be reached where it asked.
    let nic = (super::zone_of(ip.source, ip.nic) != 0).then_some(ip.nic);
    let query = RouteQuery { destination: ip.source, source, nic };
    // icmpv6_echo_reply does not tell the rules the traffic class, which the answer has.
    let tos = if ip.source.is_ipv4() { ip.tos } else { 0 };
    let facts = PacketFacts { protocol: ip.protocol.0, tos, ..PacketFacts::default() };
    let Ok(mut egress) = Egress::resolve_for(rx.core, query, Origin::of(facts)) else { return };
    let mut reply = Packet::from_body(data);
    emit(reply.push_header(icmpv4::HEADER_LEN));
    let source = egress.source;
    fill_checksum(&mut reply, source, ip.source);
    let label = flow_label::of_echo(rx.core, ip.flow_label)
        .unwrap_or_else(|| flow_label::automatic(rx.core, source, ip.source, ip.protocol.0.into()));
    let output = IpOutput {
        source,
        destination: ip.source,
        protocol: ip.protocol,
        ttl: egress.default_ttl(rx.core),
        tos: ip.tos,
        flow_label: label,
        fragmenting: Fragmenting::Allowed,
        loops: false,
    };
    let start = usize::from(packet.meta.l3_offset) + ipv4::MIN_HEADER_LEN;
    let has_options = ip.source.is_ipv4() && ip.offset > start;
    // A lost answer is what the asker looks for.
    let _ = match has_options.then(|| packet.get(start, ip.offset - start)).flatten() {
        Some(options) => answer_with_options(rx, &mut egress, &output, options, reply),
        None => output::send(rx.core, &mut egress, &output, reply, rx.outbox),
    };
}

/// RFC 1122 section 3.2.2.6: "If a Record Route and/or Time Stamp option is received in an ICMP Echo Request, this option
/// (these options) SHOULD be updated to include the current host and included in the IP header of the Echo Reply message".
fn answer_with_options(
    rx: &mut Rx<'_>,
    egress: &mut Egress,
    output: &IpOutput,
    received: &[u8],
    reply: Packet,
) -> Result<(), OutputError> {
    let (mut buffer, len) = options::to_echo(received);
    let IpAddr::V4(source) = output.source else { return Ok(()) };
    if !options::record(&mut buffer[..len], &input_v4::stamp(rx.core, rx.topology, source), Overflow::Ignored)
    {
        return Ok(());
    }
    let ident = rx.core.next_ident(output);
    let mut transit = Transit::of_output(output, ident, reply);
    transit.insert_options(&buffer[..len]);
    rx.core.counters.ip_out_requests.increment();
    if rx.core.filter.is_active(Family::V4) {
        return filter::output(rx.core, egress, output.fragmenting, transit, rx.outbox);
    }
    transit.send(rx.core, egress, output.fragmenting, rx.outbox)
}

/// Fills in the checksum of a complete ICMP message whose header is in the head with a zero field.
pub(crate) fn fill_checksum(packet: &mut Packet, source: IpAddr, destination: IpAddr) {
    let mut total = match destination {
        IpAddr::V4(_) => Accumulator::default(),
        IpAddr::V6(_) => {
            let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
            Accumulator::new(checksum::pseudo_header(source, destination, Protocol::ICMPV6.0, len))
        }
    };
    packet.slices().for_each(|piece| total.add(piece));
    let field = icmpv4::CHECKSUM_OFFSET..icmpv4::CHECKSUM_OFFSET + 2;
    if let Some(field) = packet.head_mut().get_mut(field) {
        field.copy_from_slice(&total.checksum().to_be_bytes());
    }
}

/// Reads the packet that an ICMP error quotes; `None` if there is not enough of it, or it is not a first fragment.
pub(crate) fn quoted_transport(bytes: &[u8]) -> Option<Quote<'_>> {
    if bytes.first()? >> 4 == 4 {
        let repr = Ipv4Repr::parse_unchecked(bytes).ok()?;
        let rest = bytes.get(repr.header_len()..)?;
        return (repr.fragment_offset == 0).then_some(Quote {
            source: IpAddr::V4(repr.source),
            destination: IpAddr::V4(repr.destination),
            protocol: repr.protocol,
            bytes: rest,
        });
    }
    let repr = Ipv6Repr::parse_unchecked(bytes).ok()?;
    let rest = bytes.get(ipv6::HEADER_LEN..)?;
    let mut extensions = Extensions::new(repr.next_header, rest);
    for extension in extensions.by_ref() {
        let extension = extension.ok()?;
        let is_later = extension.kind == Protocol::FRAGMENT
            && FragmentRepr::parse(extension.bytes).is_some_and(|header| header.offset != 0);
        if is_later {
            return None;
        }
    }
    Some(Quote {
        source: IpAddr::V6(repr.source),
        destination: IpAddr::V6(repr.destination),
        protocol: extensions.next_header(),
        bytes: rest.get(extensions.offset()..)?,
    })
}

/// A packet could not be delivered to its next hop: tells the socket, or for a forwarded one its sender.
pub(super) fn report_local(core: &Arc<Core>, packet: &Packet, outbox: &mut Outbox) {
    let notice = Notice {
        error: SocketError::HostUnreachable,
        origin: ErrorOrigin::Local,
        icmp_type: 0,
        icmp_code: 0,
        info: 0,
        offender: None,
        is_hard: true,
    };
    let quoted = packet.to_bytes();
    let forwarded = quoted_transport(&quoted).filter(|quote| !is_ours(core, quote));
    if let Some(sender) = forwarded.map(|quote| quote.source) {
        let code = if sender.is_ipv4() { icmpv4::HOST_UNREACHABLE } else { icmpv6::ADDRESS_UNREACHABLE };
        return icmp_error::report(core, &quoted, sender, None, IcmpReason::Unreachable { code }, outbox);
    }
    dispatch(core, outbox, &quoted, notice);
}

/// Only packets from our addresses can be ours, or those that a forwarder sends for others.
fn is_ours(core: &Core, quote: &Quote<'_>) -> bool {
    core.topology.load().local_address(quote.source).is_some()
        || forward::nic_towards(core, quote.destination).is_some()
}

/// Carries an error to the sockets that sent the quoted packet. Nothing is believed about packets that no socket can have
/// sent (RFC 5927 section 4.1).
fn dispatch(core: &Arc<Core>, outbox: &mut Outbox, quoted: &Bytes, mut notice: Notice) {
    let Some(quote) = quoted_transport(quoted) else {
        return core.counters.icmp_in_errors.increment();
    };
    if !is_ours(core, &quote) {
        return core.counters.icmp_in_errors.increment();
    }
    if notice.error == SocketError::MessageTooLong && notice.info == 0 {
        // RFC 1191 section 5: a router that does not tell; the plateau below the packet that did not fit.
        notice.info = plateau(quoted);
    }
    let by_protocol = match quote.protocol {
        Protocol::TCP => tcp_endpoint::on_icmp(core, &quote, &notice, outbox),
        Protocol::UDP => socket::udp::on_icmp(core, &quote, &notice),
        Protocol::ICMP | Protocol::ICMPV6 => socket::ping::on_icmp(core, &quote, &notice),
        _ => false,
    };
    let by_raw = socket::raw::on_icmp(core, &quote, &notice);
    if !by_protocol && !by_raw {
        return core.counters.icmp_in_errors.increment();
    }
    if notice.error == SocketError::MessageTooLong
        && let Some(mtu) = PathMtu::told(quote.destination, notice.info, &core.ip_config.read())
    {
        note_path_mtu(core, quote.destination, mtu);
    }
}

/// Remembers what a path takes at most, for those who send to the destination from now on.
pub(crate) fn note_path_mtu(core: &Core, destination: IpAddr, mtu: PathMtu) {
    let lifetime = {
        let config = core.ip_config.read();
        if destination.is_ipv4() { config.path_mtu_lifetime_v4 } else { config.path_mtu_lifetime_v6 }
    };
    if core.pmtu.reduce(destination, mtu, core.clock.now(), lifetime) {
        core.topology.invalidate();
    }
}

/// The largest plateau of RFC 1191 section 7.1 below the length of the quoted packet.
fn plateau(quoted: &[u8]) -> u32 {
    const PLATEAUS: [u32; 10] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];
    let len = Ipv4Repr::parse_unchecked(quoted)
        .map_or(0, |repr| u32::from(repr.payload_len) + u32::from(repr.options_len) + 20);
    PLATEAUS.into_iter().find(|&plateau| plateau < len).unwrap_or(68)
}

/// Multicast listener queries, reports and dones of version 1 (RFC 2710), and reports of version 2 (RFC 3810).
const MLD_KINDS: [u8; 4] = [130, 131, 132, 143];
