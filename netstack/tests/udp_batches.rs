//! Many datagrams at once: batched calls, the short way of sockets that send one like the other, and coalescing.

mod common;

use common::{Wire, pattern, recv};
use netstack::UdpSocket;
use netstack::error::{RecvError, SendError};
use netstack::link::{Capabilities, Medium, channel::ChannelLink};
use netstack::options::{RecvFlags, RecvMessage, SendMessage, SendMeta};
use netstack::packet::{Checksum, Gso, GsoKind, Packet};
use netstack::wire::ethernet::MacAddr;

const ADDRESSES: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("[fd00::1]", "[fd00::2]")];

/// A socket that sends to port 7 of the other host, its neighbour resolved, and the one that receives there.
fn flow(wire: &mut Wire, (a, b): (&str, &str)) -> (UdpSocket, UdpSocket) {
    let server = wire.b.udp(&format!("{b}:7"));
    let client = wire.a.udp(&format!("{a}:0"));
    client.connect(format!("{b}:7").parse().unwrap()).unwrap();
    client.try_send(&mut &b"first"[..], &SendMeta::DEFAULT).unwrap();
    wire.settle();
    assert_eq!(recv(&server).0, b"first");
    wire.seen.clear();
    (client, server)
}

fn send_all(socket: &UdpSocket, data: &[&[u8]]) -> Result<usize, SendError> {
    let mut data = data.to_vec();
    let mut messages: Vec<_> = data.iter_mut().map(|data| SendMessage::new(data)).collect();
    socket.try_send_many(&mut messages)
}

#[test]
fn frames_of_the_short_way_are_those_of_the_long_way() {
    let offload = Capabilities { tx_checksum: true, ..Capabilities::default() };
    for capabilities in [Capabilities::default(), offload] {
        for addresses in ADDRESSES {
            for (len, no_checksum) in [(0, false), (1, false), (64, false), (67, false), (1400, true)] {
                let mut wire = Wire::with(1500, capabilities);
                let (client, server) = flow(&mut wire, addresses);
                let data = pattern(len);
                let mut frames = Vec::new();
                // Setting options forgets the short way; what is sent then is decided about, and the next one is not.
                client.set_options(|options| options.no_checksum = no_checksum);
                for _ in 0..2 {
                    client.try_send(&mut &data[..], &SendMeta::DEFAULT).unwrap();
                    frames.extend(wire.a.link.take());
                }
                let [long, short] = &frames[..] else { panic!("{} frames", frames.len()) };
                assert_eq!(long.to_vec(), short.to_vec());
                assert_eq!(long.meta.checksum, short.meta.checksum);
                wire.b.stack.deliver(wire.b.nic, &mut common::as_received(frames));
                assert_eq!((recv(&server).0, recv(&server).0), (data.clone(), data));
            }
        }
    }
}

#[test]
fn short_way_ends_when_anything_changes() {
    let mut wire = Wire::new();
    let (client, _server) = flow(&mut wire, ADDRESSES[0]);
    let send = |change: &dyn Fn(&Wire)| {
        client.try_send(&mut &b"before"[..], &SendMeta::DEFAULT).unwrap();
        change(&wire);
        let sent = client.try_send(&mut &b"after"[..], &SendMeta::DEFAULT);
        (sent, wire.a.link.take().pop().map(|frame| frame.to_vec()).unwrap_or_default())
    };
    let (_, frame) = send(&|_| client.set_options(|options| options.tos = 0x20));
    assert_eq!(frame[15], 0x20);
    let (_, frame) = send(&|_| client.set_options(|options| options.ttl = Some(9)));
    assert_eq!(frame[22], 9);
    let other = MacAddr([2, 0, 0, 0, 0, 99]);
    let (_, frame) = send(&|wire| {
        wire.a.stack.add_neighbour(wire.a.nic, "10.0.0.2".parse().unwrap(), other).unwrap();
    });
    assert_eq!(frame[..6], other.0);
    let (_, frame) = send(&|_| client.connect("10.0.0.2:9".parse().unwrap()).unwrap());
    assert_eq!(frame[36..38], [0, 9]);
    let (sent, _) = send(&|wire| wire.a.stack.set_nic_up(wire.a.nic, false).unwrap());
    assert_eq!(sent, Err(SendError::NetworkUnreachable));
}

#[test]
fn many_are_sent_and_received_with_one_call_each() {
    for addresses in ADDRESSES {
        let mut wire = Wire::new();
        let (client, server) = flow(&mut wire, addresses);
        let data: Vec<Vec<u8>> = (0..100).map(|index| pattern(index * 13)).collect();
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        assert_eq!(send_all(&client, &slices), Ok(100));
        wire.settle();
        let mut rooms = vec![Vec::new(); 128];
        let mut messages: Vec<_> = rooms.iter_mut().map(|room| RecvMessage::new(room)).collect();
        assert_eq!(server.try_recv_many(&mut messages), Ok(100));
        let from = messages[99].datagram.as_ref().unwrap();
        assert_eq!((from.from.port(), from.len), (client.local_addr().port(), 99 * 13));
        assert!(messages[100].datagram.is_none());
        assert_eq!(rooms[..100], data);
        let mut messages = [RecvMessage::new(&mut rooms[0])];
        assert_eq!(server.try_recv_many(&mut messages), Err(RecvError::WouldBlock));
    }
}

