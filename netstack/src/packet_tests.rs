//! Tests of the packet buffer.

use bytes::Bytes;

use super::{Body, Checksum, HEADROOM, Packet};

fn sample() -> Packet {
    let mut packet =
        Packet::from_body(Body::from_iter([Bytes::from_static(b"payload"), Bytes::from_static(b"-more")]));
    packet.push_header(4).copy_from_slice(b"l4__");
    packet.push_header(3).copy_from_slice(b"l3_");
    packet
}

#[test]
fn headers_are_prepended() {
    let packet = sample();
    assert_eq!(packet.to_vec(), b"l3_l4__payload-more");
    assert_eq!(packet.len(), 19);
    assert_eq!(packet.head(), b"l3_l4__");
    assert_eq!(packet.slices().count(), 3);
}

#[test]
fn the_checksum_position_follows_the_headers() {
    let mut packet = Packet::default();
    packet.push_header(20);
    packet.meta.checksum = Checksum::Partial { start: 0, offset: 16 };
    packet.push_header(40);
    packet.push_header(14);
    assert_eq!(packet.meta.checksum, Checksum::Partial { start: 54, offset: 16 });
}

#[test]
fn trimming_and_truncating_cross_the_pieces() {
    for front in 0..=19 {
        for len in 0..=19 {
            let mut packet = sample();
            packet.truncate(len);
            packet.trim_front(front);
            let want = &b"l3_l4__payload-more"[..len];
            assert_eq!(packet.to_vec(), want[front.min(len)..], "front {front} len {len}");
        }
    }
}

#[test]
fn contiguous_runs_end_at_piece_boundaries() {
    let mut packet = sample();
    assert_eq!(packet.contiguous(3), b"l4__");
    assert_eq!(packet.contiguous(7), b"payload");
    assert_eq!(packet.contiguous(14), b"-more");
    assert_eq!(packet.contiguous(19), b"");
    assert_eq!(packet.get(5, 4), None);
    assert!(!packet.make_contiguous(5, 40));
    assert!(packet.make_contiguous(5, 14));
    assert_eq!(packet.get(5, 14), Some(&b"__payload-more"[..]));
}

#[test]
fn a_full_head_spills_into_the_body() {
    let mut packet = sample();
    packet.push_header(HEADROOM).fill(b'x');
    assert_eq!(packet.len(), HEADROOM + 19);
    assert!(packet.to_vec().ends_with(b"xl3_l4__payload-more"));
}

#[test]
fn copying_out_honours_offset_and_room() {
    let packet = sample();
    let mut out = [0; 6];
    assert_eq!(packet.copy_to(5, &mut out), 6);
    assert_eq!(&out, b"__payl");
    assert_eq!(packet.copy_to(17, &mut out), 2);
}

#[test]
fn payload_drops_the_headers_without_copying_the_body() {
    let body = sample().into_payload(7);
    assert_eq!(body.len(), 2);
    assert_eq!(&body[0][..], b"payload");
}
