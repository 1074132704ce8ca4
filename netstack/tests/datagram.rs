//! ARP, NDP, ICMP and UDP between two stacks in virtual time.

mod common;

use std::time::Duration;

use common::{Wire, pattern, recv};
use netstack::error::{BindError, ConnectError, RecvError, SendError, SocketError};
use netstack::nic::NeighbourState;
use netstack::options::{ErrorOrigin, Family, PmtuDiscovery, RecvFlags, SendMeta};
use netstack::wait::Readiness;
use netstack::wire::ethernet::MacAddr;
use netstack::{PingSocket, RawSocket, UdpSocket};

fn to(address: &str) -> SendMeta {
    SendMeta { to: Some(address.parse().unwrap()), ..SendMeta::default() }
}

#[test]
fn udp_echo_resolves_the_neighbour_first() {
    for (a, b, any) in [("10.0.0.1", "10.0.0.2", "0.0.0.0"), ("[fd00::1]", "[fd00::2]", "[::]")] {
        let mut wire = Wire::new();
        let server = wire.b.udp(&format!("{any}:7"));
        let client = wire.a.udp(&format!("{any}:0"));
        assert_eq!(client.try_send(&mut &b"hello"[..], &to(&format!("{b}:7"))), Ok(5));
        wire.settle();
        let (data, from) = recv(&server);
        assert_eq!(data, b"hello");
        assert_eq!(from.from.to_string(), format!("{a}:{}", client.local_addr().port()));
        assert_eq!(from.to.to_string(), format!("{b}:7"));
        assert_eq!(from.ttl, 64);
        server
            .try_send(&mut &b"world"[..], &SendMeta { to: Some(from.from), ..SendMeta::default() })
            .unwrap();
        wire.settle();
        assert_eq!(recv(&client).0, b"world");
        // A question, an answer, a datagram, its echo: the server learned the client's station from the question.
        assert_eq!(wire.seen.len(), 4, "{:02x?}", wire.seen);
        let neighbours = wire.a.stack.neighbours();
        assert_eq!(neighbours.len(), 1);
        assert_eq!(neighbours[0].state, NeighbourState::Reachable);
        assert_eq!(neighbours[0].mac, Some(MacAddr([2, 0, 0, 0, 0, 2])));
    }
}

#[test]
fn an_absent_neighbour_is_asked_for_three_times_and_reported() {
    let mut wire = Wire::new();
    let client = wire.a.udp("0.0.0.0:0");
    client.connect("10.0.0.9:7".parse().unwrap()).unwrap();
    client.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
    wire.run(Duration::from_secs(4));
    assert_eq!(wire.seen.len(), 3);
    assert_eq!(client.take_error(), Some(SocketError::HostUnreachable));
    assert_eq!(wire.a.stack.nic(wire.a.nic).unwrap().stats.neighbour_failures, 1);
}

#[test]
fn a_permanent_neighbour_is_never_asked_for() {
    let mut wire = Wire::new();
    wire.a.stack.add_neighbour(wire.a.nic, "10.0.0.2".parse().unwrap(), MacAddr([2, 0, 0, 0, 0, 2])).unwrap();
    let server = wire.b.udp("10.0.0.2:7");
    let client = wire.a.udp("0.0.0.0:0");
    client.try_send(&mut &b"x"[..], &to("10.0.0.2:7")).unwrap();
    wire.settle();
    assert_eq!(wire.seen.len(), 1);
    assert_eq!(recv(&server).0, b"x");
}

#[test]
fn ping() {
    for (family, peer, request) in
        [(Family::V4, "10.0.0.2:0", 8_u8), (Family::V6, "[fd00::2]:0", 128), (Family::V4, "127.0.0.1:0", 8)]
    {
        let mut wire = Wire::new();
        let socket = PingSocket::new(&wire.a.stack, family);
        let message = [&[request, 0, 0, 0, 0, 0, 0, 9][..], &pattern(56)].concat();
        socket.try_send(&mut &message[..], &to(peer)).unwrap();
        wire.settle();
        let mut reply = Vec::new();
        let from = socket.try_recv(&mut reply, RecvFlags::default()).unwrap();
        assert_eq!(
            (reply[0], &reply[6..8], &reply[8..]),
            (request & 0x81 | (request >> 7), &[0, 9][..], &message[8..])
        );
        assert_eq!(&reply[4..6], socket.local_addr().port().to_be_bytes());
        assert_eq!(from.from.to_string(), peer);
    }
}

