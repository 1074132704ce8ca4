//! The links by themselves: frames between two ends of a device of the kernel, without a stack.

use std::time::{Duration, Instant};

use bytes::Bytes;
use integration_tests::{Need, Netns, require};
use netstack::link::{Link, LinkError, Medium};
use netstack::packet::{Body, Checksum, Gso, GsoKind, Packet};
use netstack::wire::ethernet::MacAddr;
use netstack_host_links::{
    CaptureOptions, CaptureRing, HostLink, OpenError, PacketLink, PacketOptions, ReceiveError, TapLink,
    TapMode, TapOptions, VnetHeaders,
};

/// Long enough for a loaded machine, and for the kernel to notice a tap's carrier.
const LIMIT: Duration = Duration::from_secs(10);

const HEADERS_LEN: usize = 54;
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

/// A TCP super-segment as the stack makes it, to everybody, with `payload` and an unfinished checksum.
fn super_segment(payload: Body, mss: u16) -> Packet {
    let len: usize = payload.iter().map(Bytes::len).sum();
    let mut packet = Packet::from_body(payload);
    let total = u16::try_from(40 + len).unwrap();
    let mut header = [0; HEADERS_LEN];
    header[..6].fill(0xff);
    header[6..12].copy_from_slice(&OWN_MAC.0);
    header[12..14].copy_from_slice(&0x0800u16.to_be_bytes());
    header[14] = 0x45;
    header[16..18].copy_from_slice(&total.to_be_bytes());
    header[22..24].copy_from_slice(&[64, 6]);
    header[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let ip_sum = !sum(&header[14..34]);
    header[24..26].copy_from_slice(&ip_sum.to_be_bytes());
    header[34..38].copy_from_slice(&[0x10, 0, 0x20, 0]);
    header[46..48].copy_from_slice(&[0x50, 0x10]);
    let mut pseudo = header[26..34].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((total - 20).to_be_bytes());
    header[50..52].copy_from_slice(&sum(&pseudo).to_be_bytes());
    packet.push_header(HEADERS_LEN).copy_from_slice(&header);
    packet.meta.checksum = Checksum::Partial { start: 34, offset: 16 };
    packet.meta.gso = Some(Gso { kind: GsoKind::Tcp4, size: mss });
    packet
}

/// The ones' complement sum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| b.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// True if the TCP checksum of an IPv4 frame is right.
fn has_good_checksum(frame: &[u8]) -> bool {
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let mut bytes = frame[26..34].to_vec();
    bytes.extend([0, 6]);
    bytes.extend(u16::try_from(end - 34).unwrap().to_be_bytes());
    bytes.extend(&frame[34..end]);
    sum(&bytes) == 0xffff
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<u8>>().into()
}

/// Reads until `count` frames of TCP arrived; the kernel's own chatter (IPv6 neighbour discovery) is left out.
fn receive(link: &dyn HostLink, count: usize) -> Vec<Packet> {
    let end = Instant::now() + LIMIT;
    let mut frames = Vec::new();
    while frames.len() < count {
        assert!(Instant::now() < end, "{} of {count} frames", frames.len());
        if link.lead().receive(&mut frames).unwrap() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        frames.retain(|frame| frame.to_vec().get(12..14) == Some(&[8, 0]) && frame.to_vec()[23] == 6);
    }
    frames
}

/// Two ends of a veth pair, up, with the link under test on the first.
fn veth(mtu: &str) -> (Netns, Netns) {
    let (a, b) = (Netns::new(), Netns::new());
    a.ip(&["link", "add", "a0", "type", "veth", "peer", "name", "b0", "netns", b.name()]);
    for (ns, device) in [(&a, "a0"), (&b, "b0")] {
        ns.ip(&["link", "set", device, "mtu", mtu, "up"]);
    }
    wait_for_carrier(&a, "a0");
    wait_for_carrier(&b, "b0");
    (a, b)
}

/// Until the kernel has noticed the carrier, the device drops what is sent.
fn wait_for_carrier(ns: &Netns, device: &str) {
    let end = Instant::now() + LIMIT;
    loop {
        let shown = ns.command("ip").args(["-o", "link", "show", device]).output().unwrap();
        if String::from_utf8_lossy(&shown.stdout).contains("state UP") {
            return;
        }
        assert!(Instant::now() < end, "{device} has no carrier");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open_packet(ns: &Netns, device: &str, vnet_headers: VnetHeaders) -> std::sync::Arc<PacketLink> {
    let options = PacketOptions { vnet_headers, ..PacketOptions::default() };
    ns.inside(|| PacketLink::open(device, options)).unwrap()
}

#[test]
fn super_segment_crosses_a_veth_whole() {
    require!(Need::Root, Need::Program("ip"));
    let (a, b) = veth("1500");
    let from = open_packet(&a, "a0", VnetHeaders::Present);
    let to = open_packet(&b, "b0", VnetHeaders::Present);
    let payload = pattern(60_000);
    let packet = super_segment(Body::from_iter([payload.clone()]), 1448);
    assert_eq!(from.send_batch(&mut [packet]), Ok(1));
    let frame = receive(&*to, 1).remove(0);
    assert_eq!(frame.len(), HEADERS_LEN + payload.len());
    assert_eq!(frame.to_vec()[HEADERS_LEN..], payload);
    assert_eq!(frame.meta.gso, Some(Gso { kind: GsoKind::Tcp4, size: 1448 }));
    assert_eq!(frame.meta.checksum, Checksum::Partial { start: 34, offset: 16 });
}

#[test]
fn reader_without_headers_learns_that_the_checksum_is_unfinished() {
    require!(Need::Root, Need::Program("ip"));
    let (a, b) = veth("1500");
    let from = open_packet(&a, "a0", VnetHeaders::Present);
    let to = open_packet(&b, "b0", VnetHeaders::Absent);
    let packet = super_segment(Body::from_iter([pattern(60_000)]), 1448);
    assert_eq!(from.send_batch(&mut [packet]), Ok(1));
    let frame = receive(&*to, 1).remove(0);
    assert_eq!(frame.meta.checksum, Checksum::Verified);
    assert_eq!(frame.len(), HEADERS_LEN + 60_000);
}

#[test]
fn kernel_cuts_and_finishes_when_the_device_cannot() {
    require!(Need::Root, Need::Program("ip"), Need::Program("ethtool"));
    let (a, b) = veth("1500");
    let offloads = ["-K", "a0", "tso", "off", "tx", "off", "gso", "off"];
    let status = a.command("ethtool").args(offloads).output().unwrap().status;
    assert!(status.success());
    let from = open_packet(&a, "a0", VnetHeaders::Present);
    let to = open_packet(&b, "b0", VnetHeaders::Present);
    let payload = pattern(14_480);
    let packet = super_segment(Body::from_iter([payload.clone()]), 1448);
    assert_eq!(from.send_batch(&mut [packet]), Ok(1));
    let frames = receive(&*to, 10);
    let mut joined = Vec::new();
    for frame in &frames {
        assert_eq!((frame.meta.gso, frame.len()), (None, HEADERS_LEN + 1448));
        let bytes = frame.to_vec();
        assert!(has_good_checksum(&bytes));
        joined.extend(&bytes[HEADERS_LEN..]);
    }
    assert_eq!(joined, payload);
}

#[test]
fn packet_of_very_many_pieces_arrives_whole() {
    require!(Need::Root, Need::Program("ip"));
    let (a, b) = veth("1500");
    let from = open_packet(&a, "a0", VnetHeaders::Present);
    let to = open_packet(&b, "b0", VnetHeaders::Present);
    let payload = pattern(3000);
    let pieces = payload.chunks(1).map(Bytes::copy_from_slice).collect();
    assert_eq!(from.send_batch(&mut [super_segment(pieces, 1448)]), Ok(1));
    assert_eq!(receive(&*to, 1)[0].to_vec()[HEADERS_LEN..], payload);
}

#[test]
fn long_batches_arrive_in_order_and_own_frames_do_not_come_back() {
    require!(Need::Root, Need::Program("ip"));
    let (a, b) = veth("1500");
    let from = open_packet(&a, "a0", VnetHeaders::Present);
    let to = open_packet(&b, "b0", VnetHeaders::Present);
    // Below, at and above what is copied, and across both blocks.
    let sizes: Vec<usize> = (0..100).map(|i| [1, 202, 203, 1400, 1994, 1995, 9000, 30_000][i % 8]).collect();
    let mut packets: Vec<_> =
        sizes.iter().map(|&size| super_segment(Body::from_iter([pattern(size)]), 1448)).collect();
    assert_eq!(from.send_batch(&mut packets), Ok(100));
    let frames = receive(&*to, 100);
    for (frame, size) in frames.iter().zip(sizes) {
        assert_eq!(frame.to_vec()[HEADERS_LEN..], pattern(size));
    }
    let mut own = Vec::new();
    from.lead().receive(&mut own).unwrap();
    assert!(own.iter().all(|frame| frame.to_vec()[6..12] != OWN_MAC.0));
}

#[test]
fn device_that_is_down_says_so() {
    require!(Need::Root, Need::Program("ip"));
    let (a, b) = veth("1500");
    let link = open_packet(&a, "a0", VnetHeaders::Present);
    a.ip(&["link", "set", "a0", "down"]);
    let packet = || super_segment(Body::from_iter([pattern(1)]), 1448);
    assert_eq!(link.send_batch(&mut [packet()]), Err(LinkError::Down));
    assert_eq!(link.lead().receive(&mut Vec::new()), Err(ReceiveError::Down));
    a.ip(&["link", "set", "a0", "up"]);
    let to = open_packet(&b, "b0", VnetHeaders::Present);
    assert_eq!(link.send_batch(&mut [packet()]), Ok(1));
    receive(&*to, 1);
}

#[test]
fn missing_device_is_named() {
    require!(Need::Root, Need::Program("ip"));
    let ns = Netns::new();
    let error = ns.inside(|| PacketLink::open("nope0", PacketOptions::default())).unwrap_err();
    assert_eq!(error.to_string(), "nope0: SIOCGIFINDEX: No such device (os error 19)");
    let error = ns.inside(|| PacketLink::open("lo", PacketOptions::default())).unwrap_err();
    assert!(matches!(error, OpenError::NotEthernet(_)));
    let error = ns.inside(|| PacketLink::open("a-name-that-is-too-long", PacketOptions::default()));
    assert!(matches!(error, Err(OpenError::Name(_))));
}

/// A tap whose interface is up, and a packet socket at the kernel's end.
fn tap(ns: &Netns, options: TapOptions) -> (std::sync::Arc<TapLink>, std::sync::Arc<PacketLink>) {
    ns.ip(&["tuntap", "add", "t0", "mode", "tap"]);
    let tap = ns.inside(|| TapLink::open("t0", options)).unwrap();
    ns.ip(&["link", "set", "t0", "up"]);
    (tap, open_packet(ns, "t0", VnetHeaders::Present))
}

#[test]
fn super_segments_cross_a_tap_both_ways() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let ns = Netns::new();
    let (tap, kernel) = tap(&ns, TapOptions::tap(OWN_MAC));
    assert_eq!((tap.medium(), tap.mtu()), (Medium::Ethernet(OWN_MAC), 1500));
    let payload = pattern(60_000);
    let links: [(&dyn HostLink, &dyn HostLink); 2] = [(&*tap, &*kernel), (&*kernel, &*tap)];
    for (from, to) in links {
        let packet = super_segment(Body::from_iter([payload.clone()]), 1448);
        // The first frames towards a fresh tap are dropped until its carrier is noticed.
        let end = Instant::now() + LIMIT;
        let frame = loop {
            assert!(Instant::now() < end);
            assert_eq!(from.send_batch(&mut [packet.clone()]), Ok(1));
            std::thread::sleep(Duration::from_millis(20));
            let mut frames = Vec::new();
            to.lead().receive(&mut frames).unwrap();
            if let Some(index) = frames.iter().position(|frame| frame.len() > 50_000) {
                break frames.remove(index);
            }
        };
        assert_eq!(frame.to_vec()[HEADERS_LEN..], payload);
        assert_eq!(frame.meta.gso, Some(Gso { kind: GsoKind::Tcp4, size: 1448 }));
    }
}

#[test]
fn tap_without_headers_gets_whole_frames_with_checksums() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let ns = Netns::new();
    let (tap, kernel) =
        tap(&ns, TapOptions { vnet_headers: VnetHeaders::Absent, ..TapOptions::tap(OWN_MAC) });
    assert_eq!(tap.capabilities(), netstack::link::Capabilities::default());
    let packet = super_segment(Body::from_iter([pattern(2896)]), 1448);
    let end = Instant::now() + LIMIT;
    let mut frames: Vec<Packet> = Vec::new();
    while frames.len() < 2 {
        assert!(Instant::now() < end);
        assert_eq!(kernel.send_batch(&mut [packet.clone()]), Ok(1));
        std::thread::sleep(Duration::from_millis(20));
        while tap.lead().receive(&mut frames).unwrap() > 0 {}
        frames.retain(|frame| frame.len() == HEADERS_LEN + 1448);
    }
    assert!(frames.iter().all(|frame| has_good_checksum(&frame.to_vec())));
}

#[test]
fn deleted_tap_is_gone() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let ns = Netns::new();
    let (tap, _kernel) = tap(&ns, TapOptions::tap(OWN_MAC));
    ns.ip(&["link", "delete", "t0"]);
    let packet = super_segment(Body::from_iter([pattern(1)]), 1448);
    assert_eq!(tap.lead().receive(&mut Vec::new()), Err(ReceiveError::Gone));
    assert_eq!(tap.send_batch(&mut [packet]), Err(LinkError::Gone));
}

