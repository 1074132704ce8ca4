//! The disciplines, in virtual time.

use bytes::Bytes;
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::Ipv4Repr;

use super::*;
use crate::UdpSocket;
use crate::link::channel::ChannelLink;
use crate::options::{Family, SendMeta};
use crate::packet::Body;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A bare IPv4 packet of a flow.
fn packet(port: u16, len: usize, tos: u8) -> Packet {
    let mut packet = Packet::from_body(Body::from_iter([Bytes::from(vec![0; len - 24])]));
    packet.push_header(4)[..2].copy_from_slice(&port.to_be_bytes());
    let header = Ipv4Repr {
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        protocol: Protocol::UDP,
        ttl: 64,
        tos,
        ident: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options_len: 0,
        payload_len: (len - 20) as u16,
    };
    header.emit(packet.push_header(20));
    packet
}

fn port(packet: &Packet) -> u16 {
    let bytes = packet.to_vec();
    u16::from_be_bytes([bytes[20], bytes[21]])
}

#[test]
fn a_fifo_keeps_order_and_limits() {
    let mut fifo = Fifo::new(3, 2500);
    for (number, len) in [(1, 1000), (2, 1000), (3, 1000), (4, 100), (5, 100)] {
        fifo.enqueue(packet(number, len, 0));
    }
    let out: Vec<u16> = std::iter::from_fn(|| fifo.dequeue()).map(|packet| port(&packet)).collect();
    assert_eq!(out, [1, 2, 4], "the third exceeds the bytes, the fifth the packets");
    assert_eq!(fifo.stats(), QdiscStats { sent: 3, overlimit: 2, ..QdiscStats::default() });
}

#[test]
fn a_token_bucket_keeps_its_rate_after_a_burst() {
    let mut bucket = TokenBucket::new(100_000, 3000, 1000);
    (0..100).for_each(|number| bucket.enqueue(packet(number, 1000, 0)));
    let (mut now, mut left) = (at(0), Vec::new());
    loop {
        match bucket.dequeue(now) {
            Dequeued::Packet(_) => left.push(now.as_nanos() / 1_000_000),
            Dequeued::Wait(next) => now = next,
            Dequeued::Empty => break,
        }
    }
    // Three at once, then one every ten milliseconds.
    assert_eq!((&left[..5], left[99]), (&[0, 0, 0, 10, 20][..], 970));
    // A packet larger than the burst leaves, and is paid for.
    bucket.enqueue(packet(1, 9000, 0));
    bucket.enqueue(packet(2, 1000, 0));
    let now = at(10_000);
    assert!(matches!(bucket.dequeue(now), Dequeued::Packet(_)));
    assert!(matches!(bucket.dequeue(now), Dequeued::Wait(next) if next > now));
    assert!(matches!(bucket.dequeue(at(10_060)), Dequeued::Wait(_)), "the debt of 6000 bytes is just paid");
    assert!(matches!(bucket.dequeue(at(10_070)), Dequeued::Packet(_)));
}

#[test]
fn a_thin_flow_passes_a_fat_one() {
    let mut queue = FqCodel::default().without_ethernet();
    (0..100).for_each(|_| queue.enqueue(at(0), packet(1, 1500, 0)));
    queue.dequeue(at(0));
    queue.enqueue(at(0), packet(2, 100, 0));
    let next: Vec<u16> = (0..3).map(|_| port(&queue.dequeue(at(0)).unwrap())).collect();
    assert!(next[..2].contains(&2), "{next:?}");
}

#[test]
fn fat_flows_share_by_bytes() {
    let mut queue = FqCodel::default().without_ethernet();
    for _ in 0..300 {
        queue.enqueue(at(0), packet(1, 1500, 0));
        queue.enqueue(at(0), packet(2, 300, 0));
    }
    let mut bytes = [0; 2];
    for _ in 0..200 {
        let packet = queue.dequeue(at(0)).unwrap();
        bytes[usize::from(port(&packet)) - 1] += packet.len();
    }
    assert!(bytes[0].abs_diff(bytes[1]) < 5000, "{bytes:?}");
}

