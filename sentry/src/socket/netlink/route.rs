//! `RTM_*ROUTE`: the routing tables.

use std::net::IpAddr;
use std::sync::Arc;

use netstack::link::Medium;
use netstack::nic::InterfaceAddress;
use netstack::options::Family;
use netstack::route::{Route, RouteKind, RouteOrigin, TableId};
use netstack::{IpCidr, NicId};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::netlink::address::{family_number, matches_family};
use crate::socket::netlink::message::{Attributes, Reply, Request};
use crate::socket::netlink::multicast;

/// Lists one table or all; the local table is not kept as routes here.
pub(super) fn dump(namespace: &NetNamespace, request: &Request<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (filter, attributes) = request.split::<RtMsg>();
    let table = attributes.u32(RTA_TABLE).unwrap_or(filter.table.into());
    if let Some(family) = multicast::family(filter.family) {
        multicast::dump(namespace, family, Some(table).filter(|&table| table != 0), reply);
        return Ok(());
    }
    // RTM_F_CLONED asks for the routing cache, which is empty.
    if filter.flags & RTM_F_CLONED != 0 {
        return Ok(());
    }
    let nics = namespace.stack().nics();
    let is_local = |route: &Route| {
        // Linux keeps the networks of the loopback in the local table.
        let nic = nics.iter().find(|nic| nic.id == route.nic);
        let is_loopback = nic.is_some_and(|nic| nic.medium == Medium::Loopback);
        is_loopback && route.origin == RouteOrigin::Connected
    };
    for route in namespace.stack().routes().iter().filter(|route| !is_local(route)) {
        let is_wanted = table == 0 || route.table == TableId(table);
        if is_wanted && matches_family(filter.family, route.destination.address()) {
            describe(route, RTM_NEWROUTE, reply);
        }
    }
    // rtnl_dump_all: after the families of addresses come those of groups.
    if filter.family == 0 && table == 0 {
        multicast::dump(namespace, Family::V4, None, reply);
        multicast::dump(namespace, Family::V6, None, reply);
    }
    Ok(())
}

fn describe(route: &Route, kind: u16, reply: &mut Reply) {
    let destination = route.destination;
    let fixed = RtMsg {
        family: family_number(destination.address()),
        dst_len: destination.prefix_len(),
        // RT_TABLE_COMPAT, where the number does not fit.
        table: u8::try_from(route.table.0).unwrap_or(252),
        protocol: match route.origin {
            RouteOrigin::Connected => RTPROT_KERNEL,
            RouteOrigin::Static => RTPROT_BOOT,
            RouteOrigin::RouterAdvertisement => RTPROT_RA,
            RouteOrigin::Redirect => RTPROT_REDIRECT,
        },
        scope: match (route.gateway, destination.address()) {
            (_, IpAddr::V4(_)) if route.kind == RouteKind::Local => RT_SCOPE_HOST,
            (_, IpAddr::V4(_)) if route.kind != RouteKind::Unicast => RT_SCOPE_UNIVERSE,
            (None, IpAddr::V4(_)) => RT_SCOPE_LINK,
            (Some(_), _) | (None, IpAddr::V6(_)) => RT_SCOPE_UNIVERSE,
        },
        kind: match route.kind {
            RouteKind::Unicast => RTN_UNICAST,
            RouteKind::Local => RTN_LOCAL,
            RouteKind::Blackhole => RTN_BLACKHOLE,
            RouteKind::Unreachable => RTN_UNREACHABLE,
            RouteKind::Prohibit => RTN_PROHIBIT,
        },
        ..RtMsg::default()
    };
    reply.message(kind, &fixed, |builder| {
        builder.attr(RTA_TABLE, &route.table.0);
        if destination.prefix_len() > 0 {
            builder.attr_ip(RTA_DST, destination.address());
        }
        if let Some(source) = route.source {
            builder.attr_ip(RTA_PREFSRC, source);
        }
        if let Some(gateway) = route.gateway {
            builder.attr_ip(RTA_GATEWAY, gateway);
        }
        // fib_dump_info: IPv4 routes that lead nowhere have no interface.
        if destination.address().is_ipv6() || matches!(route.kind, RouteKind::Unicast | RouteKind::Local) {
            builder.attr(RTA_OIF, &route.nic.index());
        }
        if route.metric > 0 {
            builder.attr(RTA_PRIORITY, &route.metric);
        }
    });
}

