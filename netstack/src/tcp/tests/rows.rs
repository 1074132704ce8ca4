//! Row tables: what each state does with each kind of segment (RFC 9293 section 3.10.7, with RFC 5961 and RFC 1337).
//!
//! A row is `segment: verdict, answer -> state`. The answer is what is sent at once, `-` is nothing. Each block is a state and
//! the section that says so.

use super::super::{
    Config, Connection, ListenOutcome, Options, PathInfo, SegmentIn, Shutdown, State, Transmit, Verdict,
};
use super::network::{flow, seeds};
use super::peer::{Clients, PEER_ISS, Peer, plain, segment};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::TcpFlags;
use std::sync::Arc;

const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;
const FIN: TcpFlags = TcpFlags::FIN;
const URG: TcpFlags = TcpFlags::URG;

/// A kind of segment: its name, where it begins from RCV.NXT, what it acknowledges, its flags and payload.
type Kind = (&'static str, i32, Acks, TcpFlags, &'static [u8]);

/// What the acknowledgment field says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    /// Nothing: the ACK bit is off.
    None,
    /// SND.UNA again.
    Una,
    /// Everything that was sent.
    All,
    /// Less than SND.UNA, within what was ever sent.
    Old,
    /// More than was sent.
    Unsent,
}

const KINDS: &[Kind] = &[
    ("data in order", 0, Acks::Una, ACK, b"data"),
    ("data in order with URG", 0, Acks::Una, ACK.union(URG), b"data"),
    ("data in the window", 100, Acks::Una, ACK, b"data"),
    ("data received before", -4, Acks::Una, ACK, b"data"),
    ("data beyond the window", 1_000_000, Acks::Una, ACK, b"data"),
    ("data without ACK", 0, Acks::None, TcpFlags::empty(), b"data"),
    ("ACK of everything", 0, Acks::All, ACK, b""),
    ("ACK again", 0, Acks::Una, ACK, b""),
    ("ACK of old data", 0, Acks::Old, ACK, b""),
    ("ACK of unsent data", 0, Acks::Unsent, ACK, b""),
    ("FIN in order", 0, Acks::Una, FIN.union(ACK), b""),
    ("FIN with ACK of everything", 0, Acks::All, FIN.union(ACK), b""),
    ("FIN beyond the window", 1_000_000, Acks::Una, FIN.union(ACK), b""),
    ("RST exact", 0, Acks::None, RST, b""),
    ("RST in the window", 100, Acks::None, RST, b""),
    ("RST beyond the window", 1_000_000, Acks::None, RST, b""),
    ("SYN in the window", 100, Acks::None, SYN, b""),
    ("SYN of before", -1000, Acks::None, SYN, b""),
    ("SYN-ACK in the window", 100, Acks::Una, SYN.union(ACK), b""),
];

/// Section 3.10.7.1.
const CLOSED: &str = "
data in order: Dropped(Closed), RST -> Closed
data in order with URG: Dropped(Closed), RST -> Closed
data in the window: Dropped(Closed), RST -> Closed
data received before: Dropped(Closed), RST -> Closed
data beyond the window: Dropped(Closed), RST -> Closed
data without ACK: Dropped(Closed), RST|ACK -> Closed
ACK of everything: Dropped(Closed), RST -> Closed
ACK again: Dropped(Closed), RST -> Closed
ACK of old data: Dropped(Closed), RST -> Closed
ACK of unsent data: Dropped(Closed), RST -> Closed
FIN in order: Dropped(Closed), RST -> Closed
FIN with ACK of everything: Dropped(Closed), RST -> Closed
FIN beyond the window: Dropped(Closed), RST -> Closed
RST exact: Dropped(Closed), - -> Closed
RST in the window: Dropped(Closed), - -> Closed
RST beyond the window: Dropped(Closed), - -> Closed
SYN in the window: Dropped(Closed), RST|ACK -> Closed
SYN of before: Dropped(Closed), RST|ACK -> Closed
SYN-ACK in the window: Dropped(Closed), RST -> Closed
";

