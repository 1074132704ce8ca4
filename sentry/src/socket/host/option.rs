//! Socket options that pass to the host: values without pointers that concern this socket only.

use sentry_abi::inet::*;
use sentry_abi::netlink::{
    NETLINK_ADD_MEMBERSHIP, NETLINK_CAP_ACK, NETLINK_DROP_MEMBERSHIP, NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK, NETLINK_NO_ENOBUFS, NETLINK_PKTINFO,
};
use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::host::{HostSocket, errno};
use crate::socket::option::{MAX_VALUE, Value};

/// What may be done with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Get,
    Set,
    Both,
}

use Access::{Both, Get, Set};

/// Who answers for an option of a host socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::socket) enum Owner {
    /// The guest's kernel, as for sockets of its own: it does the waiting.
    Guest,
    /// The host's.
    Host,
}

/// Who answers for option `name` of `level`.
pub(in crate::socket) fn owner(level: i32, name: i32) -> Owner {
    let is_own = level == SOL_SOCKET
        && matches!(
            name,
            SO_RCVTIMEO
                | SO_SNDTIMEO
                | SO_RCVTIMEO_NEW
                | SO_SNDTIMEO_NEW
                | SO_PEERCRED
                | SO_PASSCRED
                | SO_DEBUG
        );
    if is_own { Owner::Guest } else { Owner::Host }
}

/// `getsockopt(2)`.
///
/// # Errors
/// `ENOPROTOOPT` for an option that does not pass; what the host says.
pub(in crate::socket) fn get(socket: &HostSocket, level: i32, name: i32) -> Result<Value, Errno> {
    if !permits(level, name, Get) {
        return Err(Errno::ENOPROTOOPT);
    }
    let mut value = [0; MAX_VALUE];
    let len = socket.fd().option(level, name, &mut value).map_err(|error| errno(&error))?;
    Ok(Value::from_slice(&value[..len]))
}

/// `setsockopt(2)`.
///
/// # Errors
/// As [`get`].
pub(in crate::socket) fn set(socket: &HostSocket, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    if !permits(level, name, Set) {
        return Err(Errno::ENOPROTOOPT);
    }
    socket.fd().set_option(level, name, value).map_err(|error| errno(&error))
}

/// Every option that can be set, for the system-call filter.
pub(crate) fn settable() -> impl Iterator<Item = (i32, i32)> {
    OPTIONS.iter().filter(|(_, _, access)| *access != Get).map(|(level, name, _)| (*level, *name))
}

fn permits(level: i32, name: i32, wanted: Access) -> bool {
    OPTIONS.iter().any(|row| (row.0, row.1) == (level, name) && (row.2 == wanted || row.2 == Both))
}

