//! `RTM_*ADDR`: addresses of interfaces.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use netstack::error::ConfigError;
use netstack::nic::{AddressOrigin, AddressState, InterfaceAddress, NicInfo};
use netstack::{IpCidr, NicId};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use zerocopy::FromBytes;

use crate::errno::Errno;
use crate::socket::inet::ToErrno;
use crate::socket::netlink::message::{Attributes, Reply, Request};
use crate::socket::{NetNamespace, device};

pub(super) fn dump(namespace: &NetNamespace, request: &Request<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (filter, _) = request.split::<IfAddrMsg>();
    for nic in namespace.stack().nics() {
        let is_wanted = filter.index == 0 || filter.index == nic.id.index();
        for own in nic.addresses.iter().filter(|_| is_wanted) {
            if matches_family(filter.family, own.address()) {
                describe(&nic, own, RTM_NEWADDR, reply);
            }
        }
    }
    Ok(())
}

/// True where `family` is the address's or unspecified.
pub(super) fn matches_family(family: u8, address: IpAddr) -> bool {
    u16::from(family) == AF_UNSPEC || family == family_number(address)
}

/// `AF_INET` or `AF_INET6` in a byte.
pub(super) fn family_number(address: IpAddr) -> u8 {
    let family = match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    };
    // Both are below 256.
    u8::try_from(family).unwrap_or(0)
}

/// `RT_SCOPE_*` of an address.
pub(super) fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() => RT_SCOPE_HOST,
        IpAddr::V4(v4) if v4.is_link_local() => RT_SCOPE_LINK,
        IpAddr::V6(Ipv6Addr::LOCALHOST) => RT_SCOPE_HOST,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => RT_SCOPE_LINK,
        IpAddr::V4(_) | IpAddr::V6(_) => RT_SCOPE_UNIVERSE,
    }
}

fn describe(nic: &NicInfo, own: &InterfaceAddress, kind: u16, reply: &mut Reply) {
    let mut flags = IFA_F_PERMANENT
        | match own.state {
            AddressState::Tentative => IFA_F_TENTATIVE,
            AddressState::Preferred => 0,
            AddressState::Deprecated => IFA_F_DEPRECATED,
            AddressState::Duplicated => IFA_F_DADFAILED,
        };
    if own.route_metric.is_none() && own.origin == AddressOrigin::Manual {
        flags |= IFA_F_NOPREFIXROUTE;
    }
    let address = own.address();
    let before = nic.addresses.iter().take_while(|other| other.address() != address);
    if address.is_ipv4() && { before }.any(|other| other.network() == own.network()) {
        flags |= IFA_F_SECONDARY;
    }
    let fixed = IfAddrMsg {
        family: family_number(address),
        prefix_len: own.cidr.prefix_len(),
        // Those that fit: IFA_FLAGS has all.
        flags: (flags & 0xff) as u8,
        scope: scope(address),
        index: nic.id.index(),
    };
    reply.message(kind, &fixed, |builder| {
        builder.attr_ip(IFA_ADDRESS, own.peer.unwrap_or(address));
        if address.is_ipv4() || own.peer.is_some() {
            builder.attr_ip(IFA_LOCAL, address);
        }
        if address.is_ipv4() {
            if let Some(broadcast) = own.broadcast {
                builder.attr_ip(IFA_BROADCAST, IpAddr::V4(broadcast));
            }
            builder.attr_str(IFA_LABEL, &nic.name);
        }
        builder.attr(IFA_FLAGS, &flags);
        if let Some(metric) = own.route_metric.filter(|metric| *metric != 0) {
            builder.attr(IFA_RT_PRIORITY, &metric);
        }
        let forever = u32::MAX;
        // inet_fill_ifaddr: also of one that is deprecated, as long as it stays for good.
        let times = IfaCacheInfo { preferred: forever, valid: forever, cstamp: 0, tstamp: 0 };
        builder.attr(IFA_CACHEINFO, &times);
    });
}

/// What a request says of an address.
struct Named {
    nic: NicId,
    own: InterfaceAddress,
    /// Which of several addresses is meant: the network, where it is named.
    network: Option<IpCidr>,
}

