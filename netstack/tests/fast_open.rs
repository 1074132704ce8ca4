//! TCP Fast Open (RFC 7413) between two stacks: cookies, data in SYNs, and every way in which that does not work out.

mod common;

use std::time::Duration;

use common::{Wire, family_of, pattern, read_available};
use netstack::TcpSocket;
use netstack::error::AcceptError;
use netstack::packet::Packet;
use netstack::tcp::{FastOpenModes, State};
use netstack::wire::tcp::{TcpFlags, TcpRepr, TcpView};

const SERVER: &str = "10.0.0.2:80";
const ACK: TcpFlags = TcpFlags::ACK;

/// A wire whose hosts allow it, and a listener that takes `queue` connections at a time.
fn wire(queue: u32) -> (Wire, TcpSocket) {
    let wire = Wire::new();
    for host in [&wire.a, &wire.b] {
        let mut config = (*host.stack.tcp_config()).clone();
        config.fast_open = FastOpenModes::CLIENT | FastOpenModes::SERVER;
        host.stack.set_tcp_config(config);
    }
    let listener = TcpSocket::new(&wire.b.stack, family_of(SERVER.parse().unwrap()));
    listener.set_tcp_options(|options| options.fast_open_queue = Some(queue));
    listener.bind(SERVER.parse().unwrap()).unwrap();
    listener.listen(16).unwrap();
    (wire, listener)
}

/// Connects and sends `data`, in the SYN if possible; how much of it the stack took.
fn connect(wire: &Wire, data: &[u8]) -> (TcpSocket, usize) {
    let socket = TcpSocket::new(&wire.a.stack, family_of(SERVER.parse().unwrap()));
    let taken = socket.connect_with_data(SERVER.parse().unwrap(), &mut &*data).unwrap();
    (socket, taken)
}

/// The first connection, which brings the cookie.
fn learn(wire: &mut Wire, listener: &TcpSocket) {
    let (client, taken) = connect(wire, b"too early");
    assert_eq!(taken, 0);
    wire.settle();
    let (server, _) = listener.try_accept().unwrap();
    drop((client, server));
    wire.settle();
    wire.seen.clear();
}

/// The TCP segments of a host: header and payload length.
fn segments(wire: &Wire, host: u8) -> Vec<(TcpRepr, usize)> {
    let own = wire.seen.iter().filter(|(sender, frame)| *sender == host && frame[12..14] == [8, 0]);
    own.map(|(_, frame)| tcp(&frame[14..])).collect()
}

fn tcp(packet: &[u8]) -> (TcpRepr, usize) {
    let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let segment = &packet[20..len];
    let view = TcpView::new(segment).unwrap();
    (TcpRepr::parse(&view), segment.len() - usize::from(segment[12] >> 4) * 4)
}

fn is_from(host: u8, flags: TcpFlags) -> impl Fn(u8, &Packet) -> bool {
    move |sender, frame| {
        let bytes = frame.to_vec();
        sender == host && bytes[12..14] == [8, 0] && tcp(&bytes[14..]).0.flags == flags
    }
}

#[test]
fn the_second_connection_delivers_data_before_the_handshake_ends() {
    let (mut wire, listener) = wire(8);
    learn(&mut wire, &listener);
    let (client, taken) = connect(&wire, b"GET /");
    assert_eq!(taken, 5);
    // Nothing but the SYN gets through.
    wire.settle_with(|sender, _| sender == 1);
    let (server, _) = listener.try_accept().unwrap();
    assert_eq!(server.state(), State::SynReceived);
    assert_eq!(read_available(&server), b"GET /");
    // The answer follows the SYN-ACK at once; the client's ACK is not waited for.
    assert_eq!(server.try_send(&mut &b"200 OK"[..]).unwrap(), 6);
    wire.run(Duration::from_millis(1500));
    assert_eq!(read_available(&client), b"200 OK");
    assert_eq!((client.state(), server.state()), (State::Established, State::Established));
    assert_eq!(wire.a.stack.stats().tcp_fast_open_active, 1);
    assert_eq!(wire.b.stack.stats().tcp_fast_open_passive, 1);
}

