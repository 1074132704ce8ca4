//! `SOL_IPV6` and `SOL_ICMPV6` (`ipv6(7)`, RFC 3493, RFC 3542).

use std::net::{IpAddr, Ipv6Addr};

use netstack::options::{Family as IpFamily, SocketOptions};
use netstack::socket::Icmp6Filter;
use netstack::{AutoFlowLabels, NicId};
use sentry_abi::inet::*;
use sentry_abi::socket::{SOL_ICMPV6, SOL_IPV6, SOL_RAW};

use crate::errno::Errno;
use crate::socket::base::SocketType;
use crate::socket::inet::{InetSocket, Membership, Receive};
use crate::socket::option::ip::{
    ECN_MASK, change_group, get_freebind, get_mtu, get_mtu_discover, get_transparent, replace_beginning,
    set_freebind, set_mtu_discover, set_transparent, set_unicast_nic,
};
use crate::socket::option::value::{bytes, int, object, of_bool, of_int, saturate, switch};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_IPV6, IPV6_V6ONLY, get_v6_only, set_v6_only),
    option!(SOL_IPV6, IPV6_UNICAST_HOPS, get_unicast_hops, set_unicast_hops),
    option!(SOL_IPV6, IPV6_MULTICAST_IF, get_multicast_if, set_multicast_if),
    option!(SOL_IPV6, IPV6_MULTICAST_HOPS, get_multicast_hops, set_multicast_hops),
    option!(SOL_IPV6, IPV6_MULTICAST_LOOP, get_multicast_loop, set_multicast_loop),
    option!(SOL_IPV6, IPV6_MULTICAST_ALL, get_multicast_all, set_multicast_all),
    option!(SOL_IPV6, IPV6_ADD_MEMBERSHIP, -, add_membership),
    option!(SOL_IPV6, IPV6_DROP_MEMBERSHIP, -, drop_membership),
    option!(SOL_IPV6, MCAST_JOIN_GROUP, -, join_group),
    option!(SOL_IPV6, MCAST_LEAVE_GROUP, -, leave_group),
    option!(SOL_IPV6, IPV6_MTU_DISCOVER, get_v6_mtu_discover, set_v6_mtu_discover),
    option!(SOL_IPV6, IPV6_MTU, get_v6_mtu, -),
    option!(SOL_IPV6, IPV6_RECVERR, get_recverr, set_recverr),
    option!(SOL_IPV6, IPV6_RECVPKTINFO, get_recv_pktinfo, set_recv_pktinfo),
    option!(SOL_IPV6, IPV6_RECVHOPLIMIT, get_recv_hop_limit, set_recv_hop_limit),
    option!(SOL_IPV6, IPV6_RECVTCLASS, get_recv_class, set_recv_class),
    option!(SOL_IPV6, IPV6_RECVORIGDSTADDR, get_recv_original, set_recv_original),
    option!(SOL_IPV6, IPV6_TCLASS, get_class, set_class),
    option!(SOL_IPV6, IPV6_CHECKSUM, get_checksum, set_checksum),
    // raw(7): the checksum's place can also be set at the level of raw sockets.
    option!(SOL_RAW, IPV6_CHECKSUM, get_checksum, set_checksum),
    option!(SOL_IPV6, IPV6_UNICAST_IF, get_unicast_if, set_unicast_if),
    option!(SOL_IPV6, IPV6_PATHMTU, get_path_mtu, -),
    option!(SOL_IPV6, IPV6_2292PKTINFO, get_old_pktinfo, set_old_pktinfo),
    option!(SOL_IPV6, IPV6_2292HOPLIMIT, get_old_hop_limit, set_old_hop_limit),
    option!(SOL_IPV6, IPV6_FREEBIND, get_v6_freebind, set_v6_freebind),
    option!(
        SOL_IPV6,
        IPV6_TRANSPARENT,
        get_v6_transparent,
        set_v6_transparent,
        Effect::Partial("no interception of traffic")
    ),
    option!(SOL_IPV6, IPV6_AUTOFLOWLABEL, get_auto_label, set_auto_label),
    option!(SOL_IPV6, IPV6_FLOWINFO, get_flow_info, set_flow_info),
    option!(SOL_IPV6, IPV6_FLOWINFO_SEND, get_flow_info_send, set_flow_info_send),
    option!(SOL_IPV6, IPV6_MINHOPCOUNT, get_min_hops, set_min_hops),
    option!(SOL_IPV6, IPV6_DONTFRAG, get_dont_fragment, set_dont_fragment),
    option!(SOL_ICMPV6, ICMPV6_FILTER, get_icmp_filter, set_icmp_filter),
];

