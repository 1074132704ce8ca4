//! Row tables: what each kind of segment does in each state (RFC 9293 section 3.10.7, RFC 5961, RFC 1337, RFC 6191).

use super::super::{
    CloseReason, Config, Connection, DropReason, Events, Options, PathInfo, RecvError, Shutdown, State,
    Verdict,
};
use super::network::{flow, seeds};
use super::peer::{PEER_ISS, Peer, plain, segment};
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, Timestamps};
use std::sync::Arc;

const ACK: TcpFlags = TcpFlags::ACK;
const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);
const RST: TcpFlags = TcpFlags::RST;
const SYN: TcpFlags = TcpFlags::SYN;

/// Brings a fresh connection into `state`. Afterwards nothing waits to be sent, and our data ends at ISS + 1.
fn in_state(state: State) -> Peer {
    let mut peer = Peer::established(plain());
    let shut = |peer: &mut Peer| {
        let _ = peer.connection.shutdown(peer.now, Shutdown::Write).unwrap();
        let fin = peer.expect("FIN");
        assert_eq!(fin.repr.flags, FIN_ACK);
    };
    match state {
        State::Established => {}
        State::FinWait1 => shut(&mut peer),
        State::FinWait2 => {
            shut(&mut peer);
            let _ = peer.send(ACK, 2, b"");
        }
        State::Closing => {
            shut(&mut peer);
            let _ = peer.send(FIN_ACK, 1, b"");
        }
        State::TimeWait => {
            shut(&mut peer);
            let _ = peer.send(FIN_ACK, 2, b"");
        }
        State::CloseWait => {
            let _ = peer.send(FIN_ACK, 1, b"");
        }
        State::LastAck => {
            let _ = peer.send(FIN_ACK, 1, b"");
            shut(&mut peer);
        }
        other => panic!("{other:?} is not reached this way"),
    }
    while peer.poll().is_some() {}
    assert_eq!(peer.connection.state(), state);
    peer
}

const SYNCHRONISED: [State; 6] =
    [State::Established, State::FinWait1, State::FinWait2, State::Closing, State::CloseWait, State::LastAck];

/// RFC 5961 section 3.2: exactly RCV.NXT resets, in the window draws a challenge ACK, outside is dropped.
#[test]
fn rst_by_sequence_number_in_each_synchronised_state() {
    for state in SYNCHRONISED {
        let mut exact = in_state(state);
        let _ = exact.send_at(exact.seq, RST, SeqNum(0), b"");
        let reason = if state == State::CloseWait { CloseReason::ResetAfterFin } else { CloseReason::Reset };
        assert_eq!(exact.connection.close_reason(), Some(reason), "{state:?}");
        exact.expect_silence();

        let mut inside = in_state(state);
        let outcome = inside.send_at(inside.seq + 100, RST, SeqNum(0), b"");
        assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::InexactReset), "{state:?}");
        assert_eq!(inside.expect("challenge ACK").repr.ack, inside.seq, "{state:?}");
        assert_eq!(inside.connection.state(), state);

        let mut outside = in_state(state);
        let outcome = outside.send_at(outside.seq - 100, RST, SeqNum(0), b"");
        assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::OutOfWindow), "{state:?}");
        outside.expect_silence();
        assert_eq!(outside.connection.state(), state);
    }
}

/// RFC 5961 section 4.2: a SYN in a synchronised state draws a challenge ACK, whatever its number.
#[test]
fn syn_draws_a_challenge_ack_in_each_synchronised_state() {
    for state in SYNCHRONISED {
        for offset in [0, 5, 1 << 30] {
            let mut peer = in_state(state);
            let outcome = peer.send_at(peer.seq + offset, SYN, SeqNum(0), b"");
            assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::UnexpectedSyn), "{state:?}");
            let ack = peer.expect("challenge ACK");
            assert_eq!((ack.repr.flags, ack.repr.ack), (ACK, peer.seq), "{state:?}");
            assert_eq!(peer.connection.state(), state);
        }
    }
}