#[test]
fn what_is_sent_within_a_batch_goes_to_the_link_at_its_end() {
    let mut wire = Wire::new();
    let (client, _server) = flow(&mut wire, ADDRESSES[0]);
    let send = || client.try_send(&mut &b"x"[..], &SendMeta::DEFAULT).unwrap();
    let link = wire.a.link.clone();
    UdpSocket::batched(|| {
        UdpSocket::batched(send);
        send();
        assert!(link.take().is_empty());
    });
    assert_eq!(link.take().len(), 2);
    // Long ones do not wait for their end.
    UdpSocket::batched(|| {
        for _ in 0..100 {
            send();
        }
        assert_eq!(link.take().len(), 64);
    });
    assert_eq!(link.take().len(), 36);
    assert_eq!(wire.a.stack.nic(wire.a.nic).unwrap().stats.tx_dropped_full, 0);
}

#[test]
fn equal_datagrams_of_one_call_go_to_a_link_that_cuts_them_in_one_piece() {
    let cuts = Capabilities { tx_checksum: true, gso_max_udp: 65_535, ..Capabilities::default() };
    for addresses in ADDRESSES {
        let mut wire = Wire::with(1500, cuts);
        let (client, server) = flow(&mut wire, addresses);
        // The neighbour is known now; the next datagram makes the headers that the following ones share.
        client.try_send(&mut &b"second"[..], &SendMeta::DEFAULT).unwrap();
        wire.settle();
        assert_eq!(recv(&server).0, b"second");
        let long = pattern(1400);
        let data: Vec<&[u8]> =
            [[&long[..]; 50].as_slice(), &[b"aaaa", b"bbbb", b"cc", b"dddd", b"", b"eeee"]].concat();
        assert_eq!(send_all(&client, &data), Ok(56));
        let frames = wire.a.link.take();
        let sizes = frames.iter().map(|frame| frame.meta.gso.map(|gso| (gso.kind, gso.size)));
        let udp = |size| Some((GsoKind::Udp, size));
        // 46 of the long ones fit 64 KiB; a shorter one is the last of its packet.
        assert_eq!(
            sizes.collect::<Vec<_>>(),
            [udp(1400), udp(1400), udp(4), None, None, None],
            "{addresses:?}"
        );
        wire.b.stack.deliver(wire.b.nic, &mut common::as_received(frames));
        for expected in data {
            assert_eq!(recv(&server).0, expected);
        }
        assert_eq!(wire.a.stack.stats().udp_out_datagrams, 58);
    }
}

#[test]
fn each_message_may_go_elsewhere_and_an_error_ends_the_call() {
    let mut wire = Wire::new();
    let (client, server) = flow(&mut wire, ADDRESSES[0]);
    let other = wire.b.udp("10.0.0.2:8");
    let meta = SendMeta { to: Some("10.0.0.2:8".parse().unwrap()), ..SendMeta::DEFAULT };
    let oversized = vec![0; 70_000];
    let mut data: [&[u8]; 5] = [b"a", b"b", b"c", &oversized, b"d"];
    let [a, b, c, d, e] = data.each_mut();
    let mut messages = [
        SendMessage::new(a),
        SendMessage { data: b, meta: &meta },
        SendMessage::new(c),
        SendMessage::new(d),
        SendMessage::new(e),
    ];
    assert_eq!(client.try_send_many(&mut messages), Ok(3));
    assert_eq!(client.try_send_many(&mut messages[3..]), Err(SendError::MessageTooLong));
    wire.settle();
    assert_eq!((recv(&server).0, recv(&other).0, recv(&server).0), (b"a".into(), b"b".into(), b"c".into()));
    assert_eq!(wire.a.stack.stats().udp_out_datagrams, 4);
    assert_eq!(wire.a.stack.stats().ip_out_requests, 4);
}

#[test]
fn datagrams_of_a_batch_become_one_for_those_who_want_that() {
    let mut wire = Wire::new();
    let (client, server) = flow(&mut wire, ADDRESSES[0]);
    let data: [&[u8]; 5] = [b"aaaa", b"bbbb", b"cc", b"dddd", b"eeee"];
    server.set_options(|options| options.coalesce = true);
    send_all(&client, &data).unwrap();
    wire.settle();
    for (bytes, size) in [(&b"aaaabbbbcc"[..], Some(4)), (b"ddddeeee", Some(4))] {
        let (got, datagram) = recv(&server);
        assert_eq!((&got[..], datagram.segment_size), (bytes, size));
    }
    assert_eq!(wire.b.stack.stats().udp_in_datagrams, 6);
    server.set_options(|options| options.coalesce = false);
    send_all(&client, &data).unwrap();
    wire.settle();
    for bytes in data {
        assert_eq!(recv(&server).0, bytes);
    }
}

