//! The fast path of output: a TCP segment over IPv4 to a neighbour that is known, with all its headers written in one go.
//!
//! Taken is a segment with all of these; any other goes through `output.rs` and `edge.rs`, which make the same frame of it:
//! - from an address to another one of IPv4 by unicast, through an Ethernet or IP link that is up;
//! - not a super-segment, and short enough for the path, so that it can say "don't fragment" and needs no identification;
//! - no rules and no packet sockets that want to see it;
//! - the next hop's station address can be used without further ado.

use std::net::Ipv4Addr;
use std::sync::Arc;

use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::ethernet::{self, EtherType, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::MIN_HEADER_LEN as IP_LEN;
use netstack_wire::tcp::{CHECKSUM_OFFSET, TcpRepr};

use crate::ip::{Delivery, Egress};
use crate::link::Medium;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::packet::{Checksum, Packet};
use crate::stack::Core;
use crate::stats::StackCounters;

/// What a connection says about its IP headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainHeader {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
}

/// How the frame of a plain segment begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkHeader {
    Ethernet { destination: MacAddr, source: MacAddr },
    Absent,
}

/// Says how the frame begins if a segment of that length, header included and no super-segment, can go this way.
#[inline]
pub(crate) fn plain_way(
    core: &Arc<Core>,
    egress: &mut Egress,
    tcp_len: usize,
    outbox: &mut Outbox,
) -> Option<LinkHeader> {
    // A path's MTU may exceed what fits a packet.
    let most = egress.mtu.min(u32::from(u16::MAX));
    let is_plain = egress.delivery == Delivery::Unicast
        && u32::try_from(IP_LEN + tcp_len).is_ok_and(|total| total <= most)
        && egress.interface.is_up()
        && !core.filter.is_active(Family::V4)
        && core.packet_sockets.is_empty();
    if is_plain { link_header(core, egress, outbox) } else { None }
}

/// Sends a segment with that header, and metadata and payload in `packet`, which [`plain_way`] said can go.
#[inline]
pub(crate) fn send_plain(
    core: &Arc<Core>,
    egress: &Egress,
    link: LinkHeader,
    ip: &PlainHeader,
    repr: &TcpRepr,
    mut packet: Packet,
    outbox: &mut Outbox,
) {
    let link_len = match link {
        LinkHeader::Ethernet { .. } => ethernet::HEADER_LEN,
        LinkHeader::Absent => 0,
    };
    let tcp_at = link_len + IP_LEN;
    let payload_len = packet.len();
    let header = packet.push_header(tcp_at + repr.header_len());
    // At most the MTU.
    let tcp_len = u16::try_from(header.len() - tcp_at + payload_len).unwrap_or(u16::MAX);
    let (link_part, rest) = header.split_at_mut(link_len);
    link.emit(link_part);
    let (ip_part, tcp_part) = rest.split_at_mut(IP_LEN);
    ip_part.copy_from_slice(&ip.emit(tcp_len.saturating_add(IP_LEN as u16)));
    // The slice is as long as the header.
    let _ = repr.emit(tcp_part);
    let (source, destination) = (ip.source.into(), ip.destination.into());
    let pseudo = checksum::pseudo_header(source, destination, Protocol::TCP.0, u32::from(tcp_len));
    let field = if egress.interface.capabilities.tx_checksum {
        // Both constants are below 64.
        packet.meta.checksum = Checksum::Partial { start: tcp_at as u16, offset: CHECKSUM_OFFSET as u16 };
        pseudo
    } else {
        let mut sum = Accumulator::new(pseudo);
        sum.add(&packet.head()[tcp_at..]);
        packet.body().iter().for_each(|range| sum.add(range));
        sum.checksum()
    };
    let at = tcp_at + CHECKSUM_OFFSET;
    packet.head_mut()[at..at + 2].copy_from_slice(&field.to_be_bytes());
    let counters: &StackCounters = &core.counters;
    counters.tcp_out_segs.increment();
    counters.ip_out_requests.increment();
    outbox.send(&egress.interface, packet);
}

/// What the link wants in front, if that is known.
#[inline]
fn link_header(core: &Arc<Core>, egress: &mut Egress, outbox: &mut Outbox) -> Option<LinkHeader> {
    match egress.interface.medium {
        Medium::Ethernet(source) => {
            let destination = egress.neighbour(core, outbox)?.published_mac()?;
            Some(LinkHeader::Ethernet { destination, source })
        }
        Medium::Ip => Some(LinkHeader::Absent),
        Medium::Loopback => None,
    }
}

impl LinkHeader {
    #[inline]
    fn emit(self, out: &mut [u8]) {
        let (Self::Ethernet { destination, source }, Some(out)) =
            (self, out.first_chunk_mut::<{ ethernet::HEADER_LEN }>())
        else {
            return;
        };
        out[..6].copy_from_slice(&destination.0);
        out[6..12].copy_from_slice(&source.0);
        out[12..].copy_from_slice(&EtherType::IPV4.0.to_be_bytes());
    }
}

impl PlainHeader {
    /// The header of an atomic packet of `total` bytes (RFC 6864 section 4.1: its identification may have any value).
    #[inline]
    fn emit(&self, total: u16) -> [u8; IP_LEN] {
        let Self { source, destination, ttl, tos } = *self;
        let [l0, l1] = total.to_be_bytes();
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (source.octets(), destination.octets());
        let (protocol, flags) = (Protocol::TCP.0, DONT_FRAGMENT);
        let words = [
            u16::from_be_bytes([VERSION_4, tos]),
            total,
            u16::from_be_bytes([flags, 0]),
            u16::from_be_bytes([ttl, protocol]),
        ];
        let sum = words.into_iter().fold(0, checksum::add);
        let addresses = checksum::pseudo_header(source.into(), destination.into(), 0, 0);
        let [c0, c1] = (!checksum::add(sum, addresses)).to_be_bytes();
        [VERSION_4, tos, l0, l1, 0, 0, flags, 0, ttl, protocol, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3]
    }
}

const VERSION_4: u8 = 0x45;
/// In the upper byte of flags and fragment offset.
const DONT_FRAGMENT: u8 = 0x40;

#[cfg(test)]
mod tests {
    use netstack_wire::ipv4::Ipv4Repr;

    use super::*;

    #[test]
    fn header_is_that_of_the_general_path() {
        for (total, ttl, tos) in [(40, 64, 0), (1500, 1, 0xb8), (65_535, 255, 2)] {
            let (source, destination) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 168, 255, 254));
            let mut expected = [0; IP_LEN];
            let repr = Ipv4Repr::new(source, destination, Protocol::TCP, total - 20);
            Ipv4Repr { ttl, tos, ..repr }.emit(&mut expected);
            assert_eq!(PlainHeader { source, destination, ttl, tos }.emit(total), expected);
        }
    }
}
