//! Options of IPv4 and extension headers of IPv6 in the segments of streams, and times of their bytes.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Wire, family_of};
use netstack::TcpSocket;
use netstack::options::{
    ExtensionHeader, Ipv4Options, Ipv6Extensions, RecvFlags, SendFlags, SocketOptions, StampKind,
    StampOrigin, StampRequest,
};

/// A connection whose client has options; both ends.
fn connected(
    wire: &mut Wire,
    local: &str,
    of_listener: impl FnOnce(&mut SocketOptions),
    of_client: impl FnOnce(&mut SocketOptions),
) -> (TcpSocket, TcpSocket) {
    let listener = wire.b.listen(local, 4);
    listener.set_options(of_listener);
    let remote = local.parse().unwrap();
    let client = TcpSocket::new(&wire.a.stack, family_of(remote));
    client.set_options(of_client);
    client.connect(remote).unwrap();
    wire.settle();
    (client, listener.try_accept().unwrap().0)
}

/// Sends so much in one direction, and checks that it arrives.
fn transfer(wire: &mut Wire, from: &TcpSocket, to: &TcpSocket, len: usize) {
    let data: Vec<u8> = (0..len).map(|index| index as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < len {
        sent += from.try_send(&mut &data[sent..]).unwrap_or(0);
        wire.run(Duration::from_millis(2));
        let mut buf = vec![0; len];
        let got = to.try_recv(&mut &mut buf[..], RecvFlags::default()).unwrap_or(0);
        received.extend_from_slice(&buf[..got]);
    }
    assert!(received == data);
}

/// Per sender, the IP packets with TCP that it has sent.
fn segments(wire: &Wire, from: u8) -> Vec<Vec<u8>> {
    let is_tcp = |frame: &[u8]| match frame[12..14] {
        [8, 0] => frame[23] == 6,
        _ => frame[14] >> 4 == 6 && frame[20] != 58,
    };
    let frames = wire.seen.iter().filter(|(sender, frame)| *sender == from && is_tcp(frame));
    frames.map(|(_, frame)| frame[14..].to_vec()).collect()
}

#[test]
fn each_segment_has_the_options_and_the_mss_shrinks_by_their_length() {
    let mut wire = Wire::new();
    let options = Ipv4Options::new(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (client, server) =
        connected(&mut wire, "10.0.0.2:80", |_| (), |options_of| options_of.ip_options = options);
    transfer(&mut wire, &client, &server, 100_000);
    transfer(&mut wire, &server, &client, 100_000);
    for from in [1, 2] {
        for packet in segments(&wire, from) {
            assert_eq!((packet[0], &packet[20..22]), (0x48, &[7, 11][..]));
            assert!(packet.len() <= 1500);
        }
        assert!(segments(&wire, from).iter().any(|packet| packet.len() == 1500));
    }
    // Both addresses were recorded on the way, and the server answers with what the SYN has brought.
    assert_eq!(segments(&wire, 1)[0][22..28], [8, 10, 0, 0, 1, 0]);
    assert_eq!(segments(&wire, 2)[0][22..31], [12, 10, 0, 0, 1, 10, 0, 0, 2]);
    assert_eq!(client.info().unwrap().snd_mss, 1448 - 12);
    assert_eq!(server.info().unwrap().snd_mss, 1448 - 12);
    assert_eq!(server.options().ip_options.unwrap().as_slice()[..7], [7, 11, 12, 10, 0, 0, 1]);
    // Without them, segments are as long as others again.
    client.set_options(|options| options.ip_options = None);
    assert_eq!(client.info().unwrap().snd_mss, 1448);
    wire.seen.clear();
    transfer(&mut wire, &client, &server, 10_000);
    assert!(segments(&wire, 1).iter().all(|packet| packet[0] == 0x45));
}

#[test]
fn a_listeners_options_are_for_nothing_that_it_sends() {
    let mut wire = Wire::new();
    let options = Ipv4Options::new(&[1, 1, 1, 0]);
    let set = |all: &mut SocketOptions| all.ip_options = options;
    let (client, server) = connected(&mut wire, "10.0.0.2:80", set, |_| ());
    transfer(&mut wire, &server, &client, 10_000);
    assert!(segments(&wire, 2).iter().all(|packet| packet[0] == 0x45));
    assert_eq!(server.options().ip_options, None);
}

#[test]
fn extension_headers_are_in_each_segment_and_accepted_connections_have_their_listeners() {
    let mut wire = Wire::new();
    let header = ExtensionHeader::new(&[0, 0, 1, 4, 0, 0, 0, 0]);
    let of_listener = Arc::new(Ipv6Extensions { destination: header.clone(), ..Ipv6Extensions::default() });
    let of_client = Arc::new(Ipv6Extensions { hop_by_hop: header, ..Ipv6Extensions::default() });
    let (client, server) = connected(
        &mut wire,
        "[fd00::2]:80",
        |options| options.extensions = Some(of_listener),
        |options| options.extensions = Some(of_client),
    );
    transfer(&mut wire, &client, &server, 100_000);
    transfer(&mut wire, &server, &client, 100_000);
    for (from, kind) in [(1, 0), (2, 60)] {
        let packets = segments(&wire, from);
        assert!(packets.iter().all(|packet| packet[6] == kind && packet[40] == 6 && packet.len() <= 1500));
        assert!(packets.iter().any(|packet| packet.len() == 1500));
    }
    assert_eq!(client.info().unwrap().snd_mss, 1428 - 8);
    assert_eq!(server.info().unwrap().snd_mss, 1428 - 8);
}

#[test]
fn bytes_are_told_when_they_leave_are_acknowledged_and_arrive() {
    let mut wire = Wire::new();
    let set = |options: &mut SocketOptions| options.stamp_arrivals = true;
    let (client, server) = connected(&mut wire, "10.0.0.2:80", set, |_| ());
    transfer(&mut wire, &client, &server, 5);
    client.number_stamps(StampOrigin::Unwritten);
    let stamp = StampRequest { scheduled: true, sent: true, acknowledged: true, ..StampRequest::default() };
    let flags = SendFlags { stamp: Some(stamp), ..SendFlags::default() };
    let sent_at = wire.a.stack.now();
    assert_eq!(client.send_as(&mut &b"0123456789"[..], flags), Ok(10));
    let told = |client: &TcpSocket| {
        std::iter::from_fn(|| client.take_sent_stamp())
            .map(|stamp| (stamp.kind, stamp.id, stamp.at))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&client), [(StampKind::Scheduled, 9, sent_at), (StampKind::Sent, 9, sent_at)]);
    wire.settle();
    wire.run(Duration::from_millis(100));
    let later = wire.a.stack.now();
    assert!(matches!(told(&client)[..], [(StampKind::Acknowledged, 9, _)]));
    let mut buf = [0; 20];
    let (count, arrival) = server.try_recv_stamped(&mut &mut buf[..4], RecvFlags::default()).unwrap();
    assert_eq!((count, arrival.map(|at| at < later)), (4, Some(true)));
    let (count, arrival) = server.try_recv_stamped(&mut &mut buf[..], RecvFlags::PEEK).unwrap();
    assert_eq!((count, arrival.map(|at| at < later)), (6, Some(true)));
    // Nobody has asked at the other end, and nobody asks any more here.
    transfer(&mut wire, &server, &client, 5);
    assert!(told(&client).is_empty() && told(&server).is_empty());
}
