//! Classic BPF programs at sockets: what they drop, what they cut, and which member of a group they pick.

mod common;

use std::time::Duration;

use common::Wire;
use netstack::bpf::{Instruction, Program};
use netstack::error::{FanoutError, RecvError};
use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::socket::{FanoutMode, PacketMode};
use netstack::wire::ethernet::EtherType;
use netstack::{PacketSocket, TcpSocket, UdpSocket};

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn equal(k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: 0x15, jt, jf, k }
}

/// `bytes` of everything.
fn all(bytes: u32) -> Program {
    Program::new(&[op(0x06, bytes)]).unwrap()
}

/// The first byte of the data as a number.
fn first_byte() -> Program {
    Program::new(&[op(0x30, 0), op(0x54, 0xf), op(0x16, 0)]).unwrap()
}

fn to(address: &str) -> SendMeta {
    SendMeta { to: Some(address.parse().unwrap()), ..SendMeta::default() }
}

fn recv(socket: &UdpSocket) -> Result<Vec<u8>, RecvError> {
    let mut buffer = [0; 64];
    let got = socket.try_recv(&mut &mut buffer[..], RecvFlags::default())?;
    Ok(buffer[..got.copied].to_vec())
}

#[test]
fn datagrams_are_dropped_and_cut() {
    let mut wire = Wire::new();
    let server = wire.b.udp("0.0.0.0:7");
    let client = wire.a.udp("0.0.0.0:0");
    // Behind the eight bytes of the header: datagrams that begin with `a` whole, with `b` three bytes, no others. The
    // source address is read from the IP header.
    let program = Program::new(&[
        op(0x20, 0xfff0_0000 + 12),
        equal(0x0a00_0001, 0, 5),
        op(0x30, 8),
        equal(u32::from(b'a'), 2, 0),
        equal(u32::from(b'b'), 0, 2),
        op(0x06, 11),
        op(0x06, u32::MAX),
        op(0x06, 0),
    ]);
    server.set_filter(Some(program.unwrap()));
    for text in ["abcdef", "bcdefg", "cdefgh"] {
        client.try_send(&mut text.as_bytes(), &to("10.0.0.2:7")).unwrap();
    }
    wire.settle();
    assert_eq!(recv(&server).unwrap(), b"abcdef");
    assert_eq!(recv(&server).unwrap(), b"bcd");
    assert_eq!(recv(&server), Err(RecvError::WouldBlock));
    server.set_filter(None);
    client.try_send(&mut &b"cdefgh"[..], &to("10.0.0.2:7")).unwrap();
    wire.settle();
    assert_eq!(recv(&server).unwrap(), b"cdefgh");
    // A header is never cut.
    server.set_filter(Some(all(1)));
    client.try_send(&mut &b"x"[..], &to("10.0.0.2:7")).unwrap();
    wire.settle();
    assert_eq!(recv(&server).unwrap(), b"");
}

#[test]
fn a_program_picks_the_member_of_a_group() {
    let mut wire = Wire::new();
    let members: Vec<_> = (0..3)
        .map(|number| {
            let socket = UdpSocket::new(&wire.b.stack, Family::V4);
            socket.set_options(|options| options.reuse_port = true);
            if number == 0 {
                assert!(socket.set_group_filter(Some(first_byte())), "the group to come");
            }
            socket.bind("0.0.0.0:7".parse().unwrap()).unwrap();
            socket
        })
        .collect();
    assert_eq!(members[2].group_filter(), Some(first_byte()));
    let client = wire.a.udp("0.0.0.0:0");
    for text in ["2two", "0zero", "1one"] {
        client.try_send(&mut text.as_bytes(), &to("10.0.0.2:7")).unwrap();
    }
    wire.settle();
    for (member, expected) in members.iter().zip(["0zero", "1one", "2two"]) {
        assert_eq!(recv(member).unwrap(), expected.as_bytes());
    }
    // There is no member of that number: one of them gets it nevertheless.
    client.try_send(&mut &b"9"[..], &to("10.0.0.2:7")).unwrap();
    wire.settle();
    assert_eq!(members.iter().filter(|member| recv(member).is_ok()).count(), 1);
    let alone = wire.b.udp("0.0.0.0:8");
    assert!(!alone.set_group_filter(Some(first_byte())), "a port that is not shared");
}