/// The socket, if it is an IPv6 one.
fn v6<'a>(context: &Context<'a>) -> Result<&'a InetSocket, Errno> {
    context.inet().ok().filter(|inet| inet.ip_family() == IpFamily::V6).ok_or(Errno::ENOPROTOOPT)
}

fn change(context: &Context<'_>, change: impl FnOnce(&mut SocketOptions)) -> Result<(), Errno> {
    v6(context)?.change_options(change);
    Ok(())
}

fn get_min_hops(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(v6(context)?.options().min_hop_limit.into())
}

fn set_min_hops(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let limit = u8::try_from(int(value)?).map_err(|_| Errno::EINVAL)?;
    change(context, |options| options.min_hop_limit = limit)
}

fn get_dont_fragment(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(v6(context)?.options().dont_fragment_v6)
}

fn set_dont_fragment(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch_or_nothing(value);
    change(context, |options| options.dont_fragment_v6 = on)
}

/// Some switches take a value that is too short for an `int` as zero (`do_ipv6_setsockopt`).
fn switch_or_nothing(value: &[u8]) -> bool {
    int(value).is_ok_and(|value| value != 0)
}

/// The index is in network order.
fn get_unicast_if(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(v6(context)?.notes().unicast_nic(IpFamily::V6).cast_signed().to_be())
}

fn set_unicast_if(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let word = <[u8; 4]>::try_from(value).map_err(|_| Errno::EINVAL)?;
    set_unicast_nic(context, u32::from_be_bytes(word), IpFamily::V6)
}

/// `struct ip6_mtuinfo`: an address, which is empty, and the MTU of the way to the peer.
fn get_path_mtu(context: &Context<'_>) -> Result<Value, Errno> {
    if context.buffer.1 < PATH_MTU_LEN {
        return Err(Errno::EINVAL);
    }
    let mtu = get_v6_mtu(context)?;
    let mut value = Value::from_elem(0, PATH_MTU_LEN - mtu.len());
    value.extend_from_slice(&mtu);
    Ok(value)
}

/// `sizeof(struct ip6_mtuinfo)`.
const PATH_MTU_LEN: usize = 32;

fn get_old_pktinfo(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::PKTINFO_2292)
}

fn set_old_pktinfo(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::PKTINFO_2292, value)
}

fn get_old_hop_limit(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::HOP_LIMIT_2292)
}

fn set_old_hop_limit(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::HOP_LIMIT_2292, value)
}

fn get_v6_only(context: &Context<'_>) -> Result<Value, Errno> {
    let inet = v6(context)?;
    // Raw sockets are of one family anyway, and Linux does not show it.
    of_bool(inet.options().only_v6 && inet.raw().is_none())
}

fn set_v6_only(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let inet = v6(context)?;
    let on = switch(value)?;
    // Also on raw sockets, whose protocol stands where others have their port.
    if inet.local().port() != 0 || inet.raw().is_some() {
        return Err(Errno::EINVAL);
    }
    inet.change_options(|options| options.only_v6 = on);
    Ok(())
}

/// A hop limit; -1 is the default.
fn hops(value: &[u8]) -> Result<Option<u8>, Errno> {
    match int(value)? {
        -1 => Ok(None),
        n => u8::try_from(n).map(Some).map_err(|_| Errno::EINVAL),
    }
}

/// `net.ipv6.conf.*.hop_limit`.
const DEFAULT_HOPS: u8 = 64;

fn get_unicast_hops(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(v6(context)?.options().hop_limit.unwrap_or(DEFAULT_HOPS).into())
}