#[test]
fn rfc_9293_3_10_7_1_closed() {
    check(CLOSED, |kind| {
        let mut state = synchronised(State::Established);
        let _ = state.peer.connection.abort(state.peer.now);
        state.peer.drain();
        state.deliver(kind)
    });
}

/// Section 3.10.7.2. The answers are the listener's; RFC 5961 section 3.2 has no part in LISTEN.
const LISTEN: &str = "
data in order: Dropped(ListenUnexpected), RST -> Listen
data in order with URG: Dropped(ListenUnexpected), RST -> Listen
data in the window: Dropped(ListenUnexpected), RST -> Listen
data received before: Dropped(ListenUnexpected), RST -> Listen
data beyond the window: Dropped(ListenUnexpected), RST -> Listen
data without ACK: Dropped(ListenUnexpected), - -> Listen
ACK of everything: Dropped(ListenUnexpected), RST -> Listen
ACK again: Dropped(ListenUnexpected), RST -> Listen
ACK of old data: Dropped(ListenUnexpected), RST -> Listen
ACK of unsent data: Dropped(ListenUnexpected), RST -> Listen
FIN in order: Dropped(ListenUnexpected), RST -> Listen
FIN with ACK of everything: Dropped(ListenUnexpected), RST -> Listen
FIN beyond the window: Dropped(ListenUnexpected), RST -> Listen
RST exact: Dropped(ListenUnexpected), - -> Listen
RST in the window: Dropped(ListenUnexpected), - -> Listen
RST beyond the window: Dropped(ListenUnexpected), - -> Listen
SYN in the window: Accepted, SYN|ACK -> SynReceived
SYN of before: Accepted, SYN|ACK -> SynReceived
SYN-ACK in the window: Dropped(ListenUnexpected), RST -> Listen
";

#[test]
fn rfc_9293_3_10_7_2_listen() {
    check(LISTEN, |kind| {
        let mut clients = Clients::new(plain(), Options::default(), 5);
        deliver_to_listener(&mut clients, PEER_ISS, SeqNum(5000), kind)
    });
}

/// Section 3.10.7.3. What is beyond the window elsewhere is any number here: there is no RCV.NXT yet.
const SYN_SENT: &str = "
data in order: Dropped(BadAck), RST -> SynSent
data in order with URG: Dropped(BadAck), RST -> SynSent
data in the window: Dropped(BadAck), RST -> SynSent
data received before: Dropped(BadAck), RST -> SynSent
data beyond the window: Dropped(BadAck), RST -> SynSent
data without ACK: Dropped(NoAck), - -> SynSent
ACK of everything: Dropped(NoAck), - -> SynSent
ACK again: Dropped(BadAck), RST -> SynSent
ACK of old data: Dropped(BadAck), RST -> SynSent
ACK of unsent data: Dropped(BadAck), RST -> SynSent
FIN in order: Dropped(BadAck), RST -> SynSent
FIN with ACK of everything: Dropped(NoAck), - -> SynSent
FIN beyond the window: Dropped(BadAck), RST -> SynSent
RST exact: Dropped(NoAck), - -> SynSent
RST in the window: Dropped(NoAck), - -> SynSent
RST beyond the window: Dropped(NoAck), - -> SynSent
SYN in the window: Accepted, SYN|ACK -> SynReceived
SYN of before: Accepted, SYN|ACK -> SynReceived
SYN-ACK in the window: Dropped(BadAck), RST -> SynSent
";

#[test]
fn rfc_9293_3_10_7_3_syn_sent() {
    check(SYN_SENT, |kind| syn_sent().deliver(kind));
}