#[test]
fn the_syn_carries_cookie_and_data_and_the_syn_ack_acknowledges_both() {
    let (mut wire, listener) = wire(8);
    let (_socket, _) = connect(&wire, b"");
    wire.settle();
    let (request, _) = segments(&wire, 1)[0];
    assert!(request.options.fast_open.unwrap().is_request());
    let (grant, _) = segments(&wire, 2)[0];
    let cookie = grant.options.fast_open.unwrap();
    assert_eq!(cookie.as_slice().len(), 8);
    let _server = listener.try_accept().unwrap();

    wire.seen.clear();
    let (_socket, _) = connect(&wire, b"hello");
    wire.settle();
    let (syn, len) = segments(&wire, 1)[0];
    assert_eq!((syn.flags, syn.options.fast_open, len), (TcpFlags::SYN, Some(cookie), 5));
    let (syn_ack, _) = segments(&wire, 2)[0];
    assert_eq!((syn_ack.flags, syn_ack.ack), (TcpFlags::SYN | ACK, syn.seq + 6));
    assert_eq!(syn_ack.options.fast_open, None);
    assert_eq!(read_available(&listener.try_accept().unwrap().0), b"hello");
}

#[test]
fn what_the_syn_has_no_room_for_follows() {
    let (mut wire, listener) = wire(8);
    learn(&mut wire, &listener);
    let data = pattern(20_000);
    let (client, taken) = connect(&wire, &data);
    // One segment's worth was taken, of which 40 bytes had to make room for options.
    assert_eq!(taken, 1460);
    wire.settle();
    assert_eq!(segments(&wire, 1)[0].1, 1420);
    let (server, _) = listener.try_accept().unwrap();
    let (mut sent, mut received) = (taken, read_available(&server));
    while received.len() < data.len() {
        sent += client.try_send(&mut &data[sent..]).unwrap_or(0);
        wire.settle();
        received.extend(read_available(&server));
    }
    assert!(received == data);
}

#[test]
fn a_lost_syn_is_repeated_without_data_which_follows_the_handshake() {
    let (mut wire, listener) = wire(8);
    learn(&mut wire, &listener);
    let (client, _) = connect(&wire, b"once more");
    wire.settle_with(|sender, _| sender != 1);
    wire.run(Duration::from_millis(1100));
    let (again, len) = segments(&wire, 1)[1];
    assert_eq!((again.flags, again.options.fast_open, len), (TcpFlags::SYN, None, 0));
    let (server, _) = listener.try_accept().unwrap();
    assert_eq!(read_available(&server), b"once more");
    assert_eq!(client.state(), State::Established);
}

#[test]
fn a_lost_syn_ack_is_repeated_by_timer_and_by_the_syn() {
    let (mut wire, listener) = wire(8);
    learn(&mut wire, &listener);
    let (_client, _) = connect(&wire, b"data");
    wire.settle_with(|sender, _| sender == 1);
    let (server, _) = listener.try_accept().unwrap();
    wire.run(Duration::from_millis(1100));
    assert_eq!(server.state(), State::Established);
    // Once, although the plain SYN came again.
    assert_eq!(read_available(&server), b"data");
}

