//! Loss recovery, scripted: SACK, RACK, tail loss probes, timeouts, undo, path MTU.

use super::super::{CloseReason, Config, IcmpError, Options, RecoveryPhase, State};
use super::network::{Link, Network};
use super::peer::{Peer, plain};
use core::time::Duration;
use netstack_wire::tcp::TcpFlags;
use std::sync::Arc;

const ACK: TcpFlags = TcpFlags::ACK;
const MSS: u32 = 1460;

/// A configuration with SACK, which a hand-played peer can follow.
fn with_sack() -> Config {
    Config { sack: true, ..plain() }
}

/// A connection that has just sent `count` full segments, after a round trip of 100 ms has been measured.
fn with_flight(config: Config, count: u32) -> Peer {
    let mut peer = Peer::established(config);
    peer.window = 65_000;
    assert_eq!(peer.connection.send(peer.now, &[1; 2]), Ok(2));
    assert_eq!(peer.drain(), [(1, 2)]);
    peer.now += Duration::from_millis(100);
    let _ = peer.send(ACK, 3, b"");
    let len = usize::try_from(count * MSS).unwrap();
    assert_eq!(peer.connection.send(peer.now, &vec![2; len]), Ok(len));
    assert_eq!(peer.drain(), [(3, len)], "one super-segment");
    peer
}

/// The offset of the `n`th full segment of `with_flight`.
fn at(n: u32) -> u32 {
    3 + n * MSS
}

#[test]
fn a_hole_below_three_sacked_segments_is_retransmitted_at_once() {
    let mut peer = with_flight(with_sack(), 8);
    let cwnd = peer.connection.info(peer.now).unwrap().cwnd;
    peer.now += Duration::from_millis(100);
    let _ = peer.sack(at(0), &[(at(1), at(2))]);
    assert_eq!(peer.connection.info(peer.now).unwrap().recovery, RecoveryPhase::Disorder);
    assert_eq!(peer.drain(), []);
    let _ = peer.sack(at(0), &[(at(1), at(4))]);
    let info = peer.connection.info(peer.now).unwrap();
    assert_eq!((info.recovery, info.lost, info.sacked), (RecoveryPhase::Recovery, MSS, 3 * MSS));
    assert_eq!(peer.drain(), [(at(0), 1460)]);
    assert!(info.ssthresh < cwnd);
    peer.now += Duration::from_millis(100);
    let _ = peer.send(ACK, at(8), b"");
    let info = peer.connection.info(peer.now).unwrap();
    assert_eq!((info.recovery, info.cwnd), (RecoveryPhase::Open, info.ssthresh));
    assert_eq!((info.unacked, info.total_retransmits, info.undos), (0, 1, 0));
}

/// RFC 5681 section 3.2: what is sent during a recovery and lost as well is a second congestion. The recovery that repairs
/// it has already begun when the first ends, although it was sent again by then.
#[test]
fn a_loss_among_what_recovery_sent_reduces_once_more() {
    let mut peer = with_flight(with_sack(), 8);
    peer.now += Duration::from_millis(100);
    let _ = peer.sack(at(0), &[(at(1), at(4))]);
    assert_eq!(peer.drain(), [(at(0), 1460)]);
    let first = peer.connection.info(peer.now).unwrap().ssthresh;
    let more = usize::try_from(4 * MSS).unwrap();
    assert_eq!(peer.connection.send(peer.now, &vec![3; more]), Ok(more));
    let _ = peer.sack(at(0), &[(at(1), at(8))]);
    assert_eq!(peer.drain(), [(at(8), more)], "one for each that arrived");
    peer.now += Duration::from_millis(100);
    let _ = peer.sack(at(0), &[(at(9), at(12)), (at(1), at(8))]);
    assert_eq!(peer.drain(), [(at(0), 1460), (at(8), 1460)], "the first retransmission was lost, too");
    let _ = peer.sack(at(8), &[(at(9), at(12))]);
    let info = peer.connection.info(peer.now).unwrap();
    assert_eq!(info.recovery, RecoveryPhase::Recovery);
    assert!(info.ssthresh < first, "{} {first}", info.ssthresh);
    peer.now += Duration::from_millis(100);
    let _ = peer.sack(at(12), &[]);
    let info = peer.connection.info(peer.now).unwrap();
    assert_eq!((info.recovery, info.total_retransmits), (RecoveryPhase::Open, 3));
}

