//! `RTM_GETROUTE` for one destination (`ip route get`): what the stack would do with a packet.

use std::net::{IpAddr, Ipv6Addr};

use netstack::NicId;
use netstack::error::RouteError;
use netstack::route::{PacketFacts, RouteLookup, RouteOrigin, Way, WayCast};
use sentry_abi::inet::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use sentry_abi::netlink::*;
use sentry_abi::socket::AF_INET;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::netlink::address::family_number;
use crate::socket::netlink::message::{Attributes, Reply, Request};
use crate::socket::netlink::refusal::Refusal;
use crate::socket::netlink::{local_table, multicast, route};
use crate::task::Task;

pub(super) fn lookup(
    namespace: &NetNamespace,
    request: &Request<'_>,
    task: Option<&Task>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let (fixed, attributes): (RtMsg, Attributes<'_>) = request.split_full()?;
    if let Some(family) = multicast::family(fixed.family) {
        return multicast::lookup(namespace, family, request, reply).map_err(Refusal::from);
    }
    let destination = attributes.address(RTA_DST).ok_or(Errno::EINVAL)?;
    let nic = |kind: u16| attributes.u32(kind).and_then(NicId::from_index);
    let asked = RouteLookup {
        destination,
        source: attributes.address(RTA_SRC).filter(|source| !source.is_unspecified()),
        output_nic: nic(RTA_OIF),
        input_nic: nic(RTA_IIF),
        mark: attributes.u32(RTA_MARK).unwrap_or(0),
        packet: packet_of(&fixed, attributes, task)?,
    };
    check_source(namespace, &asked)?;
    let way = find(namespace, &asked)?;
    if fixed.flags & RTM_F_FIB_MATCH != 0 {
        return describe_match(namespace, destination, &way, reply).map_err(Refusal::from);
    }
    let uid = attributes.u32(RTA_UID).or_else(|| task.map(|task| task.creds().uid.0));
    // INVALID_UID.
    let uid = uid.filter(|uid| *uid != u32::MAX);
    match destination {
        IpAddr::V4(_) => describe_v4(&asked, &way, uid, reply),
        IpAddr::V6(_) => describe_v6(&asked, &way, reply),
    }
    Ok(())
}

/// What rules may look at.
fn packet_of(fixed: &RtMsg, attributes: Attributes<'_>, task: Option<&Task>) -> Result<PacketFacts, Refusal> {
    let is_v4 = u16::from(fixed.family) == AF_INET;
    // rtm_getroute_parse_ip_proto.
    let icmp = if is_v4 { IPPROTO_ICMP } else { IPPROTO_ICMPV6 };
    let protocol = attributes.find(RTA_IP_PROTO).and_then(|value| value.first().copied());
    if protocol.is_some_and(|protocol| ![IPPROTO_TCP, IPPROTO_UDP, icmp].contains(&i32::from(protocol))) {
        return Err(Refusal::new(Errno::EOPNOTSUPP, "Unsupported ip proto"));
    }
    let port = |kind: u16| {
        let value = attributes.find(kind).and_then(|value| value.get(..2)?.try_into().ok());
        value.map_or(0, u16::from_be_bytes)
    };
    // Without one it is who asks. What came in belongs to nobody.
    let user = match (attributes.u32(RTA_UID), task) {
        _ if attributes.find(RTA_IIF).is_some() => 0,
        (Some(user), Some(task)) => task.creds().user_ns.uid(user).map_or(u32::MAX, |uid| uid.0),
        (Some(user), None) => user,
        (None, task) => task.map_or(0, |task| task.creds().uid.0),
    };
    // ip_route_output_key: without the bits of ECN.
    let tos = fixed.tos & 0xfc;
    // inet_rtm_getroute: a datagram, unless it is told. Not so inet6_rtm_getroute.
    let protocol = protocol.unwrap_or(if is_v4 { UDP } else { 0 });
    Ok(PacketFacts { protocol, source_port: port(RTA_SPORT), destination_port: port(RTA_DPORT), user, tos })
}

/// Where the packet would go.
fn find(namespace: &NetNamespace, asked: &RouteLookup) -> Result<Way, Errno> {
    let found = namespace.stack().find_way(asked);
    let stays = matches!(&found, Ok(way) if matches!(way.cast, WayCast::Local | WayCast::Broadcast));
    // ip_route_input_slow: who does not forward has no route for others.
    if let Some(nic) = asked.input_nic.filter(|_| is_v4_host(asked.destination) && !stays)
        && namespace.stack().nic(nic).is_some_and(|nic| !nic.options.forwards_v4)
    {
        return Err(Errno::EHOSTUNREACH);
    }
    let way = found.map_err(errno)?;
    // ip6_route_output: other than in IPv4, nothing is on a link without a route that says so.
    match asked.destination {
        IpAddr::V6(to)
            if way.cast == WayCast::Unicast && way.route.is_none() && !to.is_unicast_link_local() =>
        {
            Err(Errno::ENETUNREACH)
        }
        _ => Ok(way),
    }
}

fn is_v4_host(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if !address.is_multicast())
}

/// `RTM_F_FIB_MATCH`: the route itself, with all of its next hops.
fn describe_match(
    namespace: &NetNamespace,
    destination: IpAddr,
    way: &Way,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let is_local = way.cast != WayCast::Unicast;
    if is_local && let Some(local) = local_table::lookup(&namespace.stack().nics(), destination) {
        local.describe(reply);
        return Ok(());
    }
    // inet_rtm_getroute: "if (!res.fi) ... err = -EHOSTUNREACH".
    let found = way.route.ok_or(Errno::EHOSTUNREACH)?;
    let mut together = namespace.stack().routes();
    together.retain(|route| *route == found || route::share_flows(route, &found));
    route::describe(&together, RTM_NEWROUTE, reply);
    Ok(())
}