/// Section 3.10.7.4 in SYN-RECEIVED after SYNs have crossed.
const SYN_RECEIVED: &str = "
data in order: Dropped(BadAck), RST -> SynReceived
data in order with URG: Dropped(BadAck), RST -> SynReceived
data in the window: Dropped(BadAck), RST -> SynReceived
data received before: Dropped(OutOfWindow), ACK -> SynReceived
data beyond the window: Dropped(OutOfWindow), ACK -> SynReceived
data without ACK: Dropped(NoAck), - -> SynReceived
ACK of everything: Accepted, - -> Established
ACK again: Dropped(BadAck), RST -> SynReceived
ACK of old data: Dropped(BadAck), RST -> SynReceived
ACK of unsent data: Dropped(BadAck), RST -> SynReceived
FIN in order: Dropped(BadAck), RST -> SynReceived
FIN with ACK of everything: Accepted, - -> CloseWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> SynReceived
RST exact: Accepted, - -> Closed
RST in the window: Dropped(InexactReset), ACK -> SynReceived
RST beyond the window: Dropped(OutOfWindow), - -> SynReceived
SYN in the window: Dropped(UnexpectedSyn), ACK -> SynReceived
SYN of before: Dropped(UnexpectedSyn), ACK -> SynReceived
SYN-ACK in the window: Dropped(UnexpectedSyn), ACK -> SynReceived
";

#[test]
fn rfc_9293_3_10_7_4_syn_received() {
    check(SYN_RECEIVED, |kind| {
        let mut state = syn_sent();
        let _ = state.peer.send_at(state.peer.seq, SYN, SeqNum(0), b"");
        state.peer.seq += 1;
        state.peer.drain();
        state.deliver(kind)
    });
}

/// Section 3.10.7.4 in SYN-RECEIVED of a listener, where it is a record.
const HALF_OPEN: &str = "
data in order: Accepted, - -> Established
data in order with URG: Accepted, - -> Established
data in the window: Accepted, - -> Established
data received before: Dropped(OutOfWindow), ACK -> SynReceived
data beyond the window: Dropped(OutOfWindow), ACK -> SynReceived
data without ACK: Dropped(ListenUnexpected), - -> SynReceived
ACK of everything: Accepted, - -> Established
ACK again: Accepted, - -> Established
ACK of old data: Dropped(ListenUnexpected), RST -> SynReceived
ACK of unsent data: Dropped(ListenUnexpected), RST -> SynReceived
FIN in order: Accepted, - -> CloseWait
FIN with ACK of everything: Accepted, - -> CloseWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> SynReceived
RST exact: Dropped(ListenUnexpected), - -> Listen
RST in the window: Dropped(InexactReset), ACK -> SynReceived
RST beyond the window: Dropped(ListenUnexpected), - -> SynReceived
SYN in the window: Dropped(UnexpectedSyn), ACK -> SynReceived
SYN of before: Dropped(UnexpectedSyn), ACK -> SynReceived
SYN-ACK in the window: Dropped(ListenUnexpected), RST -> SynReceived
";

#[test]
fn rfc_9293_3_10_7_4_half_open() {
    check(HALF_OPEN, |kind| {
        let mut clients = Clients::new(plain(), Options::default(), 5);
        let syn_ack = clients.expect_syn_ack(1);
        deliver_to_listener(&mut clients, PEER_ISS + 1, syn_ack.repr.seq, kind)
    });
}

/// Section 3.10.7.4, with RFC 5961 sections 3.2, 4.2 and 5.2.
const ESTABLISHED: &str = "
data in order: Accepted, ACK -> Established
data in order with URG: Accepted, ACK -> Established
data in the window: Accepted, ACK -> Established
data received before: Dropped(Duplicate), ACK -> Established
data beyond the window: Dropped(OutOfWindow), ACK -> Established
data without ACK: Dropped(NoAck), - -> Established
ACK of everything: Accepted, - -> Established
ACK again: Accepted, - -> Established
ACK of old data: Accepted, - -> Established
ACK of unsent data: Dropped(BadAck), ACK -> Established
FIN in order: Accepted, - -> CloseWait
FIN with ACK of everything: Accepted, - -> CloseWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> Established
RST exact: Accepted, - -> Closed
RST in the window: Dropped(InexactReset), ACK -> Established
RST beyond the window: Dropped(OutOfWindow), - -> Established
SYN in the window: Dropped(UnexpectedSyn), ACK -> Established
SYN of before: Dropped(UnexpectedSyn), ACK -> Established
SYN-ACK in the window: Dropped(UnexpectedSyn), ACK -> Established
";

