//! The sockets of `netstack::net` on real threads, as a program that knows `std::net` would use them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use netstack::error::SocketError;
use netstack::net::{RawSocket, TcpListener, TcpStream, UdpSocket};
use netstack::options::{Family, SendMeta};
use netstack::{Driver, Stack};

fn host() -> (Stack, Driver) {
    let stack = Stack::builder().build();
    let driver = Driver::start(&stack).unwrap();
    (stack, driver)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 251) as u8 ^ index as u8).collect()
}

/// Both ends of a connection.
fn connected(stack: &Stack) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(stack, "127.0.0.1:0").unwrap();
    let client = TcpStream::connect(stack, listener.local_addr()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr());
    assert_eq!(server.peer_addr().unwrap(), peer);
    (client, server)
}

#[test]
fn streams_carry_a_megabyte_each_way_at_once() {
    let (stack, _driver) = host();
    let (client, server) = connected(&stack);
    let data = pattern(1 << 20);
    thread::scope(|scope| {
        for stream in [client, server] {
            let mut writer = stream.clone();
            let data = &data;
            scope.spawn(move || {
                writer.write_all(data).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut received = Vec::new();
                (&stream).read_to_end(&mut received).unwrap();
                assert!(received == *data, "the data differs");
            });
        }
    });
}

#[test]
fn many_addresses_are_tried_and_the_last_failure_is_told() {
    let (stack, _driver) = host();
    let listener = TcpListener::bind(&stack, "127.0.0.1:80").unwrap();
    let addresses: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), listener.local_addr()];
    let stream = TcpStream::connect(&stack, &addresses[..]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addresses[1]);

    let error = TcpStream::connect(&stack, "127.0.0.1:1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<SocketError>());
    assert_eq!(cause, Some(&SocketError::ConnectionRefused));
}

#[test]
fn waiting_ends_when_its_time_is_over() {
    let (stack, _driver) = host();
    let listener = TcpListener::bind(&stack, "127.0.0.1:0").unwrap();
    listener.set_accept_timeout(Some(Duration::from_millis(30))).unwrap();
    let start = Instant::now();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(30));

    let (client, _server) = connected(&stack);
    client.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    assert_eq!((&client).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    client.set_write_timeout(Some(Duration::from_millis(30))).unwrap();
    let full = (&client).write_all(&vec![0; 64 << 20]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::TimedOut);

    let zero = client.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(zero.kind(), ErrorKind::InvalidInput);
}

#[test]
fn nonblocking_handles_never_wait() {
    let (stack, _driver) = host();
    let (client, server) = connected(&stack);
    client.set_nonblocking(true);
    assert_eq!((&client).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    (&server).write_all(b"now").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(client.peek(&mut buffer).unwrap(), 3);
    assert_eq!((&client).read(&mut buffer).unwrap(), 3);
    assert_eq!(&buffer[..3], b"now");
}

#[test]
fn a_reset_is_an_error_of_the_next_read() {
    let (stack, _driver) = host();
    let (client, server) = connected(&stack);
    server.socket().abort();
    assert_eq!((&client).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!((&client).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn datagrams_keep_their_boundaries() {
    let (stack, _driver) = host();
    let server = UdpSocket::bind(&stack, "127.0.0.1:0").unwrap();
    let client = UdpSocket::bind(&stack, "127.0.0.1:0").unwrap();
    client.connect(server.local_addr()).unwrap();
    assert_eq!(client.send(b"first").unwrap(), 5);
    let two = SendMeta { segment_size: Some(4), ..SendMeta::default() };
    assert_eq!(client.send_datagram(b"2222333", &two).unwrap(), 7);
    let mut buffer = [0; 16];
    assert_eq!(server.peek_from(&mut buffer).unwrap(), (5, client.local_addr()));
    for expected in [&b"first"[..], b"2222", b"333"] {
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], from), (expected, client.local_addr()));
    }
    let waiter = thread::spawn(move || server.recv_datagram(&mut [0; 2]).unwrap());
    client.send(b"long").unwrap();
    let datagram = waiter.join().unwrap();
    assert_eq!((datagram.copied, datagram.len), (2, 4));
}

#[test]
fn an_unreachable_port_is_told_to_a_connected_datagram_socket() {
    let (stack, _driver) = host();
    let client = UdpSocket::bind(&stack, "127.0.0.1:0").unwrap();
    client.connect("127.0.0.1:9").unwrap();
    client.send(b"?").unwrap();
    assert_eq!(client.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let denied = client.send_to(b"?", "255.255.255.255:9").unwrap_err();
    assert!(matches!(denied.kind(), ErrorKind::PermissionDenied | ErrorKind::NetworkUnreachable), "{denied}");
}

#[test]
fn raw_sockets_see_whole_ipv4_packets() {
    let (stack, _driver) = host();
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // 253 is for experiments (RFC 3692).
    let receiver = RawSocket::new(&stack, Family::V4, 253);
    receiver.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let sender = RawSocket::new(&stack, Family::V4, 253);
    sender.send_to(b"payload", here).unwrap();
    let mut buffer = [0; 64];
    let (count, from) = receiver.recv_from(&mut buffer).unwrap();
    assert_eq!((count, from), (27, here));
    assert_eq!(&buffer[20..count], b"payload");
}
