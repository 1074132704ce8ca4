//! `NFNL_SUBSYS_CTNETLINK`: the flows that are tracked.

use std::net::{IpAddr, SocketAddr};

use netstack::filter::{ConnInfo, TcpState};
use netstack::wire::ip::Protocol;

use super::attributes::{Outcome, Refused, nested, put};
use super::constants::{FAMILY_V4, FAMILY_V6, SUBSYS_CTNETLINK};
use super::{Context, Header};
use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder, Reply, Request};
use netstack::time::Instant;

/// Whether a message may ask for a list.
pub(super) fn is_get(kind: u16) -> bool {
    kind == MSG_GET
}

/// Lists flows, counts them, or forgets some.
pub(super) fn handle(
    context: &Context<'_>,
    kind: u16,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Outcome {
    let (header, attributes): (Header, Attributes<'_>) = request.split_full().map_err(Refused::from)?;
    let stack = context.stack;
    match kind {
        MSG_GET if is_dump => {
            let now = stack.now();
            for flow in stack.tracked_flows().iter().filter(|flow| is_of(flow, header.family)) {
                let fixed = Header { family: family_of(flow), version: 0, resource: [0; 2] };
                reply
                    .message(SUBSYS_CTNETLINK << 8 | MSG_NEW, &fixed, |builder| describe(flow, now, builder));
            }
            Ok(())
        }
        MSG_DELETE => {
            let Some(wanted) = nested(attributes, TUPLE_ORIGINAL) else {
                stack.forget_flows(|flow| is_of(flow, header.family));
                return Ok(());
            };
            let wanted = tuple(wanted)?;
            let count = stack.forget_flows(|flow| (flow.protocol, flow.original) == wanted);
            if count == 0 { Err(Errno::ENOENT.into()) } else { Ok(()) }
        }
        MSG_GET_STATS => {
            let fixed = Header { family: header.family, version: 0, resource: [0; 2] };
            reply.message(SUBSYS_CTNETLINK << 8 | MSG_GET_STATS, &fixed, |builder| {
                put(builder, 1, u32::try_from(stack.tracked_flows().len()).unwrap_or(u32::MAX));
            });
            Ok(())
        }
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

fn family_of(flow: &ConnInfo) -> u8 {
    if flow.original.0.is_ipv4() { FAMILY_V4 } else { FAMILY_V6 }
}

fn is_of(flow: &ConnInfo, family: u8) -> bool {
    family == 0 || family_of(flow) == family
}

fn tuple(wanted: Attributes<'_>) -> Outcome<(Protocol, (SocketAddr, SocketAddr))> {
    let missing = Refused::from(Errno::EINVAL);
    let (ip, protocol) =
        (nested(wanted, TUPLE_IP).ok_or(missing)?, nested(wanted, TUPLE_PROTO).ok_or(missing)?);
    let either = |v4, v6| ip.address(v4).or(ip.address(v6)).ok_or(missing);
    let number = *protocol.find(PROTO_NUM).and_then(<[u8]>::first).ok_or(missing)?;
    let half = |kind| protocol.find(kind).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
    let (from, to) = match Protocol(number) {
        Protocol::ICMP => (half(PROTO_ICMP_ID), kind_of(protocol, PROTO_ICMP_TYPE)),
        Protocol::ICMPV6 => (half(PROTO_ICMPV6_ID), kind_of(protocol, PROTO_ICMPV6_TYPE)),
        _ => (half(PROTO_SRC_PORT), half(PROTO_DST_PORT)),
    };
    let source = SocketAddr::new(either(1, 3)?, from);
    Ok((Protocol(number), (source, SocketAddr::new(either(2, 4)?, to))))
}

fn kind_of(protocol: Attributes<'_>, kind: u16) -> u16 {
    protocol.find(kind).and_then(<[u8]>::first).map_or(0, |kind| u16::from(*kind))
}

fn describe(flow: &ConnInfo, now: Instant, builder: &mut Builder) {
    for (kind, ends) in [(TUPLE_ORIGINAL, flow.original), (TUPLE_REPLY, flow.reply)] {
        builder.nest(kind, |builder| describe_tuple(flow.protocol, ends, builder));
    }
    put(builder, STATUS, flow.status.bits());
    let left = flow.expires.saturating_duration_since(now).as_secs();
    put(builder, TIMEOUT, u32::try_from(left).unwrap_or(u32::MAX));
    if let Some(state) = flow.tcp_state {
        builder.nest(PROTOCOL_INFO, |builder| {
            builder.nest(PROTOCOL_INFO_TCP, |builder| builder.attr(TCP_STATE, &tcp_number(state)));
        });
    }
    put(builder, MARK, flow.mark);
    put(builder, USE, 1);
}

fn describe_tuple(
    protocol: Protocol,
    (source, destination): (SocketAddr, SocketAddr),
    builder: &mut Builder,
) {
    builder.nest(TUPLE_IP, |builder| {
        let (from, to) = if source.is_ipv4() { (1, 2) } else { (3, 4) };
        builder.attr_ip(from, source.ip());
        builder.attr_ip(to, destination.ip());
    });
    builder.nest(TUPLE_PROTO, |builder| {
        builder.attr(PROTO_NUM, &protocol.0);
        let (from, to) = (source.port().to_be_bytes(), destination.port().to_be_bytes());
        match protocol {
            Protocol::ICMP | Protocol::ICMPV6 => {
                let base = if protocol == Protocol::ICMP { PROTO_ICMP_ID } else { PROTO_ICMPV6_ID };
                builder.attr(base, &from);
                // The type takes the port's place; its code is 0.
                builder.attr(base + 1, &to[1]);
                builder.attr(base + 2, &0_u8);
            }
            _ => {
                builder.attr(PROTO_SRC_PORT, &from);
                builder.attr(PROTO_DST_PORT, &to);
            }
        }
    });
}

/// `enum tcp_conntrack`.
fn tcp_number(state: TcpState) -> u8 {
    match state {
        TcpState::SynSent => 1,
        TcpState::SynReceived => 2,
        TcpState::Established => 3,
        TcpState::FinWait => 4,
        TcpState::CloseWait => 5,
        TcpState::LastAck => 6,
        TcpState::TimeWait => 7,
        TcpState::Closed => 8,
        TcpState::SynSent2 => 9,
    }
}

/// The name of a state, as `/proc/net/nf_conntrack` has it.
fn tcp_name(state: TcpState) -> &'static str {
    match state {
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynReceived => "SYN_RECV",
        TcpState::Established => "ESTABLISHED",
        TcpState::FinWait => "FIN_WAIT",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Closed => "CLOSE",
        TcpState::SynSent2 => "SYN_SENT2",
    }
}

/// `/proc/net/nf_conntrack`: a flow per line.
pub(in crate::socket) fn text(flows: &[ConnInfo], now: Instant) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for flow in flows {
        let (family, number) = if flow.original.0.is_ipv4() { ("ipv4", 2) } else { ("ipv6", 10) };
        let name = match flow.protocol {
            Protocol::TCP => "tcp",
            Protocol::UDP => "udp",
            Protocol::ICMP => "icmp",
            Protocol::ICMPV6 => "icmpv6",
            _ => "unknown",
        };
        let left = flow.expires.saturating_duration_since(now).as_secs();
        // Writing into a string does not fail.
        let _ = write!(text, "{family:<8} {number} {name:<8} {} {left} ", flow.protocol.0);
        if let Some(state) = flow.tcp_state {
            let _ = write!(text, "{} ", tcp_name(state));
        }
        let _ = write!(text, "{}", ends(flow.protocol, flow.original));
        if !flow.has_reply {
            text.push_str("[UNREPLIED] ");
        }
        let _ = write!(text, "{}", ends(flow.protocol, flow.reply));
        if flow.is_assured {
            text.push_str("[ASSURED] ");
        }
        let _ = writeln!(text, "mark={} zone=0 use=2", flow.mark);
    }
    text
}

fn ends(protocol: Protocol, (source, destination): (SocketAddr, SocketAddr)) -> String {
    // IPv6 addresses are written out.
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => address.segments().map(|segment| format!("{segment:04x}")).join(":"),
    };
    let addresses = format!("src={} dst={} ", address(source.ip()), address(destination.ip()));
    match protocol {
        Protocol::ICMP | Protocol::ICMPV6 => {
            format!("{addresses}type={} code=0 id={} ", destination.port(), source.port())
        }
        Protocol::TCP | Protocol::UDP => {
            format!("{addresses}sport={} dport={} ", source.port(), destination.port())
        }
        _ => addresses,
    }
}

const MSG_NEW: u16 = 0;
const MSG_GET: u16 = 1;
const MSG_DELETE: u16 = 2;
const MSG_GET_STATS: u16 = 5;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const USE: u16 = 11;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
const PROTO_ICMP_ID: u16 = 4;
const PROTO_ICMP_TYPE: u16 = 5;
const PROTO_ICMPV6_ID: u16 = 7;
const PROTO_ICMPV6_TYPE: u16 = 8;
const PROTOCOL_INFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
