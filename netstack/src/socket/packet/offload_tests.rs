use super::*;

use netstack_wire::udp::UdpRepr;

const SOURCE: [u8; 4] = [10, 0, 0, 1];
const DESTINATION: [u8; 4] = [10, 0, 0, 2];

/// An Ethernet frame with an IPv4 packet of that protocol, the sum of the pseudo-header in place.
fn frame(protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let (header_len, field) = if protocol == Protocol::UDP { (8, 6) } else { (20, 16) };
    let transport_len = u16::try_from(header_len + payload.len()).unwrap();
    let mut frame = vec![0; 34 + header_len];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(20 + transport_len).to_be_bytes());
    frame[22] = 64;
    frame[23] = protocol.0;
    frame[26..30].copy_from_slice(&SOURCE);
    frame[30..34].copy_from_slice(&DESTINATION);
    let sum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    match protocol {
        Protocol::UDP => frame[38..40].copy_from_slice(&transport_len.to_be_bytes()),
        _ => frame[46] = 0x50,
    }
    let pseudo = pseudo(protocol, transport_len);
    frame[34 + field..36 + field].copy_from_slice(&pseudo.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn pseudo(protocol: Protocol, len: u16) -> u16 {
    checksum::pseudo_header(SOURCE.into(), DESTINATION.into(), protocol.0, u32::from(len))
}

const UDP: Offload = Offload {
    checksum: Checksum::Partial { start: 34, offset: 6 },
    gso: Some(Gso { kind: GsoKind::Udp, size: 4 }),
    fragment_size: None,
};
const TCP: Offload = Offload {
    checksum: Checksum::Partial { start: 34, offset: 16 },
    gso: Some(Gso { kind: GsoKind::Tcp4, size: 4 }),
    fragment_size: None,
};

/// The transport's part of each segment, with its checksum looked at.
fn cut(offload: Offload, protocol: Protocol, payload: &[u8]) -> Vec<Vec<u8>> {
    let packet = offload.packet(Bytes::from(frame(protocol, payload)), 14).unwrap();
    let check = |segment: Packet| {
        assert_eq!((segment.meta.checksum, segment.meta.gso), (Checksum::Plain, None));
        let bytes = segment.to_vec();
        assert_eq!(checksum::sum(&bytes[14..34]), 0xffff);
        assert_eq!(usize::from(u16::from_be_bytes([bytes[16], bytes[17]])), bytes.len() - 14);
        let len = u16::try_from(bytes.len() - 34).unwrap();
        let mut sum = checksum::Accumulator::new(pseudo(protocol, len));
        sum.add(&bytes[34..]);
        assert!(sum.is_valid());
        bytes[34..].to_vec()
    };
    frames_behind(14, packet, false).map(check).collect()
}

#[test]
fn datagrams_are_cut_for_links_that_do_not() {
    let parts = cut(UDP, Protocol::UDP, b"abcdefghij");
    let payloads: Vec<_> = parts.iter().map(|part| &part[8..]).collect();
    assert_eq!(payloads, [&b"abcd"[..], b"efgh", b"ij"]);
    let lens: Vec<_> = parts.iter().map(|part| UdpRepr::parse(part).unwrap().len).collect();
    assert_eq!(lens, [12, 12, 10]);
}

#[test]
fn streams_are_cut_with_and_without_a_sum_in_place() {
    for checksum in [TCP.checksum, Checksum::Plain] {
        let parts = cut(Offload { checksum, ..TCP }, Protocol::TCP, b"abcdefghij");
        let payloads: Vec<_> = parts.iter().map(|part| &part[20..]).collect();
        assert_eq!(payloads, [&b"abcd"[..], b"efgh", b"ij"]);
    }
}

#[test]
fn one_segment_is_no_super_segment() {
    let packet = UDP.packet(Bytes::from(frame(Protocol::UDP, b"abcd")), 14).unwrap();
    assert_eq!((packet.meta.gso, packet.meta.checksum), (None, UDP.checksum));
}

#[test]
fn unfinished_checksum_is_finished_for_links_that_do_not() {
    let plain = Offload { gso: None, ..UDP };
    let packet = plain.packet(Bytes::from(frame(Protocol::UDP, b"abc")), 14).unwrap();
    let bytes = finish(packet).to_vec();
    let mut sum = checksum::Accumulator::new(pseudo(Protocol::UDP, 11));
    sum.add(&bytes[34..]);
    assert!(sum.is_valid());
}

#[test]
fn offload_that_does_not_fit_the_frame_is_refused() {
    let partial = |start, offset| Checksum::Partial { start, offset };
    let gso = |kind, size| Some(Gso { kind, size });
    let nonsense = [
        Offload { checksum: partial(43, 6), gso: None, ..UDP },
        Offload { checksum: partial(u16::MAX, u16::MAX), gso: None, ..UDP },
        Offload { checksum: partial(19, 6), gso: None, ..UDP },
        Offload { checksum: Checksum::Plain, ..UDP },
        Offload { gso: gso(GsoKind::Udp, 0), ..UDP },
        Offload { gso: gso(GsoKind::Udp, u16::MAX), ..UDP },
        Offload { gso: gso(GsoKind::Tcp4, 4), ..UDP },
        Offload { gso: gso(GsoKind::Tcp6, 4), ..UDP },
        Offload { checksum: partial(34, 4), ..UDP },
        Offload { checksum: partial(33, 6), ..UDP },
    ];
    for offload in nonsense {
        assert!(offload.packet(Bytes::from(frame(Protocol::UDP, b"abc")), 14).is_none(), "{offload:?}");
    }
    let many = frame(Protocol::UDP, &[0; 129]);
    let one_each = Offload { gso: gso(GsoKind::Udp, 1), ..UDP };
    assert!(one_each.packet(Bytes::from(many), 14).is_none());
    for len in 0..42 {
        let mut short = frame(Protocol::UDP, b"");
        short.truncate(len);
        assert!(UDP.packet(Bytes::from(short), 14).is_none());
    }
}

#[test]
fn a_datagram_is_cut_into_fragments_that_share_its_checksum() {
    let stack = crate::Stack::builder().manual_clock().deterministic(1).build();
    let payload: Vec<u8> = (0..40).collect();
    for (checksum, size) in [(UDP.checksum, 16), (Checksum::Plain, 23)] {
        let offload = Offload { checksum, gso: None, fragment_size: Some(size) };
        let bytes = Bytes::from(frame(Protocol::UDP, &payload));
        let fragments: Vec<_> =
            offload.frames(&stack.core, bytes, 14).unwrap().iter().map(Packet::to_vec).collect();
        let starts: Vec<_> =
            fragments.iter().map(|bytes| u16::from_be_bytes([bytes[20], bytes[21]])).collect();
        assert_eq!(starts, [0x2000, 0x2002, 4]);
        let whole: Vec<u8> = fragments.iter().flat_map(|bytes| bytes[34..].to_vec()).collect();
        assert_eq!(whole[8..], payload);
        let mut sum = checksum::Accumulator::new(pseudo(Protocol::UDP, 48));
        sum.add(&whole);
        assert!(sum.is_valid());
        assert!(fragments.iter().all(|bytes| checksum::sum(&bytes[14..34]) == 0xffff && bytes[12] == 8));
    }
    // What fits is none, and keeps its checksum; what is no datagram is refused, and so are sizes that do nothing.
    let whole = |offload: Offload, protocol| {
        offload.frames(&stack.core, Bytes::from(frame(protocol, &payload)), 14).map(|packets| {
            packets.iter().map(|packet| (packet.len(), packet.meta.checksum)).collect::<Vec<_>>()
        })
    };
    let fits = Offload { gso: None, fragment_size: Some(48), ..UDP };
    assert_eq!(whole(fits, Protocol::UDP), Some(vec![(82, UDP.checksum)]));
    assert_eq!(whole(fits, Protocol::TCP), None);
    for size in [0, 7, u16::MAX] {
        assert_eq!(whole(Offload { fragment_size: Some(size), ..fits }, Protocol::UDP), None);
    }
    let elsewhere = Checksum::Partial { start: 34, offset: 16 };
    assert_eq!(whole(Offload { checksum: elsewhere, ..fits }, Protocol::UDP), None);
}
