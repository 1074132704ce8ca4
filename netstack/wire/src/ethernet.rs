//! The Ethernet II header (RFC 894, IEEE 802.3 clause 3).
//!
//! ```text
//! +-------------------+-------------------+-----------+----------
//! | destination (6)   | source (6)        | type (2)  | payload
//! +-------------------+-------------------+-----------+----------
//! ```

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// The header's length.
pub const HEADER_LEN: usize = 14;

const SOURCE_OFFSET: usize = 6;
const TYPE_OFFSET: usize = 12;

/// A 48-bit station address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// No address.
    pub const ZERO: Self = Self([0; 6]);

    /// Returns whether the address names a group (broadcast included).
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Returns whether the address is the broadcast address.
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Returns whether the address can belong to one station.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }

    /// The group address of an IPv4 multicast group (RFC 1112 section 6.4).
    #[must_use]
    pub const fn of_multicast_v4(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The group address of an IPv6 multicast group (RFC 2464 section 7).
    #[must_use]
    pub const fn of_multicast_v6(group: Ipv6Addr) -> Self {
        let octets = group.octets();
        Self([0x33, 0x33, octets[12], octets[13], octets[14], octets[15]])
    }

    /// The modified EUI-64 interface identifier (RFC 4291 appendix A).
    #[must_use]
    pub const fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The protocol of the payload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// A VLAN tag (IEEE 802.1Q).
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
}

/// An Ethernet header as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EthernetRepr {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// What follows. Values below 0x600 are IEEE 802.3 lengths; nothing in this stack speaks those.
    pub ether_type: EtherType,
}

impl EthernetRepr {
    /// Reads the header at the front of `bytes`; `None` if there are fewer than [`HEADER_LEN`].
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        Some(Self {
            destination: MacAddr([d0, d1, d2, d3, d4, d5]),
            source: MacAddr([s0, s1, s2, s3, s4, s5]),
            ether_type: EtherType(u16::from_be_bytes([t0, t1])),
        })
    }

    /// Writes the header to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) {
        let Self { destination, source, ether_type } = self;
        out[..SOURCE_OFFSET].copy_from_slice(&destination.0);
        out[SOURCE_OFFSET..TYPE_OFFSET].copy_from_slice(&source.0);
        out[TYPE_OFFSET..HEADER_LEN].copy_from_slice(&ether_type.0.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd];
        let repr = EthernetRepr::parse(&bytes).unwrap();
        assert_eq!(repr.source, MacAddr([7, 8, 9, 10, 11, 12]));
        assert_eq!(repr.ether_type, EtherType::IPV6);
        let mut out = [0; HEADER_LEN];
        repr.emit(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(EthernetRepr::parse(&bytes[..13]), None);
    }

    #[test]
    fn group_addresses_follow_the_rfcs() {
        assert_eq!(
            MacAddr::of_multicast_v4(Ipv4Addr::new(224, 129, 2, 3)),
            MacAddr([0x01, 0, 0x5e, 1, 2, 3])
        );
        let all_nodes = "ff02::1".parse().unwrap();
        assert_eq!(MacAddr::of_multicast_v6(all_nodes), MacAddr([0x33, 0x33, 0, 0, 0, 1]));
        // RFC 4291 appendix A's example.
        assert_eq!(
            MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]).eui64(),
            [0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde]
        );
    }
}
