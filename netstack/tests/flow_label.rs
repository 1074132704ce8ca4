//! Flow labels of IPv6: which packets have which.

mod common;

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use common::{Wire, recv};
use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::{AutoFlowLabels, PingSocket, Stack, UdpSocket};

const SERVER: &str = "[fd00::2]:7";

fn with_label(label: u32) -> SocketAddr {
    let SocketAddr::V6(v6) = SERVER.parse().unwrap() else { unreachable!() };
    SocketAddrV6::new(*v6.ip(), v6.port(), label, 0).into()
}

fn set(stack: &Stack, auto: AutoFlowLabels) {
    let done: Result<(), Infallible> = stack.change_ip_config(|config| {
        config.flow_labels.auto = auto;
        Ok(())
    });
    done.unwrap();
}

/// The labels of what the first host sent in the protocol, each once, in order.
fn labels(wire: &mut Wire, protocol: u8) -> Vec<u32> {
    let sent = wire.seen.drain(..).filter(|(host, _)| *host == 1).map(|(_, frame)| frame);
    let of_protocol = sent.filter(|frame| frame[12..14] == [0x86, 0xdd] && frame[20] == protocol);
    let mut labels: Vec<u32> =
        of_protocol.map(|f| u32::from_be_bytes([f[14], f[15], f[16], f[17]]) & 0xf_ffff).collect();
    labels.dedup();
    labels
}

#[test]
fn datagrams_of_a_flow_share_a_label_and_others_have_another() {
    let mut wire = Wire::new();
    let server = wire.b.udp(SERVER);
    let mut seen = HashSet::new();
    for _ in 0..16 {
        let client = UdpSocket::new(&wire.a.stack, Family::V6);
        for round in 0..3 {
            if round == 1 {
                client.connect(SERVER.parse().unwrap()).unwrap();
            }
            let to = SendMeta { to: Some(SERVER.parse().unwrap()), ..SendMeta::default() };
            client.try_send(&mut &b"x"[..], &to).unwrap();
            wire.settle();
        }
        let labels = labels(&mut wire, 17);
        assert!(labels.len() == 1 && labels[0] != 0, "{labels:x?}");
        seen.insert(labels[0]);
        assert_eq!(recv(&server).1.flow_label, labels[0]);
        recv(&server);
        recv(&server);
    }
    assert!(seen.len() > 12);
}

#[test]
fn what_somebody_asks_for_goes_first() {
    let mut wire = Wire::new();
    let _server = wire.b.udp(SERVER);
    let client = UdpSocket::new(&wire.a.stack, Family::V6);
    let send = |wire: &mut Wire, meta: SendMeta| {
        client.try_send(&mut &b"x"[..], &meta).unwrap();
        wire.settle();
        labels(wire, 17)
    };
    let to = |label| SendMeta { to: Some(with_label(label)), ..SendMeta::default() };
    assert_eq!(send(&mut wire, to(0x12345)), [0x12345]);
    assert_eq!(send(&mut wire, SendMeta { flow_label: Some(0x54321), ..to(0x12345) }), [0x54321]);
    client.connect(with_label(0x777)).unwrap();
    assert_eq!(send(&mut wire, SendMeta::default()), [0x777]);
    assert_eq!(send(&mut wire, SendMeta { flow_label: Some(0x54321), ..SendMeta::default() }), [0x54321]);
    assert_eq!(send(&mut wire, SendMeta::default()), [0x777]);
    client.connect(with_label(0)).unwrap();
    client.set_options(|options| options.auto_flow_label = Some(false));
    assert_eq!(send(&mut wire, SendMeta::default()), [0]);
}

/// Linux's `auto_flowlabels`, and what a socket says about it.
#[test]
fn stack_and_socket_decide_together() {
    use AutoFlowLabels::{Forced, Off, OptIn, OptOut};
    for (auto, own, has_label) in [
        (Off, None, false),
        (Off, Some(true), false),
        (OptOut, None, true),
        (OptOut, Some(false), false),
        (OptIn, None, false),
        (OptIn, Some(true), true),
        (Forced, Some(false), true),
    ] {
        let mut wire = Wire::new();
        let _server = wire.b.udp(SERVER);
        set(&wire.a.stack, auto);
        let client = UdpSocket::new(&wire.a.stack, Family::V6);
        client.set_options(|options| options.auto_flow_label = own);
        client.connect(SERVER.parse().unwrap()).unwrap();
        for _ in 0..3 {
            client.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
            wire.settle();
        }
        let seen = labels(&mut wire, 17);
        assert_eq!(seen != [0], has_label, "{auto:?} {own:?}: {seen:x?}");
        // A change counts for sockets that have sent.
        set(&wire.a.stack, Off);
        client.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
        wire.settle();
        assert_eq!(labels(&mut wire, 17), [0]);
    }
}

#[test]
fn a_connection_keeps_its_label_until_a_timeout() {
    let mut wire = Wire::new();
    let server = wire.b.listen(SERVER, 1);
    let client = wire.a.connect(SERVER);
    wire.settle();
    client.try_send(&mut &b"hello"[..]).unwrap();
    wire.settle();
    let (accepted, _) = server.try_accept().unwrap();
    let first = labels(&mut wire, 6);
    assert!(first.len() == 1 && first[0] != 0, "{first:x?}");
    // Nothing arrives for a while.
    client.try_send(&mut &b"lost"[..]).unwrap();
    wire.a.link.take();
    for _ in 0..30 {
        wire.a.stack.advance_to(wire.a.stack.now() + Duration::from_millis(100));
        let frames = wire.a.link.take();
        wire.seen.extend(frames.iter().map(|frame| (1, frame.to_vec())));
    }
    let rethought = labels(&mut wire, 6);
    assert!(rethought.iter().any(|label| *label != first[0] && *label != 0), "{rethought:x?}");
    // One that was asked for stays.
    let fixed = netstack::TcpSocket::new(&wire.a.stack, Family::V6);
    fixed.connect(with_label(0xabcde)).unwrap();
    for _ in 0..30 {
        let now = wire.a.stack.now() + Duration::from_millis(100);
        wire.a.stack.advance_to(now);
        let frames = wire.a.link.take();
        let is_of_client = |frame: &&netstack::packet::Packet| {
            let bytes = frame.to_vec();
            bytes.len() > 70 && bytes[20] == 6 && bytes[67] & 2 != 0
        };
        wire.seen.extend(frames.iter().filter(is_of_client).map(|frame| (1, frame.to_vec())));
    }
    assert_eq!(labels(&mut wire, 6), [0xabcde]);
    drop(accepted);
}

#[test]
fn echoes_are_labelled_and_answers_reflect_if_wanted() {
    for reflects in [false, true] {
        let mut wire = Wire::new();
        let done: Result<(), Infallible> = wire.b.stack.change_ip_config(|config| {
            config.flow_labels.reflects_echo = reflects;
            Ok(())
        });
        done.unwrap();
        let ping = PingSocket::new(&wire.a.stack, Family::V6);
        let request = [128, 0, 0, 0, 0, 0, 0, 1];
        let meta = SendMeta { to: Some(with_label(0x4242)), ..SendMeta::default() };
        ping.try_send(&mut &request[..], &meta).unwrap();
        wire.settle();
        let answer = ping.try_recv(&mut Vec::new(), RecvFlags::default()).unwrap();
        assert_eq!(answer.flow_label == 0x4242, reflects);
        assert_ne!(answer.flow_label, 0);
    }
}
