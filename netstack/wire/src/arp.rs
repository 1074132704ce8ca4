//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//! | hardware type | protocol type | 6 | 4 | operation | sender MAC, IP | target MAC, IP |
//! ```

use core::net::Ipv4Addr;

use crate::ethernet::MacAddr;

/// The length of a packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

/// Hardware Ethernet (1), protocol IPv4 (0x0800), address lengths 6 and 4.
const PREAMBLE: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpRepr {
    /// What it is for.
    pub operation: Operation,
    /// The sender's station.
    pub sender_mac: MacAddr,
    /// The sender's address; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The target's station; zero in a request.
    pub target_mac: MacAddr,
    /// The target's address.
    pub target_ip: Ipv4Addr,
}

impl ArpRepr {
    /// Reads the packet at the front of `bytes`; `None` for other hardware, protocols and operations.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let p: &[u8; PACKET_LEN] = bytes.first_chunk()?;
        if p[..6] != PREAMBLE {
            return None;
        }
        let operation = match (p[6], p[7]) {
            (0, 1) => Operation::Request,
            (0, 2) => Operation::Reply,
            _ => return None,
        };
        let mac = |at: usize| MacAddr([p[at], p[at + 1], p[at + 2], p[at + 3], p[at + 4], p[at + 5]]);
        let ip = |at: usize| Ipv4Addr::new(p[at], p[at + 1], p[at + 2], p[at + 3]);
        Some(Self {
            operation,
            sender_mac: mac(8),
            sender_ip: ip(14),
            target_mac: mac(18),
            target_ip: ip(24),
        })
    }

    /// Writes the packet to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`PACKET_LEN`].
    pub fn emit(&self, out: &mut [u8]) {
        let Self { operation, sender_mac, sender_ip, target_mac, target_ip } = *self;
        out[..6].copy_from_slice(&PREAMBLE);
        out[6] = 0;
        out[7] = match operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        out[8..14].copy_from_slice(&sender_mac.0);
        out[14..18].copy_from_slice(&sender_ip.octets());
        out[18..24].copy_from_slice(&target_mac.0);
        out[24..PACKET_LEN].copy_from_slice(&target_ip.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_round_trips_and_others_are_refused() {
        let repr = ArpRepr {
            operation: Operation::Request,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr::ZERO,
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut out = [0xff; PACKET_LEN];
        repr.emit(&mut out);
        assert_eq!(&out[..8], &[0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(ArpRepr::parse(&out), Some(repr));
        assert_eq!(ArpRepr::parse(&out[..27]), None);
        for (index, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3)] {
            let mut bad = out;
            bad[index] = value;
            assert_eq!(ArpRepr::parse(&bad), None, "byte {index}");
        }
    }
}
