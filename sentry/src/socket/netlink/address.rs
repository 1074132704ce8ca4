//! `RTM_*ADDR`: addresses of interfaces.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use netstack::nic::{AddressOrigin, AddressState, InterfaceAddress, NicInfo};
use netstack::{IpCidr, NicId};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::netlink::message::{Attributes, Reply, Request};

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
    let flags = IFA_F_PERMANENT
        | match own.state {
            AddressState::Tentative => IFA_F_TENTATIVE,
            AddressState::Preferred => 0,
            AddressState::Deprecated => IFA_F_DEPRECATED,
            AddressState::Duplicated => IFA_F_DADFAILED,
        };
    let address = own.address();
    let fixed = IfAddrMsg {
        family: family_number(address),
        prefix_len: own.cidr.prefix_len(),
        flags,
        scope: scope(address),
        index: nic.id.index(),
    };
    reply.message(kind, &fixed, |builder| {
        builder.attr_ip(IFA_ADDRESS, address);
        if address.is_ipv4() {
            builder.attr_ip(IFA_LOCAL, address);
            if let Some(broadcast) = own.cidr.broadcast().filter(|_| !address.is_loopback()) {
                builder.attr_ip(IFA_BROADCAST, IpAddr::V4(broadcast));
            }
            builder.attr_str(IFA_LABEL, &nic.name);
        }
        builder.attr(IFA_FLAGS, &u32::from(flags));
        let forever = u32::MAX;
        let times = IfaCacheInfo { preferred: forever, valid: forever, cstamp: 0, tstamp: 0 };
        builder.attr(IFA_CACHEINFO, &times);
    });
}

/// Interface and address of a request.
fn decode(request: &Request<'_>) -> Result<(NicId, IpCidr), Errno> {
    let (fixed, attributes): (IfAddrMsg, Attributes<'_>) = request.split_full()?;
    let nic = NicId::from_index(fixed.index).ok_or(Errno::ENODEV)?;
    let local = attributes.address(IFA_LOCAL).or_else(|| attributes.address(IFA_ADDRESS));
    let local = local.filter(|address| matches_family(fixed.family, *address)).ok_or(Errno::EINVAL)?;
    let cidr = IpCidr::new(local, fixed.prefix_len).ok_or(Errno::EINVAL)?;
    Ok((nic, cidr))
}

pub(super) fn add(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let (nic, cidr) = decode(request)?;
    namespace.stack().add_address(nic, cidr).map_err(|e| e.to_errno())?;
    announce(namespace, nic, cidr, RTM_NEWADDR);
    Ok(())
}

pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let (nic, cidr) = decode(request)?;
    namespace.stack().remove_address(nic, cidr.address()).map_err(|e| e.to_errno())?;
    announce(namespace, nic, cidr, RTM_DELADDR);
    Ok(())
}

/// Tells the listeners of an address that an interface got by itself.
pub(in crate::socket) fn announce_new(namespace: &NetNamespace, nic: NicId, cidr: IpCidr) {
    announce(namespace, nic, cidr, RTM_NEWADDR);
}

/// Tells the listeners of the address groups.
fn announce(namespace: &NetNamespace, nic: NicId, cidr: IpCidr, kind: u16) {
    let Some(nic) = namespace.stack().nic(nic) else { return };
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(
        &nic,
        &InterfaceAddress { cidr, state: AddressState::Preferred, origin: AddressOrigin::Manual },
        kind,
        &mut reply,
    );
    reply.flush();
    let group = if cidr.address().is_ipv4() { RTNLGRP_IPV4_IFADDR } else { RTNLGRP_IPV6_IFADDR };
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}