/// A sender at twice the rate of the link for five seconds; returns how long packets waited at the end.
fn standing_queue(tos: u8) -> (Duration, QdiscStats) {
    let mut queue = FqCodel::default().without_ethernet();
    let (mut waited, mut last) = (Duration::ZERO, 0);
    for milli in 0..5000 {
        let mut fresh = packet(1, 1500, tos);
        fresh.meta.arrival = Some(at(milli));
        queue.enqueue(at(milli), fresh);
        if milli % 2 == 0
            && let Some(packet) = queue.dequeue(at(milli))
        {
            waited = at(milli) - packet.meta.arrival.unwrap();
            last = packet.to_vec()[1] & 3;
        }
    }
    if tos != 0 {
        assert_eq!(last, 3);
    }
    (waited, queue.stats())
}

#[test]
fn codel_drops_until_the_queue_is_short() {
    let (_, stats) = standing_queue(0);
    assert!(stats.dropped_late > 20 && stats.marked == 0, "{stats:?}");
    // An interval's patience, no drop before.
    let mut queue = FqCodel::default().without_ethernet();
    (0..1000).for_each(|_| queue.enqueue(at(0), packet(1, 1500, 0)));
    for milli in 0..100 {
        queue.dequeue(at(milli));
    }
    assert_eq!(queue.stats().dropped_late, 0);
    for milli in 100..200 {
        queue.dequeue(at(milli));
    }
    assert!(queue.stats().dropped_late > 0);
}

#[test]
fn codel_marks_what_can_be_marked() {
    let (_, stats) = standing_queue(2);
    assert!(stats.marked > 20 && stats.dropped_late == 0, "{stats:?}");
}

#[test]
fn the_fattest_flow_pays_for_the_limit() {
    let mut queue =
        FqCodel::new(1024, 100, Duration::from_millis(5), Duration::from_millis(100)).without_ethernet();
    (0..10).for_each(|_| queue.enqueue(at(0), packet(2, 100, 0)));
    (0..500).for_each(|_| queue.enqueue(at(0), packet(1, 1500, 0)));
    let out: Vec<u16> = std::iter::from_fn(|| queue.dequeue(at(0))).map(|packet| port(&packet)).collect();
    assert!(out.len() <= 100 && queue.stats().overlimit >= 410);
    assert_eq!(out.iter().filter(|&&port| port == 2).count(), 10);
}

#[test]
fn a_stack_sends_at_the_rate_of_its_link() {
    let stack = Stack::builder().manual_clock().deterministic(1).build();
    let device = ChannelLink::new(Medium::Ip, 1500, Capabilities::default(), 4096);
    let shaped =
        QdiscLink::new(device.clone(), Discipline::TokenBucket(TokenBucket::new(100_000, 2000, 100)));
    let nic = stack.add_nic("tun0", shaped.clone()).unwrap();
    stack.add_address(nic, "10.0.0.1/24".parse().unwrap()).unwrap();
    shaped.attach(&stack);
    let socket = UdpSocket::new(&stack, Family::V4);
    let to = SendMeta { to: Some("10.0.0.2:7".parse().unwrap()), ..SendMeta::default() };
    for _ in 0..50 {
        socket.try_send(&mut &[0; 972][..], &to).unwrap();
    }
    assert_eq!(device.take().len(), 2);
    stack.advance_to(at(100));
    assert_eq!(device.take().len(), 10);
    stack.advance_to(at(10_000));
    assert_eq!((device.take().len(), shaped.stats().backlog, shaped.stats().sent), (38, 0, 50));
}

#[test]
fn what_a_full_link_refuses_leaves_later() {
    let stack = Stack::builder().manual_clock().deterministic(1).build();
    let device = ChannelLink::new(Medium::Ip, 1500, Capabilities::default(), 8);
    let queued = QdiscLink::new(device.clone(), Discipline::Fifo(Fifo::default()));
    let nic = stack.add_nic("tun0", queued.clone()).unwrap();
    stack.add_address(nic, "10.0.0.1/24".parse().unwrap()).unwrap();
    queued.attach(&stack);
    let socket = UdpSocket::new(&stack, Family::V4);
    let to = SendMeta { to: Some("10.0.0.2:7".parse().unwrap()), ..SendMeta::default() };
    for number in 0..20_u8 {
        socket.try_send(&mut &[number][..], &to).unwrap();
    }
    let mut seen = Vec::new();
    for milli in 1..100 {
        seen.extend(device.take().iter().map(|frame| frame.to_vec()[28]));
        stack.advance_to(at(milli));
    }
    assert_eq!(seen, (0..20).collect::<Vec<u8>>());
}
