//! `RTM_GETROUTE` of `RTNL_FAMILY_IPMR` and `RTNL_FAMILY_IP6MR`: the routes of groups (`ip mroute show`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::options::Family;
use sentry_abi::mroute::MRT_TABLE_DEFAULT;
use sentry_abi::netlink::*;
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::mroute::{self, ShownRoute};
use crate::socket::netlink::message::{Reply, Request};

/// The family of a request for routes of groups.
pub(super) fn family(number: u8) -> Option<Family> {
    match number {
        RTNL_FAMILY_IPMR => Some(Family::V4),
        RTNL_FAMILY_IP6MR => Some(Family::V6),
        _ => None,
    }
}

/// Lists the routes of a family, or those of one table.
pub(super) fn dump(namespace: &NetNamespace, family: Family, table: Option<u32>, reply: &mut Reply) {
    for route in mroute::all(namespace, family, table) {
        describe(&route, RTM_NEWROUTE, reply);
    }
}

/// One route.
///
/// # Errors
/// `ENOENT` if there is none of exactly that source and group.
pub(super) fn lookup(
    namespace: &NetNamespace,
    family: Family,
    request: &Request<'_>,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let (fixed, attributes) = request.split_full::<RtMsg>()?;
    // ip6mr_rtm_valid_getroute_req; IPv4 asks for that of strict programs only.
    let is_whole = |kind, len| attributes.find(kind).is_none() || len == 128;
    if family == Family::V6 && !(is_whole(RTA_SRC, fixed.src_len) && is_whole(RTA_DST, fixed.dst_len)) {
        return Err(Errno::EINVAL);
    }
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let source = attributes.address(RTA_SRC).unwrap_or(any);
    let group = attributes.address(RTA_DST).unwrap_or(any);
    // That of IPv4 also for IPv6, whose routes are therefore found only with the attribute (ip6mr_rtm_getroute).
    let table = attributes.u32(RTA_TABLE).filter(|&table| table != 0).unwrap_or(MRT_TABLE_DEFAULT);
    let route = mroute::one(namespace, family, table, source, group).ok_or(Errno::ENOENT)?;
    describe(&route, RTM_NEWROUTE, reply);
    Ok(())
}

/// Tells of a new or changed route, or of packets that wait for one (`mroute_netlink_event`).
pub(in crate::socket) fn announce(namespace: &NetNamespace, route: &ShownRoute) {
    broadcast(namespace, route, RTM_NEWROUTE);
}

/// Tells that a route is gone.
pub(in crate::socket) fn announce_gone(namespace: &NetNamespace, route: &ShownRoute) {
    broadcast(namespace, route, RTM_DELROUTE);
}

fn broadcast(namespace: &NetNamespace, route: &ShownRoute, kind: u16) {
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(route, kind, &mut reply);
    reply.flush();
    let group = if route.group.is_ipv4() { RTNLGRP_IPV4_MROUTE } else { RTNLGRP_IPV6_MROUTE };
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}

/// What a routing program is told of a packet.
#[derive(Debug, Clone, Copy)]
pub(in crate::socket) struct Report<'a> {
    /// `IGMPMSG_*`.
    pub(in crate::socket) kind: u8,
    pub(in crate::socket) vif: u8,
    pub(in crate::socket) source: IpAddr,
    pub(in crate::socket) group: IpAddr,
    pub(in crate::socket) table: u32,
    /// What is behind the message's own header.
    pub(in crate::socket) packet: &'a [u8],
}

/// Tells subscribers what the routing program is told (`igmpmsg_netlink_event`, `mrt6msg_netlink_event`).
pub(in crate::socket) fn announce_report(namespace: &NetNamespace, report: &Report<'_>) {
    let is_v4 = report.group.is_ipv4();
    let (family, group) = match is_v4 {
        true => (RTNL_FAMILY_IPMR, RTNLGRP_IPV4_MROUTE_R),
        false => (RTNL_FAMILY_IP6MR, RTNLGRP_IPV6_MROUTE_R),
    };
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    // `struct rtgenmsg`, a byte, and what it is padded with.
    reply.message(RTM_NEWCACHEREPORT, &[family, 0, 0, 0], |builder| {
        builder.attr(CREPORT_MSGTYPE, &report.kind);
        builder.attr(CREPORT_VIF_ID, &u32::from(report.vif));
        builder.attr_ip(CREPORT_SRC_ADDR, report.source);
        builder.attr_ip(CREPORT_DST_ADDR, report.group);
        if is_v4 {
            builder.attr(IPMRA_CREPORT_TABLE, &report.table);
        }
        builder.attr(CREPORT_PKT, report.packet);
    });
    reply.flush();
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}

/// As `ipmr_fill_mroute` and `mr_fill_mroute`.
fn describe(route: &ShownRoute, kind: u16, reply: &mut Reply) {
    let (family, address_len) =
        if route.group.is_ipv4() { (RTNL_FAMILY_IPMR, 32) } else { (RTNL_FAMILY_IP6MR, 128) };
    let fixed = RtMsg {
        family,
        dst_len: address_len,
        src_len: address_len,
        // Larger numbers are cut here; the attribute has them.
        table: (route.table & 0xff) as u8,
        protocol: RTPROT_MROUTED,
        scope: RT_SCOPE_UNIVERSE,
        kind: RTN_MULTICAST,
        flags: if route.way.is_some() { 0 } else { RTNH_F_UNRESOLVED },
        ..RtMsg::default()
    };
    reply.message(kind, &fixed, |builder| {
        builder.attr(RTA_TABLE, &route.table);
        builder.attr_ip(RTA_SRC, route.source);
        builder.attr_ip(RTA_DST, route.group);
        let Some(way) = &route.way else { return };
        if let Some(parent) = way.parent {
            builder.attr(RTA_IIF, &parent);
        }
        builder.nest(RTA_MULTIPATH, |hops| {
            for &(index, threshold) in &way.outputs {
                let index = index.cast_signed();
                let hop = RtNextHop { len: size_of::<RtNextHop>() as u16, flags: 0, hops: threshold, index };
                hops.raw(hop.as_bytes());
            }
        });
        let counts = way.counts;
        builder.attr(RTA_MFC_STATS, &[counts.packets, counts.bytes, counts.wrong_vif]);
        // In hundredths of seconds (USER_HZ).
        let idle = u64::try_from(way.idle.as_millis() / 10).unwrap_or(u64::MAX);
        builder.attr(RTA_EXPIRES, &idle);
    });
}
