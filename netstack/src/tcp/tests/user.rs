//! What the user sees and sets: Nagle, cork, acknowledgments, windows, keepalive, buffers.

use super::super::{CloseReason, Config, Options, Readiness, SendError, State};
use super::peer::{Peer, plain};
use core::time::Duration;
use netstack_wire::tcp::TcpFlags;

const ACK: TcpFlags = TcpFlags::ACK;

fn send(peer: &mut Peer, len: usize) {
    assert_eq!(peer.connection.send(peer.now, &vec![5; len]), Ok(len));
}

fn set(peer: &mut Peer, options: Options) {
    peer.connection.set_options(peer.now, options);
}

/// RFC 9293 section 3.7.4 in Minshall's form: a small segment waits for an earlier small one only.
#[test]
fn nagle_holds_the_second_small_segment() {
    let mut peer = Peer::established(plain());
    send(&mut peer, 10);
    assert_eq!(peer.drain(), [(1, 10)]);
    send(&mut peer, 10);
    send(&mut peer, 10);
    assert_eq!(peer.drain(), []);
    let _ = peer.send(ACK, 11, b"");
    assert_eq!(peer.drain(), [(11, 20)]);
}

#[test]
fn minshall_lets_the_end_of_a_large_write_go() {
    let mut peer = Peer::established(plain());
    send(&mut peer, 1460 + 100);
    assert_eq!(peer.drain(), [(1, 1560)]);
    send(&mut peer, 1460 + 100);
    assert_eq!(peer.drain(), [(1561, 1460)], "the second small tail waits");
}

#[test]
fn no_delay_sends_each_write() {
    let mut peer = Peer::established(plain());
    set(&mut peer, Options { no_delay: true, ..Options::default() });
    for i in 0..3 {
        send(&mut peer, 10);
        assert_eq!(peer.drain(), [(1 + 10 * i, 10)]);
    }
}

#[test]
fn cork_holds_partial_segments_until_it_is_pulled_or_expires() {
    let corked = Options { cork: true, no_delay: true, ..Options::default() };
    let mut peer = Peer::established(plain());
    set(&mut peer, corked);
    send(&mut peer, 1460 + 10);
    assert_eq!(peer.drain(), [(1, 1460)]);
    set(&mut peer, Options { cork: false, ..corked });
    assert_eq!(peer.drain(), [(1461, 10)]);
    let mut peer = Peer::established(plain());
    set(&mut peer, corked);
    send(&mut peer, 10);
    assert_eq!(peer.drain(), []);
    let start = peer.now;
    assert_eq!(peer.fire(), [(1, 10)]);
    assert_eq!((peer.now - start).as_millis(), 200);
}

/// RFC 9293 section 3.8.6.3: at least every second full segment at once, one alone within the delay.
#[test]
fn acks_are_delayed_but_not_beyond_the_second_full_segment() {
    let mut peer = Peer::established(plain());
    peer.connection.set_quick_ack(false);
    let full = [9; 1460];
    // The first ones teach the receiver what a full segment is.
    for _ in 0..4 {
        let _ = peer.send(ACK, 1, &full);
        let mut buf = [0; 4000];
        let _ = peer.connection.recv(peer.now, &mut buf);
        peer.drain();
        peer.advance(Duration::from_millis(300));
        peer.drain();
    }
    peer.connection.set_quick_ack(false);
    let _ = peer.send(ACK, 1, &full);
    peer.expect_silence();
    let _ = peer.send(ACK, 1, &full);
    assert_eq!(peer.expect("ACK").repr.ack, peer.seq);
    let _ = peer.send(ACK, 1, &full);
    peer.expect_silence();
    let start = peer.now;
    assert_eq!(peer.fire().len(), 1, "the delayed ACK");
    assert!(peer.now - start <= Duration::from_millis(200));
    // Out of order: at once (RFC 5681 section 4.2).
    peer.seq += 100;
    let _ = peer.send(ACK, 1, b"hole before this");
    assert_eq!(peer.expect("duplicate ACK").repr.ack, peer.seq - 116);
}

/// RFC 9293 section 3.8.6.1: probes with backoff for as long as the peer answers; data flows when the window opens.
#[test]
fn zero_window_is_probed_until_it_opens() {
    let mut peer = Peer::established(plain());
    peer.window = 0;
    let _ = peer.send(ACK, 1, b"");
    send(&mut peer, 100);
    assert_eq!(peer.drain(), []);
    let mut waits = Vec::new();
    for _ in 0..30 {
        let before = peer.now;
        assert_eq!(peer.fire(), [(0, 0)], "an empty segment with an old sequence number");
        waits.push((peer.now - before).as_millis());
        let _ = peer.send(ACK, 1, b"");
    }
    assert!(waits[1] >= waits[0] * 2 - 1 && *waits.last().unwrap() == 120_000, "{waits:?}");
    assert_eq!(peer.connection.state(), State::Established);
    peer.window = 1000;
    let _ = peer.send(ACK, 1, b"");
    assert_eq!(peer.drain(), [(1, 100)]);
    let _ = peer.send(ACK, 101, b"");
    assert_eq!(peer.connection.send_queued(), (0, 0));
}

#[test]
fn unanswered_window_probes_end_the_connection() {
    let mut peer = Peer::established(plain());
    peer.window = 0;
    let _ = peer.send(ACK, 1, b"");
    send(&mut peer, 100);
    peer.drain();
    while peer.connection.state() != State::Closed {
        peer.fire();
    }
    assert_eq!(peer.connection.close_reason(), Some(CloseReason::TimedOut));
}