/// RFC 5961 section 7: challenge ACKs are limited.
#[test]
fn challenge_acks_are_rate_limited() {
    let mut peer = in_state(State::Established);
    let _ = peer.send_at(peer.seq + 5, RST, SeqNum(0), b"");
    peer.expect("challenge ACK");
    let _ = peer.send_at(peer.seq + 6, RST, SeqNum(0), b"");
    peer.expect_silence();
    peer.now += Duration::from_millis(501);
    let _ = peer.send_at(peer.seq + 7, RST, SeqNum(0), b"");
    peer.expect("challenge ACK");
}

/// RFC 9293 section 3.10.7.4: an ACK of something not sent, or without ACK bit.
#[test]
fn acks_of_the_future_and_segments_without_ack_are_dropped() {
    for state in SYNCHRONISED {
        let mut peer = in_state(state);
        let outcome = peer.send_at(peer.seq, ACK, peer.iss + 1000, b"");
        assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::BadAck), "{state:?}");
        peer.expect("ACK");
        let outcome = peer.send_at(peer.seq, TcpFlags::PSH, SeqNum(0), b"x");
        assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::NoAck), "{state:?}");
        assert_eq!(peer.connection.state(), state);
    }
}

/// RFC 5961 section 5.2: an ACK older than the largest window is an attack.
#[test]
fn very_old_ack_is_challenged_and_its_data_dropped() {
    let mut peer = in_state(State::Established);
    let outcome = peer.send_at(peer.seq, ACK, peer.iss - 100_000, b"evil");
    assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::BadAck));
    assert_eq!(peer.connection.receive_queued(), 0);
}

#[test]
fn data_is_taken_where_the_peer_may_still_send() {
    let rows = [
        (State::Established, true),
        (State::FinWait1, true),
        (State::FinWait2, true),
        (State::Closing, false),
        (State::CloseWait, false),
        (State::LastAck, false),
    ];
    for (state, is_taken) in rows {
        let mut peer = in_state(state);
        let ack = if state == State::FinWait2 { 2 } else { 1 };
        let outcome = peer.send(ACK, ack, b"hello");
        assert_eq!(peer.connection.receive_queued(), if is_taken { 5 } else { 0 }, "{state:?}");
        assert_eq!(outcome.events.contains(Events::READABLE), is_taken, "{state:?}");
    }
}

/// RFC 9293 section 3.6: the states that FIN and its acknowledgment lead to.
#[test]
fn fin_and_its_acknowledgment_move_through_the_states() {
    // From, peer's flags, acknowledgment of ISS + n, to.
    let rows = [
        (State::Established, FIN_ACK, 1, State::CloseWait),
        (State::FinWait1, ACK, 2, State::FinWait2),
        (State::FinWait1, FIN_ACK, 1, State::Closing),
        (State::FinWait1, FIN_ACK, 2, State::TimeWait),
        (State::FinWait2, FIN_ACK, 2, State::TimeWait),
        (State::Closing, ACK, 2, State::TimeWait),
        (State::LastAck, ACK, 2, State::Closed),
    ];
    for (from, flags, ack, to) in rows {
        let mut peer = in_state(from);
        let _ = peer.send(flags, ack, b"");
        assert_eq!(peer.connection.state(), to, "{from:?} {flags:?} {ack}");
        if flags.contains(TcpFlags::FIN) {
            if to == State::CloseWait {
                // The user's FIN may carry it.
                peer.expect_silence();
                peer.now += Duration::from_millis(4);
                let _ = peer.connection.on_timer(peer.now);
            }
            let reply = peer.expect("ACK of the FIN");
            assert_eq!((reply.repr.flags, reply.repr.ack), (ACK, peer.seq), "{from:?}");
        }
    }
}