fn set_unicast_hops(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let limit = hops(value)?;
    change(context, |options| options.hop_limit = limit)
}

fn get_multicast_hops(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(v6(context)?.options().multicast_hop_limit.into())
}

fn set_multicast_hops(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if context.socket.base().kind == SocketType::Stream {
        return Err(Errno::ENOPROTOOPT);
    }
    let limit = hops(value)?.unwrap_or(1);
    change(context, |options| options.multicast_hop_limit = limit)
}

fn get_multicast_if(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(v6(context)?.options().multicast_nic_v6.map_or(0, |nic| saturate(nic.index())))
}

fn set_multicast_if(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    v6(context)?;
    if context.socket.base().kind == SocketType::Stream {
        return Err(Errno::ENOPROTOOPT);
    }
    let nic = nic(context, int(value)?.cast_unsigned())?;
    change(context, |options| options.multicast_nic_v6 = nic)
}

fn get_multicast_loop(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(v6(context)?.options().multicast_loop_v6)
}

fn set_multicast_loop(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = match int(value)? {
        0 => false,
        1 => true,
        _ => return Err(Errno::EINVAL),
    };
    change(context, |options| options.multicast_loop_v6 = on)
}

fn nic(context: &Context<'_>, index: u32) -> Result<Option<NicId>, Errno> {
    let nic = NicId::from_index(index);
    match nic.map(|nic| context.namespace.stack().nic(nic)) {
        Some(None) => Err(Errno::ENODEV),
        Some(Some(_)) | None => Ok(nic),
    }
}

fn change_membership(context: &Context<'_>, value: &[u8], how: Membership) -> Result<(), Errno> {
    let inet = v6(context)?;
    let request: Ipv6Mreq = object(value)?;
    if inet.tcp().is_some() {
        return Err(Errno::EPROTO);
    }
    // ipv6_sock_mc_join and ipv6_sock_mc_drop look at the group first.
    if !Ipv6Addr::from(request.group).is_multicast() {
        return Err(Errno::EINVAL);
    }
    let nic = nic(context, request.ifindex)?;
    inet.change_membership(IpAddr::V6(Ipv6Addr::from(request.group)), nic, how)
}

fn add_membership(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_membership(context, value, Membership::Join)
}

fn drop_membership(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_membership(context, value, Membership::Leave)
}

fn join_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    v6(context)?;
    change_group(context, value, Membership::Join)
}

fn leave_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    v6(context)?;
    change_group(context, value, Membership::Leave)
}

fn get_v6_mtu_discover(context: &Context<'_>) -> Result<Value, Errno> {
    v6(context)?;
    get_mtu_discover(context)
}

fn set_v6_mtu_discover(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    v6(context)?;
    int(value)?;
    set_mtu_discover(context, value)
}

fn get_v6_mtu(context: &Context<'_>) -> Result<Value, Errno> {
    v6(context)?;
    get_mtu(context)
}

fn get_v6_freebind(context: &Context<'_>) -> Result<Value, Errno> {
    v6(context)?;
    get_freebind(context)
}

fn set_v6_freebind(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    v6(context)?;
    int(value)?;
    set_freebind(context, value)
}

fn get_v6_transparent(context: &Context<'_>) -> Result<Value, Errno> {
    v6(context)?;
    get_transparent(context)
}

fn set_v6_transparent(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    v6(context)?;
    int(value)?;
    set_transparent(context, value)
}

fn get_recverr(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(v6(context)?.options().error_queue_v6)
}

fn set_recverr(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    change(context, |options| options.error_queue_v6 = on)
}

fn has_receive(context: &Context<'_>, switch: Receive) -> Result<Value, Errno> {
    of_bool(v6(context)?.receive_switches().get().contains(switch))
}

fn set_receive(context: &Context<'_>, bit: Receive, value: &[u8]) -> Result<(), Errno> {
    v6(context)?.receive_switches().set(bit, switch(value)?);
    Ok(())
}

fn get_recv_pktinfo(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::PKTINFO_V6)
}

fn set_recv_pktinfo(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::PKTINFO_V6, value)
}