#[test]
fn a_program_picks_the_listener() {
    let mut wire = Wire::new();
    let listeners: Vec<_> = (0..2)
        .map(|_| {
            let socket = TcpSocket::new(&wire.b.stack, Family::V4);
            socket.set_options(|options| options.reuse_port = true);
            socket.bind("0.0.0.0:80".parse().unwrap()).unwrap();
            socket.listen(64).unwrap();
            socket
        })
        .collect();
    for chosen in [1_u32, 0] {
        assert!(listeners[0].set_group_filter(Some(all(chosen))));
        let clients: Vec<_> = (0..8).map(|_| wire.a.connect("10.0.0.2:80")).collect();
        wire.settle();
        for _ in &clients {
            listeners[chosen as usize].try_accept().expect("all of them");
        }
        assert!(listeners[1 - chosen as usize].try_accept().is_err());
    }
}

#[test]
fn segments_are_dropped() {
    let mut wire = Wire::new();
    let listener = wire.b.listen("0.0.0.0:80", 8);
    listener.set_filter(Some(all(0)));
    let client = wire.a.connect("10.0.0.2:80");
    wire.settle();
    assert!(listener.try_accept().is_err());
    listener.set_filter(Some(all(u32::MAX)));
    wire.run(Duration::from_millis(1500));
    let (server, _) = listener.try_accept().expect("the repeated SYN");
    assert_eq!(server.filter(), Some(all(u32::MAX)), "inherited");
    // Only segments without data: the offset of the data is in the upper half of byte 12.
    let bare = Program::new(&[
        op(0x30, 12),
        op(0x74, 2),
        op(0x54, 0x3c),
        op(0x07, 0),
        op(0x80, 0),
        Instruction { code: 0x1d, jt: 0, jf: 1, k: 0 },
        op(0x06, u32::MAX),
        op(0x06, 0),
    ]);
    server.set_filter(Some(bare.unwrap()));
    client.try_send(&mut &b"hidden"[..]).unwrap();
    wire.settle();
    assert_eq!(server.recv_queue_len(), 0);
    assert!(wire.b.stack.stats().tcp_filtered >= 1);
    server.set_filter(None);
    wire.run(Duration::from_millis(1500));
    assert_eq!(server.recv_queue_len(), 6);
}

const ALL: EtherType = EtherType(3);

#[test]
fn captures_are_filtered_and_cut() {
    let mut wire = Wire::new();
    let server = wire.b.udp("0.0.0.0:7");
    let client = wire.a.udp("0.0.0.0:0");
    let raw = PacketSocket::new(&wire.b.stack, PacketMode::Raw, ALL);
    let cooked = PacketSocket::new(&wire.b.stack, PacketMode::Cooked, ALL);
    // tcpdump -dd -s 20 ip, and the same for what has no link-layer header.
    raw.set_filter(Some(
        Program::new(&[op(0x28, 12), equal(0x800, 0, 1), op(0x06, 20), op(0x06, 0)]).unwrap(),
    ));
    cooked.set_filter(Some(
        Program::new(&[op(0x28, 0xffff_f000), equal(0x800, 0, 1), op(0x06, 6), op(0x06, 0)]).unwrap(),
    ));
    client.try_send(&mut &b"hello"[..], &to("10.0.0.2:7")).unwrap();
    wire.settle();
    assert_eq!(recv(&server).unwrap(), b"hello");
    for (socket, len, original) in [(&raw, 20, 14 + 20 + 8 + 5), (&cooked, 6, 20 + 8 + 5)] {
        let mut buffer = [0; 64];
        let frame = socket.try_recv(&mut &mut buffer[..], RecvFlags::default()).unwrap();
        assert_eq!((frame.copied, frame.len, frame.original_len), (len, len, original));
        assert_eq!(frame.from.protocol, EtherType::IPV4);
        // The question and the answer of ARP are not there.
        assert_eq!(socket.try_recv(&mut &mut buffer[..], RecvFlags::default()), Err(RecvError::WouldBlock));
        assert_eq!((socket.take_stats().packets, socket.take_stats().packets), (1, 0));
    }
}

