//! Local sockets against what Linux 6.18 was seen to do.

use std::sync::atomic::{AtomicU32, Ordering};

use netstack::Stack;
use sentry_abi::socket::MsgFlags;

use super::*;
use crate::io::{SliceDst, SliceSrc};
use crate::socket::control::ControlMessage;
use crate::socket::{Destination, SocketFile};
use crate::vfs::OpenFlags;

const ME: Ucred = Ucred { pid: 7, uid: 1000, gid: 100 };
const OTHER: Ucred = Ucred { pid: 8, uid: 0, gid: 0 };

fn namespace() -> Arc<NetNamespace> {
    NetNamespace::new(Stack::builder().build())
}

fn pair(kind: SocketType) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
    UnixSocket::pair(&namespace(), kind, ME)
}

fn send_with(
    socket: &UnixSocket,
    data: &[u8],
    control: Vec<ControlMessage>,
    sender: Ucred,
) -> Result<usize, Errno> {
    let request = SendRequest {
        to: Destination::Default,
        flags: MsgFlags::empty(),
        control,
        sender,
        in_flight: None,
        task: None,
    };
    socket.try_send(&mut SliceSrc::new(data), &request)
}

fn send(socket: &UnixSocket, data: &[u8]) -> Result<usize, Errno> {
    send_with(socket, data, Vec::new(), ME)
}

