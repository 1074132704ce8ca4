//! `RTM_GETLINK`, and what is told about interfaces.

use std::sync::Arc;

use netstack::NicId;
use netstack::nic::NicInfo;
use sentry_abi::netlink::*;
use sentry_abi::tun::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_PERSIST, IFF_TUN, IFF_VNET_HDR};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::device::LinkDetails;
use crate::socket::netlink::message::{Attributes, Builder, Reply, Request};
use crate::socket::tun::TunDetails;

pub(super) fn get(
    namespace: &Arc<NetNamespace>,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Result<(), Errno> {
    if is_dump {
        let (_, attributes) = request.split::<IfInfoMsg>();
        let info = attributes.find(IFLA_LINKINFO).map(Attributes::within);
        let (kind, master) = (info.and_then(|info| info.str(IFLA_INFO_KIND)), attributes.u32(IFLA_MASTER));
        for nic in namespace.stack().nics() {
            let details = namespace.link_details(&nic);
            let own_master = details.master.as_ref().map_or(0, |master| master.nic.index());
            if kind.is_none_or(|kind| details.kind == Some(kind))
                && master.is_none_or(|master| master == own_master)
            {
                describe(&nic, &details, RTM_NEWLINK, reply);
            }
        }
        return Ok(());
    }
    let (info, attributes) = request.split_full::<IfInfoMsg>()?;
    let nic = find(namespace, &info, attributes)?;
    describe(&nic, &namespace.link_details(&nic), RTM_NEWLINK, reply);
    Ok(())
}

/// The interface that a request names by index or by name.
pub(super) fn find(
    namespace: &NetNamespace,
    info: &IfInfoMsg,
    attributes: Attributes<'_>,
) -> Result<NicInfo, Errno> {
    let stack = namespace.stack();
    let id = if info.index > 0 {
        NicId::from_index(info.index.unsigned_abs())
    } else {
        let name = attributes.str(IFLA_IFNAME).or_else(|| attributes.str(IFLA_ALT_IFNAME));
        stack.nic_by_name(name.ok_or(Errno::EINVAL)?)
    };
    id.and_then(|id| stack.nic(id)).ok_or(Errno::ENODEV)
}

fn describe(nic: &NicInfo, details: &LinkDetails, kind: u16, reply: &mut Reply) {
    let fixed = IfInfoMsg {
        family: 0,
        pad: 0,
        kind: details.hardware_type,
        index: nic.id.index().cast_signed(),
        flags: details.flags,
        change: 0,
    };
    reply.message(kind, &fixed, |builder| describe_attributes(nic, details, builder));
}

fn describe_attributes(nic: &NicInfo, details: &LinkDetails, builder: &mut Builder) {
    builder.attr_str(IFLA_IFNAME, &nic.name);
    builder.attr(IFLA_TXQLEN, &details.queue_len());
    builder.attr(IFLA_OPERSTATE, &details.operational_number());
    builder.attr(IFLA_LINKMODE, &0_u8);
    builder.attr(IFLA_MTU, &nic.mtu);
    builder.attr(IFLA_GROUP, &0_u32);
    builder.attr(IFLA_PROMISCUITY, &u32::from(details.master.is_some()));
    builder.attr(IFLA_NUM_TX_QUEUES, &1_u32);
    builder.attr(IFLA_NUM_RX_QUEUES, &1_u32);
    builder.attr(IFLA_CARRIER, &u8::from(details.has_carrier));
    if let Some(lower) = details.lower {
        builder.attr(IFLA_LINK, &lower.nic.index());
        if let Some(id) = lower.namespace {
            builder.attr(IFLA_LINK_NETNSID, &id);
        }
    }
    if let Some(master) = &details.master {
        builder.attr(IFLA_MASTER, &master.nic.index());
    }
    builder.attr_str(IFLA_QDISC, "noqueue");
    if let Some(address) = details.address {
        builder.attr(IFLA_ADDRESS, &address);
        let broadcast: [u8; 6] = if nic.mac().is_none() { [0; 6] } else { [0xff; 6] };
        builder.attr(IFLA_BROADCAST, &broadcast);
    }
    if details.kind.is_some() || details.master.is_some() {
        builder.nest(IFLA_LINKINFO, |info| describe_kind(details, info));
    }
    builder.attr(IFLA_STATS64, &stats64(nic));
}

fn describe_kind(details: &LinkDetails, info: &mut Builder) {
    if let Some(kind) = details.kind {
        info.attr_str(IFLA_INFO_KIND, kind);
    }
    if let Some(id) = details.vlan {
        info.nest(IFLA_INFO_DATA, |data| {
            data.attr(IFLA_VLAN_PROTOCOL, &ETH_P_8021Q.to_be_bytes());
            data.attr(IFLA_VLAN_ID, &id);
            // struct ifla_vlan_flags: VLAN_FLAG_REORDER_HDR.
            data.attr(IFLA_VLAN_FLAGS, &[1_u32, u32::MAX]);
        });
    }
    if let Some(tun) = details.tun {
        info.nest(IFLA_INFO_DATA, |data| describe_tun(&tun, data));
    }
    if details.kind == Some("bridge") {
        info.nest(IFLA_INFO_DATA, |data| {
            // In hundredths of a second, those of Linux; without spanning tree the first three have no effect.
            data.attr(IFLA_BR_FORWARD_DELAY, &1500_u32);
            data.attr(IFLA_BR_HELLO_TIME, &200_u32);
            data.attr(IFLA_BR_MAX_AGE, &2000_u32);
            data.attr(IFLA_BR_AGEING_TIME, &30_000_u32);
            data.attr(IFLA_BR_STP_STATE, &0_u32);
            data.attr(IFLA_BR_PRIORITY, &0x8000_u16);
            data.attr(IFLA_BR_VLAN_FILTERING, &0_u8);
        });
    }
    if details.master.is_some() {
        info.attr_str(IFLA_INFO_SLAVE_KIND, "bridge");
    }
}

/// `tun_fill_info`.
fn describe_tun(tun: &TunDetails, data: &mut Builder) {
    let is_on = |flag| u8::from(tun.flags & flag != 0);
    // DEVIATION: as the first user namespace knows them.
    if let Some(owner) = tun.owner {
        data.attr(IFLA_TUN_OWNER, &owner.0);
    }
    if let Some(group) = tun.group {
        data.attr(IFLA_TUN_GROUP, &group.0);
    }
    data.attr(IFLA_TUN_TYPE, &if is_on(IFF_TUN) == 1 { 1_u8 } else { 2 });
    data.attr(IFLA_TUN_PI, &(1 - is_on(IFF_NO_PI)));
    data.attr(IFLA_TUN_VNET_HDR, &is_on(IFF_VNET_HDR));
    data.attr(IFLA_TUN_PERSIST, &is_on(IFF_PERSIST));
    data.attr(IFLA_TUN_MULTI_QUEUE, &is_on(IFF_MULTI_QUEUE));
    if tun.flags & IFF_MULTI_QUEUE != 0 {
        data.attr(IFLA_TUN_NUM_QUEUES, &tun.queues);
        data.attr(IFLA_TUN_NUM_DISABLED_QUEUES, &tun.resting_queues);
    }
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

/// Tells the listeners of `RTNLGRP_LINK` about an interface.
pub(in crate::socket) fn announce(namespace: &Arc<NetNamespace>, nic: NicId, kind: u16) {
    let Some(nic) = namespace.stack().nic(nic) else { return };
    message(namespace, &nic, kind).send(namespace);
}

/// What to tell about an interface that is about to go.
pub(in crate::socket) fn gone(namespace: &Arc<NetNamespace>, nic: &NicInfo) -> Announcement {
    message(namespace, nic, RTM_DELLINK)
}

fn message(namespace: &Arc<NetNamespace>, nic: &NicInfo, kind: u16) -> Announcement {
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(nic, &namespace.link_details(nic), kind, &mut reply);
    reply.flush();
    Announcement(reply.datagrams)
}

/// What listeners of `RTNLGRP_LINK` get.
pub(in crate::socket) struct Announcement(Vec<Vec<u8>>);

impl Announcement {
    /// Tells those of `namespace`.
    pub(in crate::socket) fn send(self, namespace: &NetNamespace) {
        for datagram in &self.0 {
            namespace.subscribers().broadcast(NETLINK_ROUTE, RTNLGRP_LINK, datagram);
        }
    }
}

/// `ETH_P_8021Q`.
const ETH_P_8021Q: u16 = 0x8100;
