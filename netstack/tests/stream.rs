//! TCP between two stacks in virtual time, and over loopback.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Wire, pattern, read_available};
use netstack::buffer::{Fault, Sink, Source};
use netstack::error::{AcceptError, BindError, ConnectError, ListenError, RecvError, SendError, SocketError};
use netstack::link::Capabilities;
use netstack::options::{Family, RecvFlags, Shutdown};
use netstack::socket::PacketMode;
use netstack::tcp::State;
use netstack::wait::Readiness;
use netstack::wire::ethernet::EtherType;
use netstack::{PacketSocket, Stack, TcpSocket};

/// A connected pair, the client on host A.
fn pair(wire: &mut Wire, address: &str) -> (TcpSocket, TcpSocket) {
    let listener = wire.b.listen(address, 8);
    let client = wire.a.connect(address);
    wire.settle();
    let (server, peer) = listener.try_accept().unwrap();
    assert_eq!(peer, client.local_addr());
    (client, server)
}

/// Sends all of `data` from one to the other, letting time pass as needed.
fn transfer(wire: &mut Wire, from: &TcpSocket, to: &TcpSocket, data: &[u8]) {
    let mut rest = data;
    let mut received = Vec::new();
    for _ in 0..20_000 {
        while !rest.is_empty() {
            match from.try_send(&mut &rest[..]) {
                Ok(count) => rest = &rest[count..],
                Err(SendError::WouldBlock) => break,
                Err(error) => panic!("{error}"),
            }
        }
        wire.settle();
        received.extend(read_available(to));
        if received.len() == data.len() {
            assert!(received == data, "the data differs");
            return;
        }
        wire.run(Duration::from_millis(1));
    }
    panic!("only {} of {} bytes arrived", received.len(), data.len());
}

#[test]
fn connect_transfer_close() {
    for address in ["10.0.0.2:80", "[fd00::2]:80"] {
        let mut wire = Wire::new();
        let (client, server) = pair(&mut wire, address);
        assert_eq!((client.state(), server.state()), (State::Established, State::Established));
        assert_eq!(client.peer_addr().unwrap().to_string(), address);
        assert_eq!(server.peer_addr(), Some(client.local_addr()));
        let data = pattern(3 << 20);
        transfer(&mut wire, &client, &server, &data);
        transfer(&mut wire, &server, &client, &data);
        client.shutdown(Shutdown::Write).unwrap();
        wire.settle();
        assert_eq!(server.try_recv(&mut Vec::new(), RecvFlags::default()), Ok(0));
        assert!(server.readiness().contains(Readiness::IN | Readiness::RDHUP));
        transfer(&mut wire, &server, &client, b"half-closed");
        drop(server);
        wire.settle();
        assert_eq!(client.try_recv(&mut Vec::new(), RecvFlags::default()), Ok(0));
        assert_eq!(client.state(), State::TimeWait);
        drop(client);
        assert_eq!(wire.b.stack.tcp_connections(), []);
        wire.run(Duration::from_secs(61));
        assert_eq!(wire.a.stack.tcp_connections(), []);
        assert!(wire.seen.iter().all(|(_, frame)| frame.len() <= 1514));
        assert_eq!(wire.b.stack.stats().tcp_in_csum_errors, 0);
    }
}

/// Application memory whose reading takes so long that the send buffer shrinks meanwhile, as it does when segments are
/// lost and the congestion window falls.
struct Slow<'a> {
    socket: &'a TcpSocket,
    data: &'a [u8],
}

impl Source for Slow<'_> {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn read_into(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        self.socket.set_tcp_options(|options| options.send_buffer = Some(8192));
        self.data.read_into(out)
    }
}

#[test]
fn consumed_bytes_are_sent_although_the_send_buffer_shrank() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    let data = pattern(300_000);
    let mut source = Slow { socket: &client, data: &data };
    let sent = client.try_send(&mut source).unwrap();
    assert!(sent > 8192, "{sent}");
    assert_eq!(sent, data.len() - source.data.len(), "as much is queued as was consumed");
    assert_eq!(client.try_send(&mut source).unwrap_err(), SendError::WouldBlock);
    assert_eq!(source.data.len(), data.len() - sent, "nothing is consumed without room");
    let mut received = Vec::new();
    for _ in 0..1000 {
        wire.run(Duration::from_millis(1));
        received.extend(read_available(&server));
    }
    assert!(received == data[..sent], "{} of {sent} bytes", received.len());
}

