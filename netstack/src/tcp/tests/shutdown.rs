//! Half-shutdown and close: what each direction does, and when a RST is due.

use super::super::{
    CloseReason, FinWait2, Options, Readiness, RecvError, SendError, Shutdown, ShutdownError, State,
};
use super::peer::{Peer, plain};
use core::time::Duration;
use netstack_wire::tcp::TcpFlags;

const ACK: TcpFlags = TcpFlags::ACK;
const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);
const RST_ACK: TcpFlags = TcpFlags::RST.union(TcpFlags::ACK);

fn recv(peer: &mut Peer) -> Result<Vec<u8>, RecvError> {
    let mut buf = [0; 64];
    let count = peer.connection.recv(peer.now, &mut buf)?;
    Ok(buf[..count].to_vec())
}

fn shutdown(peer: &mut Peer, how: Shutdown) {
    let _ = peer.connection.shutdown(peer.now, how).unwrap();
}

#[test]
fn shut_read_sends_nothing_and_reads_end() {
    let mut peer = Peer::established(plain());
    assert_eq!(recv(&mut peer), Err(RecvError::WouldBlock));
    shutdown(&mut peer, Shutdown::Read);
    peer.expect_silence();
    assert_eq!(recv(&mut peer), Ok(vec![]));
    assert!(peer.connection.readiness().contains(Readiness::READ_CLOSED | Readiness::READABLE));
    assert!(!peer.connection.readiness().contains(Readiness::HANGUP));
}

#[test]
fn shut_read_keeps_what_has_arrived() {
    let mut peer = Peer::established(plain());
    let _ = peer.send(ACK, 1, b"0123456789");
    while peer.poll().is_some() {}
    shutdown(&mut peer, Shutdown::Read);
    peer.expect_silence();
    assert_eq!(recv(&mut peer), Ok(b"0123456789".to_vec()));
    assert_eq!(recv(&mut peer), Ok(vec![]));
}

/// As Linux: data that comes after SHUT_RD in ESTABLISHED is acknowledged and can be read.
#[test]
fn data_after_shut_read_is_still_readable() {
    let mut peer = Peer::established(plain());
    shutdown(&mut peer, Shutdown::Read);
    let _ = peer.send(ACK, 1, b"late");
    assert_eq!(peer.expect("ACK").repr.ack, peer.seq);
    assert_eq!(recv(&mut peer), Ok(b"late".to_vec()));
    assert_eq!(recv(&mut peer), Ok(vec![]));
}

#[test]
fn shut_write_sends_fin_behind_the_data_and_only_once() {
    let mut peer = Peer::established(plain());
    assert_eq!(peer.connection.send(peer.now, b"data"), Ok(4));
    shutdown(&mut peer, Shutdown::Write);
    shutdown(&mut peer, Shutdown::Write);
    let last = peer.expect("data with FIN");
    assert_eq!(last.repr.flags, FIN_ACK | TcpFlags::PSH);
    assert_eq!(last.payload.to_vec(), b"data");
    peer.expect_silence();
    assert_eq!(peer.connection.send(peer.now, b"more"), Err(SendError::WriteClosed));
    assert_eq!(peer.connection.state(), State::FinWait1);
    let _ = peer.send(ACK, 6, b"");
    assert_eq!(peer.connection.state(), State::FinWait2);
}

#[test]
fn fin_is_retransmitted() {
    let mut peer = Peer::established(plain());
    shutdown(&mut peer, Shutdown::Write);
    let first = peer.expect("FIN");
    peer.now = peer.connection.next_deadline().unwrap();
    let _ = peer.connection.on_timer(peer.now);
    let second = peer.expect("FIN again");
    assert_eq!((second.repr.seq, second.repr.flags), (first.repr.seq, FIN_ACK));
}