#[test]
fn device_of_several_queues_is_attached_several_times() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let ns = Netns::new();
    let options = TapOptions { multi_queue: true, ..TapOptions::tap(OWN_MAC) };
    ns.ip(&["tuntap", "add", "t0", "mode", "tap", "multi_queue"]);
    let queues: Vec<_> = (0..3).map(|_| ns.inside(|| TapLink::open("t0", options)).unwrap()).collect();
    assert_eq!(queues.len(), 3);
    let single = ns.inside(|| TapLink::open("t0", TapOptions::tap(OWN_MAC)));
    assert!(matches!(single, Err(OpenError::Host { call: "TUNSETIFF", .. })));
}

#[test]
fn tun_carries_bare_packets() {
    require!(Need::Root, Need::Program("ip"), Need::Program("ping"), Need::File("/dev/net/tun"));
    let ns = Netns::new();
    let tun = ns.inside(|| TapLink::open("t0", TapOptions::tun())).unwrap();
    assert_eq!(tun.medium(), Medium::Ip);
    assert_eq!(TapOptions::tun().mode, TapMode::Tun);
    ns.ip(&["addr", "add", "10.0.0.1/24", "dev", "t0"]);
    ns.ip(&["link", "set", "t0", "up"]);
    let mut ping =
        ns.command("ping").args(["-c1", "-W5", "10.0.0.2"]).stdout(std::process::Stdio::null()).spawn();
    let end = Instant::now() + LIMIT;
    let mut frames = Vec::new();
    while !frames.iter().any(|frame: &Packet| frame.to_vec().get(9) == Some(&1)) {
        assert!(Instant::now() < end);
        tun.lead().receive(&mut frames).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let request = frames.iter().find(|frame| frame.to_vec()[9] == 1).unwrap().to_vec();
    // Answered by hand: swap the addresses (the sum stays), make it an echo reply.
    let mut reply = request.clone();
    reply[12..16].copy_from_slice(&request[16..20]);
    reply[16..20].copy_from_slice(&request[12..16]);
    reply[20] = 0;
    let icmp_sum = u32::from(u16::from_be_bytes([request[22], request[23]])) + 0x0800;
    let icmp_sum = u16::try_from((icmp_sum & 0xffff) + (icmp_sum >> 16)).unwrap();
    reply[22..24].copy_from_slice(&icmp_sum.to_be_bytes());
    assert_eq!(tun.send_batch(&mut [Packet::from_frame(reply.into())]), Ok(1));
    assert!(ping.as_mut().unwrap().wait().unwrap().success());
}

#[test]
fn capture_ring_shows_every_frame_with_its_time() {
    require!(Need::Root, Need::Program("ip"));
    let (a, b) = veth("1500");
    let from = open_packet(&a, "a0", VnetHeaders::Present);
    let options = CaptureOptions {
        block_len: 1 << 16,
        blocks: 4,
        block_time: Duration::from_millis(10),
        ..CaptureOptions::default()
    };
    let mut ring = b.inside(|| CaptureRing::open("b0", options)).unwrap();
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let end = Instant::now() + LIMIT;
    // Several times around the ring.
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for round in 0..40 {
        let mut packets: Vec<_> = (0..10)
            .map(|index| super_segment(Body::from_iter([pattern(1000 + round * 10 + index)]), 1448))
            .collect();
        assert_eq!(from.send_batch(&mut packets), Ok(10));
        while seen.len() < (round + 1) * 10 {
            assert!(Instant::now() < end, "{}", seen.len());
            let mut last = before;
            let read = ring.read(Some(Duration::from_millis(100)), |frame| {
                assert!(frame.time >= last, "{frame:?}");
                last = frame.time;
                assert_eq!((frame.vlan, frame.wire_len as usize), (None, frame.data.len()));
                if frame.data[12..14] == [8, 0] && frame.data[23] == 6 {
                    seen.push(frame.data[HEADERS_LEN..].to_vec());
                }
            });
            read.unwrap();
        }
    }
    for (index, payload) in seen.iter().enumerate() {
        assert_eq!(payload[..], pattern(1000 + index));
    }
    let stats = ring.stats().unwrap();
    assert!(stats.frames >= 400 && stats.dropped == 0, "{stats:?}");
}