/// Interface and address of a request (`rtm_to_ifaddr`, `inet6_rtm_newaddr`).
fn decode(request: &Request<'_>) -> Result<Named, Errno> {
    let (fixed, attributes): (IfAddrMsg, Attributes<'_>) = request.split_full()?;
    let nic = NicId::from_index(fixed.index).ok_or(Errno::ENODEV)?;
    let is_of_family = |address: &IpAddr| matches_family(fixed.family, *address);
    let named = attributes.address(IFA_ADDRESS).filter(is_of_family);
    let local = attributes.address(IFA_LOCAL).filter(is_of_family).or(named).ok_or(Errno::EINVAL)?;
    let cidr = IpCidr::new(local, fixed.prefix_len).ok_or(Errno::EINVAL)?;
    let network = named.and_then(|named| IpCidr::new(named, fixed.prefix_len)).map(IpCidr::network);
    let broadcast = attributes.address(IFA_BROADCAST).and_then(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let flags = attributes.u32(IFA_FLAGS).unwrap_or(fixed.flags.into());
    let metric = attributes.u32(IFA_RT_PRIORITY).unwrap_or(0);
    let mut state = AddressState::Preferred;
    // DEVIATION: addresses stay until they are taken away; who gave them a time takes them away or gives it again.
    if let Some(times) = attributes.find(IFA_CACHEINFO) {
        let (times, _) = IfaCacheInfo::read_from_prefix(times).map_err(|_| Errno::EINVAL)?;
        if times.valid == 0 || times.preferred > times.valid {
            return Err(Errno::EINVAL);
        }
        if times.preferred == 0 {
            state = AddressState::Deprecated;
        }
    }
    let own = InterfaceAddress {
        peer: named.filter(|peer| *peer != local),
        broadcast,
        route_metric: (flags & IFA_F_NOPREFIXROUTE == 0).then_some(metric),
        state,
        ..InterfaceAddress::new(cidr)
    };
    Ok(Named { nic, own, network })
}

pub(super) fn add(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let Named { nic, own, .. } = decode(request)?;
    let on_existing = if request.has(NLM_F_REPLACE) { OnExisting::Change } else { OnExisting::Refuse };
    insert(namespace, nic, own, on_existing)
}

pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let Named { nic, own, network } = decode(request)?;
    delete(namespace, nic, &own, network)
}

/// What becomes of an address that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::socket) enum OnExisting {
    /// It is changed (`ip address replace`).
    Change,
    /// It stays what it is, and the request fails.
    Refuse,
}

/// Gives an interface an address, and tells the listeners.
///
/// # Errors
/// `EEXIST`, `ENODEV`, `EINVAL`.
pub(in crate::socket) fn insert(
    namespace: &Arc<NetNamespace>,
    nic: NicId,
    own: InterfaceAddress,
    on_existing: OnExisting,
) -> Result<(), Errno> {
    let stack = namespace.stack();
    match stack.add_interface_address(nic, own) {
        Err(ConfigError::Exists) if on_existing == OnExisting::Change => {
            let is_preferred = own.state == AddressState::Preferred;
            let info = stack.nic(nic).ok_or(Errno::ENODEV)?;
            let mut known = info.addresses.iter().filter(|known| known.address() == own.address());
            let had_route = known.any(|known| known.route_metric.is_some());
            // inet_rtm_newaddr: whether there is a route stays as it is, for IPv4.
            let metric = own.route_metric.filter(|_| had_route || own.address().is_ipv6());
            let changed = stack.change_interface_address(nic, own.address(), is_preferred, metric);
            changed.map_err(|e| e.to_errno())?;
        }
        added => added.map_err(|e| e.to_errno())?,
    }
    announce(namespace, nic, own, RTM_NEWADDR);
    Ok(())
}

/// Takes an address from an interface, with the routes that depend on it, and tells the listeners. Where a network is named, the
/// address has to be in that one.
///
/// # Errors
/// `EADDRNOTAVAIL`, `ENODEV`.
pub(in crate::socket) fn delete(
    namespace: &Arc<NetNamespace>,
    nic: NicId,
    own: &InterfaceAddress,
    network: Option<IpCidr>,
) -> Result<(), Errno> {
    let info = namespace.stack().nic(nic).ok_or(Errno::ENODEV)?;
    let is_meant = |other: &&InterfaceAddress| {
        other.address() == own.address() && network.is_none_or(|network| other.network() == network)
    };
    let meant = *info.addresses.iter().find(is_meant).ok_or(Errno::EADDRNOTAVAIL)?;
    namespace.stack().remove_address(nic, meant.address()).map_err(|e| e.to_errno())?;
    announce(namespace, nic, meant, RTM_DELADDR);
    if meant.address().is_ipv4() {
        device::lost_address(namespace, nic);
    }
    Ok(())
}

/// Tells the listeners of an address that an interface got by itself.
pub(in crate::socket) fn announce_new(namespace: &NetNamespace, nic: NicId, cidr: IpCidr) {
    announce(namespace, nic, InterfaceAddress::new(cidr), RTM_NEWADDR);
}

/// Tells the listeners of an address that an interface lost by itself.
pub(in crate::socket) fn announce_gone(namespace: &NetNamespace, nic: NicId, own: InterfaceAddress) {
    announce(namespace, nic, own, RTM_DELADDR);
}

/// Tells the listeners of the address groups.
fn announce(namespace: &NetNamespace, nic: NicId, own: InterfaceAddress, kind: u16) {
    let Some(nic) = namespace.stack().nic(nic) else { return };
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(&nic, &own, kind, &mut reply);
    reply.flush();
    let group = if own.address().is_ipv4() { RTNLGRP_IPV4_IFADDR } else { RTNLGRP_IPV6_IFADDR };
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}
