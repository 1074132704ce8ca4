//! `IPPROTO_IPV6`, memberships aside.

use libc::IPPROTO_IPV6 as IPV6;

use super::ip::{get_mtu_discover, set_mtu_discover};
use super::value::{
    DEFAULT_TTL, change, flag, hops, int, int_value, octet, options_of, saturate, set_flag, want, wanted,
};
use super::{Row, both};
use crate::control::Receive;
use crate::frame::nic_of;

pub(super) const ROWS: &[Row] = &[
    both(
        IPV6,
        libc::IPV6_V6ONLY,
        |socket| Ok(flag(socket, |options| options.only_v6)),
        |socket, value| set_flag(socket, value, |options, on| options.only_v6 = on),
    ),
    both(
        IPV6,
        libc::IPV6_UNICAST_HOPS,
        |socket| Ok(int_value(options_of(socket).hop_limit.unwrap_or(DEFAULT_TTL).into())),
        |socket, value| {
            let limit = hops(value, 0)?;
            change(socket, |options| options.hop_limit = limit)
        },
    ),
    both(
        IPV6,
        libc::IPV6_MULTICAST_HOPS,
        |socket| Ok(int_value(options_of(socket).multicast_hop_limit.into())),
        |socket, value| {
            let limit = hops(value, 0)?.unwrap_or(1);
            change(socket, |options| options.multicast_hop_limit = limit)
        },
    ),
    both(
        IPV6,
        libc::IPV6_TCLASS,
        |socket| Ok(int_value(options_of(socket).traffic_class.into())),
        |socket, value| {
            let class = octet(value)?;
            change(socket, |options| options.traffic_class = class)
        },
    ),
    both(
        IPV6,
        libc::IPV6_RECVERR,
        |socket| Ok(flag(socket, |options| options.error_queue_v6)),
        |socket, value| set_flag(socket, value, |options, on| options.error_queue_v6 = on),
    ),
    both(
        IPV6,
        libc::IPV6_RECVPKTINFO,
        |socket| Ok(wanted(socket, Receive::PKTINFO_V6)),
        |socket, value| want(socket, value, Receive::PKTINFO_V6),
    ),
    both(
        IPV6,
        libc::IPV6_RECVHOPLIMIT,
        |socket| Ok(wanted(socket, Receive::HOP_LIMIT)),
        |socket, value| want(socket, value, Receive::HOP_LIMIT),
    ),
    both(
        IPV6,
        libc::IPV6_RECVTCLASS,
        |socket| Ok(wanted(socket, Receive::TRAFFIC_CLASS)),
        |socket, value| want(socket, value, Receive::TRAFFIC_CLASS),
    ),
    both(
        IPV6,
        libc::IPV6_RECVORIGDSTADDR,
        |socket| Ok(wanted(socket, Receive::ORIGINAL_DESTINATION_V6)),
        |socket, value| want(socket, value, Receive::ORIGINAL_DESTINATION_V6),
    ),
    both(IPV6, libc::IPV6_MTU_DISCOVER, get_mtu_discover, set_mtu_discover),
    both(
        IPV6,
        libc::IPV6_MULTICAST_LOOP,
        |socket| Ok(flag(socket, |options| options.multicast_loop_v6)),
        |socket, value| set_flag(socket, value, |options, on| options.multicast_loop_v6 = on),
    ),
    both(
        IPV6,
        libc::IPV6_MULTICAST_IF,
        |socket| {
            let nic = options_of(socket).multicast_nic_v6;
            Ok(int_value(saturate(nic.map_or(0, netstack::NicId::index))))
        },
        |socket, value| {
            let nic = match int(value)?.cast_unsigned() {
                0 => None,
                index => Some(nic_of(socket.handle, index)?),
            };
            change(socket, |options| options.multicast_nic_v6 = nic)
        },
    ),
];