#[test]
fn rfc_9293_3_10_7_4_established() {
    check(ESTABLISHED, |kind| synchronised(State::Established).deliver(kind));
}

/// Section 3.10.7.4 in FIN-WAIT-1.
const FIN_WAIT_1: &str = "
data in order: Accepted, ACK -> FinWait1
data in order with URG: Accepted, ACK -> FinWait1
data in the window: Accepted, ACK -> FinWait1
data received before: Dropped(Duplicate), ACK -> FinWait1
data beyond the window: Dropped(OutOfWindow), ACK -> FinWait1
data without ACK: Dropped(NoAck), - -> FinWait1
ACK of everything: Accepted, - -> FinWait2
ACK again: Accepted, - -> FinWait1
ACK of old data: Accepted, - -> FinWait1
ACK of unsent data: Dropped(BadAck), ACK -> FinWait1
FIN in order: Accepted, ACK -> Closing
FIN with ACK of everything: Accepted, ACK -> TimeWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> FinWait1
RST exact: Accepted, - -> Closed
RST in the window: Dropped(InexactReset), ACK -> FinWait1
RST beyond the window: Dropped(OutOfWindow), - -> FinWait1
SYN in the window: Dropped(UnexpectedSyn), ACK -> FinWait1
SYN of before: Dropped(UnexpectedSyn), ACK -> FinWait1
SYN-ACK in the window: Dropped(UnexpectedSyn), ACK -> FinWait1
";

#[test]
fn rfc_9293_3_10_7_4_fin_wait_1() {
    check(FIN_WAIT_1, |kind| synchronised(State::FinWait1).deliver(kind));
}

/// Section 3.10.7.4 in FIN-WAIT-2.
const FIN_WAIT_2: &str = "
data in order: Accepted, ACK -> FinWait2
data in order with URG: Accepted, ACK -> FinWait2
data in the window: Accepted, ACK -> FinWait2
data received before: Dropped(Duplicate), ACK -> FinWait2
data beyond the window: Dropped(OutOfWindow), ACK -> FinWait2
data without ACK: Dropped(NoAck), - -> FinWait2
ACK of everything: Accepted, - -> FinWait2
ACK again: Accepted, - -> FinWait2
ACK of old data: Accepted, - -> FinWait2
ACK of unsent data: Dropped(BadAck), ACK -> FinWait2
FIN in order: Accepted, ACK -> TimeWait
FIN with ACK of everything: Accepted, ACK -> TimeWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> FinWait2
RST exact: Accepted, - -> Closed
RST in the window: Dropped(InexactReset), ACK -> FinWait2
RST beyond the window: Dropped(OutOfWindow), - -> FinWait2
SYN in the window: Dropped(UnexpectedSyn), ACK -> FinWait2
SYN of before: Dropped(UnexpectedSyn), ACK -> FinWait2
SYN-ACK in the window: Dropped(UnexpectedSyn), ACK -> FinWait2
";

#[test]
fn rfc_9293_3_10_7_4_fin_wait_2() {
    check(FIN_WAIT_2, |kind| synchronised(State::FinWait2).deliver(kind));
}

