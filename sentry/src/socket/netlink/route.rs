//! `RTM_*ROUTE`: the routing tables.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use netstack::link::Medium;
use netstack::options::Family;
use netstack::route::{Route, RouteKind, RouteOrigin, TableId};
use netstack::{IpCidr, NicId, Stack};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::netlink::address::{family_number, matches_family};
use crate::socket::netlink::message::{Attributes, Reply, Request};
use crate::socket::netlink::next_hop::{self, NextHop};
use crate::socket::netlink::{local_table, multicast};

/// Lists one table or all.
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
        // fib_add_ifaddr: what an IPv4 address without a network leads to is there only.
        let destination = route.destination;
        let is_host = destination.address().is_ipv4()
            && destination.prefix_len() == 32
            && route.source == Some(destination.address());
        (is_loopback || is_host) && route.origin == RouteOrigin::Connected
    };
    let mut routes = namespace.stack().routes();
    routes.retain(|route| {
        let is_wanted = table == 0 || route.table == TableId(table);
        is_wanted && matches_family(filter.family, route.destination.address()) && !is_local(route)
    });
    routes.sort_by(listing_order);
    for together in routes.chunk_by(share_flows) {
        describe(together, RTM_NEWROUTE, reply);
    }
    if table == 0 || table == u32::from(RT_TABLE_LOCAL) {
        let routes = local_table::routes(&nics);
        let wanted = routes.iter().filter(|route| matches_family(filter.family, route.address()));
        wanted.for_each(|route| route.describe(reply));
    }
    // rtnl_dump_all: after the families of addresses come those of groups.
    if filter.family == 0 && table == 0 {
        multicast::dump(namespace, Family::V4, None, reply);
        multicast::dump(namespace, Family::V6, None, reply);
    }
    Ok(())
}

/// The order of a dump: that of the tries in which Linux has its routes, and tables by number.
pub(in crate::socket) fn listing_order(a: &Route, b: &Route) -> Ordering {
    let (x, y) = (a.destination, b.destination);
    let by_network = match (x.address(), y.address()) {
        // fib_trie.c: by address; of one address the longest prefix first.
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            x.address().cmp(&y.address()).then(y.prefix_len().cmp(&x.prefix_len()))
        }
        // ip6_fib.c: a network comes behind those within it.
        (IpAddr::V6(_), IpAddr::V6(_)) if x.contains(y.address()) || y.contains(x.address()) => {
            y.prefix_len().cmp(&x.prefix_len())
        }
        _ => x.address().cmp(&y.address()),
    };
    let family = |route: &Route| route.destination.address().is_ipv6();
    let first = family(a).cmp(&family(b)).then(a.table.cmp(&b.table));
    first.then(by_network).then(shown_metric(a).cmp(&shown_metric(b)))
}

/// Whether two routes that follow each other are next hops of one.
pub(super) fn share_flows(a: &Route, b: &Route) -> bool {
    let same = (a.table, a.destination, shown_metric(a)) == (b.table, b.destination, shown_metric(b));
    same && a.weight > 0 && b.weight > 0
}

/// IPv6 has no routes without a metric (`IP6_RT_PRIO_ADDRCONF`, `IP6_RT_PRIO_USER`).
pub(super) fn shown_metric(route: &Route) -> u32 {
    match (route.destination.address(), route.origin) {
        _ if route.metric > 0 => route.metric,
        (IpAddr::V4(_), _) => 0,
        (IpAddr::V6(_), RouteOrigin::Connected) => KERNEL_METRIC,
        (IpAddr::V6(_), _) => USER_METRIC,
    }
}

/// Who made it (`rtm_protocol`).
pub(super) fn protocol(origin: RouteOrigin) -> u8 {
    match origin {
        RouteOrigin::Connected => RTPROT_KERNEL,
        RouteOrigin::Static => RTPROT_BOOT,
        RouteOrigin::Protocol(number) => number,
        RouteOrigin::RouterAdvertisement => RTPROT_RA,
        RouteOrigin::Redirect => RTPROT_REDIRECT,
    }
}

/// Of what follows from addresses (`IP6_RT_PRIO_ADDRCONF`).
pub(super) const KERNEL_METRIC: u32 = 256;
/// Of what users add.
const USER_METRIC: u32 = 1024;

