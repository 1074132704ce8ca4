//! From the arguments of `socket(2)` to a socket.

use std::sync::Arc;

use netstack::options::Family as IpFamily;
use sentry_abi::inet::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_MAX, IPPROTO_TCP, IPPROTO_UDP};
use sentry_abi::netlink::{NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use sentry_abi::socket::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, SOCK_DGRAM, SOCK_MAX, SOCK_RAW, SOCK_SEQPACKET,
    SOCK_STREAM, Ucred,
};

use crate::errno::Errno;
use crate::socket::base::{SocketType, credentials_of};
use crate::socket::host::HostSocket;
use crate::socket::inet::{InetSocket, Transport};
use crate::socket::netlink::{NetlinkSocket, Privilege};
use crate::socket::ops::Socket;
use crate::socket::packet::PacketSocket;
use crate::socket::unix::UnixSocket;
use crate::socket::{Backing, NetNamespace};
use crate::task::{Capabilities, CurrentTask};

/// Makes a socket; `kind` is without `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
///
/// # Errors
/// As `socket(2)`: `EAFNOSUPPORT`, `EINVAL`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, `EPERM`, in Linux's order.
pub fn create(
    task: &CurrentTask,
    namespace: &Arc<NetNamespace>,
    family: i32,
    kind: u32,
    protocol: i32,
) -> Result<Arc<dyn Socket>, Errno> {
    // __sock_create: the family's range is checked first, then the type's.
    let family = u16::try_from(family).map_err(|_| Errno::EAFNOSUPPORT)?;
    if family >= sentry_abi::socket::AF_MAX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind >= SOCK_MAX {
        return Err(Errno::EINVAL);
    }
    if namespace.backing() == Backing::Host && family != AF_UNIX {
        return on_host(task, family, kind, protocol);
    }
    match family {
        AF_UNIX => {
            let kind = unix_type(kind, protocol)?;
            Ok(UnixSocket::new(namespace.clone(), kind, credentials_of(task)))
        }
        AF_INET => inet(task, namespace, IpFamily::V4, kind, protocol),
        AF_INET6 => inet(task, namespace, IpFamily::V6, kind, protocol),
        AF_NETLINK => {
            let kind = match kind {
                SOCK_RAW => SocketType::Raw,
                SOCK_DGRAM => SocketType::Datagram,
                _ => return Err(Errno::ESOCKTNOSUPPORT),
            };
            let is_admin = namespace.grants(&task.creds(), Capabilities::NET_ADMIN);
            let privilege = if is_admin { Privilege::Admin } else { Privilege::Ordinary };
            Ok(NetlinkSocket::new(namespace.clone(), kind, protocol, credentials_of(task), privilege)?)
        }
        AF_PACKET => {
            if !namespace.grants(&task.creds(), Capabilities::NET_RAW) {
                return Err(Errno::EPERM);
            }
            let kind = match kind {
                SOCK_RAW => SocketType::Raw,
                SOCK_DGRAM => SocketType::Datagram,
                _ => return Err(Errno::ESOCKTNOSUPPORT),
            };
            Ok(PacketSocket::new(namespace.clone(), kind, protocol, credentials_of(task)))
        }
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// A socket of the host. Those that would see other programs' packets are refused, as the host would.
fn on_host(task: &CurrentTask, family: u16, kind: u32, protocol: i32) -> Result<Arc<dyn Socket>, Errno> {
    let (kind, protocol) = match family {
        AF_INET | AF_INET6 => {
            let ip = if family == AF_INET { IpFamily::V4 } else { IpFamily::V6 };
            match inet_transport(ip, kind, protocol)? {
                (Transport::Tcp, protocol) => (SocketType::Stream, protocol),
                (Transport::Udp | Transport::Ping, protocol) => (SocketType::Datagram, protocol),
                (Transport::Raw, _) => return Err(Errno::EPERM),
            }
        }
        AF_NETLINK if !matches!(protocol, NETLINK_ROUTE | NETLINK_SOCK_DIAG) => {
            return Err(Errno::EPROTONOSUPPORT);
        }
        AF_NETLINK => match kind {
            SOCK_RAW => (SocketType::Raw, protocol),
            SOCK_DGRAM => (SocketType::Datagram, protocol),
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        },
        AF_PACKET => return Err(Errno::EPERM),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    Ok(HostSocket::new(family, kind, protocol, credentials_of(task))?)
}

/// The type of a local socket: `SOCK_RAW` is taken for `SOCK_DGRAM` (`unix_create`).
///
/// # Errors
/// `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`.
pub fn unix_type(kind: u32, protocol: i32) -> Result<SocketType, Errno> {
    if protocol != 0 && protocol != i32::from(AF_UNIX) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        SOCK_STREAM => Ok(SocketType::Stream),
        SOCK_DGRAM | SOCK_RAW => Ok(SocketType::Datagram),
        SOCK_SEQPACKET => Ok(SocketType::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn inet(
    task: &CurrentTask,
    namespace: &Arc<NetNamespace>,
    family: IpFamily,
    kind: u32,
    protocol: i32,
) -> Result<Arc<dyn Socket>, Errno> {
    let (transport, protocol) = inet_transport(family, kind, protocol)?;
    if transport == Transport::Raw && !namespace.grants(&task.creds(), Capabilities::NET_RAW) {
        return Err(Errno::EPERM);
    }
    // ping_init_sock, once the type is known.
    if transport == Transport::Ping && !may_ping(task, namespace) {
        return Err(Errno::EACCES);
    }
    // The inode's owner, as of files.
    let creds = task.creds();
    let owner = Ucred { uid: creds.fsuid.0, gid: creds.fsgid.0, ..credentials_of(task) };
    Ok(InetSocket::new(namespace.clone(), family, transport, protocol, owner))
}

/// Whether one of the caller's groups is within `net.ipv4.ping_group_range`.
fn may_ping(task: &CurrentTask, namespace: &NetNamespace) -> bool {
    let (first, last) = namespace.settings().ping_groups();
    let creds = task.creds();
    std::iter::once(creds.egid).chain(creds.groups.iter().copied()).any(|gid| (first..=last).contains(&gid.0))
}

/// The transport and the definite protocol number (`inet_create`: a table of types and protocols, 0 being a wildcard).
fn inet_transport(family: IpFamily, kind: u32, protocol: i32) -> Result<(Transport, i32), Errno> {
    if !(0..IPPROTO_MAX).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    let icmp = match family {
        IpFamily::V4 => IPPROTO_ICMP,
        IpFamily::V6 => IPPROTO_ICMPV6,
    };
    match (kind, protocol) {
        (SOCK_STREAM, 0 | IPPROTO_TCP) => Ok((Transport::Tcp, IPPROTO_TCP)),
        (SOCK_DGRAM, 0 | IPPROTO_UDP) => Ok((Transport::Udp, IPPROTO_UDP)),
        (SOCK_DGRAM, p) if p == icmp => Ok((Transport::Ping, icmp)),
        (SOCK_RAW, 1..=255) => Ok((Transport::Raw, protocol)),
        (SOCK_STREAM | SOCK_DGRAM | SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observed on Linux 6.18.
    #[test]
    fn inet_types_and_protocols_are_checked_as_on_linux() {
        use IpFamily::{V4, V6};
        for (family, kind, protocol, want) in [
            (V4, SOCK_STREAM, 0, Ok((Transport::Tcp, IPPROTO_TCP))),
            (V4, SOCK_STREAM, 17, Err(Errno::EPROTONOSUPPORT)),
            (V4, SOCK_STREAM, 1, Err(Errno::EPROTONOSUPPORT)),
            (V4, SOCK_DGRAM, 6, Err(Errno::EPROTONOSUPPORT)),
            (V4, SOCK_DGRAM, 0, Ok((Transport::Udp, IPPROTO_UDP))),
            (V4, SOCK_DGRAM, 1, Ok((Transport::Ping, 1))),
            (V6, SOCK_DGRAM, 58, Ok((Transport::Ping, 58))),
            (V4, SOCK_RAW, 0, Err(Errno::EPROTONOSUPPORT)),
            (V4, SOCK_RAW, 255, Ok((Transport::Raw, 255))),
            (V4, SOCK_STREAM, 300, Err(Errno::EINVAL)),
            (V4, SOCK_STREAM, -1, Err(Errno::EINVAL)),
            (V4, SOCK_SEQPACKET, 0, Err(Errno::ESOCKTNOSUPPORT)),
            (V6, SOCK_RAW, 58, Ok((Transport::Raw, 58))),
        ] {
            assert_eq!(inet_transport(family, kind, protocol), want, "{family:?} {kind} {protocol}");
        }
    }

    #[test]
    fn unix_types_are_checked_as_on_linux() {
        for (kind, protocol, want) in [
            (SOCK_STREAM, 0, Ok(SocketType::Stream)),
            (SOCK_STREAM, 1, Ok(SocketType::Stream)),
            (SOCK_STREAM, 2, Err(Errno::EPROTONOSUPPORT)),
            (SOCK_RAW, 0, Ok(SocketType::Datagram)),
            (4, 0, Err(Errno::ESOCKTNOSUPPORT)),
        ] {
            assert_eq!(unix_type(kind, protocol), want, "{kind} {protocol}");
        }
    }
}
