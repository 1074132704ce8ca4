//! What policy rules may look at besides addresses and NICs.

use std::net::IpAddr;

use crate::options::SocketOptions;

/// A packet, as rules see it that choose by more than addresses. What is not known is zero, as in Linux's `struct flowi`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketFacts {
    /// The number of the transport protocol.
    pub protocol: u8,
    /// The port that it comes from.
    pub source_port: u16,
    /// The port that it goes to.
    pub destination_port: u16,
    /// The user who owns the socket ([`SocketOptions::routed_for`], or [`SocketOptions::owner`]). What no socket has sent belongs
    /// to user 0.
    pub user: u32,
    /// The type of service or traffic class.
    pub tos: u8,
}

impl PacketFacts {
    /// What a socket sends to `destination` through a protocol between two ports.
    pub(crate) fn of_socket(
        options: &SocketOptions,
        protocol: u8,
        (source_port, destination_port): (u16, u16),
        destination: IpAddr,
    ) -> Self {
        let tos = if destination.is_ipv4() { options.tos } else { options.traffic_class };
        let user = options.routed_for.or(options.owner.map(|owner| owner.user)).unwrap_or(0);
        Self { protocol, source_port, destination_port, user, tos }
    }

    /// A packet that is on its way, or came in: its protocol, type of service, and the beginning of its transport header.
    /// Fragments have none, be they the first (`__skb_flow_dissect` without `FLOW_DISSECTOR_F_PARSE_1ST_FRAG`).
    pub(crate) fn of_packet(protocol: u8, tos: u8, transport: &[u8]) -> Self {
        let ports = match protocol {
            TCP | UDP | DCCP | ESP | SCTP | UDP_LITE => transport.get(..4),
            // The number of the security association is behind a word of lengths.
            AH => transport.get(4..8),
            _ => None,
        };
        let word = |at: usize| ports.map_or(0, |ports| u16::from_be_bytes([ports[at], ports[at + 1]]));
        Self { protocol, source_port: word(0), destination_port: word(2), user: 0, tos }
    }

    /// The same packet on its way back.
    pub(crate) fn reversed(self) -> Self {
        let Self { source_port, destination_port, .. } = self;
        Self { source_port: destination_port, destination_port: source_port, ..self }
    }
}

// The protocols that `skb_flow_get_ports` finds ports of: RFC 9293, 768, 4340, 4303, 4302, 9260, 3828.
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ESP: u8 = 50;
const AH: u8 = 51;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_where_the_protocol_has_them() {
        let header = [0x12, 0x34, 0, 53, 0xab, 0xcd, 0x01, 0x02];
        let ports = |protocol: u8, header: &[u8]| {
            let facts = PacketFacts::of_packet(protocol, 0x10, header);
            assert_eq!((facts.protocol, facts.tos, facts.user), (protocol, 0x10, 0));
            (facts.source_port, facts.destination_port)
        };
        assert_eq!(ports(UDP, &header), (0x1234, 53));
        assert_eq!(ports(TCP, &header), (0x1234, 53));
        assert_eq!(ports(AH, &header), (0xabcd, 0x0102));
        assert_eq!(ports(1, &header), (0, 0));
        assert_eq!(ports(UDP, &header[..3]), (0, 0));
        let back = PacketFacts::of_packet(UDP, 0, &header).reversed();
        assert_eq!((back.source_port, back.destination_port), (53, 0x1234));
    }
}
