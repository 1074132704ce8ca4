//! Live connections that are taken out of one stack and go on in another one.

mod common;

use std::time::Duration;

use common::{Host, Wire, family_of, pattern, read_available};
use netstack::error::RestoreError;
use netstack::link::Capabilities;
use netstack::options::{RecvFlags, Shutdown};
use netstack::tcp::State;
use netstack::{StreamSnapshot, StreamSnapshotError, TcpSocket};

/// A stack with the addresses of `b`, in its place. What is under way to or from the old one is lost.
fn replace_b(wire: &mut Wire) {
    let host = Host::new(2, 1500, Capabilities::default());
    host.stack.advance_to(wire.b.stack.now());
    host.link.take();
    wire.b = host;
}

/// Moves a connection of `b`, as bytes.
fn moved(wire: &mut Wire, socket: &TcpSocket) -> TcpSocket {
    let snapshot = socket.detach().expect("a connection");
    assert_eq!(socket.state(), State::Closed);
    assert!(wire.b.link.take().iter().all(|frame| frame.to_vec()[47] & 5 == 0), "neither FIN nor RST");
    let bytes = snapshot.to_bytes();
    let read = StreamSnapshot::from_bytes(&bytes).unwrap();
    assert!(read == snapshot);
    replace_b(wire);
    TcpSocket::restore(&wire.b.stack, &read).unwrap()
}

fn connected(wire: &mut Wire, local: &str) -> (TcpSocket, TcpSocket) {
    let listener = wire.b.listen(local, 4);
    let remote = local.parse().unwrap();
    let client = TcpSocket::new(&wire.a.stack, family_of(remote));
    client.connect(remote).unwrap();
    wire.settle();
    (client, listener.try_accept().unwrap().0)
}

fn bytes_are_exact_over_moves(local: &str, loses: bool) {
    let mut wire = Wire::new();
    let (client, mut server) = connected(&mut wire, local);
    let (there, back) = (pattern(700_000), pattern(900_001));
    let (mut sent, mut answered) = (0, 0);
    let (mut received, mut got) = (Vec::new(), Vec::new());
    let mut random = 12_345_u32;
    for round in 0..20_000 {
        sent += client.try_send(&mut &there[sent..]).unwrap_or(0);
        answered += server.try_send(&mut &back[answered..]).unwrap_or(0);
        let mut passes = |_: u8, _: &netstack::packet::Packet| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            !loses || random >> 24 > 5
        };
        let next = wire.a.stack.now() + Duration::from_millis(1);
        wire.advance_to(next);
        wire.settle_with(&mut passes);
        // Both ends read in odd portions, so that there is something unread whenever the connection moves.
        let mut part = vec![0; 7_001];
        let count = server.try_recv(&mut &mut part[..], RecvFlags::default()).unwrap_or(0);
        received.extend_from_slice(&part[..count]);
        let count = client.try_recv(&mut &mut part[..], RecvFlags::default()).unwrap_or(0);
        got.extend_from_slice(&part[..count]);
        if received.len() == there.len() && got.len() == back.len() {
            break;
        }
        if round % 40 == 39 {
            server = moved(&mut wire, &server);
        }
    }
    assert!(received == there && got == back, "{} {}", received.len(), got.len());
    // The end, too: half of it before a move, half of it after.
    client.shutdown(Shutdown::Write).unwrap();
    wire.run(Duration::from_millis(500));
    assert_eq!(server.state(), State::CloseWait);
    server = moved(&mut wire, &server);
    assert_eq!(server.state(), State::CloseWait);
    assert_eq!(server.try_send(&mut &b"last"[..]), Ok(4));
    wire.run(Duration::from_millis(500));
    assert_eq!(read_available(&client), b"last");
    server.close();
    wire.run(Duration::from_secs(1));
    assert_eq!((client.state(), server.state()), (State::TimeWait, State::Closed));
}

#[test]
fn bytes_are_exact_over_ipv4() {
    bytes_are_exact_over_moves("10.0.0.2:80", false);
}

