//! What the sender of a frame leaves to the link: the end of a checksum, the cut into segments.

use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::ip::Protocol;
use netstack_wire::{checksum, ethernet, ipv4, ipv6, tcp, udp};
use smallvec::{SmallVec, smallvec};

use crate::interface::Interface;
use crate::ip::{Transit, frames_behind};
use crate::link::Capabilities;
use crate::packet::{Body, Checksum, Gso, GsoKind, HEADROOM, Packet};
use crate::stack::Core;

/// What the sender of a frame leaves to the link. Offsets count from the first byte of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// [`Partial`](Checksum::Partial) if the frame's checksum is not finished.
    pub checksum: Checksum,
    /// How the frame is to be cut.
    pub gso: Option<Gso>,
    /// The frame is one datagram, to be sent in fragments that carry so many bytes each (`VIRTIO_NET_HDR_GSO_UDP`). Rounded down to
    /// a multiple of eight, which fragments must have; `gso` is not looked at.
    pub fragment_size: Option<u16>,
}

impl Offload {
    /// The packet of a frame that somebody else sent with this, as a link delivers it; the network header is at `l3`. `None` if
    /// the frame is not what this says. A datagram that its sender wants in fragments arrives whole.
    pub fn received(self, frame: Bytes, l3: usize) -> Option<Packet> {
        if self.gso.is_none() && !matches!(self.checksum, Checksum::Partial { .. }) {
            let mut packet = Packet::from_frame(frame);
            packet.meta.checksum = self.checksum;
            return Some(packet);
        }
        let whole = Self { fragment_size: None, ..self };
        whole.packet(frame, l3)
    }

    pub(super) fn is_any(self) -> bool {
        self.may_be_long() || matches!(self.checksum, Checksum::Partial { .. })
    }

    /// Whether the frame may be longer than those of the link.
    pub(super) fn may_be_long(self) -> bool {
        self.gso.is_some() || self.fragment_size.is_some()
    }

    /// The frames that one becomes whose network header is at `l3`; `None` as for [`packet`](Self::packet).
    pub(super) fn frames(self, core: &Core, frame: Bytes, l3: usize) -> Option<SmallVec<[Packet; 1]>> {
        let Some(size) = self.fragment_size else { return Some(smallvec![self.packet(frame, l3)?]) };
        let l4 = transport_of(&frame, l3, GsoKind::Udp)?;
        if let Checksum::Partial { start, offset } = self.checksum {
            let is_right = usize::from(start) == l4 && offset == Kind::of(GsoKind::Udp).checksum_offset;
            is_right.then_some(())?;
        }
        if size < 8 || size == u16::MAX || frame.len() < l4 + udp::HEADER_LEN {
            return None;
        }
        if frame.len() - l4 <= usize::from(size) {
            let mut packet = Packet::from_body(Body::from_iter([frame]));
            packet.meta.checksum = self.checksum;
            return Some(smallvec![packet]);
        }
        let mut packet = Packet::from_frame(frame.clone());
        // Those of links are short.
        packet.meta.l3_offset = u16::try_from(l3).ok()?;
        let ident = |transit: &Transit| {
            core.next_fragment_ident_for(transit.source, transit.destination, transit.protocol)
        };
        let mut fragments = Transit::new(packet)?.into_fragments(usize::from(size), ident)?;
        for fragment in &mut fragments {
            fragment.prepend(&frame[..l3]);
        }
        Some(fragments.into())
    }