/// The route to one destination (`ip route get`).
pub(super) fn lookup(
    namespace: &NetNamespace,
    request: &Request<'_>,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let (fixed, attributes) = request.split_full::<RtMsg>()?;
    if let Some(family) = multicast::family(fixed.family) {
        return multicast::lookup(namespace, family, request, reply);
    }
    let destination = attributes.address(RTA_DST).ok_or(Errno::EINVAL)?;
    let stack = namespace.stack();
    let nics = stack.nics();
    let owner = nics.iter().find(|nic| nic.addresses.iter().any(|own| own.address() == destination));
    let routes = stack.routes();
    let in_main = |route: &&Route| route.table == TableId::MAIN && route.destination.contains(destination);
    let best = routes.iter().filter(in_main).max_by(|a, b| {
        let by_length = a.destination.prefix_len().cmp(&b.destination.prefix_len());
        by_length.then(b.metric.cmp(&a.metric))
    });
    let (nic, gateway, source, kind) = match (owner, best) {
        (Some(_), _) => {
            let loopback = nics.iter().find(|nic| nic.medium == Medium::Loopback);
            (loopback.map(|nic| nic.id), None, Some(destination), RTN_LOCAL)
        }
        (None, Some(Route { kind: RouteKind::Unreachable, .. })) => return Err(Errno::EHOSTUNREACH),
        (None, Some(Route { kind: RouteKind::Blackhole, .. })) => return Err(Errno::EINVAL),
        (None, Some(Route { kind: RouteKind::Prohibit, .. })) => return Err(Errno::EACCES),
        (None, Some(route)) if route.kind == RouteKind::Local => {
            (Some(route.nic), None, Some(destination), RTN_LOCAL)
        }
        (None, Some(route)) => (Some(route.nic), route.gateway, route.source, RTN_UNICAST),
        (None, None) => return Err(Errno::ENETUNREACH),
    };
    let same_family = |address: &IpAddr| address.is_ipv4() == destination.is_ipv4();
    let source = source.or_else(|| {
        let nic = nics.iter().find(|candidate| Some(candidate.id) == nic)?;
        nic.addresses.iter().map(InterfaceAddress::address).find(same_family)
    });
    let fixed = RtMsg {
        family: family_number(destination),
        dst_len: if destination.is_ipv4() { 32 } else { 128 },
        table: if kind == RTN_LOCAL { RT_TABLE_LOCAL } else { RT_TABLE_MAIN },
        kind,
        flags: RTM_F_CLONED,
        ..RtMsg::default()
    };
    reply.message(RTM_NEWROUTE, &fixed, |builder| {
        builder.attr(RTA_TABLE, &u32::from(fixed.table));
        builder.attr_ip(RTA_DST, destination);
        if let Some(nic) = nic {
            builder.attr(RTA_OIF, &nic.index());
        }
        if let Some(source) = source {
            builder.attr_ip(RTA_PREFSRC, source);
        }
        if let Some(gateway) = gateway {
            builder.attr_ip(RTA_GATEWAY, gateway);
        }
        builder.attr(RTA_UID, &0_u32);
    });
    Ok(())
}

/// Destination, gateway, interface and metric of a request.
struct Wanted {
    destination: IpCidr,
    gateway: Option<IpAddr>,
    nic: Option<NicId>,
    metric: Option<u32>,
    source: Option<IpAddr>,
    table: TableId,
    /// `None` if it was not said.
    kind: Option<RouteKind>,
}

