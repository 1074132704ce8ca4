//! Software segmentation: cuts a super-segment for links that cannot.
//!
//! The cut happens at the edge, with all headers on: they are made once for the whole super-segment, and each segment
//! gets a copy with the few fields that differ patched.

use bytes::Buf;
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::TcpFlags;
use netstack_wire::{checksum, ipv4, ipv6, udp};

use crate::packet::{Body, Checksum, GsoKind, HEADROOM, Meta, Packet};

/// Cuts a transport packet (header in the head, payload in the body, partial checksum) into segments of the size in its
/// metadata, before it has an IP header. A packet that is no super-segment comes back as it is.
pub(crate) fn segments(packet: Packet) -> impl Iterator<Item = Packet> {
    let gso = packet.meta.gso;
    let mut template = Template::of(&packet);
    let total = packet.body_len();
    let size = gso.map_or(total, |gso| usize::from(gso.size).max(1)).max(1);
    let count = total.div_ceil(size).max(1);
    let mut payload = Ranges::new(packet.into_body());
    (0..count).map(move |index| {
        let mut segment = template.packet(payload.take(size));
        let len = segment.body_len();
        match gso.map(|gso| gso.kind) {
            Some(GsoKind::Tcp4 | GsoKind::Tcp6) => {
                fix_tcp(segment.head_mut(), index * size, index == 0, index + 1 == count);
            }
            Some(GsoKind::Udp) => fix_udp(segment.head_mut(), len),
            None => {}
        }
        segment
    })
}

/// Cuts a TCP super-segment of ours with all its headers on. Whoever takes the segments finishes their checksums if
/// `finishes_checksum`, otherwise they are finished here.
///
/// The packet must have an unfinished checksum, as every super-segment of ours does; one that has none comes back whole.
pub(super) fn frames(packet: Packet, finishes_checksum: bool) -> impl Iterator<Item = Packet> {
    let layout = Layout::of(&packet);
    frames_of(packet, layout, finishes_checksum)
}

/// The same for TCP and UDP, with whatever headers there are behind `l3`.
pub(crate) fn frames_behind(
    l3: usize,
    packet: Packet,
    finishes_checksum: bool,
) -> impl Iterator<Item = Packet> {
    let layout = Layout::behind(l3, &packet);
    frames_of(packet, layout, finishes_checksum)
}

fn frames_of(
    packet: Packet,
    layout: Option<Layout>,
    finishes_checksum: bool,
) -> impl Iterator<Item = Packet> {
    let mut template = Template::of(&packet);
    let total = packet.body_len();
    let size = packet.meta.gso.map_or(total, |gso| usize::from(gso.size)).max(1);
    let count = if layout.is_some() { total.div_ceil(size).max(1) } else { 1 };
    let mut payload = Ranges::new(packet.into_body());
    (0..count).map(move |index| {
        let Some(layout) = &layout else { return template.packet(payload.take(total)) };
        let mut segment = template.packet(payload.take(size));
        let len = segment.body_len();
        let (l3, l4) = segment.head_mut().split_at_mut(layout.l4);
        layout.fix_ip(l3, l4.len() + len, index);
        match layout.protocol {
            Protocol::UDP => fix_udp(l4, len),
            _ => fix_tcp(l4, index * size, index == 0, index + 1 == count),
        }
        // At most 64 KiB.
        let pseudo = checksum::add(layout.pseudo, u16::try_from(l4.len() + len).unwrap_or(u16::MAX));
        let Some(field) = l4.get_mut(layout.checksum..layout.checksum + 2) else { return segment };
        field.copy_from_slice(&[0, 0]);
        if finishes_checksum {
            field.copy_from_slice(&pseudo.to_be_bytes());
            return segment;
        }
        let mut sum = checksum::Accumulator::new(pseudo);
        sum.add(l4);
        segment.body().iter().for_each(|range| sum.add(range));
        let at = layout.l4 + layout.checksum;
        let sum = match layout.protocol {
            Protocol::UDP => udp::checksum_on_wire(sum.checksum()),
            _ => sum.checksum(),
        };
        segment.head_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment.meta.checksum = Checksum::Plain;
        segment
    })
}

/// What all segments have in common.
struct Template {
    head: [u8; HEADROOM],
    len: usize,
    meta: Meta,
}

impl Template {
    fn of(packet: &Packet) -> Self {
        let mut head = [0; HEADROOM];
        let len = packet.head().len();
        head[..len].copy_from_slice(packet.head());
        Self { head, len, meta: Meta { gso: None, ..packet.meta.clone() } }
    }

    fn packet(&mut self, body: Body) -> Packet {
        let mut packet = Packet::from_body(body);
        packet.push_header(self.len).copy_from_slice(&self.head[..self.len]);
        packet.meta = self.meta.clone();
        packet
    }
}