/// `ip_route_output_key`: a packet of ours does not come from somebody else. IPv6 does not ask.
fn check_source(namespace: &NetNamespace, asked: &RouteLookup) -> Result<(), Errno> {
    let Some(source @ IpAddr::V4(_)) = asked.source else { return Ok(()) };
    if asked.input_nic.is_some() {
        return Ok(());
    }
    let nics = namespace.stack().nics();
    let is_own = nics.iter().any(|nic| nic.addresses.iter().any(|own| own.address() == source));
    if is_own { Ok(()) } else { Err(Errno::ENETUNREACH) }
}

fn errno(error: RouteError) -> Errno {
    match error {
        RouteError::NetworkUnreachable | RouteError::NoSource => Errno::ENETUNREACH,
        RouteError::NetworkDown => Errno::ENETDOWN,
        RouteError::Blackhole => Errno::EINVAL,
        RouteError::Unreachable => Errno::EHOSTUNREACH,
        RouteError::Prohibited => Errno::EACCES,
    }
}

fn header(asked: &RouteLookup, way: &Way) -> (RtMsg, u32) {
    let table = match (way.cast, way.route) {
        (WayCast::Broadcast, _) | (WayCast::Local, None) => RT_TABLE_LOCAL.into(),
        (_, Some(route)) => route.table.0,
        (_, None) => RT_TABLE_MAIN.into(),
    };
    let fixed = RtMsg {
        family: family_number(asked.destination),
        dst_len: if asked.destination.is_ipv4() { 32 } else { 128 },
        // RT_TABLE_COMPAT, where the number does not fit.
        table: u8::try_from(table).unwrap_or(252),
        kind: match way.cast {
            WayCast::Unicast => RTN_UNICAST,
            WayCast::Broadcast => RTN_BROADCAST,
            WayCast::Multicast => RTN_MULTICAST,
            WayCast::Local => RTN_LOCAL,
        },
        flags: RTM_F_CLONED
            | match way.cast {
                WayCast::Unicast => 0,
                WayCast::Broadcast => RTCF_BROADCAST | RTCF_LOCAL,
                WayCast::Multicast => RTCF_MULTICAST,
                WayCast::Local => RTCF_LOCAL,
            },
        ..RtMsg::default()
    };
    (fixed, table)
}

/// As `rt_fill_info`.
fn describe_v4(asked: &RouteLookup, way: &Way, uid: Option<u32>, reply: &mut Reply) {
    let (fixed, table) = header(asked, way);
    let fixed = RtMsg { src_len: if asked.source.is_some() { 32 } else { 0 }, ..fixed };
    reply.message(RTM_NEWROUTE, &fixed, |builder| {
        builder.attr_ip(RTA_DST, asked.destination);
        if let Some(source) = asked.source {
            builder.attr_ip(RTA_SRC, source);
        }
        builder.attr(RTA_OIF, &way.nic.index());
        builder.attr(RTA_TABLE, &table);
        if asked.source.is_none() && asked.input_nic.is_none() {
            builder.attr_ip(RTA_PREFSRC, way.source);
        }
        if let Some(gateway) = way.gateway {
            builder.attr_ip(RTA_GATEWAY, gateway);
        }
        if asked.mark != 0 {
            builder.attr(RTA_MARK, &asked.mark);
        }
        // rt_fill_info: not for what came in.
        if let Some(uid) = uid.filter(|_| asked.input_nic.is_none()) {
            builder.attr(RTA_UID, &uid);
        }
        if let Some(nic) = asked.input_nic {
            builder.attr(RTA_IIF, &nic.index());
        }
    });
}

/// As `rt6_fill_node`.
fn describe_v6(asked: &RouteLookup, way: &Way, reply: &mut Reply) {
    let (fixed, table) = header(asked, way);
    let protocol = match way.route.map(|route| route.origin) {
        None | Some(RouteOrigin::Connected) => RTPROT_KERNEL,
        Some(origin) => route::protocol(origin),
    };
    // Not RTM_F_CLONED, which exceptions of the path MTU have.
    let fixed = RtMsg { src_len: 128, protocol, flags: 0, ..fixed };
    let metric = way.route.map_or(0, |route| route::shown_metric(&route));
    reply.message(RTM_NEWROUTE, &fixed, |builder| {
        builder.attr_ip(RTA_DST, asked.destination);
        builder.attr_ip(RTA_SRC, asked.source.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        builder.attr(RTA_TABLE, &table);
        if asked.input_nic.is_none() {
            builder.attr_ip(RTA_PREFSRC, way.source);
        }
        if let Some(gateway) = way.gateway {
            builder.attr_ip(RTA_GATEWAY, gateway);
        }
        builder.attr(RTA_OIF, &way.nic.index());
        builder.attr(RTA_PRIORITY, &metric);
        if let Some(nic) = asked.input_nic {
            builder.attr(RTA_IIF, &nic.index());
        }
        builder.attr(RTA_PREF, &route::PREFERENCE_MEDIUM);
    });
}

/// `IPPROTO_UDP`, as it is in packets.
const UDP: u8 = 17;