    /// The packet of a frame whose network header is at `l3`. `None` if the frame is not what this says: the rules are
    /// those of Linux (`virtio_net_hdr_to_skb`), except that kind and headers must always agree.
    pub(super) fn packet(self, frame: Bytes, l3: usize) -> Option<Packet> {
        let Some(gso) = self.gso else {
            let Checksum::Partial { start, offset } = self.checksum else { return None };
            check_partial(&frame, start, offset, ipv4::MIN_HEADER_LEN, 0)?;
            let mut packet = Packet::from_body(Body::from_iter([frame]));
            packet.meta.checksum = self.checksum;
            return Some(packet);
        };
        let kind = Kind::of(gso.kind);
        let l4 = transport_of(&frame, l3, gso.kind)?;
        // Linux takes the longest size for one that varies (GSO_BY_FRAGS).
        if gso.size == 0 || gso.size == u16::MAX {
            return None;
        }
        let mut pseudo = None;
        let (start, offset) = match self.checksum {
            Checksum::Partial { start, offset } => (start, offset),
            // Only the segments of TCP are known to have one.
            Checksum::Plain | Checksum::Verified if gso.kind == GsoKind::Udp => return None,
            Checksum::Plain | Checksum::Verified => {
                pseudo = Some(pseudo_sum(&frame, l3, l4, kind.protocol)?);
                (u16::try_from(l4).ok()?, kind.checksum_offset)
            }
        };
        check_partial(&frame, start, offset, kind.least_l3, kind.least_header)?;
        if usize::from(start) != l4 || offset != kind.checksum_offset {
            return None;
        }
        let header_len = header_len(&frame, l4, gso.kind)?;
        let payload_len = frame.len().checked_sub(l4 + header_len)?;
        if gso.kind == GsoKind::Udp && payload_len > usize::from(gso.size) * MAX_UDP_SEGMENTS {
            return None;
        }
        let head_len = l4 + header_len;
        if head_len > HEADROOM {
            return None;
        }
        let mut packet = Packet::from_body(Body::from_iter([frame.slice(head_len..)]));
        let head = packet.prepend(&frame[..head_len]);
        let field = l4 + usize::from(offset);
        if let (Some(sum), Some(field)) = (pseudo, head.get_mut(field..field + 2)) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
        packet.meta.checksum = Checksum::Partial { start, offset };
        // What fits one segment is none.
        packet.meta.gso = Some(gso).filter(|_| payload_len > usize::from(gso.size));
        Some(packet)
    }
}

/// The same for a frame that came from another link, whose headers may be anywhere.
pub(crate) fn frames_for_link(interface: &Arc<Interface>, packet: Packet) -> SmallVec<[Packet; 1]> {
    for_link(interface, if packet.meta.gso.is_some() { with_headers_in_front(packet) } else { packet })
}

/// Moves the headers of a super-segment into the packet's head and marks its checksum as one to be finished: that of each
/// segment will be another.
fn with_headers_in_front(mut packet: Packet) -> Packet {
    let Some(kind) = packet.meta.gso.map(|gso| gso.kind) else { return packet };
    let byte = |at: usize| packet.contiguous(at).first().copied().map_or(0, usize::from);
    let l4 = match packet.meta.checksum {
        Checksum::Partial { start, .. } => usize::from(start),
        Checksum::Plain | Checksum::Verified => {
            let l3 = ethernet::HEADER_LEN;
            l3 + if byte(l3) >> 4 == 4 { (byte(l3) & 15) * 4 } else { ipv6::HEADER_LEN }
        }
    };
    let len = l4 + if kind == GsoKind::Udp { udp::HEADER_LEN } else { (byte(l4 + 12) >> 4) * 4 };
    let offset = Kind::of(kind).checksum_offset;
    // Headers are some hundred bytes long.
    let checksum = Checksum::Partial { start: l4 as u16, offset };
    let was_finished = !matches!(packet.meta.checksum, Checksum::Partial { .. });
    if len <= HEADROOM && packet.head().len() != len {
        let mut headers = [0; HEADROOM];
        if packet.copy_to(0, &mut headers[..len]) < len {
            return packet;
        }
        packet.trim_front(len);
        packet.meta.checksum = Checksum::Plain;
        packet.prepend(&headers[..len]);
    }
    if was_finished {
        let len = packet.len().saturating_sub(l4);
        begin_sum(packet.head_mut(), l4, usize::from(offset), Kind::of(kind).protocol, len);
    }
    packet.meta.checksum = checksum;
    packet
}