/// Where the headers of a frame are, and what does not change from segment to segment.
struct Layout {
    l3: usize,
    l4: usize,
    /// Of the checksum field, from `l4` on.
    checksum: usize,
    is_v4: bool,
    protocol: Protocol,
    /// The sum of the pseudo-header without the length.
    pseudo: u16,
}

impl Layout {
    fn of(packet: &Packet) -> Option<Self> {
        let Checksum::Partial { start, .. } = packet.meta.checksum else { return None };
        let is_v4 = packet.meta.gso?.kind == GsoKind::Tcp4;
        // What we send ourselves has neither options nor extension headers.
        let header_len = if is_v4 { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN };
        Self::behind(usize::from(start).checked_sub(header_len)?, packet)
    }

    fn behind(l3: usize, packet: &Packet) -> Option<Self> {
        let Checksum::Partial { start, offset } = packet.meta.checksum else { return None };
        let (l4, checksum) = (usize::from(start), usize::from(offset));
        let header = packet.head().get(l3..l4)?;
        let is_v4 = match header.first()? >> 4 {
            4 => true,
            6 => false,
            _ => return None,
        };
        let addresses = if is_v4 { header.get(12..20)? } else { header.get(8..ipv6::HEADER_LEN)? };
        let protocol = if packet.meta.gso?.kind == GsoKind::Udp { Protocol::UDP } else { Protocol::TCP };
        let pseudo = checksum::add(checksum::sum(addresses), u16::from(protocol.0));
        Some(Self { l3, l4, checksum, is_v4, protocol, pseudo })
    }

    /// The length, and for IPv4 the identification and the checksum.
    fn fix_ip(&self, head: &mut [u8], transport_len: usize, index: usize) {
        let header = &mut head[self.l3..];
        let before_payload = if self.is_v4 { 0 } else { ipv6::HEADER_LEN };
        let len = transport_len + header.len() - before_payload;
        // The segments of a packet of at most 64 KiB are shorter still.
        let len = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        if !self.is_v4 {
            header[4..6].copy_from_slice(&len);
            return;
        }
        header[2..4].copy_from_slice(&len);
        let has_df = header[6] & 0x40 != 0;
        if !has_df {
            // RFC 6864 section 4.2: what may be fragmented is told apart by this.
            let ident = u16::from_be_bytes([header[4], header[5]]).wrapping_add(index as u16);
            header[4..6].copy_from_slice(&ident.to_be_bytes());
        }
        header[ipv4::CHECKSUM_OFFSET..ipv4::CHECKSUM_OFFSET + 2].copy_from_slice(&[0, 0]);
        let sum = !checksum::sum(header);
        header[ipv4::CHECKSUM_OFFSET..ipv4::CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// RFC 9293: the sequence number counts on; FIN and PSH belong on the last segment, CWR on the first (RFC 3168 section
/// 6.1.2).
fn fix_tcp(header: &mut [u8], offset: usize, is_first: bool, is_last: bool) {
    if let Some(field) = header.get_mut(TCP_SEQ_OFFSET..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        // A super-segment is shorter than 2^32 bytes.
        *field = u32::from_be_bytes(*field).wrapping_add(offset as u32).to_be_bytes();
    }
    if let Some(flags) = header.get_mut(TCP_FLAGS_OFFSET) {
        if !is_last {
            *flags &= !(TcpFlags::FIN | TcpFlags::PSH).bits();
        }
        if !is_first {
            *flags &= !TcpFlags::CWR.bits();
        }
    }
}

fn fix_udp(header: &mut [u8], payload_len: usize) {
    let len = u16::try_from(udp::HEADER_LEN + payload_len).unwrap_or(u16::MAX);
    if let Some(field) = header.get_mut(UDP_LEN_OFFSET..UDP_LEN_OFFSET + 2) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// Payload ranges that are handed out from the front.
struct Ranges {
    ranges: Body,
    /// The first range that is not used up.
    next: usize,
}

impl Ranges {
    fn new(ranges: Body) -> Self {
        Self { ranges, next: 0 }
    }

    /// The next `count` bytes, or what is left.
    fn take(&mut self, count: usize) -> Body {
        let (mut taken, mut left) = (Body::new(), count);
        while let Some(range) = self.ranges.get_mut(self.next).filter(|_| left > 0) {
            if range.len() <= left {
                left -= range.len();
                taken.push(std::mem::take(range));
                self.next += 1;
            } else {
                taken.push(range.slice(..left));
                range.advance(left);
                left = 0;
            }
        }
        taken
    }
}

const TCP_SEQ_OFFSET: usize = 4;
const TCP_FLAGS_OFFSET: usize = 13;
const UDP_LEN_OFFSET: usize = 4;

#[cfg(test)]
#[path = "gso_tests.rs"]
mod tests;
