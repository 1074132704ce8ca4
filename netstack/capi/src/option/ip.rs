//! `IPPROTO_IP`, memberships aside.

use std::net::Ipv4Addr;

use libc::IPPROTO_IP as IP;
use netstack::options::PmtuDiscovery;

use super::membership::nic_with;
use super::value::{
    DEFAULT_TTL, change, field, flag, hops, int, int_value, octet, options_of, set_flag, want, wanted,
};
use super::{Row, Subject, both};
use crate::control::Receive;
use crate::errno::Errno;
use crate::frame::nic_of;

pub(super) const ROWS: &[Row] = &[
    both(
        IP,
        libc::IP_TTL,
        |socket| Ok(int_value(options_of(socket).ttl.unwrap_or(DEFAULT_TTL).into())),
        |socket, value| {
            let ttl = hops(value, 1)?;
            change(socket, |options| options.ttl = ttl)
        },
    ),
    both(
        IP,
        libc::IP_TOS,
        |socket| Ok(int_value(options_of(socket).tos.into())),
        |socket, value| {
            let tos = octet(value)?;
            change(socket, |options| options.tos = tos)
        },
    ),
    both(
        IP,
        libc::IP_MULTICAST_TTL,
        |socket| Ok(int_value(options_of(socket).multicast_ttl.into())),
        |socket, value| {
            let ttl = hops(value, 0)?.unwrap_or(1);
            change(socket, |options| options.multicast_ttl = ttl)
        },
    ),
    both(
        IP,
        libc::IP_MULTICAST_LOOP,
        |socket| Ok(flag(socket, |options| options.multicast_loop)),
        |socket, value| set_flag(socket, value, |options, on| options.multicast_loop = on),
    ),
    both(
        IP,
        libc::IP_FREEBIND,
        |socket| Ok(flag(socket, |options| options.free_bind)),
        |socket, value| set_flag(socket, value, |options, on| options.free_bind = on),
    ),
    both(
        IP,
        libc::IP_TRANSPARENT,
        |socket| Ok(flag(socket, |options| options.transparent)),
        |socket, value| set_flag(socket, value, |options, on| options.transparent = on),
    ),
    both(
        IP,
        libc::IP_HDRINCL,
        |socket| Ok(flag(socket, |options| options.header_included)),
        |socket, value| set_flag(socket, value, |options, on| options.header_included = on),
    ),
    both(
        IP,
        libc::IP_RECVERR,
        |socket| Ok(flag(socket, |options| options.error_queue)),
        |socket, value| set_flag(socket, value, |options, on| options.error_queue = on),
    ),
    both(
        IP,
        libc::IP_PKTINFO,
        |socket| Ok(wanted(socket, Receive::PKTINFO)),
        |socket, value| want(socket, value, Receive::PKTINFO),
    ),
    both(
        IP,
        libc::IP_RECVTTL,
        |socket| Ok(wanted(socket, Receive::TTL)),
        |socket, value| want(socket, value, Receive::TTL),
    ),
    both(
        IP,
        libc::IP_RECVTOS,
        |socket| Ok(wanted(socket, Receive::TOS)),
        |socket, value| want(socket, value, Receive::TOS),
    ),
    both(
        IP,
        libc::IP_RECVORIGDSTADDR,
        |socket| Ok(wanted(socket, Receive::ORIGINAL_DESTINATION)),
        |socket, value| want(socket, value, Receive::ORIGINAL_DESTINATION),
    ),
    both(IP, libc::IP_MTU_DISCOVER, get_mtu_discover, set_mtu_discover),
    both(
        IP,
        libc::IP_MULTICAST_ALL,
        |socket| Ok(flag(socket, |options| options.multicast_all)),
        |socket, value| set_flag(socket, value, |options, on| options.multicast_all = on),
    ),
    both(
        IP,
        libc::IP_MULTICAST_IF,
        |socket| {
            let address = options_of(socket).multicast_source.unwrap_or(Ipv4Addr::UNSPECIFIED);
            Ok(address.octets().to_vec())
        },
        set_multicast_interface,
    ),
];

/// `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER` have the same values.
pub(super) fn get_mtu_discover(socket: &Subject<'_>) -> Result<Vec<u8>, Errno> {
    Ok(int_value(match options_of(socket).pmtu_discovery {
        PmtuDiscovery::Dont => libc::IP_PMTUDISC_DONT,
        PmtuDiscovery::Want => libc::IP_PMTUDISC_WANT,
        PmtuDiscovery::Do => libc::IP_PMTUDISC_DO,
        PmtuDiscovery::Probe => libc::IP_PMTUDISC_PROBE,
        PmtuDiscovery::Interface => libc::IP_PMTUDISC_INTERFACE,
        PmtuDiscovery::Omit => libc::IP_PMTUDISC_OMIT,
    }))
}

pub(super) fn set_mtu_discover(socket: &Subject<'_>, value: &[u8]) -> Result<(), Errno> {
    let how = match int(value)? {
        libc::IP_PMTUDISC_DONT => PmtuDiscovery::Dont,
        libc::IP_PMTUDISC_WANT => PmtuDiscovery::Want,
        libc::IP_PMTUDISC_DO => PmtuDiscovery::Do,
        libc::IP_PMTUDISC_PROBE => PmtuDiscovery::Probe,
        libc::IP_PMTUDISC_INTERFACE => PmtuDiscovery::Interface,
        libc::IP_PMTUDISC_OMIT => PmtuDiscovery::Omit,
        _ => return Err(Errno(libc::EINVAL)),
    };
    change(socket, |options| options.pmtu_discovery = how)
}

/// A `struct ip_mreqn`, a `struct ip_mreq` or an address alone; nothing but zeros leaves the choice to the routes.
fn set_multicast_interface(socket: &Subject<'_>, value: &[u8]) -> Result<(), Errno> {
    let at = if value.len() >= 8 { 4 } else { 0 };
    let address = Ipv4Addr::from(field::<4>(value, at)?);
    let index = field(value, 8).map_or(0, u32::from_ne_bytes);
    let nic = match (index, address.is_unspecified()) {
        (0, true) => None,
        (0, false) => Some(nic_with(socket, address).ok_or(Errno(libc::EADDRNOTAVAIL))?),
        (index, _) => Some(nic_of(socket.handle, index).map_err(|_| Errno(libc::EADDRNOTAVAIL))?),
    };
    change(socket, |options| {
        options.multicast_nic = nic;
        options.multicast_source = (!address.is_unspecified()).then_some(address);
    })
}
