//! What IPv4 options collect on the way, and ICMP timestamps. Linux's routers and hosts were asked the same and wrote the
//! same.

mod common;

use common::{Lan, Triple};
use netstack::wire::checksum;
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;

const LEFT: [u8; 4] = [10, 1, 0, 2];
const ROUTER_LEFT: [u8; 4] = [10, 1, 0, 1];
const ROUTER_RIGHT: [u8; 4] = [10, 2, 0, 1];
const RIGHT: [u8; 4] = [10, 2, 0, 2];

/// An ICMP message with options, as the left host sends it.
fn message(to: [u8; 4], options: &[u8], icmp: &[u8]) -> Vec<u8> {
    let mut icmp = icmp.to_vec();
    let sum = !checksum::sum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let repr = Ipv4Repr {
        source: LEFT.into(),
        destination: to.into(),
        protocol: Protocol::ICMP,
        ttl: 64,
        tos: 0,
        ident: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        options_len: options.len() as u8,
        payload_len: icmp.len() as u16,
    };
    let mut packet = vec![0; 20];
    packet.extend(options);
    repr.emit(&mut packet);
    packet.extend(icmp);
    packet
}

const ECHO: [u8; 12] = [8, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4];

/// The options and the ICMP message of the answer that reaches the left host.
#[track_caller]
fn exchange(net: &mut Triple, to: [u8; 4], options: &[u8], icmp: &[u8]) -> (Vec<u8>, Vec<u8>) {
    net.seen.clear();
    let packet = message(to, options, icmp);
    net.inject(&packet, 0x0800);
    net.settle();
    let to_left = |(lan, frame): &&(Lan, Vec<u8>)| {
        *lan == Lan::Left && frame[12..14] == [8, 0] && frame[30..34] == LEFT && frame[23] == 1
    };
    let frame = net.seen.iter().find(to_left).map(|(_, frame)| frame[14..].to_vec()).expect("an answer");
    let repr = Ipv4Repr::parse(&frame).unwrap();
    let header_len = repr.header_len();
    assert_eq!(checksum::sum(&frame[header_len..]), 0xffff);
    (frame[20..header_len].to_vec(), frame[header_len..].to_vec())
}

#[test]
fn routes_are_recorded_there_and_back() {
    let mut net = Triple::new();
    let mut option = vec![7, 39, 8];
    option.extend(LEFT);
    option.resize(40, 0);
    let (options, reply) = exchange(&mut net, RIGHT, &option, &ECHO);
    assert_eq!(reply[0], 0);
    let hops = [LEFT, ROUTER_RIGHT, RIGHT, RIGHT, ROUTER_LEFT];
    assert_eq!((&options[..3], &options[3..23]), (&[7, 39, 24][..], &hops.concat()[..]));
    // A neighbour writes twice; a full option stays as it is.
    let (options, _) = exchange(&mut net, ROUTER_LEFT, &option, &ECHO);
    assert_eq!(options[3..15], [LEFT, ROUTER_LEFT, ROUTER_LEFT].concat());
    let full = [7, 7, 8, 9, 9, 9, 9, 0];
    assert_eq!(exchange(&mut net, ROUTER_LEFT, &full, &ECHO).0, full);
    // Without options, and with one that is none of the answer's.
    assert!(exchange(&mut net, RIGHT, &[], &ECHO).0.is_empty());
    assert!(exchange(&mut net, RIGHT, &[0x94, 4, 0, 0], &ECHO).0.is_empty());
}

#[test]
fn times_are_recorded_with_addresses_if_wanted() {
    let mut net = Triple::new();
    // The virtual day began a second ago.
    let now = 1000_u32.to_be_bytes();
    let mut only = vec![68, 36, 9, 0];
    only.extend([0, 0, 0, 7]);
    only.resize(36, 0);
    let (options, _) = exchange(&mut net, RIGHT, &only, &ECHO);
    assert_eq!(options[..4], [68, 36, 25, 0]);
    assert_eq!(options[4..24], [[0, 0, 0, 7], now, now, now, now].concat());

    let mut both = vec![68, 36, 5, 1];
    both.resize(36, 0);
    let (options, _) = exchange(&mut net, RIGHT, &both, &ECHO);
    let expected = [ROUTER_LEFT, now, RIGHT, now, RIGHT, now, ROUTER_RIGHT, now].concat();
    // The last one fits; nobody after it.
    assert_eq!((&options[..4], &options[4..36]), (&[68, 36, 37, 1][..], &expected[..]));

    let overflowing = [68, 8, 9, 0, 1, 1, 1, 1];
    let (options, _) = exchange(&mut net, RIGHT, &overflowing, &ECHO);
    // The router and the host on the way there, the router on the way back.
    assert_eq!(options, [68, 8, 9, 0x30, 1, 1, 1, 1]);

    let mut prespecified = vec![68, 20, 5, 3];
    prespecified.extend([ROUTER_LEFT, [0; 4], RIGHT, [0; 4]].concat());
    let (options, _) = exchange(&mut net, RIGHT, &prespecified, &ECHO);
    assert_eq!(options[4..], [ROUTER_LEFT, now, RIGHT, now].concat());
}

#[test]
fn timestamp_requests_are_answered_with_the_time() {
    let mut net = Triple::new();
    let mut request = vec![13, 0, 0, 0, 0x12, 0x34, 0, 9];
    request.extend([0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let (_, reply) = exchange(&mut net, RIGHT, &[], &request);
    let now = 1000_u32.to_be_bytes();
    let expected = [&[14, 0][..], &reply[2..4], &[0x12, 0x34, 0, 9, 0, 0, 1, 0], &now, &now].concat();
    assert_eq!(reply, expected);
    // One that is cut short is an error; so is its counterpart.
    let before = net.right.stack.stats().icmp_in_errors;
    for bad in [&request[..10], &[14, 0, 0, 0, 0, 0, 0, 0]] {
        net.inject(&message(RIGHT, &[], bad), 0x0800);
        net.settle();
    }
    assert_eq!(net.right.stack.stats().icmp_in_errors, before + 2);
}