/// Section 3.10.7.4 in CLOSE-WAIT.
const CLOSE_WAIT: &str = "
data in order: Dropped(Duplicate), - -> CloseWait
data in order with URG: Dropped(Duplicate), - -> CloseWait
data in the window: Dropped(Duplicate), - -> CloseWait
data received before: Dropped(Duplicate), ACK -> CloseWait
data beyond the window: Dropped(OutOfWindow), ACK -> CloseWait
data without ACK: Dropped(NoAck), - -> CloseWait
ACK of everything: Accepted, - -> CloseWait
ACK again: Accepted, - -> CloseWait
ACK of old data: Accepted, - -> CloseWait
ACK of unsent data: Dropped(BadAck), ACK -> CloseWait
FIN in order: Dropped(Duplicate), - -> CloseWait
FIN with ACK of everything: Dropped(Duplicate), - -> CloseWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> CloseWait
RST exact: Accepted, - -> Closed
RST in the window: Dropped(InexactReset), ACK -> CloseWait
RST beyond the window: Dropped(OutOfWindow), - -> CloseWait
SYN in the window: Dropped(UnexpectedSyn), ACK -> CloseWait
SYN of before: Dropped(UnexpectedSyn), ACK -> CloseWait
SYN-ACK in the window: Dropped(UnexpectedSyn), ACK -> CloseWait
";

#[test]
fn rfc_9293_3_10_7_4_close_wait() {
    check(CLOSE_WAIT, |kind| synchronised(State::CloseWait).deliver(kind));
}

/// Section 3.10.7.4 in CLOSING.
const CLOSING: &str = "
data in order: Dropped(Duplicate), - -> Closing
data in order with URG: Dropped(Duplicate), - -> Closing
data in the window: Dropped(Duplicate), - -> Closing
data received before: Dropped(Duplicate), ACK -> Closing
data beyond the window: Dropped(OutOfWindow), ACK -> Closing
data without ACK: Dropped(NoAck), - -> Closing
ACK of everything: Accepted, - -> TimeWait
ACK again: Accepted, - -> Closing
ACK of old data: Accepted, - -> Closing
ACK of unsent data: Dropped(BadAck), ACK -> Closing
FIN in order: Dropped(Duplicate), - -> Closing
FIN with ACK of everything: Accepted, - -> TimeWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> Closing
RST exact: Accepted, - -> Closed
RST in the window: Dropped(InexactReset), ACK -> Closing
RST beyond the window: Dropped(OutOfWindow), - -> Closing
SYN in the window: Dropped(UnexpectedSyn), ACK -> Closing
SYN of before: Dropped(UnexpectedSyn), ACK -> Closing
SYN-ACK in the window: Dropped(UnexpectedSyn), ACK -> Closing
";

#[test]
fn rfc_9293_3_10_7_4_closing() {
    check(CLOSING, |kind| synchronised(State::Closing).deliver(kind));
}

/// Section 3.10.7.4 in LAST-ACK.
const LAST_ACK: &str = "
data in order: Dropped(Duplicate), - -> LastAck
data in order with URG: Dropped(Duplicate), - -> LastAck
data in the window: Dropped(Duplicate), - -> LastAck
data received before: Dropped(Duplicate), ACK -> LastAck
data beyond the window: Dropped(OutOfWindow), ACK -> LastAck
data without ACK: Dropped(NoAck), - -> LastAck
ACK of everything: Accepted, - -> Closed
ACK again: Accepted, - -> LastAck
ACK of old data: Accepted, - -> LastAck
ACK of unsent data: Dropped(BadAck), ACK -> LastAck
FIN in order: Dropped(Duplicate), - -> LastAck
FIN with ACK of everything: Accepted, - -> Closed
FIN beyond the window: Dropped(OutOfWindow), ACK -> LastAck
RST exact: Accepted, - -> Closed
RST in the window: Dropped(InexactReset), ACK -> LastAck
RST beyond the window: Dropped(OutOfWindow), - -> LastAck
SYN in the window: Dropped(UnexpectedSyn), ACK -> LastAck
SYN of before: Dropped(UnexpectedSyn), ACK -> LastAck
SYN-ACK in the window: Dropped(UnexpectedSyn), ACK -> LastAck
";

#[test]
fn rfc_9293_3_10_7_4_last_ack() {
    check(LAST_ACK, |kind| synchronised(State::LastAck).deliver(kind));
}