#[test]
fn runs_of_segments_are_merged_on_arrival() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    transfer(&mut wire, &client, &server, &pattern(1 << 20));
    let stats = wire.b.stack.stats();
    assert!(stats.tcp_in_merged > stats.tcp_in_segs / 2, "{} of {}", stats.tcp_in_merged, stats.tcp_in_segs);
}

#[test]
fn super_segments_go_to_links_that_take_them() {
    let capabilities =
        Capabilities { tx_checksum: true, gso_max_v4: 65_535, gso_max_v6: 65_535, ..Capabilities::default() };
    for address in ["10.0.0.2:80", "[fd00::2]:80"] {
        let mut wire = Wire::with(1500, capabilities);
        let (client, server) = pair(&mut wire, address);
        transfer(&mut wire, &client, &server, &pattern(8 << 20));
        let largest = wire.seen.iter().map(|(_, frame)| frame.len()).max().unwrap();
        assert!(largest > 32_000, "the largest frame has {largest} bytes");
        assert_eq!(wire.b.stack.stats().tcp_in_csum_errors, 0);
    }
}

#[test]
fn loopback_runs_to_completion_on_the_caller() {
    for address in ["127.0.0.1:80", "[::1]:80", "10.0.0.1:80"] {
        let mut wire = Wire::new();
        let listener = wire.a.listen(address, 8);
        let client = wire.a.connect(address);
        let (server, _) = listener.try_accept().unwrap();
        assert_eq!(client.state(), State::Established);
        transfer(&mut wire, &client, &server, &pattern(4 << 20));
        assert!(wire.seen.is_empty(), "nothing of it is for the wire");
    }
}

#[test]
fn a_closed_port_refuses() {
    for address in ["10.0.0.2:81", "[fd00::2]:81", "127.0.0.1:81"] {
        let mut wire = Wire::new();
        let client = wire.a.connect(address);
        wire.settle();
        assert!(client.readiness().contains(Readiness::ERR | Readiness::HUP));
        assert_eq!(client.take_error(), Some(SocketError::ConnectionRefused));
        // The socket may try again, now with success.
        let host = if address.starts_with("127") { &wire.a } else { &wire.b };
        assert_eq!(host.stack.stats().tcp_out_rsts, 1);
        let listener = host.listen(address, 1);
        client.connect(address.parse().unwrap()).unwrap();
        wire.settle();
        assert_eq!(client.state(), State::Established);
        assert!(listener.try_accept().is_ok());
    }
}

#[test]
fn an_absent_host_is_unreachable() {
    let mut wire = Wire::new();
    let client = wire.a.connect("10.0.0.9:80");
    wire.run(Duration::from_secs(4));
    assert_eq!(client.take_error(), Some(SocketError::HostUnreachable));
    let far = TcpSocket::new(&wire.a.stack, Family::V4);
    assert_eq!(far.connect("192.0.2.1:80".parse().unwrap()), Err(ConnectError::NetworkUnreachable));
}

#[test]
fn misuse_is_refused() {
    let mut wire = Wire::new();
    let (client, _server) = pair(&mut wire, "10.0.0.2:80");
    let again = client.connect("10.0.0.2:80".parse().unwrap());
    assert_eq!(again, Err(ConnectError::AlreadyConnected));
    assert_eq!(client.listen(1), Err(ListenError::InvalidState));
    assert_eq!(client.bind("10.0.0.1:1".parse().unwrap()), Err(BindError::AlreadyBound));
    assert!(matches!(client.try_accept(), Err(AcceptError::NotListening)));
    let idle = TcpSocket::new(&wire.a.stack, Family::V4);
    assert_eq!(idle.try_send(&mut &b"x"[..]), Err(SendError::NotConnected));
    assert_eq!(idle.try_recv(&mut Vec::new(), RecvFlags::default()), Err(RecvError::NotConnected));
    let connecting = wire.a.connect("10.0.0.2:80");
    let again = connecting.connect("10.0.0.2:80".parse().unwrap());
    assert_eq!(again, Err(ConnectError::AlreadyConnecting));
    assert_eq!(connecting.try_send(&mut &b"x"[..]), Err(SendError::WouldBlock));
}