fn decode(request: &Request<'_>) -> Result<Wanted, Errno> {
    let (fixed, attributes): (RtMsg, Attributes<'_>) = request.split_full()?;
    let table = attributes.u32(RTA_TABLE).unwrap_or(fixed.table.into());
    let table = match table {
        0 => TableId::MAIN,
        // What is in there follows from the addresses.
        local if local == u32::from(RT_TABLE_LOCAL) => return Err(Errno::EOPNOTSUPP),
        table => TableId(table),
    };
    let kind = match fixed.kind {
        0 => None,
        RTN_UNICAST => Some(RouteKind::Unicast),
        RTN_LOCAL => Some(RouteKind::Local),
        RTN_BLACKHOLE => Some(RouteKind::Blackhole),
        RTN_UNREACHABLE => Some(RouteKind::Unreachable),
        RTN_PROHIBIT => Some(RouteKind::Prohibit),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if attributes.find(RTA_MULTIPATH).is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let any = match u16::from(fixed.family) {
        AF_INET => IpCidr::DEFAULT_V4.address(),
        AF_INET6 => IpCidr::DEFAULT_V6.address(),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let address = attributes.address(RTA_DST).unwrap_or(any);
    let destination = IpCidr::new(address, fixed.dst_len).ok_or(Errno::EINVAL)?;
    // inet_rtm_valid / ip_fib: host bits in the destination are an error.
    if destination.network() != destination {
        return Err(Errno::EINVAL);
    }
    Ok(Wanted {
        destination,
        gateway: attributes.address(RTA_GATEWAY),
        nic: attributes.u32(RTA_OIF).and_then(NicId::from_index),
        metric: attributes.u32(RTA_PRIORITY),
        source: attributes.address(RTA_PREFSRC),
        table,
        kind,
    })
}

pub(super) fn add(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let Wanted { destination, gateway, nic, metric, source, table, kind } = decode(request)?;
    let kind = kind.unwrap_or(RouteKind::Unicast);
    let stack = namespace.stack();
    let leads_out = kind == RouteKind::Unicast;
    if !leads_out && gateway.is_some() {
        return Err(Errno::EINVAL);
    }
    let loopback = || stack.nics().into_iter().find(|nic| nic.medium == Medium::Loopback).map(|nic| nic.id);
    let nic = match (nic, gateway) {
        (Some(nic), _) => nic,
        (None, _) if matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit) => {
            loopback().ok_or(Errno::ENODEV)?
        }
        // The interface follows from the gateway's network.
        (None, Some(gateway)) => {
            let routes = stack.routes();
            let direct = routes.iter().find(|r| r.gateway.is_none() && r.destination.contains(gateway));
            direct.map(|r| r.nic).ok_or(Errno::ENETUNREACH)?
        }
        (None, None) => return Err(Errno::ENODEV),
    };
    let metric = metric.unwrap_or(0);
    let origin = RouteOrigin::Static;
    let route = Route { gateway, metric, source, origin, table, kind, ..Route::connected(destination, nic) };
    let is_rival = |r: &Route| r.table == table && r.destination == destination && r.metric == metric;
    let exists = stack.routes().iter().any(is_rival);
    if exists && request.has(NLM_F_REPLACE) {
        stack.remove_route_of(table, destination, None, None).map_err(|e| e.to_errno())?;
    } else if exists && request.has(NLM_F_EXCL) {
        return Err(Errno::EEXIST);
    }
    stack.add_route(route).map_err(|e| e.to_errno())?;
    announce(namespace, &route, RTM_NEWROUTE);
    Ok(())
}

pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let Wanted { destination, gateway, nic, metric, source: _, table, kind } = decode(request)?;
    let stack = namespace.stack();
    let found = stack.routes().into_iter().find(|route| {
        route.table == table
            && route.destination == destination
            && kind.is_none_or(|kind| route.kind == kind)
            && (gateway.is_none() || route.gateway == gateway)
            && nic.is_none_or(|nic| route.nic == nic)
            && metric.is_none_or(|metric| route.metric == metric)
    });
    // fib_table_delete: ESRCH when there is none.
    let route = found.ok_or(Errno::ESRCH)?;
    stack.remove_route_of(table, destination, route.gateway, Some(route.nic)).map_err(|_| Errno::ESRCH)?;
    announce(namespace, &route, RTM_DELROUTE);
    Ok(())
}

/// Tells the listeners of the route groups.
fn announce(namespace: &NetNamespace, route: &Route, kind: u16) {
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(route, kind, &mut reply);
    reply.flush();
    let group = if route.destination.address().is_ipv4() { RTNLGRP_IPV4_ROUTE } else { RTNLGRP_IPV6_ROUTE };
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}