/// Section 3.10.7.4 in TIME-WAIT, with RFC 1337 section 3 and RFC 6191.
const TIME_WAIT: &str = "
data in order: Dropped(OutOfWindow), ACK -> TimeWait
data in order with URG: Dropped(OutOfWindow), ACK -> TimeWait
data in the window: Dropped(OutOfWindow), ACK -> TimeWait
data received before: Dropped(OutOfWindow), ACK -> TimeWait
data beyond the window: Dropped(OutOfWindow), ACK -> TimeWait
data without ACK: Dropped(OutOfWindow), ACK -> TimeWait
ACK of everything: Accepted, - -> TimeWait
ACK again: Accepted, - -> TimeWait
ACK of old data: Accepted, - -> TimeWait
ACK of unsent data: Accepted, - -> TimeWait
FIN in order: Dropped(OutOfWindow), ACK -> TimeWait
FIN with ACK of everything: Dropped(OutOfWindow), ACK -> TimeWait
FIN beyond the window: Dropped(OutOfWindow), ACK -> TimeWait
RST exact: Dropped(ResetInTimeWait), - -> TimeWait
RST in the window: Dropped(ResetInTimeWait), - -> TimeWait
RST beyond the window: Dropped(ResetInTimeWait), - -> TimeWait
SYN in the window: Reincarnate, - -> Closed
SYN of before: Dropped(OutOfWindow), ACK -> TimeWait
SYN-ACK in the window: Dropped(OutOfWindow), ACK -> TimeWait
";

#[test]
fn rfc_9293_3_10_7_4_time_wait() {
    check(TIME_WAIT, |kind| synchronised(State::TimeWait).deliver(kind));
}

/// Runs each kind of segment on a connection of its own and compares the rows.
#[track_caller]
fn check(rows: &str, run: impl Fn(&Kind) -> String) {
    let mut actual = String::from("\n");
    for kind in KINDS {
        actual.push_str(&format!("{}: {}\n", kind.0, run(kind)));
    }
    assert!(actual == rows, "the rows are:\n{actual}");
}

/// A connection with its peer, and what it has sent.
struct Synchronised {
    peer: Peer,
    /// SND.UNA and SND.NXT, from the initial sequence number.
    una: u32,
    nxt: u32,
}

impl Synchronised {
    fn deliver(&mut self, kind: &Kind) -> String {
        let (_, offset, acks, flags, data) = *kind;
        let iss = self.peer.iss;
        let ack = match acks {
            Acks::None => SeqNum(0),
            Acks::Una => iss + self.una,
            Acks::All => iss + self.nxt,
            Acks::Old => iss + self.una - 50,
            Acks::Unsent => iss + self.nxt + 1,
        };
        let seq = SeqNum(self.peer.seq.0.wrapping_add_signed(offset));
        let outcome = self.peer.send_at(seq, flags, ack, data);
        let answers: Vec<Transmit> = std::iter::from_fn(|| self.peer.poll()).collect();
        describe(outcome.verdict, &answers, self.peer.connection.state())
    }
}

fn describe(verdict: Verdict, answers: &[Transmit], state: State) -> String {
    let verdict = match verdict {
        Verdict::Accepted => "Accepted".to_owned(),
        Verdict::Dropped(reason) => format!("Dropped({reason:?})"),
        Verdict::Reincarnate { .. } => "Reincarnate".to_owned(),
    };
    let answers: Vec<String> = answers.iter().map(|answer| show(answer.repr.flags)).collect();
    let answers = if answers.is_empty() { "-".to_owned() } else { answers.join(" ") };
    format!("{verdict}, {answers} -> {state:?}")
}

fn show(flags: TcpFlags) -> String {
    let names = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")];
    let set: Vec<&str> =
        names.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
    set.join("|")
}

