//! `RTM_*LINK`: interfaces.

use std::sync::Arc;

use netstack::NicId;
use netstack::nic::NicInfo;
use sentry_abi::ifreq::IfFlags;
use sentry_abi::netlink::*;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::net_ioctl::{if_flags, station};
use crate::socket::netlink::message::{Attributes, Builder, Reply, Request};
use crate::socket::packet::hardware_type;

/// Linux's `IF_OPER_UNKNOWN`, `IF_OPER_DOWN` and `IF_OPER_UP`.
const OPER_UNKNOWN: u8 = 0;
const OPER_DOWN: u8 = 2;
const OPER_UP: u8 = 6;
/// `DEFAULT_TX_QUEUE_LEN`.
const TX_QUEUE_LEN: u32 = 1000;

pub(super) fn get(
    namespace: &NetNamespace,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Result<(), Errno> {
    if is_dump {
        for nic in namespace.stack().nics() {
            describe(&nic, RTM_NEWLINK, reply);
        }
        return Ok(());
    }
    let (info, attributes) = request.split_full::<IfInfoMsg>()?;
    let nic = find(namespace, &info, attributes)?;
    describe(&nic, RTM_NEWLINK, reply);
    Ok(())
}

/// The interface that a request names by index or by name.
fn find(namespace: &NetNamespace, info: &IfInfoMsg, attributes: Attributes<'_>) -> Result<NicInfo, Errno> {
    let stack = namespace.stack();
    let id = if info.index > 0 {
        NicId::from_index(info.index.unsigned_abs())
    } else {
        let name = attributes.str(IFLA_IFNAME).or_else(|| attributes.str(IFLA_ALT_IFNAME));
        stack.nic_by_name(name.ok_or(Errno::EINVAL)?)
    };
    id.and_then(|id| stack.nic(id)).ok_or(Errno::ENODEV)
}

fn describe(nic: &NicInfo, kind: u16, reply: &mut Reply) {
    let flags = if_flags(nic);
    let fixed = IfInfoMsg {
        family: 0,
        pad: 0,
        kind: hardware_type(nic),
        index: nic.id.index().cast_signed(),
        flags: flags.bits(),
        change: 0,
    };
    reply.message(kind, &fixed, |builder| describe_attributes(nic, flags, builder));
}

fn describe_attributes(nic: &NicInfo, flags: IfFlags, builder: &mut Builder) {
    let is_loopback = flags.contains(IfFlags::LOOPBACK);
    let state = match (flags.contains(IfFlags::UP), is_loopback) {
        (true, true) => OPER_UNKNOWN,
        (true, false) => OPER_UP,
        (false, _) => OPER_DOWN,
    };
    builder.attr_str(IFLA_IFNAME, &nic.name);
    builder.attr(IFLA_TXQLEN, &TX_QUEUE_LEN);
    builder.attr(IFLA_OPERSTATE, &state);
    builder.attr(IFLA_LINKMODE, &0_u8);
    builder.attr(IFLA_MTU, &nic.mtu);
    builder.attr(IFLA_GROUP, &0_u32);
    builder.attr(IFLA_PROMISCUITY, &0_u32);
    builder.attr(IFLA_NUM_TX_QUEUES, &1_u32);
    builder.attr(IFLA_NUM_RX_QUEUES, &1_u32);
    builder.attr(IFLA_CARRIER, &u8::from(nic.is_up));
    builder.attr_str(IFLA_QDISC, "noqueue");
    if let Some(address) = station(nic) {
        builder.attr(IFLA_ADDRESS, &address);
        let broadcast: [u8; 6] = if is_loopback { [0; 6] } else { [0xff; 6] };
        builder.attr(IFLA_BROADCAST, &broadcast);
    }
    builder.attr(IFLA_STATS64, &stats64(nic));
}

/// `struct rtnl_link_stats64`: 25 counters, of which these are kept.
fn stats64(nic: &NicInfo) -> [u64; 25] {
    let stats = &nic.stats;
    let mut out = [0; 25];
    let dropped_in = stats.rx_dropped_down + stats.rx_dropped_other_host + stats.rx_dropped_unknown_protocol;
    let dropped_out = stats.tx_dropped_full + stats.tx_dropped_down + stats.tx_dropped_too_large;
    out[..9].copy_from_slice(&[
        stats.rx_packets,
        stats.tx_packets,
        stats.rx_bytes,
        stats.tx_bytes,
        stats.rx_dropped_malformed,
        stats.tx_dropped_unresolved,
        dropped_in,
        dropped_out,
        stats.rx_multicast,
    ]);
    out
}

/// Turns an interface on or off, changes its MTU. Other changes and new interfaces are not built.
pub(super) fn change(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let (info, attributes) = request.split_full::<IfInfoMsg>()?;
    let found = find(namespace, &info, attributes);
    if found.is_err() && request.has(NLM_F_CREATE) {
        return Err(Errno::EOPNOTSUPP);
    }
    let nic = found?;
    if request.has(NLM_F_CREATE | NLM_F_EXCL) && request.header.kind == RTM_NEWLINK {
        return Err(Errno::EEXIST);
    }
    let stack = namespace.stack();
    for (kind, _) in attributes {
        match kind {
            // The name that found it, and masks of what to report.
            IFLA_IFNAME | IFLA_EXT_MASK | IFLA_MTU | IFLA_TXQLEN | IFLA_GROUP => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
    }
    let renames = info.index > 0 && attributes.str(IFLA_IFNAME).is_some_and(|name| name != nic.name);
    if renames {
        return Err(Errno::EOPNOTSUPP);
    }
    if let Some(mtu) = attributes.u32(IFLA_MTU) {
        stack.set_nic_mtu(nic.id, mtu).map_err(|e| e.to_errno())?;
    }
    let up = IfFlags::UP.bits();
    // A change mask of zero means all flags, of which only this one can be changed here.
    if (info.change == 0 && info.flags != 0) || info.change & up != 0 {
        stack.set_nic_up(nic.id, info.flags & up != 0).map_err(|e| e.to_errno())?;
    }
    announce(namespace, nic.id, RTM_NEWLINK);
    Ok(())
}

/// Removes an interface.
pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let (info, attributes) = request.split_full::<IfInfoMsg>()?;
    let nic = find(namespace, &info, attributes)?;
    // Linux refuses to remove what has no rtnl_link_ops: the loopback and physical devices.
    if if_flags(&nic).contains(IfFlags::LOOPBACK) {
        return Err(Errno::EOPNOTSUPP);
    }
    namespace.stack().remove_nic(nic.id).map_err(|e| e.to_errno())
}

/// Tells the listeners of `RTNLGRP_LINK` about an interface.
pub(in crate::socket) fn announce(namespace: &NetNamespace, nic: NicId, kind: u16) {
    let Some(nic) = namespace.stack().nic(nic) else { return };
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(&nic, kind, &mut reply);
    reply.flush();
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, RTNLGRP_LINK, datagram);
    }
}
