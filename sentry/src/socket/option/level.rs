//! Which levels a socket has, and what it answers at others.

use netstack::options::Family as IpFamily;
use sentry_abi::inet::{ICMP_FILTER, IPPROTO_ICMP, IPPROTO_ICMPV6};
use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::inet::{InetSocket, Protocol};
use crate::socket::option::Context;

/// Which call it is: they answer differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Get,
    Set,
}

/// Whether an internet socket has the level; other families look at their rows.
///
/// # Errors
/// `ENOPROTOOPT` or `EOPNOTSUPP`, as the protocol's function in Linux says.
pub(super) fn check(context: &Context<'_>, level: i32, direction: Direction) -> Result<(), Errno> {
    let Ok(inet) = context.inet() else { return Ok(()) };
    if has(inet, level) {
        return check_protocol(inet, context.socket.base().protocol, (level, context.option.1));
    }
    match (inet.ip_family(), direction) {
        // do_ip_getsockopt
        (IpFamily::V4, Direction::Get) => Err(Errno::EOPNOTSUPP),
        (IpFamily::V4, Direction::Set) | (IpFamily::V6, _) => Err(Errno::ENOPROTOOPT),
    }
}

fn has(inet: &InetSocket, level: i32) -> bool {
    let (is_v4, protocol) = (inet.ip_family() == IpFamily::V4, inet.protocol());
    let is_raw = matches!(protocol, Protocol::Raw(_));
    match level {
        SOL_SOCKET => true,
        // ipv6_setsockopt: "if (level == SOL_IP && sk->sk_type != SOCK_RAW)"
        SOL_IP => is_v4 || !is_raw,
        SOL_IPV6 => !is_v4,
        SOL_TCP => matches!(protocol, Protocol::Tcp(_)),
        SOL_UDP => matches!(protocol, Protocol::Udp(_)),
        SOL_RAW => is_raw,
        SOL_ICMPV6 => is_raw && !is_v4,
        _ => false,
    }
}

/// Raw sockets have the filters of ICMP only where they carry it (`raw_setsockopt`, `rawv6_setsockopt`).
fn check_protocol(inet: &InetSocket, protocol: i32, option: (i32, i32)) -> Result<(), Errno> {
    match (inet.ip_family(), option) {
        (IpFamily::V6, (SOL_ICMPV6, _)) if protocol != IPPROTO_ICMPV6 => Err(Errno::EOPNOTSUPP),
        (IpFamily::V4, (SOL_RAW, ICMP_FILTER)) if protocol != IPPROTO_ICMP => Err(Errno::EOPNOTSUPP),
        (IpFamily::V6, (SOL_RAW, ICMP_FILTER)) => Err(Errno::ENOPROTOOPT),
        _ => Ok(()),
    }
}
