//! Internet sockets over the loopback of a stack of their own, against what Linux 6.18 was seen to do.

use netstack::Stack;
use sentry_abi::inet::{IPPROTO_TCP, IPPROTO_UDP};

use super::*;
use crate::io::{SliceDst, SliceSrc};
use crate::socket::control::ControlMessage;
use crate::socket::ops::Destination;

const ME: Ucred = Ucred { pid: 7, uid: 1000, gid: 100 };

fn namespace() -> Arc<NetNamespace> {
    NetNamespace::new(Stack::builder().build())
}

fn tcp(namespace: &Arc<NetNamespace>, family: IpFamily) -> Arc<InetSocket> {
    InetSocket::new(namespace.clone(), family, Transport::Tcp, IPPROTO_TCP, ME)
}

fn udp(namespace: &Arc<NetNamespace>, family: IpFamily) -> Arc<InetSocket> {
    InetSocket::new(namespace.clone(), family, Transport::Udp, IPPROTO_UDP, ME)
}

fn address(family: IpFamily, text: &str) -> RawAddr {
    address::encode(family, text.parse().unwrap())
}

fn bind(socket: &InetSocket, text: &str) {
    socket.bind_local(text.parse().unwrap()).unwrap();
}

fn listener(namespace: &Arc<NetNamespace>, family: IpFamily, at: &str) -> Arc<InetSocket> {
    let socket = tcp(namespace, family);
    bind(&socket, at);
    socket.tcp().unwrap().listen(5).unwrap();
    socket
}

fn send(socket: &InetSocket, data: &[u8], to: Option<&[u8]>) -> Result<usize, Errno> {
    let to = to.map_or(Destination::Default, Destination::Address);
    let request = SendRequest {
        to,
        flags: MsgFlags::empty(),
        control: Vec::new(),
        sender: ME,
        in_flight: None,
        task: None,
    };
    socket.try_send(&mut SliceSrc::new(data), &request)
}

fn recv_full(socket: &InetSocket, room: usize, flags: MsgFlags) -> Result<(Vec<u8>, Received), Errno> {
    let mut buf = vec![0; room];
    let request = RecvRequest { flags, wants_address: true, wants_control: true };
    let received = socket.try_recv(&mut SliceDst::new(&mut buf), request)?;
    buf.truncate(received.copied);
    Ok((buf, received))
}

fn recv(socket: &InetSocket, room: usize) -> Result<Vec<u8>, Errno> {
    recv_full(socket, room, MsgFlags::empty()).map(|(data, _)| data)
}

/// Connects as a blocking call does.
fn connect(socket: &InetSocket, to: &[u8]) -> Result<(), Errno> {
    assert_eq!(socket.connect_to(to), Err(Errno::EINPROGRESS));
    socket.connect_result()
}

/// A connected pair: the client and what the listener accepted.
fn connected(namespace: &Arc<NetNamespace>) -> (Arc<InetSocket>, Arc<dyn Socket>) {
    let server = listener(namespace, IpFamily::V4, "127.0.0.1:80");
    let client = tcp(namespace, IpFamily::V4);
    connect(&client, &address(IpFamily::V4, "127.0.0.1:80")).unwrap();
    let accepted = server.try_accept().unwrap();
    assert_eq!(accepted.peer, client.local_address().unwrap());
    (client, accepted.socket)
}

fn inet(socket: &Arc<dyn Socket>) -> &InetSocket {
    match socket.family() {
        Family::Inet(inet) => inet,
        _ => panic!("not an internet socket"),
    }
}

#[test]
fn a_new_tcp_socket_answers_as_on_linux() {
    let socket = tcp(&namespace(), IpFamily::V4);
    assert_eq!(recv(&socket, 1), Err(Errno::ENOTCONN));
    assert_eq!(send(&socket, b"x", None), Err(Errno::EPIPE));
    assert_eq!(socket.shutdown(ShutdownHow::Both), Err(Errno::ENOTCONN));
    assert_eq!(socket.try_accept().err(), Some(Errno::EINVAL));
    assert_eq!(socket.peer_address(), Err(Errno::ENOTCONN));
    assert_eq!(socket.local_address().unwrap(), address(IpFamily::V4, "0.0.0.0:0"));
    assert_eq!(socket.readiness(), Readiness::OUT | Readiness::HUP);
}

#[test]
fn a_stream_goes_both_ways_and_ends() {
    let namespace = namespace();
    let (client, server) = connected(&namespace);
    assert_eq!(send(&client, b"ping", None), Ok(4));
    assert_eq!(recv_full(inet(&server), 9, MsgFlags::PEEK).unwrap().0, b"ping");
    assert_eq!(recv(inet(&server), 2), Ok(b"pi".to_vec()));
    assert_eq!(recv_full(inet(&server), 9, MsgFlags::TRUNC).unwrap().1.copied, 2, "discarded");
    assert_eq!(recv(inet(&server), 9), Err(Errno::EAGAIN));
    assert_eq!(send(inet(&server), b"pong", None), Ok(4));
    server.shutdown(ShutdownHow::Write).unwrap();
    assert_eq!(recv(&client, 9), Ok(b"pong".to_vec()));
    assert_eq!(recv(&client, 9), Ok(vec![]));
    assert!(client.readiness().contains(Readiness::IN | Readiness::RDHUP | Readiness::OUT));
    assert_eq!(send(inet(&server), b"x", None), Err(Errno::EPIPE));
}