/// Linux, `tcp_fin`: the ACK is delayed. On a connection that has carried nothing it waits for a tick, otherwise as for data.
#[test]
fn fin_of_the_user_carries_the_ack_of_the_peers_if_it_comes_soon() {
    for has_carried in [false, true] {
        let mut peer = in_state(State::Established);
        if has_carried {
            for _ in 0..40 {
                let _ = (peer.send(ACK, 1, b"x"), peer.drain());
                peer.advance(Duration::from_millis(1));
            }
            peer.advance(Duration::from_secs(1));
        }
        let _ = peer.send(FIN_ACK, 1, b"");
        peer.expect_silence();
        let waits = peer.connection.next_deadline().expect("the ACK waits") - peer.now;
        // The delay of 40 ms has doubled when nothing answered the data.
        let most = Duration::from_millis(if has_carried { 80 } else { 4 });
        assert_eq!(waits, most);
        peer.now += waits / 2;
        let _ = peer.connection.shutdown(peer.now, Shutdown::Write).unwrap();
        let fin = peer.expect("FIN");
        assert_eq!((fin.repr.flags, fin.repr.ack), (FIN_ACK, peer.seq));
        peer.expect_silence();
        assert!(peer.connection.next_deadline().is_some_and(|at| at > peer.now + most));
    }
}

#[test]
fn time_wait_ends_after_its_time_and_answers_a_repeated_fin() {
    let mut peer = in_state(State::TimeWait);
    peer.now += Duration::from_secs(30);
    let fin = peer.seq - 1;
    let _ = peer.send_at(fin, FIN_ACK, peer.iss + 2, b"");
    assert_eq!(peer.expect("ACK").repr.ack, peer.seq);
    let restarted = peer.now + Duration::from_secs(60);
    assert_eq!(peer.connection.next_deadline(), Some(restarted));
    peer.now = restarted;
    let outcome = peer.connection.on_timer(peer.now);
    assert!(outcome.events.contains(Events::CLOSED));
    assert_eq!(peer.connection.close_reason(), Some(CloseReason::Done));
}

/// RFC 1337 section 3, and RFC 9293 section 3.6.1 for the SYN that may replace the connection.
#[test]
fn time_wait_ignores_rst_and_yields_to_a_new_syn_only() {
    let mut peer = in_state(State::TimeWait);
    let outcome = peer.send_at(peer.seq, RST, SeqNum(0), b"");
    assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::ResetInTimeWait));
    assert_eq!(peer.connection.state(), State::TimeWait);
    let outcome = peer.send_at(peer.seq - 10, SYN, SeqNum(0), b"");
    assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::OutOfWindow));
    assert_eq!(peer.connection.state(), State::TimeWait);
    let outcome = peer.send_at(peer.seq + 10, SYN, SeqNum(0), b"");
    let Verdict::Reincarnate { isn_above } = outcome.verdict else { panic!("{outcome:?}") };
    assert!(isn_above.gt(peer.iss + 2 + 65_535));
    assert_eq!(peer.connection.state(), State::Closed);
}

/// RFC 9293 section 3.10.7.3.
#[test]
fn segments_in_syn_sent() {
    type Row = (TcpFlags, u32, State, Option<CloseReason>, Option<TcpFlags>);
    // Flags, acknowledgment of ISS + n, state after, reason, what is sent.
    let rows: [Row; 8] = [
        (SYN | ACK, 1, State::Established, None, Some(ACK)),
        (SYN, 0, State::SynReceived, None, Some(TcpFlags::SYN.union(ACK))),
        (RST | ACK, 1, State::Closed, Some(CloseReason::Refused), None),
        (RST | ACK, 7, State::SynSent, None, None),
        (RST, 1, State::SynSent, None, None),
        (ACK, 1, State::SynSent, None, None),
        (ACK, 9, State::SynSent, None, Some(RST)),
        (SYN | ACK, 9, State::SynSent, None, Some(RST)),
    ];
    for (flags, ack, state, reason, sent) in rows {
        let now = Instant::from_millis(5_000);
        let flow = flow(1000, 80);
        let seed = seeds(1).seed(now, &flow);
        let path = PathInfo::with_mss(1460);
        let mut connection =
            Connection::connect(now, &Arc::new(plain()), Options::default(), &flow, path, seed);
        assert_eq!(connection.poll_transmit(now, 65_000).unwrap().repr.flags, SYN);
        let _ = connection.on_segment(now, segment(&flow, PEER_ISS, seed.iss + ack, flags, b""));
        assert_eq!(connection.state(), state, "{flags:?} {ack}");
        assert_eq!(connection.close_reason(), reason, "{flags:?} {ack}");
        let reply = connection.poll_transmit(now, 65_000);
        assert_eq!(reply.as_ref().map(|reply| reply.repr.flags), sent, "{flags:?} {ack}");
        if sent == Some(RST) {
            assert_eq!(reply.unwrap().repr.seq, seed.iss + ack);
        }
    }
}