#[test]
fn datagrams_of_several_senders_stay_apart_and_in_order() {
    let mut wire = Wire::new();
    let (one, server) = flow(&mut wire, ADDRESSES[0]);
    let two = wire.a.udp("10.0.0.1:0");
    two.connect("10.0.0.2:7".parse().unwrap()).unwrap();
    server.set_options(|options| options.coalesce = true);
    for (socket, data) in [(&one, b"aa"), (&one, b"bb"), (&two, b"cc"), (&one, b"dd")] {
        socket.try_send(&mut &data[..], &SendMeta::DEFAULT).unwrap();
    }
    wire.settle();
    let got: Vec<_> = (0..3).map(|_| recv(&server).0).collect();
    assert_eq!(got, [b"aabb".to_vec(), b"cc".to_vec(), b"dd".to_vec()]);
}

/// A super-segment as a kernel gives it to a device that takes them: one UDP header with the length of the whole.
#[test]
fn super_segment_from_a_link_is_cut_unless_it_is_wanted_whole() {
    let mut wire = Wire::new();
    let (client, server) = flow(&mut wire, ADDRESSES[0]);
    client.try_send(&mut &b"aaaabbbbcc"[..], &SendMeta::DEFAULT).unwrap();
    let mut frame = Packet::from_frame(wire.a.link.take().remove(0).to_vec().into());
    frame.meta.gso = Some(Gso { kind: GsoKind::Udp, size: 4 });
    frame.meta.checksum = Checksum::Verified;
    wire.b.stack.deliver(wire.b.nic, &mut vec![frame.clone()]);
    let got: Vec<_> = (0..3).map(|_| recv(&server).0).collect();
    assert_eq!(got, [b"aaaa".to_vec(), b"bbbb".to_vec(), b"cc".to_vec()]);
    server.set_options(|options| options.coalesce = true);
    wire.b.stack.deliver(wire.b.nic, &mut vec![frame]);
    let (got, datagram) = recv(&server);
    assert_eq!((&got[..], datagram.segment_size), (&b"aaaabbbbcc"[..], Some(4)));
}

#[test]
fn socket_cuts_what_it_sends_when_it_is_told_to() {
    let mut wire = Wire::new();
    let (client, server) = flow(&mut wire, ADDRESSES[0]);
    client.set_options(|options| options.segment_size = 4);
    client.try_send(&mut &b"aaaabbbbcc"[..], &SendMeta::DEFAULT).unwrap();
    wire.settle();
    let got: Vec<_> = (0..3).map(|_| recv(&server).0).collect();
    assert_eq!(got, [b"aaaa".to_vec(), b"bbbb".to_vec(), b"cc".to_vec()]);
    // As udp_send_skb: more than 128 parts, a part that exceeds the MTU, no checksum.
    assert_eq!(client.try_send(&mut &[0; 513][..], &SendMeta::DEFAULT), Err(SendError::Invalid));
    let long = SendMeta { segment_size: Some(1473), ..SendMeta::DEFAULT };
    assert_eq!(client.try_send(&mut &[0; 3000][..], &long), Err(SendError::MessageTooLong));
    client.set_options(|options| options.no_checksum = true);
    assert_eq!(client.try_send(&mut &[0; 8][..], &SendMeta::DEFAULT), Err(SendError::Invalid));
}

#[test]
fn receive_buffer_bounds_a_run() {
    let mut wire = Wire::new();
    let (client, server) = flow(&mut wire, ADDRESSES[0]);
    for coalesce in [false, true] {
        server.set_options(|options| (options.coalesce, options.recv_buffer) = (coalesce, 2000));
        let before = wire.b.stack.stats().udp_rcvbuf_errors;
        send_all(&client, &[&[0; 100][..]; 20]).unwrap();
        wire.settle();
        let mut taken = 0;
        while let Ok(datagram) = server.try_recv(&mut Vec::new(), RecvFlags::default()) {
            taken += datagram.len / 100;
        }
        assert_eq!(taken, 4, "612 bytes each, until the limit is reached");
        assert_eq!(wire.b.stack.stats().udp_rcvbuf_errors - before, 16);
    }
}

#[test]
fn link_without_stations_has_a_short_way_too() {
    let stack = netstack::Stack::builder().manual_clock().build();
    let link = ChannelLink::new(Medium::Ip, 1500, Capabilities::default(), 16);
    let nic = stack.add_nic("tun0", link.clone()).unwrap();
    stack.add_address(nic, "10.0.0.1/24".parse().unwrap()).unwrap();
    let socket = UdpSocket::new(&stack, netstack::options::Family::V4);
    socket.connect("10.0.0.2:7".parse().unwrap()).unwrap();
    assert_eq!(send_all(&socket, &[b"one", b"one"]), Ok(2));
    let frames = link.take();
    assert_eq!((frames.len(), frames[0].to_vec()), (2, frames[1].to_vec()));
}
