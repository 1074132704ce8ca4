//! What Linux has in the table "local": it follows from the addresses, and is not kept as routes.

use std::net::IpAddr;

use netstack::link::Medium;
use netstack::nic::NicInfo;
use netstack::{IpCidr, NicId};
use sentry_abi::netlink::*;

use crate::socket::netlink::address::family_number;
use crate::socket::netlink::message::Reply;
use crate::socket::netlink::route::{KERNEL_METRIC, PREFERENCE_MEDIUM};

/// A route that an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalRoute {
    destination: IpCidr,
    nic: NicId,
    kind: Kind,
    /// The source address to prefer; IPv6 has none here.
    source: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Broadcast,
    Multicast,
}

/// All of them, in order of their destinations.
pub(super) fn routes(nics: &[NicInfo]) -> Vec<LocalRoute> {
    let mut routes: Vec<_> = nics.iter().flat_map(of_nic).collect();
    // Stable: those to one destination stay in the order of the devices.
    routes.sort_by_key(|route| (route.destination.address(), route.destination.prefix_len()));
    routes
}

/// The one that a destination finds: with the longest prefix.
pub(super) fn lookup(nics: &[NicInfo], destination: IpAddr) -> Option<LocalRoute> {
    let matching = routes(nics).into_iter().filter(|route| route.destination.contains(destination));
    // The first of those that are as long.
    matching.rev().max_by_key(|route| route.destination.prefix_len())
}

/// `fib_add_ifaddr` and `addrconf_add_mroute`.
fn of_nic(nic: &NicInfo) -> Vec<LocalRoute> {
    let mut routes = Vec::new();
    let mut networks: Vec<(IpCidr, IpAddr)> = Vec::new();
    let mut add = |destination, kind, source| {
        routes.push(LocalRoute { destination, nic: nic.id, kind, source });
    };
    for own in &nic.addresses {
        let (address, network) = (own.address(), own.network());
        let Some(host) = IpCidr::new(address, if address.is_ipv4() { 32 } else { 128 }) else { continue };
        if address.is_ipv6() {
            if nic.is_up {
                add(host, Kind::Local, None);
            }
            continue;
        }
        // The first address of a network stands for those that came later (`IFA_F_SECONDARY`).
        let first = networks.iter().find(|(known, _)| *known == network).map(|(_, address)| *address);
        let source = Some(first.unwrap_or(address));
        add(host, Kind::Local, source);
        if first.is_some() {
            continue;
        }
        networks.push((network, address));
        // fib_add_ifaddr: the rest comes with the device.
        if !nic.is_up {
            continue;
        }
        if address.is_loopback() && network.prefix_len() < 32 {
            add(network, Kind::Local, source);
        }
        let derived = network.broadcast();
        let other = own.broadcast.filter(|other| derived != Some(*other));
        for all in other.into_iter().chain(derived) {
            if let Some(broadcast) = IpCidr::new(all.into(), 32) {
                add(broadcast, Kind::Broadcast, source);
            }
        }
    }
    if nic.is_up
        && nic.medium != Medium::Loopback
        && let Some(groups) = IpCidr::new(GROUPS, 8)
    {
        add(groups, Kind::Multicast, None);
    }
    routes
}

impl LocalRoute {
    pub(super) fn address(&self) -> IpAddr {
        self.destination.address()
    }

    pub(super) fn describe(&self, reply: &mut Reply) {
        let Self { destination, nic, kind, source } = self;
        let is_v4 = destination.address().is_ipv4();
        let fixed = RtMsg {
            family: family_number(destination.address()),
            dst_len: destination.prefix_len(),
            table: RT_TABLE_LOCAL,
            protocol: RTPROT_KERNEL,
            scope: match kind {
                Kind::Local if is_v4 => RT_SCOPE_HOST,
                Kind::Broadcast => RT_SCOPE_LINK,
                Kind::Local | Kind::Multicast => RT_SCOPE_UNIVERSE,
            },
            kind: match kind {
                Kind::Local => RTN_LOCAL,
                Kind::Broadcast => RTN_BROADCAST,
                Kind::Multicast => RTN_MULTICAST,
            },
            ..RtMsg::default()
        };
        reply.message(RTM_NEWROUTE, &fixed, |builder| {
            builder.attr(RTA_TABLE, &u32::from(RT_TABLE_LOCAL));
            builder.attr_ip(RTA_DST, destination.address());
            if let Some(source) = source {
                builder.attr_ip(RTA_PREFSRC, *source);
            }
            builder.attr(RTA_OIF, &nic.index());
            if !is_v4 {
                let metric = if *kind == Kind::Multicast { KERNEL_METRIC } else { 0 };
                builder.attr(RTA_PRIORITY, &metric);
                builder.attr(RTA_PREF, &PREFERENCE_MEDIUM);
            }
        });
    }
}

const GROUPS: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0));