/// RFC 9293 section 3.5, figure 8.
#[test]
fn simultaneous_open_connects_both_ends() {
    let now = Instant::from_millis(5_000);
    let config = Arc::new(Config::default());
    let path = PathInfo::with_mss(1460);
    let flows = [flow(1000, 2000), flow(2000, 1000)];
    let mut ends = flows.map(|flow| {
        let seed = seeds(1).seed(now, &flow);
        Connection::connect(now, &config, Options::default(), &flow, path, seed)
    });
    for _ in 0..4 {
        let sent = ends.each_mut().map(|end| {
            let mut sent = Vec::new();
            while let Some(transmit) = end.poll_transmit(now, 65_000) {
                sent.extend(super::network::wire_segments(transmit, false, 1460));
            }
            sent
        });
        for (from, segments) in sent.into_iter().enumerate() {
            for segment in segments {
                let _ = ends[1 - from].on_segment(now, segment);
            }
        }
    }
    assert!(
        ends.iter().all(|end| end.state() == State::Established),
        "{:?}",
        ends.each_ref().map(Connection::state)
    );
    let [a, b] = &mut ends;
    assert_eq!(a.send(now, b"across"), Ok(6));
    let data = a.poll_transmit(now, 65_000).unwrap();
    for segment in super::network::wire_segments(data, false, 1460) {
        let _ = b.on_segment(now, segment);
    }
    let mut buf = [0; 10];
    assert_eq!(b.recv(now, &mut buf), Ok(6));
    assert_eq!(a.info(now).unwrap().window_scale, b.info(now).unwrap().window_scale);
    assert!(a.info(now).unwrap().has_sack);
}

/// RFC 7323 section 5.3, R1.
#[test]
fn old_timestamp_is_answered_and_dropped() {
    let config = Config { sack: false, window_scaling: false, ..Config::default() };
    let now = Instant::from_millis(5_000);
    let flow = flow(1000, 80);
    let seed = seeds(1).seed(now, &flow);
    let path = PathInfo::with_mss(1460);
    let mut connection = Connection::connect(now, &Arc::new(config), Options::default(), &flow, path, seed);
    let syn = connection.poll_transmit(now, 65_000).unwrap();
    let ours = syn.repr.options.timestamps.unwrap().value;
    let stamped = |seq: SeqNum, flags: TcpFlags, value: u32, data: &[u8]| {
        let mut segment = segment(&flow, seq, seed.iss + 1, flags, data);
        segment.repr.options.timestamps = Some(Timestamps { value, echo: ours });
        segment
    };
    let _ = connection.on_segment(now, stamped(PEER_ISS, SYN | ACK, 500, b""));
    let _ = connection.poll_transmit(now, 65_000);
    let outcome = connection.on_segment(now, stamped(PEER_ISS + 1, ACK, 499, b"old"));
    assert_eq!(outcome.verdict, Verdict::Dropped(DropReason::PawsOld));
    assert!(connection.poll_transmit(now, 65_000).is_some());
    assert_eq!(connection.receive_queued(), 0);
    let _ = connection.on_segment(now, stamped(PEER_ISS + 1, ACK, 501, b"new"));
    assert_eq!(connection.receive_queued(), 3);
    assert_eq!(connection.poll_transmit(now, 65_000).unwrap().repr.options.timestamps.unwrap().echo, 501);
}

#[test]
fn reset_is_reported_once_after_the_unread_data() {
    let mut peer = in_state(State::Established);
    let _ = peer.send(ACK, 1, b"last words");
    let _ = peer.send_at(peer.seq, RST, SeqNum(0), b"");
    let mut buf = [0; 32];
    assert_eq!(peer.connection.recv(peer.now, &mut buf), Ok(10));
    assert_eq!(peer.connection.recv(peer.now, &mut buf), Err(RecvError::Failed(CloseReason::Reset)));
    assert_eq!(peer.connection.recv(peer.now, &mut buf), Ok(0));
    assert_eq!(peer.connection.take_error(), None);
}
