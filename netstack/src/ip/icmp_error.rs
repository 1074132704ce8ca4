//! ICMP errors that this stack sends (RFC 1122 section 3.2.2, RFC 4443 section 2.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::icmpv4::{self, Icmpv4Message};
use netstack_wire::icmpv6::{self, Icmpv6Message};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::Ipv4Repr;
use netstack_wire::ipv6::Ipv6Repr;

use crate::forward;
use crate::ip::{
    Cast, Egress, Fragmenting, IpMeta, IpOutput, Origin, RouteQuery, Rx, flow_label, icmp, output,
};
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::route::PacketFacts;
use crate::stack::Core;

/// Why a packet is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpReason {
    /// Nobody listens on the port.
    PortUnreachable,
    /// The protocol is not spoken (IPv4).
    ProtocolUnreachable,
    /// The next header is not known (IPv6).
    UnknownNextHeader {
        /// Where it is announced.
        pointer: u32,
    },
    /// An option is not known (IPv6).
    UnknownOption {
        /// Where it is.
        pointer: u32,
    },
    /// A first fragment lacks headers (IPv6).
    IncompleteChain,
    /// A field makes no sense.
    ErroneousHeader {
        /// Where it is.
        pointer: u32,
    },
    /// The host does not answer.
    HostUnreachable,
    /// There is no way to the network.
    NetworkUnreachable,
    /// Somebody does not want it.
    Prohibited,
    /// Fragments were missing for too long.
    ReassemblyTimeout,
    /// The TTL or hop limit is used up.
    TtlExceeded,
    /// It exceeds the next link's MTU.
    TooBig {
        /// The MTU.
        mtu: u32,
    },
    /// It goes no further, for the reason that the family's code for "destination unreachable" tells.
    Unreachable {
        /// The code.
        code: u8,
    },
}

/// Tells the sender of a received packet why it is rejected, where the RFCs allow that.
pub(crate) fn reject(rx: &mut Rx<'_>, ip: &IpMeta, packet: &Packet, reason: IcmpReason) {
    // RFC 4443 section 2.4 (e.3) excepts unknown options of the reporting kind, which the caller has looked at.
    let is_group_report = matches!(reason, IcmpReason::UnknownOption { .. });
    if ip.cast != Cast::Unicast && !is_group_report {
        return;
    }
    let start = usize::from(packet.meta.l3_offset);
    let mut quote = packet.clone();
    quote.trim_front(start);
    let quoted = Bytes::from(quote.to_vec());
    report(
        rx.core,
        &quoted,
        ip.source,
        (ip.cast == Cast::Unicast).then_some(ip.destination),
        reason,
        rx.outbox,
    );
}

/// A packet could not be put together in time; its first fragment came.
pub(super) fn report_reassembly_timeout(core: &Arc<Core>, header: &Bytes, data: &Bytes, outbox: &mut Outbox) {
    let quoted = Bytes::from([&header[..], &data[..]].concat());
    let (source, destination) = match header.first().map(|byte| byte >> 4) {
        Some(4) => match Ipv4Repr::parse_unchecked(header) {
            Ok(repr) => (IpAddr::V4(repr.source), IpAddr::V4(repr.destination)),
            Err(_) => return,
        },
        _ => match Ipv6Repr::parse_unchecked(header) {
            Ok(repr) => (IpAddr::V6(repr.source), IpAddr::V6(repr.destination)),
            Err(_) => return,
        },
    };
    report(core, &quoted, source, Some(destination), IcmpReason::ReassemblyTimeout, outbox);
}

/// Tells `to` about its packet `quoted`, as `from` if that may speak here, else with an address of ours.
pub(crate) fn report(
    core: &Arc<Core>,
    quoted: &Bytes,
    to: IpAddr,
    from: Option<IpAddr>,
    reason: IcmpReason,
    outbox: &mut Outbox,
) {
    if let Some((mut egress, output, packet)) = compose(core, quoted, to, from, reason) {
        // The rejected packet is gone either way.
        let _ = output::send(core, &mut egress, &output, packet, outbox);
    }
}