/// Takes chunks of up to `room` bytes until it has `left`, then none.
struct Faulty {
    got: Vec<u8>,
    left: usize,
}

impl Sink for Faulty {
    fn room(&self) -> usize {
        1 << 20
    }

    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault> {
        if self.got.len() >= self.left {
            return Err(Fault);
        }
        self.got.extend_from_slice(data);
        Ok(())
    }
}

#[test]
fn data_that_the_reader_cannot_store_stays_queued() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    let data = pattern(20_000);
    assert_eq!(client.try_send(&mut &data[..]), Ok(data.len()));
    wire.settle();
    let mut nothing = Faulty { got: Vec::new(), left: 0 };
    assert_eq!(server.try_recv(&mut nothing, RecvFlags::default()), Err(RecvError::Fault(Fault)));
    assert_eq!(server.recv_queue_len(), data.len());
    let mut some = Faulty { got: Vec::new(), left: 1 };
    let first = server.try_recv(&mut some, RecvFlags::default()).unwrap();
    assert_eq!((first, server.recv_queue_len()), (some.got.len(), data.len() - first));
    let rest = read_available(&server);
    assert!([some.got, rest].concat() == data, "the data differs");
    // Also at the end of the stream, and with an empty queue before it.
    assert_eq!(client.try_send(&mut &b"last"[..]), Ok(4));
    client.shutdown(Shutdown::Write).unwrap();
    wire.settle();
    let mut nothing = Faulty { got: Vec::new(), left: 0 };
    assert_eq!(server.try_recv(&mut nothing, RecvFlags::default()), Err(RecvError::Fault(Fault)));
    assert_eq!(read_available(&server), b"last");
}

#[test]
fn reset_behind_the_end_breaks_the_pipe() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    client.shutdown(Shutdown::Write).unwrap();
    wire.settle();
    assert_eq!(server.try_recv(&mut Vec::new(), RecvFlags::default()), Ok(0));
    client.abort();
    wire.settle();
    assert_eq!(server.try_recv(&mut Vec::new(), RecvFlags::default()), Ok(0), "the stream ended in order");
    let sent = server.try_send(&mut &b"x"[..]);
    assert_eq!(sent, Err(SendError::Pending(SocketError::BrokenPipe)));
    assert_eq!(server.take_error(), None);
}

#[test]
fn reset_reaches_the_peer() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    client.abort();
    wire.settle();
    let result = server.try_recv(&mut Vec::new(), RecvFlags::default());
    assert_eq!(result, Err(RecvError::Pending(SocketError::ConnectionReset)));
    assert_eq!(server.try_recv(&mut Vec::new(), RecvFlags::default()), Ok(0));
    assert_eq!(wire.a.stack.tcp_connections(), []);
    assert_eq!(wire.a.stack.stats().tcp_out_rsts, 1);
}

#[test]
fn observers_hear_of_everything() {
    let mut wire = Wire::new();
    let watch = |socket: &TcpSocket| {
        let seen = Arc::new(AtomicU32::new(0));
        let sink = Arc::clone(&seen);
        let observer = Arc::new(move |ready: Readiness| {
            sink.fetch_or(ready.bits(), Ordering::SeqCst);
        });
        socket.wait_queue().register(Readiness::all(), observer);
        move || Readiness::from_bits_truncate(seen.swap(0, Ordering::SeqCst))
    };
    let listener = wire.b.listen("10.0.0.2:80", 8);
    let heard_listener = watch(&listener);
    let client = TcpSocket::new(&wire.a.stack, Family::V4);
    let heard_client = watch(&client);
    client.connect("10.0.0.2:80".parse().unwrap()).unwrap();
    wire.settle();
    assert!(heard_listener().contains(Readiness::IN));
    assert!(heard_client().contains(Readiness::OUT));
    let (server, _) = listener.try_accept().unwrap();
    let heard_server = watch(&server);
    client.try_send(&mut &b"x"[..]).unwrap();
    wire.settle();
    assert_eq!(heard_server() & Readiness::IN, Readiness::IN);
    drop(client);
    wire.settle();
    assert!(heard_server().contains(Readiness::IN | Readiness::RDHUP));
}