#[test]
fn bytes_are_exact_over_ipv6_with_losses() {
    bytes_are_exact_over_moves("[fd00::2]:80", true);
}

#[test]
fn an_idle_connection_moves_with_what_was_agreed() {
    let mut wire = Wire::new();
    let (client, server) = connected(&mut wire, "10.0.0.2:80");
    wire.run(Duration::from_secs(5));
    let before = server.info().unwrap();
    let server = moved(&mut wire, &server);
    let after = server.info().unwrap();
    let agreed = |info: &netstack::tcp::Info| {
        (info.has_sack, info.has_timestamps, info.window_scale, info.snd_mss, info.advertised_mss)
    };
    assert_eq!(agreed(&after), agreed(&before));
    assert_eq!(
        (server.local_addr(), server.peer_addr()),
        ("10.0.0.2:80".parse().unwrap(), Some(client.local_addr()))
    );
    wire.run(Duration::from_secs(5));
    client.try_send(&mut &b"question"[..]).unwrap();
    wire.settle();
    assert_eq!(read_available(&server), b"question");
    // Its timestamps go on: the peer would drop what seems older (PAWS).
    server.try_send(&mut &b"answer"[..]).unwrap();
    wire.settle();
    assert_eq!(read_available(&client), b"answer");
}

#[test]
fn what_cannot_go_on_is_refused() {
    let mut wire = Wire::new();
    let (client, server) = connected(&mut wire, "10.0.0.2:80");
    let snapshot = server.snapshot().unwrap();
    assert_eq!(server.state(), State::Established);
    assert_eq!(TcpSocket::restore(&wire.b.stack, &snapshot).unwrap_err(), RestoreError::AddressInUse);
    assert_eq!(TcpSocket::restore(&wire.a.stack, &snapshot).unwrap_err(), RestoreError::AddressNotAvailable);
    let elsewhere = StreamSnapshot { remote: "192.0.2.1:1".parse().unwrap(), ..snapshot.clone() };
    assert_eq!(TcpSocket::restore(&wire.b.stack, &elsewhere).unwrap_err(), RestoreError::NetworkUnreachable);
    let mixed = StreamSnapshot { remote: "[fd00::1]:1".parse().unwrap(), ..snapshot.clone() };
    assert_eq!(TcpSocket::restore(&wire.b.stack, &mixed).unwrap_err(), RestoreError::FamilyMismatch);
    let bytes = snapshot.to_bytes();
    for len in 0..bytes.len() {
        assert_eq!(StreamSnapshot::from_bytes(&bytes[..len]), Err(StreamSnapshotError::Malformed));
    }
    assert_eq!(StreamSnapshot::from_bytes(&[9; 200]), Err(StreamSnapshotError::Version(9)));
    assert!(TcpSocket::new(&wire.a.stack, family_of("10.0.0.1:1".parse().unwrap())).detach().is_none());
    // In states in which nothing is left to be moved, it stays as it is.
    client.shutdown(Shutdown::Write).unwrap();
    wire.run(Duration::from_millis(100));
    assert_eq!(client.state(), State::FinWait2);
    assert!(client.detach().is_none());
    assert_eq!(client.state(), State::FinWait2);
}

/// Whatever numbers a snapshot has, the connection made of it can be used.
#[test]
fn any_numbers_make_a_connection() {
    let mut wire = Wire::new();
    let (_client, server) = connected(&mut wire, "10.0.0.2:80");
    let base = server.detach().unwrap();
    let bytes = base.to_bytes();
    let mut random = 1_u32;
    let mut next = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8
    };
    for _ in 0..2_000 {
        let mut changed = bytes.clone();
        for _ in 0..next() % 12 + 1 {
            let at = 51 + next() as usize % (changed.len() - 51);
            changed[at] = next() as u8;
        }
        let Ok(snapshot) = StreamSnapshot::from_bytes(&changed) else { continue };
        let socket = TcpSocket::restore(&wire.b.stack, &snapshot).unwrap();
        let _ = socket.try_send(&mut &[0; 5000][..]);
        wire.run(Duration::from_millis(2));
        let _ = socket.snapshot();
        socket.forget();
    }
}