/// The same for a packet that rules rejected: they have nothing to say about the answer.
pub(crate) fn report_unfiltered(
    core: &Arc<Core>,
    quoted: &Bytes,
    to: IpAddr,
    from: Option<IpAddr>,
    reason: IcmpReason,
    outbox: &mut Outbox,
) {
    if let Some((mut egress, output, packet)) = compose(core, quoted, to, from, reason) {
        let _ = output::send_unfiltered(core, &mut egress, &output, packet, outbox);
    }
}

fn compose(
    core: &Arc<Core>,
    quoted: &Bytes,
    to: IpAddr,
    from: Option<IpAddr>,
    reason: IcmpReason,
) -> Option<(Egress, IpOutput, Packet)> {
    if !may_be_answered(quoted, to) {
        return None;
    }
    if !core.icmp_limiter.allow(core.clock.now()) {
        core.counters.icmp_out_rate_limited.increment();
        return None;
    }
    let may_speak =
        |from| core.topology.load().local_address(from).is_some() || forward::nic_towards(core, to).is_some();
    let from = from.filter(|&from| may_speak(from));
    let query = RouteQuery { destination: to, source: from, nic: None };
    let (protocol, limit) = match to {
        IpAddr::V4(_) => (Protocol::ICMP, MAX_LEN_V4),
        IpAddr::V6(_) => (Protocol::ICMPV6, MAX_LEN_V6),
    };
    let facts = PacketFacts { protocol: protocol.0, ..PacketFacts::default() };
    let egress = Egress::resolve_for(core, query, Origin::of(facts)).ok()?;
    let quoted = quoted.slice(..quoted.len().min(limit));
    let mut packet = Packet::from_body(Body::from_iter([quoted]));
    let header = packet.push_header(icmpv4::HEADER_LEN);
    match to {
        IpAddr::V4(_) => message_v4(reason).emit(header),
        IpAddr::V6(_) => message_v6(reason).emit(header),
    }
    let source = egress.source;
    icmp::fill_checksum(&mut packet, source, to);
    let output = IpOutput {
        source,
        destination: to,
        protocol,
        ttl: egress.default_ttl(core),
        tos: 0,
        flow_label: flow_label::automatic(core, source, to, protocol.0.into()),
        fragmenting: Fragmenting::Allowed,
        loops: false,
    };
    core.counters.icmp_out_errors.increment();
    Some((egress, output, packet))
}

/// RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e): no error about an error, about a fragment other than the first,
/// or to an address that is no single host.
fn may_be_answered(quoted: &[u8], to: IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => {
            let Ok(repr) = Ipv4Repr::parse_unchecked(quoted) else { return false };
            let kind = quoted.get(repr.header_len()).copied();
            let is_error = repr.protocol == Protocol::ICMP && kind.is_some_and(Icmpv4Message::is_error_kind);
            !is_error && repr.fragment_offset == 0 && !is_group_v4(to)
        }
        IpAddr::V6(to) => {
            let transport = icmp::quoted_transport(quoted);
            let is_error = transport.is_some_and(|quote| {
                quote.protocol == Protocol::ICMPV6
                    && quote.bytes.first().copied().is_some_and(Icmpv6Message::is_error_kind)
            });
            !is_error && !to.is_multicast() && to != Ipv6Addr::UNSPECIFIED
        }
    }
}

fn is_group_v4(address: Ipv4Addr) -> bool {
    address.is_multicast() || address.is_broadcast() || address.is_unspecified()
}

