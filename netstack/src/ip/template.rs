//! Headers made once: what an endpoint that sends to one place puts in front of each of its packets.
//!
//! A packet on the usual way out is decided about again and again: is the NIC up, are there rules, does somebody capture,
//! what is the station address, and then two headers are built from values that have not changed. A template is the
//! outcome of those decisions with the headers as bytes; [`Template::is_current`] tells whether they would still be the
//! same, and [`Template::send`] patches the lengths and the sum of the IPv4 header.

use std::sync::Arc;

use netstack_wire::ethernet::{self, EtherType, EthernetRepr, MacAddr};
use netstack_wire::{checksum, ipv4, ipv6};

use crate::interface::Interface;
use crate::ip::{Delivery, Egress, Fragmenting, IpOutput};
use crate::link::Medium;
use crate::neighbour::Neighbour;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::stack::Core;

/// The link and IP headers of packets that go one way, and what they hold for.
pub(crate) struct Template {
    interface: Arc<Interface>,
    /// Where station addresses are needed.
    next_hop: Option<(Arc<Neighbour>, MacAddr)>,
    family: Family,
    generation: u64,
    default_ttl: u8,
    /// The largest transport packet.
    max_len: usize,
    headers: [u8; MAX_HEADERS],
    len: usize,
    l3: usize,
    /// Of the IPv4 header without length.
    ip_sum: u16,
    /// Of the pseudo-header without length.
    pseudo: u16,
}

impl Template {
    /// Makes the template of packets like one that was just sent; `None` if each of them needs decisions of its own.
    pub(crate) fn of(core: &Core, egress: &Egress, output: &IpOutput) -> Option<Self> {
        // What may be fragmented on its way has an identification of its own.
        if egress.delivery != Delivery::Unicast || output.fragmenting == Fragmenting::Allowed {
            return None;
        }
        let interface = Arc::clone(&egress.interface);
        let (next_hop, l3) = match interface.medium() {
            Medium::Ethernet(_) => {
                let neighbour = Arc::clone(egress.known_neighbour()?);
                let station = neighbour.published_mac()?;
                (Some((neighbour, station)), ethernet::HEADER_LEN)
            }
            Medium::Ip => (None, 0),
            Medium::Loopback => return None,
        };
        let family = crate::cidr::family_of(output.destination);
        let mut headers = [0; MAX_HEADERS];
        if let (Medium::Ethernet(source), Some((_, destination))) = (interface.medium(), &next_hop) {
            let ether_type = match family {
                Family::V4 => EtherType::IPV4,
                Family::V6 => EtherType::IPV6,
            };
            EthernetRepr { destination: *destination, source, ether_type }.emit(&mut headers);
        }
        let len = l3 + output.header_len();
        output.emit_header(0, 0, &mut headers[l3..len]);
        let ip_sum = match family {
            Family::V4 => {
                headers[l3 + LEN_V4..l3 + LEN_V4 + 2].fill(0);
                headers[l3 + ipv4::CHECKSUM_OFFSET..l3 + ipv4::CHECKSUM_OFFSET + 2].fill(0);
                checksum::sum(&headers[l3..len])
            }
            Family::V6 => 0,
        };
        let mtu = usize::try_from(egress.mtu).unwrap_or(usize::MAX).min(ipv4::MAX_PACKET_LEN);
        Some(Self {
            interface,
            next_hop,
            family,
            generation: egress.generation(),
            default_ttl: egress.default_ttl(core),
            max_len: mtu.saturating_sub(output.header_len()),
            headers,
            len,
            l3,
            ip_sum,
            pseudo: checksum::pseudo_header(output.source, output.destination, output.protocol.0, 0),
        })
    }

    /// Tells whether a packet that is decided about now would get these headers, and nobody else wants to see it.
    pub(crate) fn is_current(&self, core: &Core) -> bool {
        self.generation == core.topology.generation()
            && self.interface.is_up()
            && self.default_ttl == self.interface.default_ttl(core, self.family)
            && self.next_hop.as_ref().is_none_or(|(neighbour, mac)| neighbour.published_mac() == Some(*mac))
            && core.packet_sockets.is_empty()
            && !core.filter.is_active(self.family)
    }

    /// The largest transport packet that goes out whole.
    pub(crate) fn max_len(&self) -> usize {
        self.max_len
    }

    /// The largest UDP super-segment that the link cuts by itself; zero if it cuts none.
    pub(crate) fn max_udp_segments_len(&self) -> usize {
        let capabilities = &self.interface.capabilities();
        if !capabilities.tx_checksum {
            return 0;
        }
        let limit = usize::try_from(capabilities.gso_max_udp).unwrap_or(usize::MAX).min(ipv4::MAX_PACKET_LEN);
        limit.saturating_sub(self.len - self.l3)
    }

    /// The sum of the pseudo-header, still without the length of the packet.
    pub(crate) fn pseudo(&self) -> u16 {
        self.pseudo
    }

    /// Whether the link finishes checksums.
    pub(crate) fn link_finishes_checksum(&self) -> bool {
        self.interface.capabilities().tx_checksum
    }

    /// Sends a transport packet of at most [`max_len`](Self::max_len) bytes, or a super-segment that the link cuts, whose checksum is what the link takes.
    #[inline]
    pub(crate) fn send(&self, mut packet: Packet, outbox: &mut Outbox) {
        let transport_len = packet.len();
        let (headers, l3) = (packet.prepend(&self.headers[..self.len]), self.l3);
        // At most `max_len`, which leaves room for the header.
        let payload_len = transport_len as u16;
        match self.family {
            Family::V4 => {
                let total = payload_len + ipv4::MIN_HEADER_LEN as u16;
                headers[l3 + LEN_V4..l3 + LEN_V4 + 2].copy_from_slice(&total.to_be_bytes());
                let sum = !checksum::add(self.ip_sum, total);
                headers[l3 + ipv4::CHECKSUM_OFFSET..l3 + ipv4::CHECKSUM_OFFSET + 2]
                    .copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => {
                headers[l3 + LEN_V6..l3 + LEN_V6 + 2].copy_from_slice(&payload_len.to_be_bytes());
            }
        }
        outbox.send(&self.interface, packet);
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("headers", &&self.headers[..self.len]).finish_non_exhaustive()
    }
}

const MAX_HEADERS: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;
/// The offset of the total length in the IPv4 header.
const LEN_V4: usize = 2;
/// The offset of the payload length in the IPv6 header.
const LEN_V6: usize = 4;
