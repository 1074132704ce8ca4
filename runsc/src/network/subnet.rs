//! Choosing addresses for a sandbox that nobody told any.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::address::AddressAttribute;

use crate::network::netlink::Netlink;

/// Networks to try before giving up; with 65,536 to choose from, a host that collides so often has none left.
const ATTEMPTS: u64 = 64;

/// Address of the sandbox and of the host's end, both with a prefix of [`PREFIX_LEN`] bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) guest: Ipv4Addr,
    pub(crate) host: Ipv4Addr,
}

/// Length of the prefix of a sandbox's network.
pub(crate) const PREFIX_LEN: u8 = 24;

impl Pair {
    /// The sandbox at `guest`, the host at the next address, or at the one before where the next is no host's.
    pub(crate) fn with_guest(guest: Ipv4Addr) -> Self {
        let [a, b, c, d] = guest.octets();
        let host = if d >= 254 { d - 1 } else { d + 1 };
        Self { guest, host: Ipv4Addr::new(a, b, c, host) }
    }

    /// A network out of 10.0.0.0/8 (RFC 1918) that overlaps with no address of the calling thread's namespace.
    pub(crate) fn choose() -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let taken =
            netlink.addresses()?.into_iter().flat_map(|message| message.attributes).filter_map(|attribute| {
                match attribute {
                    AddressAttribute::Address(IpAddr::V4(address)) => Some(address),
                    _ => None,
                }
            });
        let taken: Vec<Ipv4Addr> = taken.collect();
        // Keyed with fresh randomness by every call of `new`.
        let random = RandomState::new();
        (0..ATTEMPTS)
            .map(|attempt| {
                let [b, c, ..] = random.hash_one(attempt).to_le_bytes();
                Self::with_guest(Ipv4Addr::new(10, b, c, 2))
            })
            .find(|pair| pair.is_free(&taken))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
    }

    fn is_free(&self, taken: &[Ipv4Addr]) -> bool {
        let network = |address: &Ipv4Addr| u32::from(*address) >> (32 - PREFIX_LEN);
        taken.iter().all(|address| network(address) != network(&self.guest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_next_to_the_guest() {
        for (guest, host) in
            [("10.1.2.2", "10.1.2.3"), ("10.1.2.253", "10.1.2.254"), ("10.1.2.254", "10.1.2.253")]
        {
            let pair = Pair::with_guest(guest.parse().unwrap());
            assert_eq!(pair.host.to_string(), host);
        }
    }

    #[test]
    fn a_network_with_an_address_of_the_host_is_not_free() {
        let pair = Pair::with_guest("10.1.2.2".parse().unwrap());
        assert!(!pair.is_free(&["10.1.2.77".parse().unwrap()]));
        assert!(pair.is_free(&["10.1.3.77".parse().unwrap()]));
    }
}