/// Left out on purpose: filters and fanout programs (pointers, code), marks and forced buffers (privilege), zero-copy
/// and pacing timestamps (completions that nobody would read), repair mode and ULPs.
const OPTIONS: &[(i32, i32, Access)] = &[
    (SOL_SOCKET, SO_TYPE, Get),
    (SOL_SOCKET, SO_PROTOCOL, Get),
    (SOL_SOCKET, SO_DOMAIN, Get),
    (SOL_SOCKET, SO_ACCEPTCONN, Get),
    (SOL_SOCKET, SO_ERROR, Get),
    (SOL_SOCKET, SO_SNDLOWAT, Get),
    (SOL_SOCKET, SO_COOKIE, Get),
    (SOL_SOCKET, SO_MEMINFO, Get),
    (SOL_SOCKET, SO_NETNS_COOKIE, Get),
    (SOL_SOCKET, SO_INCOMING_CPU, Get),
    (SOL_SOCKET, SO_REUSEADDR, Both),
    (SOL_SOCKET, SO_REUSEPORT, Both),
    (SOL_SOCKET, SO_BROADCAST, Both),
    (SOL_SOCKET, SO_DONTROUTE, Both),
    (SOL_SOCKET, SO_KEEPALIVE, Both),
    (SOL_SOCKET, SO_OOBINLINE, Both),
    (SOL_SOCKET, SO_LINGER, Both),
    (SOL_SOCKET, SO_SNDBUF, Both),
    (SOL_SOCKET, SO_RCVBUF, Both),
    (SOL_SOCKET, SO_RCVLOWAT, Both),
    (SOL_SOCKET, SO_PRIORITY, Both),
    (SOL_SOCKET, SO_NO_CHECK, Both),
    (SOL_SOCKET, SO_TIMESTAMP, Both),
    (SOL_SOCKET, SO_TIMESTAMPNS, Both),
    (SOL_SOCKET, SO_TIMESTAMP_NEW, Both),
    (SOL_SOCKET, SO_TIMESTAMPNS_NEW, Both),
    (SOL_SOCKET, SO_RXQ_OVFL, Both),
    (SOL_SOCKET, SO_PEEK_OFF, Both),
    (SOL_SOCKET, SO_SELECT_ERR_QUEUE, Both),
    (SOL_SOCKET, SO_MAX_PACING_RATE, Both),
    (SOL_SOCKET, SO_BINDTODEVICE, Both),
    (SOL_SOCKET, SO_BINDTOIFINDEX, Both),
    (SOL_TCP, TCP_INFO, Get),
    (SOL_TCP, TCP_CC_INFO, Get),
    (SOL_TCP, TCP_NODELAY, Both),
    (SOL_TCP, TCP_MAXSEG, Both),
    (SOL_TCP, TCP_CORK, Both),
    (SOL_TCP, TCP_KEEPIDLE, Both),
    (SOL_TCP, TCP_KEEPINTVL, Both),
    (SOL_TCP, TCP_KEEPCNT, Both),
    (SOL_TCP, TCP_SYNCNT, Both),
    (SOL_TCP, TCP_LINGER2, Both),
    (SOL_TCP, TCP_DEFER_ACCEPT, Both),
    (SOL_TCP, TCP_WINDOW_CLAMP, Both),
    (SOL_TCP, TCP_QUICKACK, Both),
    (SOL_TCP, TCP_CONGESTION, Both),
    (SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, Both),
    (SOL_TCP, TCP_USER_TIMEOUT, Both),
    (SOL_TCP, TCP_NOTSENT_LOWAT, Both),
    (SOL_TCP, TCP_INQ, Both),
    (SOL_UDP, UDP_CORK, Both),
    (SOL_UDP, UDP_SEGMENT, Both),
    (SOL_UDP, UDP_GRO, Both),
    (SOL_IP, IP_MTU, Get),
    (SOL_IP, SO_ORIGINAL_DST, Get),
    (SOL_IPV6, SO_ORIGINAL_DST, Get),
    (SOL_IP, IP_TOS, Both),
    (SOL_IP, IP_TTL, Both),
    (SOL_IP, IP_PKTINFO, Both),
    (SOL_IP, IP_MTU_DISCOVER, Both),
    (SOL_IP, IP_RECVERR, Both),
    (SOL_IP, IP_RECVTTL, Both),
    (SOL_IP, IP_RECVTOS, Both),
    (SOL_IP, IP_FREEBIND, Both),
    (SOL_IP, IP_RECVORIGDSTADDR, Both),
    (SOL_IP, IP_MINTTL, Both),
    (SOL_IP, IP_BIND_ADDRESS_NO_PORT, Both),
    (SOL_IP, IP_MULTICAST_IF, Both),
    (SOL_IP, IP_MULTICAST_TTL, Both),
    (SOL_IP, IP_MULTICAST_LOOP, Both),
    (SOL_IP, IP_MULTICAST_ALL, Both),
    (SOL_IP, IP_ADD_MEMBERSHIP, Set),
    (SOL_IP, IP_DROP_MEMBERSHIP, Set),
    (SOL_IP, IP_UNICAST_IF, Both),
    (SOL_IP, IP_LOCAL_PORT_RANGE, Both),
    (SOL_IPV6, IPV6_MTU, Both),
    (SOL_IPV6, IPV6_V6ONLY, Both),
    (SOL_IPV6, IPV6_UNICAST_HOPS, Both),
    (SOL_IPV6, IPV6_MULTICAST_IF, Both),
    (SOL_IPV6, IPV6_MULTICAST_HOPS, Both),
    (SOL_IPV6, IPV6_MULTICAST_LOOP, Both),
    (SOL_IPV6, IPV6_MULTICAST_ALL, Both),
    (SOL_IPV6, IPV6_ADD_MEMBERSHIP, Set),
    (SOL_IPV6, IPV6_DROP_MEMBERSHIP, Set),
    (SOL_IPV6, IPV6_MTU_DISCOVER, Both),
    (SOL_IPV6, IPV6_RECVERR, Both),
    (SOL_IPV6, IPV6_RECVPKTINFO, Both),
    (SOL_IPV6, IPV6_RECVHOPLIMIT, Both),
    (SOL_IPV6, IPV6_RECVTCLASS, Both),
    (SOL_IPV6, IPV6_RECVORIGDSTADDR, Both),
    (SOL_IPV6, IPV6_TCLASS, Both),
    (SOL_IPV6, IPV6_DONTFRAG, Both),
    (SOL_IPV6, IPV6_AUTOFLOWLABEL, Both),
    (SOL_IPV6, IPV6_ADDR_PREFERENCES, Both),
    (SOL_IPV6, IPV6_MINHOPCOUNT, Both),
    (SOL_IPV6, IPV6_UNICAST_IF, Both),
    (SOL_IPV6, IPV6_FREEBIND, Both),
    (SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, Set),
    (SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, Set),
    (SOL_NETLINK, NETLINK_CAP_ACK, Both),
    (SOL_NETLINK, NETLINK_EXT_ACK, Both),
    (SOL_NETLINK, NETLINK_GET_STRICT_CHK, Both),
    (SOL_NETLINK, NETLINK_NO_ENOBUFS, Both),
    (SOL_NETLINK, NETLINK_PKTINFO, Both),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_unique_and_nothing_with_pointers_passes() {
        let mut seen = std::collections::HashSet::new();
        for (level, name, _) in OPTIONS {
            assert!(seen.insert((level, name)), "{level} {name}");
            assert_eq!(owner(*level, *name), Owner::Host, "{level} {name}");
        }
        for name in [SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_RCVBUFFORCE, SO_MARK] {
            assert!(!permits(SOL_SOCKET, name, Set), "{name}");
        }
        assert!(!permits(SOL_TCP, TCP_REPAIR, Set) && !permits(SOL_TCP, TCP_ULP, Set));
        assert!(!permits(SOL_TCP, TCP_ZEROCOPY_RECEIVE, Get));
    }
}