#[test]
fn listeners_on_one_port_share_by_group_and_by_address() {
    let mut wire = Wire::new();
    let any = TcpSocket::new(&wire.b.stack, Family::V6);
    any.bind("[::]:80".parse().unwrap()).unwrap();
    any.listen(8).unwrap();
    let clients: Vec<_> = ["10.0.0.2:80", "[fd00::2]:80"].map(|address| wire.a.connect(address)).into();
    wire.settle();
    for _ in &clients {
        let (_, peer) = any.try_accept().unwrap();
        assert!(peer.is_ipv6());
    }
    let grouped = |_| {
        let socket = TcpSocket::new(&wire.b.stack, Family::V4);
        socket.set_options(|options| options.reuse_port = true);
        socket.bind("0.0.0.0:81".parse().unwrap()).unwrap();
        socket.listen(64).unwrap();
        socket
    };
    let group: Vec<_> = (0..2).map(grouped).collect();
    let clients: Vec<_> = (0..32).map(|_| wire.a.connect("10.0.0.2:81")).collect();
    wire.settle();
    let counts: Vec<_> = group.iter().map(|socket| socket.listen_queue_lens().0).collect();
    assert_eq!(counts.iter().sum::<usize>(), clients.len());
    assert!(counts.iter().all(|&count| count > 4), "{counts:?}");
}

#[test]
fn a_closed_listener_resets_what_waits() {
    let mut wire = Wire::new();
    let listener = wire.b.listen("10.0.0.2:80", 8);
    let client = wire.a.connect("10.0.0.2:80");
    wire.settle();
    drop(listener);
    wire.settle();
    assert_eq!(client.take_error(), Some(SocketError::ConnectionReset));
    assert_eq!(wire.b.stack.tcp_connections(), []);
    assert_eq!(wire.b.stack.stats().tcp_out_rsts, 1);
    let rebound = wire.b.listen("10.0.0.2:80", 8);
    drop(rebound);
}

#[test]
fn ports_of_connections_are_held_against_new_binders() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    let bind = |reuse: bool| {
        let socket = TcpSocket::new(&wire.b.stack, Family::V4);
        socket.set_options(|options| options.reuse_address = reuse);
        socket.bind("10.0.0.2:80".parse().unwrap())
    };
    assert_eq!(bind(false), Err(BindError::AddressInUse));
    drop((client, server));
    wire.settle();
    wire.run(Duration::from_secs(61));
    let socket = TcpSocket::new(&wire.b.stack, Family::V4);
    assert_eq!(socket.bind("10.0.0.2:80".parse().unwrap()), Ok(()));
}

#[test]
fn data_survives_a_lossy_wire() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    let data = pattern(400_000);
    let (mut rest, mut received) = (&data[..], Vec::new());
    let mut count = 0_u32;
    for _ in 0..60_000 {
        if let Ok(sent) = client.try_send(&mut &rest[..]) {
            rest = &rest[sent..];
        }
        let next = wire.a.stack.now() + Duration::from_millis(1);
        wire.advance_to(next);
        wire.settle_with(|_, _| {
            count += 1;
            !count.is_multiple_of(29)
        });
        received.extend(read_available(&server));
        if received.len() == data.len() {
            break;
        }
    }
    assert!(received == data, "{} of {} bytes", received.len(), data.len());
}