/// RFC 8985 section 6.2: before that, the reordering window decides.
#[test]
fn a_single_sacked_segment_waits_for_the_reordering_window() {
    let mut peer = with_flight(with_sack(), 2);
    peer.now += Duration::from_millis(100);
    let _ = peer.sack(at(0), &[(at(1), at(2))]);
    assert_eq!(peer.drain(), []);
    let waited = peer.connection.next_deadline().unwrap() - peer.now;
    assert!(waited <= Duration::from_millis(30), "{waited:?}, a quarter of the RTT");
    assert_eq!(peer.fire(), [(at(0), 1460)]);
}

/// RFC 3708: when each retransmission is reported as a duplicate, the reduction is undone.
#[test]
fn dsack_for_every_retransmission_undoes_the_reduction() {
    let mut peer = with_flight(with_sack(), 8);
    let before = peer.connection.info(peer.now).unwrap();
    peer.now += Duration::from_millis(100);
    let _ = peer.sack(at(0), &[(at(1), at(4))]);
    assert_eq!(peer.drain(), [(at(0), 1460)]);
    // The original arrives after all, then the retransmission.
    let _ = peer.sack(at(4), &[]);
    let _ = peer.sack(at(4), &[(at(0), at(1))]);
    let info = peer.connection.info(peer.now).unwrap();
    assert_eq!((info.undos, info.dsacks, info.recovery), (1, 1, RecoveryPhase::Open));
    assert!(info.cwnd >= before.cwnd, "{} {}", info.cwnd, before.cwnd);
    assert_eq!(info.ssthresh, before.ssthresh);
}

#[test]
fn three_duplicate_acks_retransmit_without_sack() {
    let mut peer = with_flight(plain(), 6);
    for i in 1..=3 {
        let _ = peer.send(ACK, at(0), b"");
        assert_eq!(peer.drain(), if i == 3 { vec![(at(0), 1460)] } else { vec![] });
    }
    // A partial acknowledgment retransmits the next (RFC 6582).
    let _ = peer.send(ACK, at(2), b"");
    assert_eq!(peer.drain(), [(at(2), 1460)]);
    let _ = peer.send(ACK, at(6), b"");
    assert_eq!(peer.connection.info(peer.now).unwrap().recovery, RecoveryPhase::Open);
}

/// RFC 8985 section 7: the last segment again after two round trips, and its SACK repairs the rest without a timeout.
#[test]
fn tail_loss_probe_repairs_a_lost_tail() {
    let mut peer = with_flight(with_sack(), 4);
    let start = peer.now;
    assert_eq!(peer.fire(), [(at(3), 1460)]);
    let waited = peer.now - start;
    assert!((200..260).contains(&waited.as_millis()), "{waited:?}");
    peer.now += Duration::from_millis(100);
    let _ = peer.sack(at(0), &[(at(3), at(4))]);
    if peer.drain().is_empty() {
        assert_eq!(peer.fire()[0].0, at(0));
    }
    assert_eq!(peer.connection.info(peer.now).unwrap().retransmits, 0, "no timeout");
}

#[test]
fn timeout_backs_off_and_starts_over_with_one_segment() {
    let mut peer = with_flight(plain(), 6);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let before = peer.now;
        assert_eq!(peer.fire(), [(at(0), 1460)]);
        waits.push((peer.now - before).as_millis());
        let info = peer.connection.info(peer.now).unwrap();
        assert_eq!((info.recovery, info.cwnd), (RecoveryPhase::Loss, MSS));
    }
    for pair in waits.windows(2) {
        assert!(pair[1].abs_diff(pair[0] * 2) <= 2, "{waits:?}");
    }
    let _ = peer.send(ACK, at(1), b"");
    // Karn: the backed-off timeout stays until something is acknowledged that was sent once.
    assert_eq!(peer.connection.info(peer.now).unwrap().backoff, 4);
    assert!(!peer.drain().is_empty());
    let _ = peer.send(ACK, at(6), b"");
    peer.connection.send(peer.now, b"new").unwrap();
    assert!(!peer.drain().is_empty());
    let _ = peer.send(ACK, at(6) + 3, b"");
    assert_eq!(peer.connection.info(peer.now).unwrap().backoff, 0);
}