/// A connection in `state` with 100 bytes acknowledged and, where data may still be sent, 100 bytes in flight.
fn synchronised(state: State) -> Synchronised {
    let mut peer = Peer::established(Config { tail_loss_probe: false, ..plain() });
    let send = |peer: &mut Peer, data: &[u8]| {
        peer.connection.send(peer.now, data).expect("the connection takes data");
        peer.drain();
    };
    send(&mut peer, &[1; 100]);
    let _ = peer.send(ACK, 101, b"");
    send(&mut peer, &[2; 100]);
    let (una, nxt) = (101, 201);
    let fin = |peer: &mut Peer| {
        let _ = peer.connection.shutdown(peer.now, Shutdown::Write);
        peer.drain();
    };
    let peer_fin = |peer: &mut Peer, ack: u32| {
        let _ = peer.send(FIN | ACK, ack, b"");
        peer.drain();
    };
    let (una, nxt) = match state {
        State::FinWait1 => {
            fin(&mut peer);
            (una, nxt + 1)
        }
        State::FinWait2 => {
            fin(&mut peer);
            let _ = peer.send(ACK, nxt + 1, b"");
            (nxt + 1, nxt + 1)
        }
        State::Closing => {
            fin(&mut peer);
            peer_fin(&mut peer, una);
            (una, nxt + 1)
        }
        State::TimeWait => {
            fin(&mut peer);
            peer_fin(&mut peer, nxt + 1);
            (nxt + 1, nxt + 1)
        }
        State::CloseWait => {
            peer_fin(&mut peer, una);
            (una, nxt)
        }
        State::LastAck => {
            peer_fin(&mut peer, una);
            fin(&mut peer);
            (una, nxt + 1)
        }
        _ => (una, nxt),
    };
    if state != State::Established {
        assert_eq!(peer.connection.state(), state);
    }
    // Any limit on challenge ACKs is over.
    peer.now += core::time::Duration::from_millis(1);
    Synchronised { peer, una, nxt }
}

/// An active opener whose SYN is out.
fn syn_sent() -> Synchronised {
    let now = Instant::from_millis(5_000);
    let flow = flow(1000, 80);
    let seed = seeds(1).seed(now, &flow);
    let path = PathInfo::with_mss(1460);
    let connection = Connection::connect(now, &Arc::new(plain()), Options::default(), &flow, path, seed);
    let mut peer = Peer { now, connection, iss: seed.iss, seq: PEER_ISS, window: 30_000 };
    peer.drain();
    Synchronised { peer, una: 0, nxt: 1 }
}

/// Gives a segment to a listener; `iss` is that of the SYN-ACK, or any number.
fn deliver_to_listener(clients: &mut Clients, rcv_nxt: SeqNum, iss: SeqNum, kind: &Kind) -> String {
    let (_, offset, acks, flags, data) = *kind;
    let ack = match acks {
        Acks::None => SeqNum(0),
        // Nothing but the SYN-ACK is out.
        Acks::Una | Acks::All => iss + 1,
        Acks::Old => iss,
        Acks::Unsent => iss + 2,
    };
    let seq = SeqNum(rcv_nxt.0.wrapping_add_signed(offset));
    let input: SegmentIn = segment(&Clients::flow(1), seq, ack, flags, data);
    clients.now += core::time::Duration::from_millis(1);
    match clients.deliver(1, input) {
        None => {
            let connection = clients.accept().expect("a connection is ready");
            format!("Accepted, - -> {:?}", connection.state())
        }
        Some(ListenOutcome::Reply(reply) | ListenOutcome::Cookie(reply)) => {
            format!("Accepted, {} -> SynReceived", show(reply.repr.flags))
        }
        Some(ListenOutcome::Challenge(reply, reason) | ListenOutcome::Reset(reply, reason)) => {
            format!("Dropped({reason:?}), {} -> {}", show(reply.repr.flags), listening(clients))
        }
        Some(ListenOutcome::Drop(reason)) => {
            format!("Dropped({reason:?}), - -> {}", listening(clients))
        }
        Some(ListenOutcome::Ready(_) | ListenOutcome::FastOpen(_)) => {
            unreachable!("the harness takes the one, and no segment here asks for the other")
        }
    }
}

fn listening(clients: &Clients) -> &'static str {
    if clients.listener.half_open() > 0 { "SynReceived" } else { "Listen" }
}
