//! Forwarders: host B decides about flows of host A to addresses that neither of them has.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::{Host, Wire, read_available, recv};
use netstack::error::{ConfigError, SocketError};
use netstack::forward::{ForwardOptions, Forwarded, Forwarder, Request, TcpRequest, UdpRequest, Unreachable};
use netstack::options::{Family, SendMeta};
use netstack::route::Route;
use netstack::tcp::State;
use netstack::{PingSocket, TcpSocket};

/// A wire where A has default routes to B.
fn wire() -> Wire {
    let wire = Wire::new();
    for (everywhere, gateway) in [("0.0.0.0/0", "10.0.0.2"), ("::/0", "fd00::2")] {
        let route = Route::via(everywhere.parse().unwrap(), gateway.parse().unwrap(), wire.a.nic);
        wire.a.stack.add_route(route).unwrap();
    }
    wire
}

fn forwarder(host: &Host) -> Forwarder {
    Forwarder::new(&host.stack, host.nic, ForwardOptions::default()).unwrap()
}

#[track_caller]
fn next_tcp(forwarder: &Forwarder) -> TcpRequest {
    match forwarder.next() {
        Some(Request::Tcp(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn next_udp(forwarder: &Forwarder) -> UdpRequest {
    match forwarder.next() {
        Some(Request::Udp(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn handshake_completes_only_when_the_program_accepts() {
    for remote in ["192.0.2.7:80", "[2001:db8::7]:80"] {
        let mut wire = wire();
        let forwarder = forwarder(&wire.b);
        let client = wire.a.connect(remote);
        wire.settle();
        let request = next_tcp(&forwarder);
        assert_eq!(request.to(), address(remote));
        assert_eq!(request.from(), client.local_addr());
        // The SYN comes again while the program makes up its mind, and is no second request.
        wire.run(Duration::from_millis(3500));
        assert_eq!(client.state(), State::SynSent);
        assert!(forwarder.next().is_none());
        let server = request.accept().unwrap();
        wire.settle();
        assert_eq!((client.state(), server.state()), (State::Established, State::Established));
        assert_eq!(server.local_addr(), address(remote));
        client.try_send(&mut &b"question"[..]).unwrap();
        server.try_send(&mut &b"answer"[..]).unwrap();
        wire.settle();
        assert_eq!(read_available(&server), b"question");
        assert_eq!(read_available(&client), b"answer");
        client.close();
        wire.settle();
        server.close();
        wire.run(Duration::from_millis(100));
        assert_eq!(wire.b.stack.tcp_connections().len(), 0);
    }
}

#[test]
fn lost_syn_ack_of_an_accepted_connection_is_repeated() {
    let mut wire = wire();
    let forwarder = forwarder(&wire.b);
    let client = wire.a.connect("192.0.2.7:80");
    wire.settle();
    let server = next_tcp(&forwarder).accept().unwrap();
    wire.settle_with(|from, _| from == 1);
    assert_eq!((client.state(), server.state()), (State::SynSent, State::SynReceived));
    wire.run(Duration::from_millis(1500));
    assert_eq!((client.state(), server.state()), (State::Established, State::Established));
}

#[test]
fn refused_and_rejected_connections_say_why() {
    let cases: [(fn(TcpRequest), SocketError); 4] = [
        (TcpRequest::refuse, SocketError::ConnectionRefused),
        (|request| request.reject(Unreachable::Host), SocketError::HostUnreachable),
        (|request| request.reject(Unreachable::Network), SocketError::NetworkUnreachable),
        (|request| request.reject(Unreachable::Port), SocketError::ConnectionRefused),
    ];
    for (decide, expected) in cases {
        for remote in ["192.0.2.7:80", "[2001:db8::7]:80"] {
            let mut wire = wire();
            let forwarder = forwarder(&wire.b);
            let client = wire.a.connect(remote);
            wire.settle();
            decide(next_tcp(&forwarder));
            wire.settle();
            assert_eq!(client.take_error(), Some(expected), "{remote}");
        }
    }
}

#[test]
fn ignored_syn_is_asked_about_again() {
    let mut wire = wire();
    let forwarder = forwarder(&wire.b);
    let client = wire.a.connect("192.0.2.7:80");
    wire.settle();
    drop(next_tcp(&forwarder));
    wire.settle();
    assert_eq!(client.state(), State::SynSent);
    wire.run(Duration::from_millis(1100));
    drop(next_tcp(&forwarder).accept().unwrap());
}

#[test]
fn pending_requests_are_bounded_and_counted() {
    let mut wire = wire();
    let options = ForwardOptions { max_pending: 2, ..ForwardOptions::default() };
    let forwarder = Forwarder::new(&wire.b.stack, wire.b.nic, options).unwrap();
    let clients: Vec<TcpSocket> = (0..5).map(|_| wire.a.connect("192.0.2.7:80")).collect();
    wire.settle();
    assert_eq!(forwarder.dropped(), 3);
    let taken = [next_tcp(&forwarder), next_tcp(&forwarder)];
    assert!(forwarder.next().is_none());
    // Taken and undecided ones count.
    wire.run(Duration::from_millis(1100));
    assert!(forwarder.next().is_none());
    drop(taken);
    wire.run(Duration::from_millis(2100));
    assert!(forwarder.next().is_some());
    drop(clients);
}

#[test]
fn local_sockets_and_addresses_come_first() {
    let mut wire = wire();
    let forwarder = forwarder(&wire.b);
    let listener = wire.b.listen("10.0.0.2:80", 8);
    let client = wire.a.connect("10.0.0.2:80");
    let ping = PingSocket::new(&wire.a.stack, Family::V4);
    ping.connect(address("10.0.0.2:0")).unwrap();
    ping.try_send(&mut &[8, 0, 0, 0, 0, 0, 0, 1][..], &SendMeta::default()).unwrap();
    wire.settle();
    assert!(forwarder.next().is_none());
    assert_eq!(client.state(), State::Established);
    assert!(listener.try_accept().is_ok());
    // Its other ports are asked about.
    let other = wire.a.connect("10.0.0.2:81");
    wire.settle();
    next_tcp(&forwarder).refuse();
    wire.settle();
    assert_eq!(other.take_error(), Some(SocketError::ConnectionRefused));
}

#[test]
fn datagrams_can_be_answered_accepted_and_rejected() {
    for (local, remote) in [("0.0.0.0:0", "192.0.2.7:53"), ("[::]:0", "[2001:db8::7]:53")] {
        let mut wire = wire();
        let forwarder = forwarder(&wire.b);
        let client = wire.a.udp(local);
        client.connect(address(remote)).unwrap();
        let send = |data: &[u8]| client.try_send(&mut &data[..], &SendMeta::default()).unwrap();
        send(b"first");
        wire.settle();
        let request = next_udp(&forwarder);
        assert_eq!((request.from(), request.to()), (client.local_addr(), address(remote)));
        assert_eq!(request.payload().concat(), b"first");
        let (to, from) = (request.from(), request.to());
        forwarder.send_udp(from, to, Bytes::from_static(b"reply")).unwrap();
        wire.settle();
        let (data, datagram) = recv(&client);
        assert_eq!((&data[..], datagram.from), (&b"reply"[..], address(remote)));

        request.reject(Unreachable::Port);
        wire.settle();
        assert_eq!(client.take_error(), Some(SocketError::ConnectionRefused));

        send(b"second");
        wire.settle();
        let server = next_udp(&forwarder).accept().unwrap();
        send(b"third");
        wire.settle();
        assert_eq!(recv(&server).0, b"second");
        assert_eq!(recv(&server).0, b"third");
        assert!(forwarder.next().is_none());
        server.try_send(&mut &b"from the socket"[..], &SendMeta::default()).unwrap();
        wire.settle();
        assert_eq!(recv(&client).0, b"from the socket");
        // Another flow to the same port is another request.
        let other = wire.a.udp(local);
        other.connect(address(remote)).unwrap();
        other.try_send(&mut &b"other"[..], &SendMeta::default()).unwrap();
        wire.settle();
        let other_server = next_udp(&forwarder).accept().unwrap();
        assert_eq!(recv(&other_server).0, b"other");
    }
}

#[test]
fn echo_requests_to_foreign_addresses_are_asked_about() {
    for (family, remote) in [(Family::V4, "192.0.2.7:0"), (Family::V6, "[2001:db8::7]:0")] {
        let mut wire = wire();
        let forwarder = forwarder(&wire.b);
        let ping = PingSocket::new(&wire.a.stack, family);
        ping.connect(address(remote)).unwrap();
        let kind = if family == Family::V4 { 8 } else { 128 };
        let message = [kind, 0, 0, 0, 0, 0, 0, 9, b'd', b'a', b't', b'a'];
        ping.try_send(&mut &message[..], &SendMeta::default()).unwrap();
        wire.settle();
        let Some(Request::Echo(request)) = forwarder.next() else { panic!("no echo request") };
        assert_eq!((request.to(), request.sequence()), (address(remote).ip(), 9));
        assert_eq!(&request.payload()[..], b"data");
        request.reply();
        wire.settle();
        let mut answer = Vec::new();
        let datagram = ping.try_recv(&mut answer, Default::default()).unwrap();
        assert_eq!(datagram.from.ip(), address(remote).ip());
        assert_eq!(&answer[8..], b"data");
    }
}

#[test]
fn without_a_forwarder_the_host_is_an_ordinary_one() {
    let mut wire = wire();
    let forwarder = forwarder(&wire.b);
    let twice = Forwarder::new(&wire.b.stack, wire.b.nic, ForwardOptions::default());
    assert_eq!(twice.err(), Some(ConfigError::Exists));
    drop(forwarder);
    let client = wire.a.connect("192.0.2.7:80");
    wire.settle();
    assert_eq!(client.state(), State::SynSent);
    assert_eq!(wire.b.stack.stats().ip_in_not_ours, 1);
    let only_udp = ForwardOptions { kinds: Forwarded::UDP, ..ForwardOptions::default() };
    let forwarder = Forwarder::new(&wire.b.stack, wire.b.nic, only_udp).unwrap();
    let refused = wire.a.connect("192.0.2.7:81");
    wire.settle();
    assert_eq!(refused.take_error(), Some(SocketError::ConnectionRefused));
    assert!(forwarder.next().is_none());
}

#[test]
fn reopened_flow_in_time_wait_is_asked_about() {
    let mut wire = wire();
    let forwarder = forwarder(&wire.b);
    let client = TcpSocket::new(&wire.a.stack, Family::V4);
    client.bind(address("10.0.0.1:4000")).unwrap();
    client.connect(address("192.0.2.7:80")).unwrap();
    wire.settle();
    let server = next_tcp(&forwarder).accept().unwrap();
    wire.settle();
    // The server closes first, so that TIME-WAIT is on its side.
    server.close();
    wire.settle();
    client.close();
    wire.run(Duration::from_millis(100));
    assert_eq!(wire.b.stack.tcp_connections().len(), 1);
    let again = TcpSocket::new(&wire.a.stack, Family::V4);
    again.bind(address("10.0.0.1:4000")).unwrap();
    again.connect(address("192.0.2.7:80")).unwrap();
    wire.settle();
    let server = next_tcp(&forwarder).accept().unwrap();
    wire.settle();
    assert_eq!((again.state(), server.state()), (State::Established, State::Established));
}