#[test]
fn a_closed_port_refuses_the_connected_sender() {
    for peer in ["10.0.0.2:9", "[fd00::2]:9", "127.0.0.1:9", "[::1]:9"] {
        let mut wire = Wire::new();
        let any = if peer.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let client = wire.a.udp(any);
        client.set_options(|options| {
            options.error_queue = true;
            options.error_queue_v6 = true;
        });
        client.connect(peer.parse().unwrap()).unwrap();
        client.try_send(&mut &b"anybody?"[..], &SendMeta::default()).unwrap();
        wire.settle();
        assert!(client.readiness().contains(Readiness::ERR), "{peer}");
        let error = client.try_recv(&mut Vec::new(), RecvFlags::default());
        assert_eq!(error, Err(RecvError::Pending(SocketError::ConnectionRefused)), "{peer}");
        assert_eq!(client.try_recv(&mut Vec::new(), RecvFlags::default()), Err(RecvError::WouldBlock));
        let queued = client.take_queued_error().unwrap();
        assert_eq!(queued.destination.to_string(), peer);
        assert_eq!(&queued.payload[..], b"anybody?");
        assert_ne!(queued.origin, ErrorOrigin::Local);
        assert_eq!(queued.offender, Some(queued.destination.ip()));
    }
}

#[test]
fn large_datagrams_are_fragmented_and_put_together() {
    for peer in ["10.0.0.2:7", "[fd00::2]:7"] {
        let mut wire = Wire::new();
        let server = wire.b.udp(peer);
        let client = wire.a.udp(if peer.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
        let data = pattern(20_000);
        client.try_send(&mut &data[..], &to(peer)).unwrap();
        // In the worst order.
        wire.settle();
        assert_eq!(recv(&server).0, data, "{peer}");
        assert!(wire.seen.iter().all(|(_, frame)| frame.len() <= 1514));
        assert_eq!(wire.b.stack.stats().ip_reasm_oks, 1);
        assert_eq!(wire.a.stack.stats().ip_frag_creates, 14);
    }
}

#[test]
fn segmented_sends_keep_their_boundaries() {
    for (bind, peer) in [("0.0.0.0:7", "10.0.0.2:7"), ("0.0.0.0:7", "127.0.0.1:7"), ("[::]:7", "[fd00::2]:7")]
    {
        let mut wire = Wire::new();
        let server = if peer.starts_with("127") { wire.a.udp(bind) } else { wire.b.udp(bind) };
        let client = wire.a.udp(if bind.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
        let data = pattern(2500);
        let meta = SendMeta { segment_size: Some(1000), ..to(peer) };
        assert_eq!(client.try_send(&mut &data[..], &meta), Ok(2500));
        wire.settle();
        for part in data.chunks(1000) {
            assert_eq!(recv(&server).0, part, "{peer}");
        }
        assert_eq!(wire.b.stack.stats().udp_in_checksum_errors, 0);
    }
}

#[test]
fn a_lost_fragment_ends_in_time_exceeded() {
    let mut wire = Wire::new();
    let server = wire.b.udp("10.0.0.2:7");
    let client = wire.a.udp("10.0.0.1:0");
    client.set_options(|options| options.error_queue = true);
    wire.a.stack.add_neighbour(wire.a.nic, "10.0.0.2".parse().unwrap(), MacAddr([2, 0, 0, 0, 0, 2])).unwrap();
    client.try_send(&mut &pattern(3000)[..], &to("10.0.0.2:7")).unwrap();
    let mut count = 0;
    wire.settle_with(|_, _| {
        count += 1;
        count != 2
    });
    wire.run(Duration::from_secs(31));
    assert_eq!(server.try_recv(&mut Vec::new(), RecvFlags::default()), Err(RecvError::WouldBlock));
    assert_eq!(wire.b.stack.stats().ip_reasm_timeout, 1);
    let queued = client.take_queued_error().unwrap();
    assert_eq!((queued.icmp_type, queued.icmp_code), (11, 1));
}

#[test]
fn dont_fragment_refuses_what_does_not_fit() {
    let wire = Wire::new();
    let client = wire.a.udp("10.0.0.1:0");
    client.set_options(|options| {
        options.pmtu_discovery = PmtuDiscovery::Do;
        options.error_queue = true;
    });
    let sent = client.try_send(&mut &pattern(1473)[..], &to("10.0.0.2:7"));
    assert_eq!(sent, Err(SendError::MessageTooLong));
    let queued = client.take_queued_error().unwrap();
    assert_eq!((queued.origin, queued.info), (ErrorOrigin::Local, 1500));
    assert_eq!(client.try_send(&mut &pattern(1472)[..], &to("10.0.0.2:7")), Ok(1472));
}

#[test]
fn dual_stack_sockets_see_mapped_addresses() {
    let mut wire = Wire::new();
    let server = wire.b.udp("[::]:7");
    let client = wire.a.udp("10.0.0.1:5000");
    client.try_send(&mut &b"x"[..], &to("10.0.0.2:7")).unwrap();
    wire.settle();
    let (_, from) = recv(&server);
    assert_eq!(from.from.to_string(), "[::ffff:10.0.0.1]:5000");
    server.try_send(&mut &b"y"[..], &SendMeta { to: Some(from.from), ..SendMeta::default() }).unwrap();
    wire.settle();
    assert_eq!(recv(&client).0, b"y");
    let only_v6 = UdpSocket::new(&wire.b.stack, Family::V6);
    only_v6.set_options(|options| options.only_v6 = true);
    let sent = only_v6.try_send(&mut &b"z"[..], &to("[::ffff:10.0.0.1]:5000"));
    assert_eq!(sent, Err(SendError::NetworkUnreachable));
}

#[test]
fn broadcast_needs_permission_and_reaches_everybody() {
    let mut wire = Wire::new();
    let servers = [wire.b.udp("0.0.0.0:7"), wire.b.udp("0.0.0.0:8")];
    let sharing = |_| {
        let socket = UdpSocket::new(&wire.b.stack, Family::V4);
        socket.set_options(|options| options.reuse_address = true);
        socket.bind("0.0.0.0:9".parse().unwrap()).unwrap();
        socket
    };
    let shared: Vec<_> = (0..2).map(sharing).collect();
    let client = wire.a.udp("10.0.0.1:0");
    let denied = client.try_send(&mut &b"x"[..], &to("10.0.0.255:7"));
    assert_eq!(denied, Err(SendError::BroadcastNotPermitted));
    assert_eq!(
        client.connect("255.255.255.255:7".parse().unwrap()),
        Err(ConnectError::BroadcastNotPermitted)
    );
    client.set_options(|options| options.broadcast = true);
    for peer in ["10.0.0.255:7", "255.255.255.255:8", "10.0.0.255:9"] {
        client.try_send(&mut &b"x"[..], &to(peer)).unwrap();
    }
    wire.settle();
    for socket in servers.iter().chain(&shared) {
        assert_eq!(recv(socket).0, b"x");
    }
}

#[test]
fn multicast_reaches_members_only_and_loops_to_ours() {
    for (group, any) in [("239.1.2.3", "0.0.0.0"), ("ff05::123", "[::]")] {
        let mut wire = Wire::new();
        let peer = if any == "[::]" { format!("[{group}]:7") } else { format!("{group}:7") };
        let member = wire.b.udp(&format!("{any}:7"));
        let own = wire.a.udp(&format!("{any}:7"));
        let client = wire.a.udp(&format!("{any}:0"));
        client.set_options(|options| {
            options.multicast_nic = Some(wire.a.nic);
            options.multicast_nic_v6 = Some(wire.a.nic);
        });
        client.try_send(&mut &b"early"[..], &to(&peer)).unwrap();
        wire.settle();
        assert_eq!(member.try_recv(&mut Vec::new(), RecvFlags::default()), Err(RecvError::WouldBlock));
        member.join_group(group.parse().unwrap(), Some(wire.b.nic)).unwrap();
        own.join_group(group.parse().unwrap(), Some(wire.a.nic)).unwrap();
        client.try_send(&mut &b"late"[..], &to(&peer)).unwrap();
        wire.settle();
        for socket in [&member, &own] {
            let (data, meta) = recv(socket);
            assert_eq!((&data[..], meta.ttl, meta.to.ip()), (&b"late"[..], 1, group.parse().unwrap()));
        }
        member.leave_group(group.parse().unwrap(), None).unwrap();
        client.try_send(&mut &b"gone"[..], &to(&peer)).unwrap();
        wire.settle();
        assert_eq!(member.try_recv(&mut Vec::new(), RecvFlags::default()), Err(RecvError::WouldBlock));
    }
}

#[test]
fn the_receive_buffer_is_bounded() {
    let mut wire = Wire::new();
    let server = wire.b.udp("10.0.0.2:7");
    server.set_options(|options| options.recv_buffer = 4096);
    let client = wire.a.udp("10.0.0.1:0");
    for _ in 0..100 {
        client.try_send(&mut &[0; 1000][..], &to("10.0.0.2:7")).unwrap();
    }
    wire.settle();
    let stats = wire.b.stack.stats();
    assert_eq!((stats.udp_in_datagrams, stats.udp_rcvbuf_errors), (3, 97));
}

#[test]
fn addresses_to_bind_to_must_be_ours() {
    let wire = Wire::new();
    let bind = |address: &str| UdpSocket::new(&wire.a.stack, Family::V4).bind(address.parse().unwrap());
    assert_eq!(bind("10.0.0.9:7"), Err(BindError::AddressNotAvailable));
    assert_eq!(bind("[::]:7"), Err(BindError::FamilyMismatch));
    let holder = wire.a.udp("10.0.0.1:7");
    assert_eq!(bind("10.0.0.1:7"), Err(BindError::AddressInUse));
    assert_eq!(bind("0.0.0.0:7"), Err(BindError::AddressInUse));
    drop(holder);
    assert_eq!(bind("0.0.0.0:7"), Ok(()));
}

#[test]
fn damaged_packets_are_counted_and_dropped() {
    let wire = Wire::new();
    let server = wire.b.udp("10.0.0.2:7");
    let client = wire.a.udp("10.0.0.1:0");
    wire.a.stack.add_neighbour(wire.a.nic, "10.0.0.2".parse().unwrap(), MacAddr([2, 0, 0, 0, 0, 2])).unwrap();
    client.try_send(&mut &b"payload"[..], &to("10.0.0.2:7")).unwrap();
    let frame = wire.a.link.take()[0].to_vec();
    for index in 0..frame.len() {
        let mut bad = frame.clone();
        bad[index] ^= 0x11;
        wire.b.stack.inject(wire.b.nic, bad);
        wire.b.stack.inject(wire.b.nic, frame[..index].to_vec());
    }
    wire.b.link.take();
    let mut data = Vec::new();
    // A damaged source station is nobody's concern, nor one whose group bit makes a group of ours.
    while server.try_recv(&mut data, RecvFlags::default()).is_ok() {}
    assert_eq!(data, b"payload".repeat(7));
    let stats = wire.b.stack.stats();
    // Header and payload less the length field, which contradicts the IP header instead.
    assert_eq!((stats.udp_in_checksum_errors, stats.udp_in_errors), (13, 2));
    assert!(stats.ip_in_checksum_errors >= 16, "{stats:?}");
}

#[test]
fn raw_sockets_see_and_send_packets() {
    let mut wire = Wire::new();
    let sender = RawSocket::new(&wire.a.stack, Family::V4, 253);
    let receiver = RawSocket::new(&wire.b.stack, Family::V4, 253);
    sender.try_send(&mut &b"experiment"[..], &to("10.0.0.2:0")).unwrap();
    wire.settle();
    let mut packet = Vec::new();
    let from = receiver.try_recv(&mut packet, RecvFlags::default()).unwrap();
    assert_eq!((packet[0], packet[9], &packet[20..]), (0x45, 253, &b"experiment"[..]));
    assert_eq!(from.from.to_string(), "10.0.0.1:0");
    drop(receiver);
    sender.set_options(|options| options.error_queue = true);
    sender.try_send(&mut &b"again"[..], &to("10.0.0.2:0")).unwrap();
    wire.settle();
    assert_eq!(sender.take_queued_error().unwrap().error, SocketError::ProtocolUnreachable);
}

#[test]
fn duplicate_detection_delays_and_refuses() {
    use netstack::nic::AddressState;
    let mut wire = Wire::new();
    wire.a.stack.add_tentative_address(wire.a.nic, "fd00::77/64".parse().unwrap()).unwrap();
    wire.a.stack.add_tentative_address(wire.a.nic, "fd00::2/64".parse().unwrap()).unwrap();
    wire.settle();
    let states = |wire: &Wire| -> Vec<_> {
        let addresses = wire.a.stack.nic(wire.a.nic).unwrap().addresses;
        addresses.iter().skip(3).map(|address| address.state).collect()
    };
    assert_eq!(states(&wire), [AddressState::Tentative, AddressState::Duplicated]);
    wire.run(Duration::from_millis(1100));
    assert_eq!(states(&wire), [AddressState::Preferred, AddressState::Duplicated]);
}
