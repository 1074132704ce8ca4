//! An IP address with a prefix length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::options::Family;

/// An address and the length of its network prefix: a network (`10.0.0.0/8`) or an interface address (`10.1.2.3/8`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpCidr {
    address: IpAddr,
    prefix_len: u8,
}

impl IpCidr {
    /// All of IPv4.
    pub const DEFAULT_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_len: 0 };
    /// All of IPv6.
    pub const DEFAULT_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix_len: 0 };

    /// The loopback network of IPv4 with its usual address, 127.0.0.1/8.
    pub const LOOPBACK_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix_len: 8 };
    /// The loopback address of IPv6.
    pub const LOOPBACK_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix_len: 128 };

    /// Makes a value; `None` if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix_len: u8) -> Option<Self> {
        (prefix_len <= max_prefix_len(address)).then_some(Self { address, prefix_len })
    }

    /// Makes the value that covers just one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix_len: max_prefix_len(address) }
    }

    /// The address, host bits included.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The family of the address.
    pub fn family(self) -> Family {
        family_of(self.address)
    }

    /// The same network with the host bits cleared.
    pub fn network(self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & self.mask_v4())),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & self.mask_v6())),
        };
        Self { address, ..self }
    }

    /// Tells whether `address` lies in the network.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()) & self.mask_v4() == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()) & self.mask_v6() == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The directed broadcast address of an IPv4 network; `None` for IPv6 and for prefixes of 31 (RFC 3021) and 32 bits.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix_len < 31 => {
                Some(Ipv4Addr::from_bits(address.to_bits() | !self.mask_v4()))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    fn mask_v4(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_len.min(32))).unwrap_or(0)
    }

    fn mask_v6(self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix_len.min(128))).unwrap_or(0)
    }
}

/// The family of an address.
pub fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

fn max_prefix_len(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl fmt::Display for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Debug for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `ADDRESS/LENGTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address with a prefix length")]
pub struct ParseCidrError;

impl FromStr for IpCidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (address, prefix_len) = text.split_once('/').ok_or(ParseCidrError)?;
        let address = address.parse().map_err(|_| ParseCidrError)?;
        let prefix_len = prefix_len.parse().map_err(|_| ParseCidrError)?;
        Self::new(address, prefix_len).ok_or(ParseCidrError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn cidr(text: &str) -> IpCidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_their_hosts() {
        assert!(cidr("10.1.2.3/8").contains("10.255.0.1".parse().unwrap()));
        assert!(!cidr("10.1.2.3/8").contains("11.1.2.3".parse().unwrap()));
        assert!(cidr("0.0.0.0/0").contains("1.2.3.4".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(cidr("fe80::/64").contains("fe80::1".parse().unwrap()));
        assert!(!cidr("fe80::/64").contains("fe80:0:0:1::1".parse().unwrap()));
        assert_eq!(cidr("10.1.2.3/8").network(), cidr("10.0.0.0/8"));
    }

    #[test]
    fn broadcast_needs_two_host_bits() {
        assert_eq!(cidr("10.1.2.3/24").broadcast(), Some(Ipv4Addr::new(10, 1, 2, 255)));
        assert_eq!(cidr("10.1.2.3/31").broadcast(), None);
        assert_eq!(cidr("fe80::/64").broadcast(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["1.2.3.4", "1.2.3.4/33", "::/129", "x/1", "1.2.3.4/", "1.2.3.4/-1"] {
            assert_eq!(text.parse::<IpCidr>(), Err(ParseCidrError), "{text}");
        }
    }
}