/// `RTA_PREF` of routes that no router has advertised with another preference (RFC 4191).
pub(super) const PREFERENCE_MEDIUM: u8 = 0;

/// Describes a route: the first of `together`, with all of them as its next hops.
pub(super) fn describe(together: &[Route], kind: u16, reply: &mut Reply) {
    let Some(route) = together.first() else { return };
    let destination = route.destination;
    let fixed = RtMsg {
        family: family_number(destination.address()),
        dst_len: destination.prefix_len(),
        // RT_TABLE_COMPAT, where the number does not fit.
        table: u8::try_from(route.table.0).unwrap_or(252),
        protocol: protocol(route.origin),
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
        // Networks of IPv6 have no preferred source of their own.
        let has_source = destination.address().is_ipv4() || route.origin != RouteOrigin::Connected;
        if let Some(source) = route.source.filter(|_| has_source) {
            builder.attr_ip(RTA_PREFSRC, source);
        }
        if together.len() > 1 {
            next_hop::describe(together, builder);
        } else {
            if let Some(gateway) = route.gateway {
                builder.attr_ip(RTA_GATEWAY, gateway);
            }
            // fib_dump_info: IPv4 routes that lead nowhere have no interface.
            if destination.address().is_ipv6() || matches!(route.kind, RouteKind::Unicast | RouteKind::Local)
            {
                builder.attr(RTA_OIF, &route.nic.index());
            }
        }
        if let Some(mtu) = route.mtu {
            builder.nest(RTA_METRICS, |metrics| metrics.attr(RTAX_MTU, &mtu));
        }
        let metric = shown_metric(route);
        if metric > 0 {
            builder.attr(RTA_PRIORITY, &metric);
        }
        if destination.address().is_ipv6() {
            builder.attr(RTA_PREF, &PREFERENCE_MEDIUM);
        }
    });
}

/// What a request says of a route. What it does not say is `None`.
struct Wanted {
    destination: IpCidr,
    next_hops: Vec<NextHop>,
    /// Zero where it was not said.
    metric: u32,
    mtu: Option<u32>,
    source: Option<IpAddr>,
    table: TableId,
    kind: Option<RouteKind>,
    origin: RouteOrigin,
}

/// A route as it was named before there was netlink (`SIOCADDRT`). What is not said is `None`.
#[derive(Debug, Clone, Copy)]
pub(in crate::socket) struct OldRoute {
    pub(in crate::socket) destination: IpCidr,
    pub(in crate::socket) gateway: Option<IpAddr>,
    pub(in crate::socket) nic: Option<NicId>,
    /// Zero where it was not said.
    pub(in crate::socket) metric: u32,
    pub(in crate::socket) mtu: Option<u32>,
    pub(in crate::socket) is_rejecting: bool,
}

impl From<OldRoute> for Wanted {
    fn from(old: OldRoute) -> Self {
        let OldRoute { destination, gateway, nic, metric, mtu, is_rejecting } = old;
        Self {
            destination,
            next_hops: vec![NextHop { gateway, nic, weight: 0 }],
            metric,
            mtu,
            source: None,
            table: TableId::MAIN,
            kind: is_rejecting.then_some(RouteKind::Unreachable),
            origin: RouteOrigin::Static,
        }
    }
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
        next_hops: next_hop::decode(&attributes)?,
        metric: attributes.u32(RTA_PRIORITY).unwrap_or(0),
        mtu: mtu(&attributes),
        source: attributes.address(RTA_PREFSRC),
        table,
        kind,
        origin: match fixed.protocol {
            RTPROT_UNSPEC | RTPROT_BOOT => RouteOrigin::Static,
            number => RouteOrigin::Protocol(number),
        },
    })
}

/// The only metric of `ip-route(8)` that is kept.
fn mtu(attributes: &Attributes<'_>) -> Option<u32> {
    let metrics = attributes.find(RTA_METRICS).map(Attributes::within)?;
    metrics.u32(RTAX_MTU).filter(|mtu| *mtu > 0)
}

pub(super) fn add(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    insert(namespace, decode(request)?, request.header.flags)
}

