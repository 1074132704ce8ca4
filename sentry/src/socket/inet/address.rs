//! `struct sockaddr_in` and `sockaddr_in6`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use netstack::options::Family;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC, SIN6_LEN_RFC2133, SockAddrIn, SockAddrIn6};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;
use crate::socket::ops::RawAddr;

/// What a guest passed to a socket of `family`. `None` is `AF_UNSPEC`.
///
/// # Errors
/// `EINVAL` when it is too short, `EAFNOSUPPORT` for another family.
pub fn decode(family: Family, address: &[u8]) -> Result<Option<SocketAddr>, Errno> {
    let given = address.get(..2).ok_or(Errno::EINVAL)?;
    let given = u16::from_ne_bytes([given[0], given[1]]);
    match (family, given) {
        (_, AF_UNSPEC) => Ok(None),
        // An IPv6 socket takes IPv4 addresses in connect and send, and treats them as v4-mapped.
        (Family::V4 | Family::V6, AF_INET) => {
            let (sin, _) = SockAddrIn::read_from_prefix(address).map_err(|_| Errno::EINVAL)?;
            let v4 = SocketAddrV4::new(Ipv4Addr::from(sin.addr), u16::from_be_bytes(sin.port));
            Ok(Some(to_family(family, SocketAddr::V4(v4))))
        }
        (Family::V6, AF_INET6) => decode_v6(address).map(Some),
        (Family::V4 | Family::V6, _) => Err(Errno::EAFNOSUPPORT),
    }
}

fn decode_v6(address: &[u8]) -> Result<SocketAddr, Errno> {
    if address.len() < SIN6_LEN_RFC2133 {
        return Err(Errno::EINVAL);
    }
    let mut full = [0; size_of::<SockAddrIn6>()];
    let len = address.len().min(full.len());
    full[..len].copy_from_slice(&address[..len]);
    let sin6 = SockAddrIn6::read_from_bytes(&full).map_err(|_| Errno::EINVAL)?;
    let flowinfo = u32::from_be_bytes(sin6.flowinfo);
    let port = u16::from_be_bytes(sin6.port);
    Ok(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(sin6.addr), port, flowinfo, sin6.scope_id)))
}

/// `address` as a socket of `family` shows it: IPv4 as v4-mapped on IPv6 sockets.
#[must_use]
pub fn to_family(family: Family, address: SocketAddr) -> SocketAddr {
    match (family, address) {
        (Family::V6, SocketAddr::V4(v4)) => {
            SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
        }
        (Family::V4, SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, v6.port())),
            None => address,
        },
        (Family::V4, SocketAddr::V4(_)) | (Family::V6, SocketAddr::V6(_)) => address,
    }
}

/// The bytes of `address` for a guest with a socket of `family`.
#[must_use]
pub fn encode(family: Family, address: SocketAddr) -> RawAddr {
    match to_family(family, address) {
        SocketAddr::V4(v4) => {
            let sin = SockAddrIn {
                family: AF_INET,
                port: v4.port().to_be_bytes(),
                addr: v4.ip().octets(),
                zero: [0; 8],
            };
            RawAddr::from_slice(sin.as_bytes())
        }
        SocketAddr::V6(v6) => {
            // Linux reports a scope for link-local addresses only.
            let has_scope = v6.ip().is_unicast_link_local() || v6.ip().is_multicast();
            let sin6 = SockAddrIn6 {
                family: AF_INET6,
                port: v6.port().to_be_bytes(),
                flowinfo: v6.flowinfo().to_be_bytes(),
                addr: v6.ip().octets(),
                scope_id: if has_scope { v6.scope_id() } else { 0 },
            };
            RawAddr::from_slice(sin6.as_bytes())
        }
    }
}

/// The address without the v4-mapped form.
#[must_use]
pub(super) fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for (family, text) in
            [(Family::V4, "10.1.2.3:80"), (Family::V6, "[2001:db8::1]:80"), (Family::V6, "[fe80::1%3]:9")]
        {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(decode(family, &encode(family, address)), Ok(Some(address)));
        }
    }

    #[test]
    fn v4_on_a_v6_socket_is_mapped() {
        let v4: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:7".parse().unwrap();
        assert_eq!(decode(Family::V6, &encode(Family::V4, v4)), Ok(Some(mapped)));
        assert_eq!(to_family(Family::V4, mapped), v4);
    }

    #[test]
    fn short_and_foreign_addresses_are_refused() {
        assert_eq!(decode(Family::V4, &[2]), Err(Errno::EINVAL));
        assert_eq!(decode(Family::V4, &[2, 0, 0, 80]), Err(Errno::EINVAL));
        assert_eq!(decode(Family::V6, &[10, 0, 0, 80, 0, 0, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(decode(Family::V4, &[&[10, 0][..], &[0; 14]].concat()), Err(Errno::EAFNOSUPPORT));
        assert_eq!(decode(Family::V4, &[0, 0]), Ok(None));
    }
}
