//! What datagram sockets do on request: put datagrams together, peek behind others, send and tell extension headers, say when they
//! sent.

mod common;

use std::sync::Arc;

use common::{Wire, pattern, recv};
use netstack::UdpSocket;
use netstack::error::{RecvError, SendError};
use netstack::options::{
    ExtensionHeader, Family, Ipv6Extensions, RecvFlags, SendMeta, StampKind, StampRequest,
};
use netstack::wait::Readiness;

const SERVER: &str = "[fd00::2]:7";

fn connected(wire: &Wire) -> UdpSocket {
    let client = UdpSocket::new(&wire.a.stack, Family::V6);
    client.connect(SERVER.parse().unwrap()).unwrap();
    client
}

fn put(client: &UdpSocket, data: &[u8], meta: &SendMeta) {
    assert_eq!(client.try_send(&mut &data[..], meta), Ok(data.len()));
}

#[test]
fn corked_datagrams_leave_when_the_cork_is_taken_off() {
    let mut wire = Wire::new();
    let server = wire.b.udp(SERVER);
    let client = connected(&wire);
    let (plain, more) = (SendMeta::default(), SendMeta { more: true, ..SendMeta::default() });
    // The short way for datagrams is there, and must not be taken.
    for _ in 0..3 {
        put(&client, b"plain", &plain);
        wire.settle();
        assert_eq!(recv(&server).0, b"plain");
    }
    put(&client, b"one ", &more);
    put(&client, b"two", &plain);
    client.set_cork(true).unwrap();
    put(&client, b"three ", &plain);
    put(&client, b"four", &more);
    wire.settle();
    assert!(client.is_corked());
    assert_eq!(recv(&server).0, b"one two");
    assert_eq!(server.next_datagram_len(), None);
    client.set_cork(false).unwrap();
    put(&client, b"five", &plain);
    wire.settle();
    assert_eq!(recv(&server).0, b"three four");
    assert_eq!(recv(&server).0, b"five");

    // Too much loses all of it.
    put(&client, &pattern(60_000), &more);
    assert_eq!(client.try_send(&mut &pattern(6_000)[..], &more), Err(SendError::MessageTooLong));
    put(&client, b"left", &plain);
    wire.settle();
    assert_eq!(recv(&server).0, b"left");
}

#[test]
fn peeking_passes_over_what_is_to_be_skipped() {
    let mut wire = Wire::new();
    let server = wire.b.udp(SERVER);
    let client = connected(&wire);
    for data in [b"0123".as_slice(), b"45"] {
        put(&client, data, &SendMeta::default());
    }
    wire.settle();
    let peek = |skip| {
        let mut room = [0; 8];
        let mut out = &mut room[..];
        let datagram = server.try_recv(&mut out, RecvFlags { peek: true, skip })?;
        Ok((room[..datagram.copied].to_vec(), datagram.len))
    };
    assert_eq!(peek(None), Ok((b"0123".to_vec(), 4)));
    assert_eq!(peek(Some(3)), Ok((b"3".to_vec(), 4)));
    assert_eq!(peek(Some(4)), Ok((b"45".to_vec(), 2)));
    assert_eq!(peek(Some(6)), Err(RecvError::WouldBlock));
    assert_eq!(recv(&server).0, b"0123");
}

#[test]
fn extension_headers_precede_each_fragment_or_follow_the_fragment_header() {
    let mut wire = Wire::new();
    let server = wire.b.udp(SERVER);
    let client = connected(&wire);
    let options = |number: u8| ExtensionHeader::new(&[0, 0, 0x1e, 4, number, 0, 0, 0]);
    let headers = Ipv6Extensions {
        hop_by_hop: options(1),
        routing_destination: options(2),
        destination: options(3),
        ..Ipv6Extensions::default()
    };
    client.set_options(|all| all.extensions = Some(Arc::new(headers)));
    for len in [5, 5, 4_000] {
        put(&client, &pattern(len), &SendMeta::default());
        wire.settle();
        let (data, datagram) = recv(&server);
        assert_eq!(data, pattern(len));
        let received = datagram.extensions.unwrap();
        let kinds: Vec<_> = received.headers().map(|(kind, bytes)| (kind, bytes[4])).collect();
        assert_eq!(kinds, [(0, 1), (60, 3)], "without a route nothing is said of it");
    }
    let last = &wire.seen.last().unwrap().1;
    // Behind Ethernet: the header for routers, the fragment header, and whole words of data.
    assert_eq!((last[20], last[54], last[62]), (0, 44, 60));
    let only = Ipv6Extensions { destination: options(9), ..Ipv6Extensions::default() };
    put(&client, b"x", &SendMeta { extensions: Some(Arc::new(only)), ..SendMeta::default() });
    wire.settle();
    let received = recv(&server).1.extensions.unwrap();
    assert_eq!(received.headers().map(|(kind, bytes)| (kind, bytes[4])).collect::<Vec<_>>(), [(60, 9)]);
    client.set_options(|all| all.extensions = None);
    put(&client, b"x", &SendMeta::default());
    wire.settle();
    assert_eq!(recv(&server).1.extensions, None);
}

#[test]
fn times_of_sending_wait_where_errors_do() {
    let mut wire = Wire::new();
    let _server = wire.b.udp(SERVER);
    let client = connected(&wire);
    let ask = |id, with_packet| {
        let stamp =
            StampRequest { scheduled: with_packet, sent: true, id, with_packet, ..StampRequest::default() };
        SendMeta { stamp: Some(stamp), ..SendMeta::default() }
    };
    put(&client, b"unseen", &SendMeta::default());
    assert!(!client.readiness().contains(Readiness::ERR));
    put(&client, b"first", &ask(7, true));
    put(&client, b"second", &ask(8, false));
    wire.settle();
    assert!(client.readiness().contains(Readiness::ERR));
    let stamps: Vec<_> = std::iter::from_fn(|| client.take_sent_stamp()).collect();
    let told: Vec<_> = stamps.iter().map(|stamp| (stamp.kind, stamp.id, stamp.packet.len())).collect();
    let len = 14 + 40 + 8 + 5;
    assert_eq!(told, [(StampKind::Scheduled, 7, len), (StampKind::Sent, 7, len), (StampKind::Sent, 8, 0)]);
    assert!(stamps[0].packet.ends_with(b"first"));
    assert!(!client.readiness().contains(Readiness::ERR));
}