/// Both directions shut with unread data: RST, whichever was shut first.
#[test]
fn both_directions_shut_with_unread_data_reset() {
    for order in [[Shutdown::Read, Shutdown::Write], [Shutdown::Write, Shutdown::Read]] {
        let mut peer = Peer::established(plain());
        let _ = peer.send(ACK, 1, b"unread");
        while peer.poll().is_some() {}
        for how in order {
            shutdown(&mut peer, how);
        }
        let mut flags = Vec::new();
        while let Some(transmit) = peer.poll() {
            flags.push(transmit.repr.flags);
        }
        assert_eq!(flags.last(), Some(&RST_ACK), "{order:?}");
        assert_eq!(peer.connection.close_reason(), Some(CloseReason::Aborted));
    }
    let mut peer = Peer::established(plain());
    shutdown(&mut peer, Shutdown::Both);
    assert_eq!(peer.expect("FIN").repr.flags, FIN_ACK);
}

/// RFC 9293 section 3.6.1: data for a user who has closed both directions draws a RST.
#[test]
fn data_after_both_are_shut_is_reset() {
    let mut peer = Peer::established(plain());
    shutdown(&mut peer, Shutdown::Both);
    peer.expect("FIN");
    let _ = peer.send(ACK, 2, b"too late");
    let reset = peer.expect("RST").repr;
    assert_eq!((reset.flags, reset.seq), (TcpFlags::RST, peer.iss + 2));
    assert_eq!(peer.connection.state(), State::Closed);
}

/// RFC 2525 section 2.17.
#[test]
fn close_with_unread_data_resets_and_without_sends_fin() {
    let mut peer = Peer::established(plain());
    let _ = peer.send(ACK, 1, b"unread");
    let _ = peer.connection.close(peer.now);
    let reset = peer.expect("RST");
    assert_eq!((reset.repr.flags, reset.repr.ack), (RST_ACK, peer.seq));
    let mut peer = Peer::established(plain());
    let _ = peer.connection.close(peer.now);
    assert_eq!(peer.expect("FIN").repr.flags, FIN_ACK);
}

#[test]
fn abort_resets_where_the_peer_waits_for_something() {
    let mut peer = Peer::established(plain());
    let _ = peer.connection.abort(peer.now);
    assert_eq!(peer.expect("RST").repr.flags, RST_ACK);
    assert_eq!(peer.connection.next_deadline(), None);
    assert_eq!(peer.connection.shutdown(peer.now, Shutdown::Write), Err(ShutdownError::NotConnected));
}

/// Orphans do not stay in FIN-WAIT-2 for ever; connections with a user do.
#[test]
fn fin_wait_2_is_bounded_for_orphans_only() {
    let reach = |options: Options, is_orphan: bool| {
        let mut peer = Peer::established(plain());
        peer.connection.set_options(peer.now, options);
        if is_orphan {
            let _ = peer.connection.close(peer.now);
        } else {
            shutdown(&mut peer, Shutdown::Write);
        }
        peer.expect("FIN");
        let _ = peer.send(ACK, 2, b"");
        peer
    };
    let mut orphan = reach(Options::default(), true);
    assert_eq!(orphan.connection.state(), State::FinWait2);
    orphan.advance(Duration::from_secs(61));
    assert_eq!(orphan.connection.state(), State::Closed);
    let mut user = reach(Options::default(), false);
    user.advance(Duration::from_secs(3600));
    assert_eq!(user.connection.state(), State::FinWait2);
    assert_eq!(user.connection.next_deadline(), None);
    let skip = reach(Options { fin_wait2: FinWait2::Skip, ..Options::default() }, true);
    assert_eq!(skip.connection.state(), State::Closed);
}

#[test]
fn peer_close_gives_end_of_stream_after_the_data() {
    let mut peer = Peer::established(plain());
    let _ = peer.send(FIN_ACK, 1, b"bye");
    assert_eq!(recv(&mut peer), Ok(b"bye".to_vec()));
    assert_eq!(recv(&mut peer), Ok(vec![]));
    assert_eq!(peer.connection.send(peer.now, b"still here"), Ok(10));
    while peer.poll().is_some() {}
    let _ = peer.connection.close(peer.now);
    let fin = peer.expect("FIN");
    assert_eq!(fin.repr.flags, FIN_ACK);
    let _ = peer.send(ACK, 12, b"");
    assert_eq!(peer.connection.close_reason(), Some(CloseReason::Done));
}
