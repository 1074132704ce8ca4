//! `RTM_*ROUTE`: the routing table.

use std::net::IpAddr;
use std::sync::Arc;

use netstack::nic::InterfaceAddress;
use netstack::options::Family;
use netstack::route::{Route, RouteOrigin};
use netstack::{IpCidr, NicId};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::netlink::address::{family_number, matches_family};
use crate::socket::netlink::message::{Attributes, Reply, Request};
use crate::socket::netlink::multicast;

/// Lists the main table; the local table is not kept as routes here.
pub(super) fn dump(namespace: &NetNamespace, request: &Request<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (filter, attributes) = request.split::<RtMsg>();
    let table = attributes.u32(RTA_TABLE).unwrap_or(filter.table.into());
    if let Some(family) = multicast::family(filter.family) {
        multicast::dump(namespace, family, Some(table).filter(|&table| table != 0), reply);
        return Ok(());
    }
    let wants_main = table == 0 || table == u32::from(RT_TABLE_MAIN);
    // RTM_F_CLONED asks for the routing cache, which is empty.
    if !wants_main || filter.flags & RTM_F_CLONED != 0 {
        return Ok(());
    }
    let nics = namespace.stack().nics();
    let is_local = |route: &Route| {
        // Linux keeps the networks of the loopback in the local table.
        let nic = nics.iter().find(|nic| nic.id == route.nic);
        let is_loopback = nic.is_some_and(|nic| nic.medium == netstack::link::Medium::Loopback);
        is_loopback && route.origin == RouteOrigin::Connected
    };
    for route in namespace.stack().routes().iter().filter(|route| !is_local(route)) {
        if matches_family(filter.family, route.destination.address()) {
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
        table: RT_TABLE_MAIN,
        protocol: match route.origin {
            RouteOrigin::Connected => RTPROT_KERNEL,
            RouteOrigin::Static => RTPROT_BOOT,
            RouteOrigin::RouterAdvertisement => RTPROT_RA,
            RouteOrigin::Redirect => RTPROT_REDIRECT,
        },
        scope: match (route.gateway, destination.address()) {
            (None, IpAddr::V4(_)) => RT_SCOPE_LINK,
            (Some(_), _) | (None, IpAddr::V6(_)) => RT_SCOPE_UNIVERSE,
        },
        kind: RTN_UNICAST,
        ..RtMsg::default()
    };
    reply.message(kind, &fixed, |builder| {
        builder.attr(RTA_TABLE, &u32::from(RT_TABLE_MAIN));
        if destination.prefix_len() > 0 {
            builder.attr_ip(RTA_DST, destination.address());
        }
        if let Some(source) = route.source {
            builder.attr_ip(RTA_PREFSRC, source);
        }
        if let Some(gateway) = route.gateway {
            builder.attr_ip(RTA_GATEWAY, gateway);
        }
        builder.attr(RTA_OIF, &route.nic.index());
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
    let best = routes.iter().filter(|route| route.destination.contains(destination)).max_by(|a, b| {
        let by_length = a.destination.prefix_len().cmp(&b.destination.prefix_len());
        by_length.then(b.metric.cmp(&a.metric))
    });
    let (nic, gateway, source, kind) = match (owner, best) {
        (Some(_), _) => {
            let loopback = nics.iter().find(|nic| nic.medium == netstack::link::Medium::Loopback);
            (loopback.map(|nic| nic.id), None, Some(destination), RTN_LOCAL)
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
}

fn decode(request: &Request<'_>) -> Result<Wanted, Errno> {
    let (fixed, attributes): (RtMsg, Attributes<'_>) = request.split_full()?;
    let table = attributes.u32(RTA_TABLE).unwrap_or(fixed.table.into());
    if table != 0 && table != u32::from(RT_TABLE_MAIN) {
        return Err(Errno::EOPNOTSUPP);
    }
    if attributes.find(RTA_MULTIPATH).is_some() || !matches!(fixed.kind, 0 | RTN_UNICAST) {
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
    })
}

pub(super) fn add(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let Wanted { destination, gateway, nic, metric, source } = decode(request)?;
    let stack = namespace.stack();
    let nic = match (nic, gateway) {
        (Some(nic), _) => nic,
        // The interface follows from the gateway's network.
        (None, Some(gateway)) => {
            let routes = stack.routes();
            let direct = routes.iter().find(|r| r.gateway.is_none() && r.destination.contains(gateway));
            direct.map(|r| r.nic).ok_or(Errno::ENETUNREACH)?
        }
        (None, None) => return Err(Errno::ENODEV),
    };
    let metric = metric.unwrap_or(0);
    let route =
        Route { gateway, metric, source, origin: RouteOrigin::Static, ..Route::connected(destination, nic) };
    let exists = stack.routes().iter().any(|r| r.destination == destination && r.metric == metric);
    if exists && request.has(NLM_F_REPLACE) {
        stack.remove_route(destination, None, None).map_err(|e| e.to_errno())?;
    } else if exists && request.has(NLM_F_EXCL) {
        return Err(Errno::EEXIST);
    }
    stack.add_route(route).map_err(|e| e.to_errno())?;
    announce(namespace, &route, RTM_NEWROUTE);
    Ok(())
}

pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let Wanted { destination, gateway, nic, metric, source: _ } = decode(request)?;
    let stack = namespace.stack();
    let found = stack.routes().into_iter().find(|route| {
        route.destination == destination
            && (gateway.is_none() || route.gateway == gateway)
            && nic.is_none_or(|nic| route.nic == nic)
            && metric.is_none_or(|metric| route.metric == metric)
    });
    // fib_table_delete: ESRCH when there is none.
    let route = found.ok_or(Errno::ESRCH)?;
    stack.remove_route(destination, route.gateway, Some(route.nic)).map_err(|_| Errno::ESRCH)?;
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