fn get_recv_hop_limit(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::HOP_LIMIT)
}

fn set_recv_hop_limit(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::HOP_LIMIT, value)
}

fn get_recv_class(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::TRAFFIC_CLASS)
}

fn set_recv_class(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::TRAFFIC_CLASS, value)
}

fn get_recv_original(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::ORIGINAL_DESTINATION_V6)
}

fn set_recv_original(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::ORIGINAL_DESTINATION_V6, value)
}

fn get_flow_info(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::FLOW_INFO)
}

fn set_flow_info(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::FLOW_INFO, value)
}

fn get_flow_info_send(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::FLOW_INFO_SEND)
}

fn set_flow_info_send(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::FLOW_INFO_SEND, value)
}

/// What the socket said, or else what all do (`ip6_autoflowlabel`).
fn get_auto_label(context: &Context<'_>) -> Result<Value, Errno> {
    let own = v6(context)?.options().auto_flow_label;
    let auto = context.namespace.stack().ip_config().flow_labels.auto;
    of_bool(own.unwrap_or(matches!(auto, AutoFlowLabels::OptOut | AutoFlowLabels::Forced)))
}

fn set_auto_label(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch_or_nothing(value);
    change(context, |options| options.auto_flow_label = Some(on))
}

fn get_class(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(v6(context)?.options().traffic_class.into())
}

fn set_class(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let class = hops(value)?.unwrap_or(0);
    let is_stream = context.socket.base().kind == SocketType::Stream;
    change(context, |options| {
        // The bits of explicit congestion notification belong to TCP.
        let kept = if is_stream { ECN_MASK } else { 0 };
        options.traffic_class = (class & !kept) | (options.traffic_class & kept);
    })
}

fn get_checksum(context: &Context<'_>) -> Result<Value, Errno> {
    v6(context)?.raw().ok_or(Errno::ENOPROTOOPT)?;
    let default = if context.socket.base().protocol == IPPROTO_ICMPV6 { 2 } else { -1 };
    of_int(context.socket.base().kept(CHECKSUM).unwrap_or(default))
}

/// Where the checksum is kept, whichever the level that it is set at.
const CHECKSUM: (i32, i32) = (SOL_IPV6, IPV6_CHECKSUM);

fn set_checksum(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let raw = v6(context)?.raw().ok_or(Errno::ENOPROTOOPT)?;
    let at = int(value)?;
    let base = context.socket.base();
    // RFC 3542 section 3.1: "An attempt to set IPV6_CHECKSUM for an ICMPv6 socket will fail".
    if base.protocol == IPPROTO_ICMPV6 && context.option.0 == SOL_IPV6 {
        return Err(Errno::EINVAL);
    }
    // rawv6_setsockopt: "You may get strange result with a positive odd offset".
    let offset = match at {
        n if n < 0 => None,
        n if n % 2 != 0 => return Err(Errno::EINVAL),
        // Beyond what a packet can have, each send fails.
        n => Some(u16::try_from(n).unwrap_or(u16::MAX - 1)),
    };
    base.keep(CHECKSUM, at.max(-1));
    raw.set_checksum_offset(offset);
    Ok(())
}

fn get_icmp_filter(context: &Context<'_>) -> Result<Value, Errno> {
    let raw = v6(context)?.raw().ok_or(Errno::ENOPROTOOPT)?;
    Ok(bytes(&raw.icmp6_filter().0))
}

fn set_icmp_filter(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let raw = v6(context)?.raw().ok_or(Errno::ENOPROTOOPT)?;
    // A shorter value replaces the beginning (rawv6_seticmpfilter).
    let mut filter = raw.icmp6_filter().0;
    for (word, bytes) in filter.iter_mut().zip(value.chunks(4)) {
        *word = replace_beginning(*word, bytes);
    }
    raw.set_icmp6_filter(Icmp6Filter(filter));
    Ok(())
}

fn get_multicast_all(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(v6(context)?.options().multicast_all_v6)
}

fn set_multicast_all(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    change(context, |options| options.multicast_all_v6 = on)
}
