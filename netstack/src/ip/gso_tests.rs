use std::net::Ipv4Addr;

use bytes::Bytes;
use netstack_wire::ipv4::Ipv4Repr;

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

/// A super-segment with Ethernet, IPv4 and TCP headers, as it comes to the edge.
fn frame(payload: &'static [u8], size: u16) -> Packet {
    let addresses = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let mut packet = Packet::from_body(Body::from_iter([Bytes::from_static(payload)]));
    let tcp = packet.push_header(20);
    tcp[4..8].copy_from_slice(&100_u32.to_be_bytes());
    tcp[12] = 0x50;
    tcp[13] = (TcpFlags::PSH | TcpFlags::ACK).bits();
    packet.meta.checksum = Checksum::Partial { start: 0, offset: 16 };
    packet.meta.gso = Some(Gso { kind: GsoKind::Tcp4, size });
    let header = Ipv4Repr {
        source: addresses.0,
        destination: addresses.1,
        protocol: Protocol::TCP,
        ttl: 64,
        tos: 0,
        ident: 7,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        options_len: 0,
        payload_len: u16::try_from(20 + payload.len()).unwrap(),
    };
    header.emit(packet.push_header(20));
    packet.push_header(14)[12] = 8;
    packet
}

#[test]
fn frames_are_whole_packets_with_right_checksums() {
    let cut: Vec<_> = frames(frame(b"abcdefghij", 4), false).collect();
    assert_eq!(cut.len(), 3);
    for (index, (segment, payload)) in cut.iter().zip([&b"abcd"[..], b"efgh", b"ij"]).enumerate() {
        assert_eq!((segment.meta.checksum, segment.meta.gso), (Checksum::Plain, None));
        let bytes = segment.to_vec();
        let ip = Ipv4Repr::parse(&bytes[14..]).unwrap();
        assert_eq!(usize::from(ip.payload_len), 20 + payload.len());
        assert_eq!(usize::from(ip.ident), 7 + index);
        let (source, destination) = (ip.source.into(), ip.destination.into());
        let pseudo = checksum::pseudo_header(source, destination, 6, u32::from(ip.payload_len));
        let mut sum = checksum::Accumulator::new(pseudo);
        sum.add(&bytes[34..]);
        assert!(sum.is_valid());
        assert_eq!(&bytes[54..], payload);
        assert_eq!(bytes[41], 100 + 4 * u8::try_from(index).unwrap());
        assert_eq!(bytes[47] & TcpFlags::PSH.bits() != 0, index == 2);
    }
}

#[test]
fn frames_for_links_with_checksum_offload_carry_the_pseudo_header() {
    for segment in frames(frame(b"abcdef", 4), true) {
        let Checksum::Partial { start: 34, offset: 16 } = segment.meta.checksum else {
            panic!("{:?}", segment.meta.checksum)
        };
        let bytes = segment.to_vec();
        let sum = checksum::Accumulator::new(checksum::sum(&bytes[34..]));
        let ip = Ipv4Repr::parse(&bytes[14..]).unwrap();
        let len = u32::from(ip.payload_len);
        let pseudo = checksum::pseudo_header(ip.source.into(), ip.destination.into(), 6, len);
        let mut finished = bytes[34..].to_vec();
        finished[16..18].copy_from_slice(&sum.checksum().to_be_bytes());
        let mut check = checksum::Accumulator::new(pseudo);
        check.add(&finished);
        assert!(check.is_valid());
    }
}