/// RFC 9293 section 3.8.6.2.1: no tiny segments into a small window.
#[test]
fn sender_avoids_silly_windows() {
    let mut peer = Peer::established(plain());
    peer.window = 3000;
    let _ = peer.send(ACK, 1, b"");
    send(&mut peer, 10_000);
    assert_eq!(peer.drain(), [(1, 2920)], "whole segments");
    peer.window = 100;
    let _ = peer.send(ACK, 2921, b"");
    assert_eq!(peer.drain(), []);
    peer.window = 3000;
    let _ = peer.send(ACK, 2921, b"");
    assert_eq!(peer.drain(), [(2921, 2920)]);
}

/// RFC 9293 section 3.8.6.2.2: the window closes without going back, and opens by a worthwhile amount.
#[test]
fn receiver_closes_its_window_and_announces_when_it_opens() {
    let options = Options { receive_buffer: Some(16 << 10), ..Options::default() };
    let mut peer = Peer::established(plain());
    set(&mut peer, options);
    let full = [3; 1000];
    let mut edges = Vec::new();
    // What was offered stays offered: the handshake's window first.
    for _ in 0..200 {
        let _ = peer.send(ACK, 1, &full);
        while let Some(ack) = peer.poll() {
            edges.push(ack.repr.ack + u32::from(ack.repr.window));
            peer.seq = ack.repr.ack;
        }
    }
    for pair in edges.windows(2) {
        assert!(pair[1].ge(pair[0]), "the right edge moved back");
    }
    let held = peer.connection.receive_queued();
    assert!(held <= 66_000, "{held}");
    let mut buf = [0; 1000];
    let mut updates = 0;
    while peer.connection.recv(peer.now, &mut buf).is_ok() {
        updates += peer.drain().len();
    }
    assert!((1..=8).contains(&updates), "{updates} window updates");
}

/// RFC 1122 section 4.2.3.6.
#[test]
fn keepalive_probes_then_gives_up() {
    let mut peer = Peer::established(plain());
    let idle = Duration::from_secs(100);
    let interval = Duration::from_secs(10);
    let options = Options {
        keepalive: true,
        keepalive_idle: Some(idle),
        keepalive_interval: Some(interval),
        keepalive_probes: Some(3),
        ..Options::default()
    };
    set(&mut peer, options);
    let start = peer.now;
    let mut probes = Vec::new();
    while peer.connection.state() != State::Closed {
        peer.now = peer.connection.next_deadline().unwrap();
        let _ = peer.connection.on_timer(peer.now);
        while let Some(probe) = peer.poll() {
            probes.push(((peer.now - start).as_secs(), probe.repr.flags));
            assert!(probe.payload.is_empty());
        }
    }
    let reset = TcpFlags::RST | ACK;
    assert_eq!(probes, [(100, ACK), (110, ACK), (120, ACK), (130, reset)]);
    assert_eq!(peer.connection.close_reason(), Some(CloseReason::TimedOut));
    // An answer starts it over.
    let mut peer = Peer::established(plain());
    set(&mut peer, options);
    for _ in 0..20 {
        assert_eq!(peer.fire(), [(0, 0)]);
        let _ = peer.send(ACK, 1, b"");
    }
    assert_eq!(peer.connection.state(), State::Established);
}

#[test]
fn send_buffer_bounds_what_is_queued_and_readiness_follows() {
    let mut peer = Peer::established(plain());
    set(&mut peer, Options { send_buffer: Some(20_000), ..Options::default() });
    peer.window = 0;
    let _ = peer.send(ACK, 1, b"");
    assert!(peer.connection.readiness().contains(Readiness::WRITABLE));
    assert_eq!(peer.connection.send(peer.now, &[0; 50_000]), Ok(10_000));
    assert_eq!(peer.connection.send(peer.now, b"x"), Err(SendError::WouldBlock));
    assert!(!peer.connection.readiness().contains(Readiness::WRITABLE));
    assert_eq!(peer.connection.send_queued(), (10_000, 10_000));
    peer.window = 60_000;
    let _ = peer.send(ACK, 1, b"");
    peer.drain();
    let _ = peer.send(ACK, 8000, b"");
    assert!(peer.connection.readiness().contains(Readiness::WRITABLE));
}

#[test]
fn peek_leaves_and_take_shares() {
    let mut peer = Peer::established(plain());
    let _ = peer.send(ACK, 1, &[7; 1000]);
    let mut buf = [0; 10];
    assert_eq!(peer.connection.peek(995, &mut buf), Ok(5));
    assert_eq!(peer.connection.receive_queued(), 1000);
    assert_eq!(peer.connection.take(peer.now, 600).unwrap().len(), 600);
    assert_eq!(peer.connection.take(peer.now, 600).unwrap().len(), 400);
}

/// A SYN is sent 1 + `tcp_syn_retries` times, and `tcp_syn_linear_timeouts` times more before the backoff, and then the connection attempt ends.
#[test]
fn connect_gives_up_after_its_retries() {
    use super::super::{Connection, PathInfo};
    use super::network::{flow, seeds};
    let now = crate::time::Instant::from_millis(5_000);
    let config = std::sync::Arc::new(Config::default());
    let flow = flow(1, 2);
    let path = PathInfo::with_mss(1460);
    let seed = seeds(1).seed(now, &flow);
    let mut connection = Connection::connect(now, &config, Options::default(), &flow, path, seed);
    let mut sent = Vec::new();
    let mut at = now;
    loop {
        while let Some(syn) = connection.poll_transmit(at, 0) {
            assert_eq!(syn.repr.flags, TcpFlags::SYN);
            sent.push((at - now).as_secs());
        }
        let Some(next) = connection.next_deadline() else { break };
        at = next;
        let _ = connection.on_timer(at);
    }
    assert_eq!(sent, [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    assert_eq!((at - now).as_secs(), 131);
    assert_eq!(connection.take_error(), Some(CloseReason::TimedOut));
}