#[test]
fn connecting_again_reports_progress_as_on_linux() {
    let namespace = namespace();
    let _server = listener(&namespace, IpFamily::V4, "127.0.0.1:80");
    let client = tcp(&namespace, IpFamily::V4);
    let to = address(IpFamily::V4, "127.0.0.1:80");
    for want in [Err(Errno::EINPROGRESS), Ok(()), Err(Errno::EISCONN)] {
        assert_eq!(client.connect_to(&to), want);
    }
    let refused = tcp(&namespace, IpFamily::V4);
    let refused_at = address(IpFamily::V4, "127.0.0.1:81");
    assert_eq!(refused.connect_to(&refused_at), Err(Errno::EINPROGRESS));
    assert_eq!(refused.connect_to(&refused_at), Err(Errno::ECONNREFUSED));
    assert_eq!(refused.take_error(), None, "reported once");
}

#[test]
fn a_listener_cannot_be_read_or_connected() {
    let namespace = namespace();
    let server = listener(&namespace, IpFamily::V4, "127.0.0.1:80");
    assert!(server.is_listening());
    assert_eq!(server.readiness(), Readiness::empty());
    assert_eq!(recv(&server, 1), Err(Errno::ENOTCONN));
    assert_eq!(server.connect_to(&address(IpFamily::V4, "127.0.0.1:81")), Err(Errno::EISCONN));
    let other = tcp(&namespace, IpFamily::V4);
    assert_eq!(other.bind_local("127.0.0.1:80".parse().unwrap()), Err(Errno::EADDRINUSE));
    assert_eq!(other.bind_local("192.0.2.1:80".parse().unwrap()), Err(Errno::EADDRNOTAVAIL));
}

#[test]
fn a_dual_stack_listener_shows_mapped_peers() {
    let namespace = namespace();
    let server = listener(&namespace, IpFamily::V6, "[::]:80");
    let client = tcp(&namespace, IpFamily::V4);
    connect(&client, &address(IpFamily::V4, "127.0.0.1:80")).unwrap();
    let accepted = server.try_accept().unwrap();
    let port = client.local().port();
    assert_eq!(accepted.peer, address(IpFamily::V6, &format!("[::ffff:127.0.0.1]:{port}")));
    assert_eq!(accepted.socket.local_address().unwrap(), address(IpFamily::V6, "[::ffff:127.0.0.1]:80"));
}

#[test]
fn a_linger_of_zero_resets() {
    let namespace = namespace();
    let (client, server) = connected(&namespace);
    client.base().set(Switches::LINGER, true);
    client.close();
    assert_eq!(recv(inet(&server), 1), Err(Errno::ECONNRESET));
}

#[test]
fn udp_carries_datagrams_with_what_is_asked_for() {
    let namespace = namespace();
    let receiver = udp(&namespace, IpFamily::V4);
    bind(&receiver, "127.0.0.1:53");
    receiver.receive_switches().set(Receive::PKTINFO | Receive::TTL, true);
    receiver.base().set(Switches::TIMESTAMP, true);
    let sender = udp(&namespace, IpFamily::V4);
    assert_eq!(send(&sender, b"x", None), Err(Errno::EDESTADDRREQ));
    let to = address(IpFamily::V4, "127.0.0.1:53");
    assert_eq!(send(&sender, b"hello", Some(&to)), Ok(5));
    assert_eq!(send(&sender, b"", Some(&to)), Ok(0));
    let (data, received) = recv_full(&receiver, 3, MsgFlags::PEEK).unwrap();
    assert_eq!((data.as_slice(), received.len, received.flags), (&b"hel"[..], 5, MsgFlags::TRUNC));
    let from = format!("127.0.0.1:{}", sender.local().port());
    assert_eq!(received.from, address(IpFamily::V4, &from));
    let kinds: Vec<i32> = received
        .control
        .iter()
        .map(|message| match message {
            ControlMessage::Bytes { kind, .. } => *kind,
            _ => panic!("{message:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [sentry_abi::socket::SO_TIMESTAMP, sentry_abi::inet::IP_PKTINFO, sentry_abi::inet::IP_TTL]
    );
    assert_eq!(recv(&receiver, 9), Ok(b"hello".to_vec()));
    assert_eq!(recv(&receiver, 9), Ok(vec![]));
    assert_eq!(recv(&receiver, 9), Err(Errno::EAGAIN));
}

#[test]
fn udp_errors_are_those_of_linux() {
    let namespace = namespace();
    let socket = udp(&namespace, IpFamily::V4);
    let to = address(IpFamily::V4, "127.0.0.1:9");
    assert_eq!(send(&socket, &[0; 65508], Some(&to)), Err(Errno::EMSGSIZE));
    assert_eq!(send(&socket, b"x", Some(&address(IpFamily::V4, "127.0.0.1:0"))), Err(Errno::EINVAL));
    assert_eq!(send(&socket, b"x", Some(&address(IpFamily::V4, "192.0.2.1:9"))), Err(Errno::ENETUNREACH));
    assert_eq!(socket.shutdown(ShutdownHow::Both), Err(Errno::ENOTCONN));
    socket.connect_to(&to).unwrap();
    assert_eq!(send(&socket, b"x", None), Ok(1));
    assert_eq!(recv(&socket, 1), Err(Errno::ECONNREFUSED), "the port is closed");
    assert_eq!(recv(&socket, 1), Err(Errno::EAGAIN));
}
