//! The virtio-net header (VIRTIO 1.1 section 5.1.6, `linux/virtio_net.h`): what a frame's checksum lacks and how it is
//! to be cut.
//!
//! ```text
//! | flags (1) | gso_type (1) | hdr_len (2) | gso_size (2) | csum_start (2) | csum_offset (2) |
//! ```
//! Packet sockets and tap devices use the legacy form: the host's byte order.

use netstack::packet::{Checksum, Gso, GsoKind, Packet};

/// The length of the header without `num_buffers`.
pub(crate) const LEN: usize = 10;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// The first segment carries CWR (RFC 3168 section 6.1.2), the others do not.
const GSO_ECN: u8 = 0x80;

/// Describes a packet that is to be sent.
pub(crate) fn encode(packet: &Packet) -> [u8; LEN] {
    let mut header = [0; LEN];
    let Checksum::Partial { start, offset } = packet.meta.checksum else { return header };
    header[0] = FLAG_NEEDS_CSUM;
    put(&mut header, 6, start);
    put(&mut header, 8, offset);
    if let Some(Gso { kind, size }) = packet.meta.gso {
        header[1] = match kind {
            GsoKind::Tcp4 => GSO_TCPV4 | ecn(packet, start),
            GsoKind::Tcp6 => GSO_TCPV6 | ecn(packet, start),
            GsoKind::Udp => GSO_UDP_L4,
        };
        // All headers are in the packet's head, which is short.
        put(&mut header, 2, u16::try_from(packet.head().len()).unwrap_or(u16::MAX));
        put(&mut header, 4, size);
    }
    header
}

/// Says what the header of a received frame tells about it.
pub(crate) fn decode(header: &[u8; LEN]) -> (Checksum, Option<Gso>) {
    let get = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let checksum = if header[0] & FLAG_NEEDS_CSUM != 0 {
        // Its sender is on this host and left the sum to the device: the bytes were never on a wire.
        Checksum::Partial { start: get(6), offset: get(8) }
    } else if header[0] & FLAG_DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Plain
    };
    let kind = match header[1] & !GSO_ECN {
        GSO_TCPV4 => Some(GsoKind::Tcp4),
        GSO_TCPV6 => Some(GsoKind::Tcp6),
        GSO_UDP_L4 => Some(GsoKind::Udp),
        // Including GSO_NONE, and the long gone UFO, which nobody asked for.
        _ => None,
    };
    (checksum, kind.map(|kind| Gso { kind, size: get(4) }))
}

fn ecn(packet: &Packet, tcp: u16) -> u8 {
    let flags = packet.get(usize::from(tcp) + 13, 1).map_or(0, |byte| byte[0]);
    if flags & 0x80 != 0 { GSO_ECN } else { GSO_NONE }
}

fn put(header: &mut [u8; LEN], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn super_segment_survives_the_round_trip() {
        let mut packet = Packet::default();
        packet.push_header(20)[13] = 0x80;
        packet.meta.checksum = Checksum::Partial { start: 0, offset: 16 };
        packet.meta.gso = Some(Gso { kind: GsoKind::Tcp6, size: 1440 });
        packet.push_header(54);
        let header = encode(&packet);
        assert_eq!(header[1], GSO_TCPV6 | GSO_ECN);
        assert_eq!(u16::from_ne_bytes([header[2], header[3]]), 74);
        let expected =
            (Checksum::Partial { start: 54, offset: 16 }, Some(Gso { kind: GsoKind::Tcp6, size: 1440 }));
        assert_eq!(decode(&header), expected);
    }

    #[test]
    fn plain_packet_has_an_empty_header() {
        assert_eq!(encode(&Packet::default()), [0; LEN]);
        assert_eq!(decode(&[0; LEN]), (Checksum::Plain, None));
    }

    #[test]
    fn device_vouches_for_checksum() {
        let mut header = [0; LEN];
        header[0] = FLAG_DATA_VALID;
        assert_eq!(decode(&header), (Checksum::Verified, None));
    }
}
