//! Requests that `ioctl(2)` made before there was netlink, told as netlink requests: what they do is the same.

use std::net::IpAddr;
use std::sync::Arc;

use netstack::{IpCidr, NicId};
use sentry_abi::netlink::*;

use super::address::family_number;
use super::message::{Builder, Reply, Request};
use super::{address, route};
use crate::errno::Errno;
use crate::socket::NetNamespace;

/// A route as `SIOCADDRT` names it.
#[derive(Debug, Clone, Copy)]
pub(in crate::socket) struct OldRoute {
    pub(in crate::socket) destination: IpCidr,
    pub(in crate::socket) gateway: Option<IpAddr>,
    pub(in crate::socket) nic: Option<NicId>,
    /// Zero for none in particular.
    pub(in crate::socket) metric: u32,
    pub(in crate::socket) mtu: Option<u32>,
    /// `RTF_REJECT`.
    pub(in crate::socket) is_rejecting: bool,
}

/// `SIOCADDRT`.
pub(in crate::socket) fn add_route(namespace: &Arc<NetNamespace>, wanted: &OldRoute) -> Result<(), Errno> {
    // Without the flag that lets there be an equal one already.
    with_route(wanted, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, |request| route::add(namespace, request))
}

/// `SIOCDELRT`.
pub(in crate::socket) fn remove_route(namespace: &Arc<NetNamespace>, wanted: &OldRoute) -> Result<(), Errno> {
    with_route(wanted, RTM_DELROUTE, 0, |request| route::remove(namespace, request))
}

fn with_route(
    wanted: &OldRoute,
    kind: u16,
    flags: u16,
    act: impl FnOnce(&Request<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let OldRoute { destination, gateway, nic, metric, mtu, is_rejecting } = *wanted;
    let is_new = kind == RTM_NEWROUTE;
    let fixed = RtMsg {
        family: family_number(destination.address()),
        dst_len: destination.prefix_len(),
        table: RT_TABLE_MAIN,
        protocol: if is_new { RTPROT_BOOT } else { RTPROT_UNSPEC },
        kind: match (is_rejecting, is_new) {
            (true, _) => RTN_UNREACHABLE,
            (false, true) => RTN_UNICAST,
            (false, false) => 0,
        },
        ..RtMsg::default()
    };
    perform(kind, flags, &fixed, act, |builder| {
        builder.attr_ip(RTA_DST, destination.address());
        if let Some(gateway) = gateway {
            builder.attr_ip(RTA_GATEWAY, gateway);
        }
        if let Some(nic) = nic {
            builder.attr(RTA_OIF, &nic.index());
        }
        if metric > 0 {
            builder.attr(RTA_PRIORITY, &metric);
        }
        if let Some(mtu) = mtu {
            builder.nest(RTA_METRICS, |metrics| metrics.attr(RTAX_MTU, &mtu));
        }
    })
}

/// `SIOCSIFADDR` and `SIOCDIFADDR` of IPv6, which say whether the address comes or goes by `kind`.
pub(in crate::socket) fn change_address(
    namespace: &Arc<NetNamespace>,
    nic: NicId,
    cidr: IpCidr,
    kind: u16,
) -> Result<(), Errno> {
    let fixed = IfAddrMsg {
        family: family_number(cidr.address()),
        prefix_len: cidr.prefix_len(),
        index: nic.index(),
        ..IfAddrMsg::default()
    };
    let act = |request: &Request<'_>| match kind {
        RTM_NEWADDR => address::add(namespace, request),
        _ => address::remove(namespace, request),
    };
    perform(kind, NLM_F_CREATE | NLM_F_EXCL, &fixed, act, |builder| {
        builder.attr_ip(IFA_LOCAL, cidr.address());
        builder.attr_ip(IFA_ADDRESS, cidr.address());
    })
}

fn perform<T: zerocopy::IntoBytes + zerocopy::Immutable>(
    kind: u16,
    flags: u16,
    fixed: &T,
    act: impl FnOnce(&Request<'_>) -> Result<(), Errno>,
    fill: impl FnOnce(&mut Builder),
) -> Result<(), Errno> {
    let mut message = Reply::new(&NlMsgHdr::default(), 0, NLM_F_REQUEST | flags);
    message.message(kind, fixed, fill);
    message.flush();
    let mut bytes = message.datagrams.first().map_or(&[][..], Vec::as_slice);
    let request = Request::next(&mut bytes).ok_or(Errno::EINVAL)?;
    act(&request)
}