fn send_to(socket: &UnixSocket, to: &Arc<UnixSocket>, data: &[u8]) -> Result<usize, Errno> {
    let to = Destination::Socket(to.clone());
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

fn recv_full(socket: &UnixSocket, room: usize, flags: MsgFlags) -> Result<(Vec<u8>, Received), Errno> {
    let mut buf = vec![0; room];
    let request = RecvRequest { flags, wants_address: true, wants_control: true };
    let received = socket.try_recv(&mut SliceDst::new(&mut buf), request)?;
    buf.truncate(received.copied);
    Ok((buf, received))
}

fn recv(socket: &UnixSocket, room: usize) -> Result<Vec<u8>, Errno> {
    recv_full(socket, room, MsgFlags::empty()).map(|(data, _)| data)
}

fn stream(namespace: &Arc<NetNamespace>) -> Arc<UnixSocket> {
    UnixSocket::new(namespace.clone(), SocketType::Stream, ME)
}

fn listener(namespace: &Arc<NetNamespace>, name: &[u8], backlog: u32) -> Arc<UnixSocket> {
    let socket = UnixSocket::new(namespace.clone(), SocketType::Stream, OTHER);
    socket.bind_abstract(name).unwrap();
    socket.start_listening(OTHER, backlog).unwrap();
    socket
}

/// Counts notifications with any of the given bits.
struct Seen(AtomicU32);

impl crate::wait::Observer for Seen {
    fn notify(&self, _: Readiness) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn watch(socket: &UnixSocket, interest: Readiness) -> Arc<Seen> {
    let seen = Arc::new(Seen(AtomicU32::new(0)));
    socket.wait_queue().register(interest, seen.clone());
    seen
}

#[test]
fn a_stream_has_no_boundaries_and_packets_have() {
    let (a, b) = pair(SocketType::Stream);
    assert_eq!((send(&a, b"ab"), send(&a, b"cde")), (Ok(2), Ok(3)));
    assert_eq!(recv(&b, 4), Ok(b"abcd".to_vec()));
    assert_eq!(recv(&b, 4), Ok(b"e".to_vec()));
    assert_eq!(recv(&b, 4), Err(Errno::EAGAIN));
    for kind in [SocketType::Datagram, SocketType::SeqPacket] {
        let (a, b) = pair(kind);
        assert_eq!((send(&a, b"abc"), send(&a, b""), send(&a, b"d")), (Ok(3), Ok(0), Ok(1)));
        let (data, received) = recv_full(&b, 2, MsgFlags::PEEK).unwrap();
        assert_eq!((data.as_slice(), received.len, received.flags), (&b"ab"[..], 3, MsgFlags::TRUNC));
        assert_eq!(recv(&b, 2), Ok(b"ab".to_vec()), "the rest is lost");
        assert_eq!(recv(&b, 2), Ok(vec![]), "an empty packet is received as such");
        assert_eq!(recv(&b, 2), Ok(b"d".to_vec()));
        assert_eq!(recv(&b, 2), Err(Errno::EAGAIN));
    }
}

#[test]
fn peeking_a_stream_crosses_pieces_and_leaves_them() {
    let (a, b) = pair(SocketType::Stream);
    send(&a, b"ab").unwrap();
    send(&a, b"cd").unwrap();
    assert_eq!(recv_full(&b, 3, MsgFlags::PEEK).unwrap().0, b"abc");
    assert_eq!(recv(&b, 9), Ok(b"abcd".to_vec()));
}

/// Rows: type, was anything unread at the closed end; what the other end's send, first and second receive give.
#[test]
fn the_end_of_the_peer_shows_as_on_linux() {
    type Seen = Result<usize, Errno>;
    let rows: [(SocketType, bool, Seen, [Seen; 2]); 4] = [
        (SocketType::Stream, false, Err(Errno::EPIPE), [Ok(0), Ok(0)]),
        (SocketType::Stream, true, Err(Errno::EPIPE), [Err(Errno::ECONNRESET), Ok(0)]),
        (SocketType::SeqPacket, false, Err(Errno::EPIPE), [Ok(0), Ok(0)]),
        (SocketType::SeqPacket, true, Err(Errno::EPIPE), [Err(Errno::ECONNRESET), Ok(0)]),
    ];
    for (kind, unread, sent, received) in rows {
        let (a, b) = pair(kind);
        if unread {
            send(&b, b"x").unwrap();
        }
        a.close();
        assert_eq!(send(&b, b"x"), sent, "{kind:?} {unread}");
        for want in received {
            assert_eq!(recv(&b, 9).map(|data| data.len()), want, "{kind:?} {unread}");
        }
    }
}

#[test]
fn datagrams_to_a_closed_socket_are_refused_then_not_connected() {
    let (a, b) = pair(SocketType::Datagram);
    a.close();
    assert_eq!(recv(&b, 9), Err(Errno::EAGAIN));
    assert_eq!(send(&b, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(send(&b, b"x"), Err(Errno::ENOTCONN));
}

#[test]
fn readiness_is_that_of_linux() {
    use Readiness as R;
    let namespace = namespace();
    assert_eq!(stream(&namespace).readiness(), R::OUT | R::HUP);
    assert_eq!(UnixSocket::new(namespace.clone(), SocketType::Datagram, ME).readiness(), R::OUT);
    let (a, b) = pair(SocketType::Stream);
    a.shutdown(ShutdownHow::Write).unwrap();
    assert_eq!((a.readiness(), b.readiness()), (R::OUT, R::IN | R::OUT | R::RDHUP));
    b.shutdown(ShutdownHow::Write).unwrap();
    let both = R::IN | R::OUT | R::RDHUP | R::HUP;
    assert_eq!((a.readiness(), b.readiness()), (both, both));
    let (a, b) = pair(SocketType::Stream);
    a.shutdown(ShutdownHow::Read).unwrap();
    assert_eq!((a.readiness(), b.readiness()), (R::IN | R::OUT | R::RDHUP, R::OUT));
    assert_eq!((send(&b, b"x"), recv(&a, 1)), (Err(Errno::EPIPE), Ok(vec![])));
    let (a, b) = pair(SocketType::Datagram);
    a.close();
    assert_eq!(b.readiness(), R::OUT);
}

#[test]
fn data_before_a_shutdown_is_still_read() {
    let (a, b) = pair(SocketType::Stream);
    send(&b, b"abc").unwrap();
    a.shutdown(ShutdownHow::Read).unwrap();
    assert_eq!(recv(&a, 9), Ok(b"abc".to_vec()));
    assert_eq!(recv(&a, 9), Ok(vec![]));
}

#[test]
fn unconnected_sockets_say_so() {
    let s = stream(&namespace());
    assert_eq!(recv(&s, 1), Err(Errno::EINVAL));
    assert_eq!(send(&s, b"x"), Err(Errno::ENOTCONN));
    assert_eq!(s.start_listening(ME, 1), Err(Errno::EINVAL), "not bound");
    assert_eq!(s.accept_connection().err(), Some(Errno::EINVAL));
    assert_eq!(s.peer_address(), Err(Errno::ENOTCONN));
    assert_eq!(s.local_address().unwrap().as_slice(), b"\x01\0");
    assert_eq!(s.shutdown(ShutdownHow::Both), Ok(()));
    let d = UnixSocket::new(namespace(), SocketType::Datagram, ME);
    assert_eq!(send(&d, b"x"), Err(Errno::ENOTCONN));
    assert_eq!(d.start_listening(ME, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!(d.accept_connection().err(), Some(Errno::EOPNOTSUPP));
}

#[test]
fn a_backlog_of_one_lets_two_connections_wait() {
    let namespace = namespace();
    let server = listener(&namespace, b"s", 1);
    let clients: Vec<_> = (0..3).map(|_| stream(&namespace)).collect();
    assert_eq!(clients[0].connect_to(&server, ME), Ok(()));
    assert_eq!(clients[1].connect_to(&server, ME), Ok(()));
    let seen = watch(&clients[2], Readiness::OUT);
    assert_eq!(clients[2].connect_to(&server, ME), Err(Errno::EAGAIN));
    assert_eq!(server.readiness(), Readiness::IN);
    let (end, _) = server.accept_connection().unwrap();
    assert_eq!(seen.0.load(Ordering::SeqCst), 1, "told that there is room");
    assert_eq!(clients[2].connect_to(&server, ME), Ok(()));
    send(&clients[0], b"hi").unwrap();
    assert_eq!(recv(&end, 9), Ok(b"hi".to_vec()));
    assert_eq!(clients[0].connect_to(&server, ME), Err(Errno::EISCONN));
    assert_eq!((clients[0].peer_credentials(), end.peer_credentials()), (OTHER, ME));
    assert_eq!(end.local_address().unwrap().as_slice(), b"\x01\0\0s");
    assert_eq!(clients[0].peer_address().unwrap().as_slice(), b"\x01\0\0s");
}

#[test]
fn closing_a_listener_resets_those_who_wait() {
    let namespace = namespace();
    let server = listener(&namespace, b"s", 5);
    let client = stream(&namespace);
    client.connect_to(&server, ME).unwrap();
    server.close();
    assert_eq!(send(&client, b"x"), Err(Errno::EPIPE));
    assert_eq!(recv(&client, 1), Err(Errno::ECONNRESET));
    assert_eq!(stream(&namespace).connect_to(&server, ME), Err(Errno::ECONNREFUSED));
}

#[test]
fn abstract_names_are_unique_per_type_until_closed() {
    let namespace = namespace();
    let first = stream(&namespace);
    first.bind_abstract(b"n").unwrap();
    assert_eq!(stream(&namespace).bind_abstract(b"n"), Err(Errno::EADDRINUSE));
    let datagram = UnixSocket::new(namespace.clone(), SocketType::Datagram, ME);
    assert_eq!(datagram.bind_abstract(b"n"), Ok(()));
    first.close();
    assert_eq!(stream(&namespace).bind_abstract(b"n"), Ok(()));
}

#[test]
fn an_accepted_connection_does_not_own_its_listeners_name() {
    let namespace = namespace();
    let server = listener(&namespace, b"s", 5);
    stream(&namespace).connect_to(&server, ME).unwrap();
    let (end, _) = server.accept_connection().unwrap();
    end.close();
    assert_eq!(stream(&namespace).bind_abstract(b"s"), Err(Errno::EADDRINUSE));
}

#[test]
fn automatic_names_have_five_digits() {
    let socket = stream(&namespace());
    socket.autobind().unwrap();
    let address = socket.local_address().unwrap();
    assert_eq!((address.len(), address[2]), (8, 0));
    assert!(address[3..].iter().all(u8::is_ascii_hexdigit));
}

#[test]
fn an_inbox_takes_eleven_datagrams_of_strangers() {
    let namespace = namespace();
    let receiver = UnixSocket::new(namespace.clone(), SocketType::Datagram, ME);
    let sender = UnixSocket::new(namespace, SocketType::Datagram, ME);
    for _ in 0..11 {
        assert_eq!(send_to(&sender, &receiver, b"x"), Ok(1));
    }
    assert_eq!(send_to(&sender, &receiver, b"x"), Err(Errno::EAGAIN));
    sender.set_peer(&receiver).unwrap();
    assert_eq!(sender.readiness(), Readiness::empty());
    let seen = watch(&sender, Readiness::OUT);
    recv(&receiver, 1).unwrap();
    assert!(seen.0.load(Ordering::SeqCst) > 0);
    assert_eq!(sender.readiness(), Readiness::OUT);
    assert_eq!(send(&sender, b"x"), Ok(1));
}

#[test]
fn a_connected_datagram_socket_hears_its_peer_only() {
    let namespace = namespace();
    let [a, b, c] = std::array::from_fn(|_| UnixSocket::new(namespace.clone(), SocketType::Datagram, ME));
    a.set_peer(&b).unwrap();
    assert_eq!(send_to(&c, &a, b"x"), Err(Errno::EPERM));
    assert_eq!(c.set_peer(&a), Err(Errno::EPERM));
    assert_eq!(send_to(&b, &a, b"x"), Ok(1));
    a.dissolve().unwrap();
    assert_eq!(send_to(&c, &a, b"x"), Ok(1));
}

#[test]
fn a_full_stream_takes_no_more_and_tells_when_it_does() {
    let (a, b) = pair(SocketType::Stream);
    let mut sent = 0;
    let full = loop {
        match send(&a, &[0; 4096]) {
            Ok(n) => sent += n,
            Err(e) => break e,
        }
    };
    assert_eq!((full, sent / 4096), (Errno::EAGAIN, 44));
    assert!(!a.readiness().contains(Readiness::OUT));
    let seen = watch(&a, Readiness::OUT);
    assert_eq!(recv(&b, 1 << 20).unwrap().len(), sent);
    assert!(seen.0.load(Ordering::SeqCst) > 0 && a.readiness().contains(Readiness::OUT));
}

#[test]
fn credentials_come_to_those_who_ask_and_separate_senders() {
    let (a, b) = pair(SocketType::Stream);
    b.base().set(Switches::PASS_CREDENTIALS, true);
    send_with(&a, b"ab", Vec::new(), ME).unwrap();
    send_with(&a, b"cd", Vec::new(), OTHER).unwrap();
    for (data, sender) in [(b"ab", ME), (b"cd", OTHER)] {
        let (got, received) = recv_full(&b, 9, MsgFlags::empty()).unwrap();
        assert_eq!(got, data);
        assert!(matches!(received.control[..], [ControlMessage::Credentials(who)] if who == sender));
    }
}

#[test]
fn files_come_with_their_bytes_and_end_the_read() {
    let (a, b) = pair(SocketType::Stream);
    let passed = SocketFile::open(stream(&a.namespace), &a.namespace, OpenFlags::empty());
    send_with(&a, b"ab", vec![ControlMessage::Rights(vec![passed.clone()])], ME).unwrap();
    send(&a, b"cd").unwrap();
    let (data, received) = recv_full(&b, 1, MsgFlags::empty()).unwrap();
    let [ControlMessage::Rights(files)] = &received.control[..] else { panic!("{received:?}") };
    assert!(data == b"a" && Arc::ptr_eq(&files[0], &passed));
    let (data, received) = recv_full(&b, 9, MsgFlags::empty()).unwrap();
    assert!(data == b"bcd" && received.control.is_empty());
}

#[test]
fn files_under_way_are_closed_with_the_socket_however_deep() {
    let namespace = namespace();
    let (outer, mut inner) = UnixSocket::pair(&namespace, SocketType::Stream, ME);
    // Each socket's inbox holds the next pair's receiving end.
    for _ in 0..50_000 {
        let (sender, receiver) = UnixSocket::pair(&namespace, SocketType::Stream, ME);
        let file = SocketFile::open(inner, &namespace, OpenFlags::empty());
        send_with(&sender, b"x", vec![ControlMessage::Rights(vec![file])], ME).unwrap();
        inner = receiver;
    }
    inner.close();
    assert!(outer.readiness().contains(Readiness::HUP), "the innermost socket was closed");
}

#[test]
fn a_datagram_longer_than_the_buffer_is_refused() {
    let (a, _b) = pair(SocketType::Datagram);
    a.set_send_buffer(4608);
    assert_eq!(send(&a, &[0; 4577]), Err(Errno::EMSGSIZE));
    assert_eq!(send(&a, &[0; 4576]), Ok(4576));
}