#[test]
fn a_server_that_forgot_its_key_grants_a_new_cookie_and_the_data_follows() {
    let (mut wire, listener) = wire(8);
    learn(&mut wire, &listener);
    let (client, _) = connect(&wire, b"patience");
    // As if the cookie were another server's.
    let forged: Vec<Packet> = wire.a.link.take();
    let mut bytes = forged[0].to_vec();
    let at = bytes.windows(2).position(|pair| pair == [34, 10]).unwrap() + 2;
    bytes[at] ^= 0xff;
    let mut packet = Packet::from_frame(bytes.into());
    packet.meta.checksum = netstack::packet::Checksum::Verified;
    wire.b.stack.deliver(wire.b.nic, &mut vec![packet]);
    wire.settle();
    let (syn_ack, _) = segments(&wire, 2)[0];
    assert!(syn_ack.options.fast_open.is_some());
    let (server, _) = listener.try_accept().unwrap();
    assert_eq!(read_available(&server), b"patience");
    assert_eq!(client.state(), State::Established);
    assert_eq!(wire.b.stack.stats().tcp_fast_open_passive, 0);
}

#[test]
fn no_more_connections_than_the_queue_holds_are_opened_early() {
    let (mut wire, listener) = wire(2);
    learn(&mut wire, &listener);
    let clients: Vec<_> = (0..3).map(|_| connect(&wire, b"x").0).collect();
    wire.settle_with(|sender, _| sender == 1);
    let _servers = [listener.try_accept().unwrap(), listener.try_accept().unwrap()];
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::WouldBlock);
    wire.run(Duration::from_millis(1100));
    // The third took the ordinary way, and there is room again.
    assert_eq!(read_available(&listener.try_accept().unwrap().0), b"x");
    assert!(clients.iter().all(|client| client.state() == State::Established));
    let (_fourth, _) = connect(&wire, b"x");
    wire.settle_with(|sender, _| sender == 1);
    assert_eq!(listener.try_accept().unwrap().0.state(), State::SynReceived);
}

#[test]
fn nothing_is_opened_early_where_it_is_off() {
    let (mut wire, listener) = wire(8);
    learn(&mut wire, &listener);
    listener.set_tcp_options(|options| options.fast_open_queue = None);
    let (client, taken) = connect(&wire, b"data");
    assert_eq!(taken, 4);
    wire.settle_with(|sender, _| sender == 1);
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::WouldBlock);
    wire.run(Duration::from_millis(1100));
    assert_eq!(read_available(&listener.try_accept().unwrap().0), b"data");
    assert_eq!(client.state(), State::Established);
}

#[test]
fn a_reset_ends_what_was_opened_early() {
    let (mut wire, listener) = wire(8);
    learn(&mut wire, &listener);
    let (client, _) = connect(&wire, b"data");
    wire.settle_with(|sender, frame| sender == 1 && !is_from(1, TcpFlags::RST | ACK)(sender, frame));
    let (server, _) = listener.try_accept().unwrap();
    client.abort();
    wire.run(Duration::from_millis(3500));
    // The client has forgotten the flow, so it answers the repeated SYN-ACK with a reset.
    assert_eq!(server.state(), State::Closed);
    assert_eq!(read_available(&server), b"data");
}

#[test]
fn the_queue_bounds_data_without_a_cookie_as_well() {
    let (mut wire, listener) = wire(2);
    let all = FastOpenModes::all();
    for host in [&wire.a, &wire.b] {
        let mut config = (*host.stack.tcp_config()).clone();
        config.fast_open = all;
        host.stack.set_tcp_config(config);
    }
    drop(listener);
    let listener = TcpSocket::new(&wire.b.stack, family_of(SERVER.parse().unwrap()));
    listener.set_tcp_options(|options| options.fast_open_queue = Some(2));
    listener.bind(SERVER.parse().unwrap()).unwrap();
    listener.listen(16).unwrap();
    let clients: Vec<_> = (0..5).map(|_| connect(&wire, b"x").0).collect();
    // The server's segments are lost, its ARP replies are not.
    wire.settle_with(|sender, frame| sender == 1 || frame.to_vec()[12..14] != [8, 0]);
    assert_eq!(wire.b.stack.stats().tcp_fast_open_passive, 2);
    wire.run(Duration::from_millis(3500));
    for _ in &clients {
        assert_eq!(read_available(&listener.try_accept().unwrap().0), b"x");
    }
}
