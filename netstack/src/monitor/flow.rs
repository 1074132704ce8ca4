//! Which conversation a packet belongs to.

use std::net::IpAddr;

use netstack_wire::ethernet::{self, EtherType, EthernetRepr};
use netstack_wire::ip::Protocol;
use netstack_wire::{ipv4, ipv6};

use super::Seen;
use crate::ip::zone_of;
use crate::link::Medium;
use crate::link::sniffer::Direction;
use crate::tcp::Flow;

/// The most that the headers up to the ports take: Ethernet, IPv4 with options, two ports.
const HEADERS: usize = ethernet::HEADER_LEN + 60 + 4;

impl Seen<'_> {
    /// The protocol, addresses and ports of a TCP segment or a UDP datagram, this stack's as the local ones. `None` for other packets,
    /// for fragments but the first, and behind IPv6 extension headers.
    #[must_use]
    pub fn flow(&self) -> Option<(Protocol, Flow)> {
        let mut start = [0; HEADERS];
        let len = self.packet.len().min(HEADERS);
        self.packet.copy_to(0, &mut start[..len]);
        let ip = match self.medium {
            Medium::Ethernet(_) => {
                let header = EthernetRepr::parse(&start[..len])?;
                let is_ip = [EtherType::IPV4, EtherType::IPV6].contains(&header.ether_type);
                is_ip.then_some(&start[ethernet::HEADER_LEN..len])?
            }
            Medium::Ip | Medium::Loopback => &start[..len],
        };
        let (protocol, source, destination, payload) = addresses(ip)?;
        if ![Protocol::TCP, Protocol::UDP].contains(&protocol) {
            return None;
        }
        let port = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
        let ends = [(source, port(0)?), (destination, port(2)?)];
        let [local, remote] = match self.direction {
            Direction::Outbound => ends,
            Direction::Inbound => [ends[1], ends[0]],
        };
        let zone = zone_of(remote.0, self.nic);
        let flow = Flow {
            local_addr: local.0,
            remote_addr: remote.0,
            local_port: local.1,
            remote_port: remote.1,
            zone,
        };
        Some((protocol, flow))
    }
}

/// The transport protocol of an IP packet, its addresses, and what follows the header.
fn addresses(ip: &[u8]) -> Option<(Protocol, IpAddr, IpAddr, &[u8])> {
    if ip.first()? >> 4 == 6 {
        let header = ipv6::Ipv6Repr::parse_unchecked(ip).ok()?;
        let payload = ip.get(ipv6::HEADER_LEN..)?;
        return Some((header.next_header, header.source.into(), header.destination.into(), payload));
    }
    let header = ipv4::Ipv4Repr::parse_unchecked(ip).ok()?;
    let payload = (header.fragment_offset == 0).then(|| ip.get(header.header_len()..))??;
    Some((header.protocol, header.source.into(), header.destination.into(), payload))
}