fn message_v4(reason: IcmpReason) -> Icmpv4Message {
    match reason {
        IcmpReason::PortUnreachable => Icmpv4Message::Unreachable { code: icmpv4::PORT_UNREACHABLE, mtu: 0 },
        IcmpReason::HostUnreachable => Icmpv4Message::Unreachable { code: icmpv4::HOST_UNREACHABLE, mtu: 0 },
        IcmpReason::NetworkUnreachable => {
            Icmpv4Message::Unreachable { code: icmpv4::NET_UNREACHABLE, mtu: 0 }
        }
        IcmpReason::Prohibited => Icmpv4Message::Unreachable { code: icmpv4::PROHIBITED, mtu: 0 },
        IcmpReason::ProtocolUnreachable | IcmpReason::UnknownNextHeader { .. } => {
            Icmpv4Message::Unreachable { code: icmpv4::PROTOCOL_UNREACHABLE, mtu: 0 }
        }
        IcmpReason::IncompleteChain => Icmpv4Message::ParameterProblem { code: 0, pointer: 0 },
        IcmpReason::UnknownOption { pointer } | IcmpReason::ErroneousHeader { pointer } => {
            // An IPv4 header has at most 60 bytes.
            Icmpv4Message::ParameterProblem { code: 0, pointer: u8::try_from(pointer).unwrap_or(u8::MAX) }
        }
        IcmpReason::ReassemblyTimeout => Icmpv4Message::TimeExceeded { code: icmpv4::REASSEMBLY_EXCEEDED },
        IcmpReason::TtlExceeded => Icmpv4Message::TimeExceeded { code: icmpv4::TTL_EXCEEDED },
        IcmpReason::TooBig { mtu } => Icmpv4Message::Unreachable {
            code: icmpv4::FRAGMENTATION_NEEDED,
            // RFC 1191 section 4 has 16 bits for it.
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        },
        IcmpReason::Unreachable { code } => Icmpv4Message::Unreachable { code, mtu: 0 },
    }
}

fn message_v6(reason: IcmpReason) -> Icmpv6Message {
    match reason {
        IcmpReason::PortUnreachable => Icmpv6Message::Unreachable { code: icmpv6::PORT_UNREACHABLE },
        IcmpReason::HostUnreachable => Icmpv6Message::Unreachable { code: icmpv6::ADDRESS_UNREACHABLE },
        IcmpReason::NetworkUnreachable => Icmpv6Message::Unreachable { code: icmpv6::NO_ROUTE },
        IcmpReason::Prohibited => Icmpv6Message::Unreachable { code: icmpv6::PROHIBITED },
        IcmpReason::ProtocolUnreachable => {
            Icmpv6Message::ParameterProblem { code: icmpv6::UNKNOWN_NEXT_HEADER, pointer: 6 }
        }
        IcmpReason::UnknownNextHeader { pointer } => {
            Icmpv6Message::ParameterProblem { code: icmpv6::UNKNOWN_NEXT_HEADER, pointer }
        }
        IcmpReason::UnknownOption { pointer } => {
            Icmpv6Message::ParameterProblem { code: icmpv6::UNKNOWN_OPTION, pointer }
        }
        IcmpReason::IncompleteChain => {
            Icmpv6Message::ParameterProblem { code: icmpv6::INCOMPLETE_CHAIN, pointer: 0 }
        }
        IcmpReason::ErroneousHeader { pointer } => {
            Icmpv6Message::ParameterProblem { code: icmpv6::ERRONEOUS_HEADER, pointer }
        }
        IcmpReason::ReassemblyTimeout => Icmpv6Message::TimeExceeded { code: icmpv6::REASSEMBLY_EXCEEDED },
        IcmpReason::TtlExceeded => Icmpv6Message::TimeExceeded { code: icmpv6::HOP_LIMIT_EXCEEDED },
        IcmpReason::TooBig { mtu } => Icmpv6Message::PacketTooBig { mtu },
        IcmpReason::Unreachable { code } => Icmpv6Message::Unreachable { code },
    }
}

/// RFC 1812 section 4.3.2.3: an error "SHOULD contain as much of the original datagram as possible without the length
/// of the ICMP datagram exceeding 576 bytes": less the IP and the ICMP header.
const MAX_LEN_V4: usize = 576 - 28;
/// RFC 4443 section 2.4 (c): "without making the error message packet exceed the minimum IPv6 MTU".
const MAX_LEN_V6: usize = 1280 - 48;