/// `SIOCADDRT`.
///
/// # Errors
/// `EEXIST`, and those of [`add`].
pub(in crate::socket) fn add_old(namespace: &Arc<NetNamespace>, route: OldRoute) -> Result<(), Errno> {
    insert(namespace, route.into(), NLM_F_EXCL)
}

/// `SIOCDELRT`.
///
/// # Errors
/// `ESRCH`.
pub(in crate::socket) fn remove_old(namespace: &Arc<NetNamespace>, route: OldRoute) -> Result<(), Errno> {
    delete(namespace, route.into())
}

/// Adds a route; `flags` say what becomes of one that is there (`NLM_F_REPLACE`, `NLM_F_EXCL`).
fn insert(namespace: &Arc<NetNamespace>, wanted: Wanted, flags: u16) -> Result<(), Errno> {
    let Wanted { destination, next_hops, metric, mtu, source, table, kind, origin } = wanted;
    let kind = kind.unwrap_or(RouteKind::Unicast);
    let stack = namespace.stack();
    if kind != RouteKind::Unicast && next_hops.iter().any(|hop| hop.gateway.is_some()) {
        return Err(Errno::EINVAL);
    }
    let metric = if metric == 0 && destination.address().is_ipv6() { USER_METRIC } else { metric };
    let routes = next_hops.iter().map(|hop| {
        let nic = hop.nic(stack, kind)?;
        let NextHop { gateway, weight, .. } = *hop;
        Ok(Route {
            gateway,
            metric,
            mtu,
            source,
            origin,
            table,
            kind,
            weight,
            ..Route::connected(destination, nic)
        })
    });
    let routes: Vec<_> = routes.collect::<Result<_, Errno>>()?;
    let is_rival = |r: &Route| r.table == table && r.destination == destination && shown_metric(r) == metric;
    let rivals: Vec<_> = stack.routes().into_iter().filter(is_rival).collect();
    if !rivals.is_empty() && flags & NLM_F_REPLACE != 0 {
        rivals.iter().for_each(|rival| forget(stack, rival));
    } else if !rivals.is_empty() && flags & NLM_F_EXCL != 0 {
        return Err(Errno::EEXIST);
    }
    for (at, route) in routes.iter().enumerate() {
        if let Err(error) = stack.add_route(*route) {
            // All or none.
            routes[..at].iter().for_each(|added| forget(stack, added));
            return Err(error.to_errno());
        }
    }
    announce(namespace, &routes, RTM_NEWROUTE);
    Ok(())
}

fn forget(stack: &Stack, route: &Route) {
    // Somebody else may have been faster.
    let _ = stack.remove_this_route(route);
}

pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    delete(namespace, decode(request)?)
}

fn delete(namespace: &Arc<NetNamespace>, wanted: Wanted) -> Result<(), Errno> {
    let Wanted { destination, next_hops, metric, mtu: _, source: _, table, kind, origin } = wanted;
    let stack = namespace.stack();
    let is_meant = |route: &Route| {
        route.table == table
            && route.destination == destination
            && kind.is_none_or(|kind| route.kind == kind)
            && (metric == 0 || shown_metric(route) == metric)
            && (origin == RouteOrigin::Static || route.origin == origin)
            && next_hops.iter().any(|hop| hop.is_of(route))
    };
    let routes = stack.routes();
    // fib_table_delete: ESRCH when there is none.
    let first = routes.iter().find(|route| is_meant(route)).ok_or(Errno::ESRCH)?;
    // All next hops go with it, unless one was named.
    let together: Vec<_> = routes
        .iter()
        .filter(|route| *route == first || share_flows(first, route) && is_meant(route))
        .copied()
        .collect();
    together.iter().for_each(|route| forget(stack, route));
    announce(namespace, &together, RTM_DELROUTE);
    Ok(())
}

/// Tells the listeners of the route groups.
fn announce(namespace: &NetNamespace, together: &[Route], kind: u16) {
    let Some(route) = together.first() else { return };
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(together, kind, &mut reply);
    reply.flush();
    let group = if route.destination.address().is_ipv4() { RTNLGRP_IPV4_ROUTE } else { RTNLGRP_IPV6_ROUTE };
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}
