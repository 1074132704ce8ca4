//! Software segmentation: cuts a super-segment for links that cannot.

use bytes::Bytes;
use netstack_wire::tcp::TcpFlags;

use crate::packet::{Body, GsoKind, Packet};

const TCP_SEQ_OFFSET: usize = 4;
const TCP_FLAGS_OFFSET: usize = 13;
const UDP_LEN_OFFSET: usize = 4;

/// Cuts a transport packet (header in the head, payload in the body, partial checksum) into segments of the size in its
/// metadata. A packet that is no super-segment comes back as it is.
pub(super) fn segments(packet: Packet) -> impl Iterator<Item = Packet> {
    let gso = packet.meta.gso;
    let total = packet.body_len();
    let size = gso.map_or(total, |gso| usize::from(gso.size).max(1)).max(1);
    let count = total.div_ceil(size).max(1);
    let mut header = Packet::default();
    header.push_header(packet.head().len()).copy_from_slice(packet.head());
    header.meta = packet.meta.clone();
    header.meta.gso = None;
    let mut payload = packet.into_body();
    (0..count).map(move |index| {
        let body = take_front(&mut payload, size);
        let len = body.iter().map(Bytes::len).sum::<usize>();
        let mut segment = Packet::from_body(body);
        segment.push_header(header.head().len()).copy_from_slice(header.head());
        segment.meta = header.meta.clone();
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
    let len = u16::try_from(header.len() + payload_len).unwrap_or(u16::MAX);
    if let Some(field) = header.get_mut(UDP_LEN_OFFSET..UDP_LEN_OFFSET + 2) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// Moves the first `count` bytes out of `ranges`.
fn take_front(ranges: &mut Body, count: usize) -> Body {
    let (mut taken, mut left) = (Body::new(), count);
    while left > 0 && !ranges.is_empty() {
        if ranges[0].len() <= left {
            left -= ranges[0].len();
            taken.push(ranges.remove(0));
        } else {
            taken.push(ranges[0].split_to(left));
            left = 0;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Gso;

    #[test]
    fn tcp_segments_continue_the_sequence_and_end_with_the_flags() {
        let body = Body::from_iter([Bytes::from_static(b"abcd"), Bytes::from_static(b"efghij")]);
        let mut packet = Packet::from_body(body);
        let header = packet.push_header(20);
        header[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        header[13] = (TcpFlags::FIN | TcpFlags::PSH | TcpFlags::ACK | TcpFlags::CWR).bits();
        packet.meta.gso = Some(Gso { kind: GsoKind::Tcp4, size: 4 });
        let segments: Vec<_> = segments(packet).collect();
        let seen: Vec<_> = segments
            .iter()
            .map(|segment| {
                let h = segment.head();
                (u32::from_be_bytes([h[4], h[5], h[6], h[7]]), h[13], segment.to_vec()[20..].to_vec())
            })
            .collect();
        let ack = TcpFlags::ACK;
        assert_eq!(
            seen,
            [
                (u32::MAX, (ack | TcpFlags::CWR).bits(), b"abcd".to_vec()),
                (3, ack.bits(), b"efgh".to_vec()),
                (7, (ack | TcpFlags::FIN | TcpFlags::PSH).bits(), b"ij".to_vec()),
            ]
        );
        assert!(segments.iter().all(|segment| segment.meta.gso.is_none()));
    }
}