#[test]
fn the_loopback_seems_to_have_ethernet_headers() {
    let wire = Wire::new();
    let capture = PacketSocket::new(&wire.a.stack, PacketMode::Raw, ALL);
    let lo = wire.a.stack.nic_by_name("lo").unwrap();
    capture.bind(Some(lo), ALL).unwrap();
    let server = wire.a.udp("127.0.0.1:7");
    wire.a.udp("127.0.0.1:0").try_send(&mut &b"x"[..], &to("127.0.0.1:7")).unwrap();
    let mut buffer = [0; 64];
    let frame = capture.try_recv(&mut &mut buffer[..], RecvFlags::default()).unwrap();
    assert_eq!((frame.len, frame.link_len), (14 + 20 + 8 + 1, 14));
    assert_eq!((&buffer[..12], &buffer[12..15]), (&[0; 12][..], &[8, 0, 0x45][..]));
    assert_eq!(recv(&server).unwrap(), b"x");
    // What a packet socket sends there is looked at as what comes from a link, on Linux too: its source is not to be believed.
    let on_lo = netstack::socket::LinkAddress { nic: Some(lo), ..capture.local() };
    let martians = wire.a.stack.stats().ip_in_martians;
    capture.try_send(&mut &buffer[..frame.len], Some(on_lo)).unwrap();
    assert!(recv(&server).is_err());
    assert_eq!(wire.a.stack.stats().ip_in_martians, martians + 1);
}

#[test]
fn a_group_of_captures_shares_the_frames() {
    let mut wire = Wire::new();
    let _server = wire.b.udp("0.0.0.0:7");
    let (stack, nic) = (wire.b.stack.clone(), wire.b.nic);
    let capture = |id, mode| {
        let socket = PacketSocket::new(&stack, PacketMode::Raw, ALL);
        socket.bind(Some(nic), ALL).unwrap();
        socket.join_fanout(id, mode).map(|id| (socket, id))
    };
    let (first, id) = capture(None, FanoutMode::RoundRobin).unwrap();
    let (second, _) = capture(Some(id), FanoutMode::RoundRobin).unwrap();
    assert_eq!(capture(Some(id), FanoutMode::Hash).err(), Some(FanoutError::OtherGroup));
    assert_eq!(first.join_fanout(None, FanoutMode::Hash), Err(FanoutError::AlreadyMember));
    assert!(!first.set_fanout_program(Some(all(0))));
    let count = |socket: &PacketSocket| socket.take_stats().packets;
    let client = wire.a.udp("0.0.0.0:0");
    for _ in 0..10 {
        client.try_send(&mut &b"x"[..], &to("10.0.0.2:7")).unwrap();
    }
    wire.settle();
    // With the two frames of ARP.
    assert_eq!((count(&first), count(&second)), (6, 6));
    drop(first);
    client.try_send(&mut &b"x"[..], &to("10.0.0.2:7")).unwrap();
    wire.settle();
    assert_eq!(count(&second), 1);
    drop(second);
    // Both directions of a flow go to the same member.
    let (one, id) = capture(None, FanoutMode::Hash).unwrap();
    let (other, _) = capture(Some(id), FanoutMode::Hash).unwrap();
    let listener = wire.b.listen("0.0.0.0:80", 8);
    let mut used = [0, 0];
    for _ in 0..20 {
        let client = wire.a.connect("10.0.0.2:80");
        wire.settle();
        listener.try_accept().unwrap();
        drop(client);
        wire.settle();
        match (count(&one), count(&other)) {
            (0, _) => used[1] += 1,
            (_, 0) => used[0] += 1,
            both => panic!("a flow on both members: {both:?}"),
        }
    }
    assert!(used[0] > 0 && used[1] > 0, "{used:?}");
}