#[test]
fn a_narrow_path_is_discovered_by_icmp() {
    let mut wire = Wire::new();
    let (client, server) = pair(&mut wire, "10.0.0.2:80");
    let data = pattern(100_000);
    let (mut rest, mut received) = (&data[..], Vec::new());
    for _ in 0..5000 {
        if let Ok(sent) = client.try_send(&mut &rest[..]) {
            rest = &rest[sent..];
        }
        let next = wire.a.stack.now() + Duration::from_millis(1);
        wire.advance_to(next);
        // A router in between carries 1000 bytes and says so.
        let mut too_big = Vec::new();
        wire.settle_with(|from, frame| {
            let passes = from != 1 || frame.len() <= 1014;
            if !passes {
                too_big.push(frame.to_vec());
            }
            passes
        });
        for frame in too_big {
            wire.a.stack.inject(wire.a.nic, fragmentation_needed(&frame, 1000));
        }
        received.extend(read_available(&server));
        if received.len() == data.len() {
            break;
        }
    }
    assert!(received == data, "{} of {} bytes", received.len(), data.len());
    assert_eq!(client.info().unwrap().path_mss, 960);
}

/// What a router answers to a frame that does not fit.
fn fragmentation_needed(frame: &[u8], mtu: u16) -> Vec<u8> {
    use netstack::wire::checksum;
    use netstack::wire::icmpv4::{FRAGMENTATION_NEEDED, Icmpv4Message};
    use netstack::wire::ip::Protocol;
    use netstack::wire::ipv4::Ipv4Repr;
    let quoted = &frame[14..14 + 28];
    let repr = Ipv4Repr {
        source: "10.0.0.254".parse().unwrap(),
        destination: "10.0.0.1".parse().unwrap(),
        protocol: Protocol::ICMP,
        ttl: 60,
        tos: 0,
        ident: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        options_len: 0,
        payload_len: 8 + 28,
    };
    let mut out = vec![0; 14 + 20 + 8];
    out[..6].copy_from_slice(&frame[6..12]);
    out[6..12].copy_from_slice(&frame[..6]);
    out[12] = 8;
    repr.emit(&mut out[14..]);
    Icmpv4Message::Unreachable { code: FRAGMENTATION_NEEDED, mtu }.emit(&mut out[34..]);
    out.extend_from_slice(quoted);
    let sum = !checksum::sum(&out[34..]);
    out[36..38].copy_from_slice(&sum.to_be_bytes());
    out
}

/// Few bytes to and fro, with pauses and an answer that comes late; what the wire saw and how the stacks counted it.
fn small_exchange(
    address: &str,
    prepare: impl FnOnce(&Wire) -> Vec<PacketSocket>,
) -> (Vec<(u8, Vec<u8>)>, String) {
    let mut wire = Wire::new();
    let watchers = prepare(&wire);
    let (client, server) = pair(&mut wire, address);
    for socket in [&client, &server] {
        socket.set_tcp_options(|options| options.no_delay = true);
    }
    for round in 1..=40_u8 {
        let bytes = pattern(usize::from(round % 9) * 16 + 1);
        for (from, to) in [(&client, &server), (&server, &client)] {
            assert_eq!(from.try_send(&mut &bytes[..]), Ok(bytes.len()));
            if round % 5 == 0 {
                assert_eq!(from.try_send(&mut &b"more"[..]), Ok(4));
            }
            wire.settle();
            let expected = [&bytes[..], if round % 5 == 0 { b"more" } else { b"" }].concat();
            assert_eq!(read_available(to), expected);
            wire.run(Duration::from_millis(if round % 7 == 0 { 250 } else { 1 }));
        }
    }
    drop(watchers);
    let counted = [&wire.a.stack, &wire.b.stack].map(Stack::stats);
    (wire.seen, format!("{counted:?}"))
}

#[test]
fn short_ways_and_long_ones_make_the_same_frames_and_counts() {
    for address in ["10.0.0.2:80", "[fd00::2]:80"] {
        let short = small_exchange(address, |_| Vec::new());
        // Whoever watches all packets makes them take the long way through IP.
        let watch = |stack: &Stack| PacketSocket::new(stack, PacketMode::Raw, EtherType(3));
        let long = small_exchange(address, |wire| vec![watch(&wire.a.stack), watch(&wire.b.stack)]);
        assert_eq!(short.0.len(), long.0.len());
        for (index, (short, long)) in short.0.iter().zip(&long.0).enumerate() {
            assert_eq!(short, long, "frame {index} of {address}");
        }
        assert_eq!(short.1, long.1, "{address}");
    }
}