/// RFC 1122 section 4.2.3.5: `tcp_retries2` as a time, about 15 minutes; a soft error is the reason given.
#[test]
fn silent_peer_is_given_up() {
    for error in [None, Some(IcmpError::HostUnreachable)] {
        let mut peer = with_flight(plain(), 1);
        let start = peer.now;
        if let Some(error) = error {
            let _ = peer.connection.on_icmp_error(peer.now, error, peer.iss + at(0));
        }
        while peer.connection.state() != State::Closed {
            peer.fire();
        }
        let took = (peer.now - start).as_secs();
        assert!((900..1200).contains(&took), "{took}");
        let reason = error.map_or(CloseReason::TimedOut, CloseReason::Unreachable);
        assert_eq!(peer.connection.close_reason(), Some(reason));
        assert_eq!(peer.connection.take_error(), Some(reason));
    }
}

/// RFC 5482.
#[test]
fn user_timeout_gives_up_earlier() {
    let mut peer = with_flight(plain(), 1);
    let options = Options { user_timeout: Some(Duration::from_secs(5)), ..Options::default() };
    peer.connection.set_options(peer.now, options);
    let start = peer.now;
    while peer.connection.state() != State::Closed {
        peer.fire();
    }
    assert!((5..12).contains(&(peer.now - start).as_secs()));
}

/// RFC 1191: what no longer fits is resent in smaller segments, and the window is not reduced.
#[test]
fn smaller_path_mtu_resends_in_smaller_segments() {
    let mut peer = with_flight(with_sack(), 4);
    let cwnd = peer.connection.info(peer.now).unwrap().cwnd;
    let _ = peer.connection.on_pmtu(peer.now, 500, Some(peer.iss + at(9)));
    assert_eq!(peer.drain(), [], "a quoted sequence number that is not in flight is an attack");
    let _ = peer.connection.on_pmtu(peer.now, 500, Some(peer.iss + at(0)));
    let again = peer.expect("retransmission");
    assert_eq!(again.repr.seq, peer.iss + at(0));
    assert_eq!(again.gso_size.unwrap().get(), 500);
    assert_eq!(again.payload.len(), 4 * 1460);
    let info = peer.connection.info(peer.now).unwrap();
    assert_eq!((info.snd_mss, info.cwnd), (500, cwnd));
}

/// SACK blocks outside of what was sent, or upside down, change nothing.
#[test]
fn nonsense_sack_blocks_are_ignored() {
    let mut peer = with_flight(with_sack(), 4);
    for range in [(at(2), at(9)), (at(2), at(1)), (0, 1), (at(0) - 1, at(0)), (at(50), at(60))] {
        let _ = peer.sack(at(0), &[range]);
        let info = peer.connection.info(peer.now).unwrap();
        assert_eq!((info.sacked, info.unacked), (0, 4 * MSS), "{range:?}");
    }
}

/// A path that stalls for a while, without a loss: the timeout is spurious and its reduction is undone.
#[test]
fn delay_spike_is_recognised_as_spurious() {
    for (timestamps, frto) in [(true, false), (false, true), (true, true)] {
        let config = Arc::new(Config { timestamps, frto, ..Config::default() });
        let link = Link { rate: 5_000_000, ..Link::ideal(Duration::from_millis(20)) };
        let mut network = Network::new(3, link, [&config, &config], [Options::default(); 2], 1460);
        network.establish();
        let mut buf = vec![0; 1 << 20];
        let mut cwnd = 0;
        for i in 0..700 {
            let now = network.now;
            while network.client().send(now, &[7; 50_000]).is_ok_and(|count| count > 0) {}
            while network.server().recv(now, &mut buf).is_ok() {}
            if i == 300 {
                cwnd = network.client().info(now).unwrap().cwnd;
                network.stall(Duration::from_millis(900));
            }
            network.run_for(Duration::from_millis(5));
        }
        let now = network.now;
        let info = network.client().info(now).unwrap();
        assert!(info.undos >= 1, "timestamps {timestamps} frto {frto}: {info:?}");
        assert!(info.cwnd >= cwnd / 2, "timestamps {timestamps} frto {frto}: {} of {cwnd}", info.cwnd);
    }
}