/// Puts the sum of the pseudo-header where that of the whole was.
fn begin_sum(head: &mut [u8], l4: usize, offset: usize, protocol: Protocol, len: usize) {
    let l3 = ethernet::HEADER_LEN;
    let addresses = match head.get(l3).map(|byte| byte >> 4) {
        Some(4) => head.get(l3 + 12..l3 + 20),
        _ => head.get(l3 + 8..l3 + ipv6::HEADER_LEN),
    };
    let Some(addresses) = addresses else { return };
    // Packets are at most 64 KiB long.
    let rest = checksum::add(u16::from(protocol.0), u16::try_from(len).unwrap_or(u16::MAX));
    let sum = checksum::add(checksum::sum(addresses), rest);
    if let Some(field) = head.get_mut(l4 + offset..l4 + offset + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The frames that a link takes for one: it is cut and its checksum finished where the link does not do that.
pub(super) fn for_link(interface: &Arc<Interface>, packet: Packet) -> SmallVec<[Packet; 1]> {
    let capabilities = &interface.capabilities();
    let l3 = super::frame::header_len(interface.medium());
    match packet.meta.gso {
        Some(gso) if !segments(capabilities, gso.kind, packet.len().saturating_sub(l3)) => {
            frames_behind(l3, packet, capabilities.tx_checksum).collect()
        }
        None if !capabilities.tx_checksum => smallvec![finish(packet)],
        Some(_) | None => smallvec![packet],
    }
}

/// Whether a link cuts super-segments of that length from the network header on.
fn segments(capabilities: &Capabilities, kind: GsoKind, len: usize) -> bool {
    let limit = match kind {
        GsoKind::Tcp4 => capabilities.gso_max_v4,
        GsoKind::Tcp6 => capabilities.gso_max_v6,
        GsoKind::Udp => capabilities.gso_max_udp,
    };
    u32::try_from(len).is_ok_and(|len| len <= limit)
}

/// Finishes a checksum as a link would, which knows nothing of protocols.
fn finish(packet: Packet) -> Packet {
    let Checksum::Partial { start, offset } = packet.meta.checksum else { return packet };
    let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
    let mut frame = packet.to_vec();
    let mut sum = checksum::Accumulator::default();
    sum.add(frame.get(start..).unwrap_or_default());
    if let Some(field) = frame.get_mut(field..field + 2) {
        // Zero would mean that there is none (RFC 768).
        field.copy_from_slice(&udp::checksum_on_wire(sum.checksum()).to_be_bytes());
    }
    let mut finished = Packet::from_frame(Bytes::from(frame));
    finished.meta = packet.meta;
    finished.meta.checksum = Checksum::Plain;
    finished
}

/// What a kind of segments has in common.
struct Kind {
    protocol: Protocol,
    checksum_offset: u16,
    /// The shortest header of the network and of the transport.
    least_l3: usize,
    least_header: usize,
}

impl Kind {
    fn of(kind: GsoKind) -> Self {
        let (protocol, checksum_offset, least_header) = match kind {
            GsoKind::Tcp4 | GsoKind::Tcp6 => (Protocol::TCP, 16, tcp::MIN_HEADER_LEN),
            GsoKind::Udp => (Protocol::UDP, 6, udp::HEADER_LEN),
        };
        let least_l3 = if kind == GsoKind::Tcp6 { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
        Self { protocol, checksum_offset, least_l3, least_header }
    }
}

/// The field and the header are in the frame, and behind the network header.
fn check_partial(frame: &[u8], start: u16, offset: u16, least_l3: usize, least_header: usize) -> Option<()> {
    let start = usize::from(start);
    let needed = start + least_header.max(usize::from(offset) + 2);
    (needed <= frame.len() && start >= least_l3).then_some(())
}

/// Where the transport header of a frame of that kind is. Extension headers of IPv6 are not looked through.
fn transport_of(frame: &[u8], l3: usize, kind: GsoKind) -> Option<usize> {
    let header = frame.get(l3..)?;
    let protocol = Kind::of(kind).protocol.0;
    match (header.first()? >> 4, kind) {
        (4, GsoKind::Tcp4 | GsoKind::Udp) => {
            let len = usize::from(header[0] & 0xf) * 4;
            (len >= ipv4::MIN_HEADER_LEN && *header.get(9)? == protocol).then_some(l3 + len)
        }
        (6, GsoKind::Tcp6 | GsoKind::Udp) => (*header.get(6)? == protocol).then_some(l3 + ipv6::HEADER_LEN),
        _ => None,
    }
}

/// The length of the transport header.
fn header_len(frame: &[u8], l4: usize, kind: GsoKind) -> Option<usize> {
    match kind {
        GsoKind::Udp => Some(udp::HEADER_LEN),
        GsoKind::Tcp4 | GsoKind::Tcp6 => {
            let len = usize::from(frame.get(l4 + 12)? >> 4) * 4;
            (len >= tcp::MIN_HEADER_LEN).then_some(len)
        }
    }
}

/// The sum of the pseudo-header.
fn pseudo_sum(frame: &[u8], l3: usize, l4: usize, protocol: Protocol) -> Option<u16> {
    let addresses = match frame.get(l3)? >> 4 {
        4 => frame.get(l3 + 12..l3 + 20)?,
        _ => frame.get(l3 + 8..l3 + ipv6::HEADER_LEN)?,
    };
    let len = u16::try_from(frame.len().checked_sub(l4)?).ok()?;
    Some(checksum::add(checksum::add(checksum::sum(addresses), u16::from(protocol.0)), len))
}

/// `UDP_MAX_SEGMENTS`.
const MAX_UDP_SEGMENTS: usize = 128;

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
