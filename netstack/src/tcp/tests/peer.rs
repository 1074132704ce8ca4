//! A peer played by hand: segments in, segments out, one connection or listener.

use super::super::{
    Config, Connection, Events, Flow, ListenOutcome, Listener, Options, Outcome, PathInfo, Payload, Secret,
    SegmentIn, Transmit,
};
use super::network::{flow, seeds};
use crate::time::Instant;
use bytes::Bytes;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, TcpFlags, TcpOptions, TcpRepr};
use std::sync::Arc;

/// The peer's initial sequence number.
pub(super) const PEER_ISS: SeqNum = SeqNum(789);
/// The peer's window.
pub(super) const WINDOW: u16 = 30_000;

/// How long the handshake takes.
pub(super) const RTT: Duration = Duration::from_millis(100);

/// A connection and its hand-played peer.
pub(super) struct Peer {
    pub(super) now: Instant,
    pub(super) connection: Connection,
    /// Our side's initial sequence number.
    pub(super) iss: SeqNum,
    /// What the peer sends next.
    pub(super) seq: SeqNum,
    /// The window that the peer offers.
    pub(super) window: u16,
}

/// Makes a segment of the peer's.
pub(super) fn segment(flow: &Flow, seq: SeqNum, ack: SeqNum, flags: TcpFlags, data: &[u8]) -> SegmentIn {
    let repr = TcpRepr {
        src_port: flow.remote_port,
        dst_port: flow.local_port,
        seq,
        ack,
        flags,
        window: WINDOW,
        urgent: 0,
        options: TcpOptions::default(),
    };
    SegmentIn::new(repr, Payload::from(Bytes::copy_from_slice(data)))
}

/// A configuration without timestamps, window scaling or SACK: what a hand-played peer can follow.
pub(super) fn plain() -> Config {
    Config { sack: false, timestamps: false, window_scaling: false, ..Config::default() }
}

impl Peer {
    /// Connects actively; the peer answers.
    pub(super) fn established(config: Config) -> Self {
        let now = Instant::from_millis(5_000);
        let flow = flow(1000, 80);
        let seed = seeds(1).seed(now, &flow);
        let path = PathInfo::with_mss(1460);
        let connection = Connection::connect(now, &Arc::new(config), Options::default(), &flow, path, seed);
        let mut peer = Self { now, connection, iss: seed.iss, seq: PEER_ISS, window: WINDOW };
        let syn = peer.expect("SYN");
        assert_eq!(syn.repr.flags & TcpFlags::SYN, TcpFlags::SYN);
        peer.now += RTT;
        let mut answer = segment(&flow, PEER_ISS, peer.iss + 1, TcpFlags::SYN | TcpFlags::ACK, b"");
        answer.repr.options.mss = Some(1460);
        answer.repr.options.sack_permitted = syn.repr.options.sack_permitted;
        let _ = peer.connection.on_segment(peer.now, answer);
        peer.seq += 1;
        let ack = peer.expect("ACK");
        assert_eq!((ack.repr.flags, ack.repr.seq, ack.repr.ack), (TcpFlags::ACK, peer.iss + 1, peer.seq));
        peer
    }

    pub(super) fn flow(&self) -> Flow {
        flow(1000, 80)
    }

    /// The peer sends; `ack` counts from our initial sequence number.
    pub(super) fn send(&mut self, flags: TcpFlags, ack: u32, data: &[u8]) -> Outcome {
        let mut segment = segment(&self.flow(), self.seq, self.iss + ack, flags, data);
        segment.repr.window = self.window;
        self.seq = segment.end();
        self.connection.on_segment(self.now, segment)
    }

    /// The peer acknowledges ISS + `ack` and reports ranges, given as offsets from ISS, as received.
    pub(super) fn sack(&mut self, ack: u32, ranges: &[(u32, u32)]) -> Outcome {
        let mut segment = segment(&self.flow(), self.seq, self.iss + ack, TcpFlags::ACK, b"");
        segment.repr.window = self.window;
        for (start, end) in ranges {
            segment.repr.options.sack.push(SackBlock { start: self.iss + *start, end: self.iss + *end });
        }
        self.connection.on_segment(self.now, segment)
    }

    /// Takes all that is to be sent: offsets from ISS and lengths.
    pub(super) fn drain(&mut self) -> Vec<(u32, usize)> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.poll() {
            sent.push((transmit.repr.seq - self.iss, transmit.payload.len()));
        }
        sent
    }

    /// Runs timers until something is sent, which is returned as by `drain`, or the connection ends.
    #[track_caller]
    pub(super) fn fire(&mut self) -> Vec<(u32, usize)> {
        loop {
            self.now = self.now.max(self.connection.next_deadline().expect("a timer runs"));
            let outcome = self.connection.on_timer(self.now);
            let sent = self.drain();
            if !sent.is_empty() || outcome.events.contains(Events::CLOSED) {
                return sent;
            }
        }
    }

    /// The peer sends with sequence numbers of its choice.
    pub(super) fn send_at(&mut self, seq: SeqNum, flags: TcpFlags, ack: SeqNum, data: &[u8]) -> Outcome {
        let segment = segment(&self.flow(), seq, ack, flags, data);
        self.connection.on_segment(self.now, segment)
    }

    pub(super) fn poll(&mut self) -> Option<Transmit> {
        self.connection.poll_transmit(self.now, 65_000)
    }

    #[track_caller]
    pub(super) fn expect(&mut self, what: &str) -> Transmit {
        self.poll().unwrap_or_else(|| panic!("no {what} was sent in {:?}", self.connection.state()))
    }

    #[track_caller]
    pub(super) fn expect_silence(&mut self) {
        let transmit = self.poll();
        assert!(transmit.is_none(), "unexpected {transmit:?}");
    }

    pub(super) fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.connection.next_deadline().filter(|at| *at <= end) {
            self.now = at;
            let _ = self.connection.on_timer(self.now);
            if self.poll().is_some() {
                continue;
            }
        }
        self.now = end;
    }
}

/// A listener and its hand-played clients.
pub(super) struct Clients {
    pub(super) now: Instant,
    pub(super) listener: Listener,
    pub(super) accept_queue: Vec<Connection>,
}

impl Clients {
    pub(super) fn new(config: Config, options: Options, backlog: u32) -> Self {
        let now = Instant::from_millis(5_000);
        let listener = Listener::new(&Arc::new(config), options, backlog, Secret([3, 4]), seeds(2));
        Self { now, listener, accept_queue: Vec::new() }
    }

    pub(super) fn flow(port: u16) -> Flow {
        flow(80, port)
    }

    /// Gives a segment to the listener; what is ready goes to the accept queue.
    pub(super) fn deliver(&mut self, port: u16, segment: SegmentIn) -> Option<ListenOutcome> {
        let path = PathInfo::with_mss(1460);
        match self.listener.on_segment(self.now, &Self::flow(port), path, segment) {
            ListenOutcome::Ready(connection) | ListenOutcome::FastOpen(connection) => {
                self.accept_queue.push(connection);
                None
            }
            other => Some(other),
        }
    }

    /// Sends a SYN.
    pub(super) fn syn(&mut self, port: u16) -> Option<ListenOutcome> {
        let mut syn = segment(&Self::flow(port), PEER_ISS, SeqNum(0), TcpFlags::SYN, b"");
        syn.repr.options.mss = Some(1460);
        self.deliver(port, syn)
    }

    /// Sends a SYN and returns the sequence number of the SYN-ACK.
    #[track_caller]
    pub(super) fn expect_syn_ack(&mut self, port: u16) -> Transmit {
        match self.syn(port) {
            Some(ListenOutcome::Reply(reply) | ListenOutcome::Cookie(reply)) => {
                assert_eq!(reply.repr.flags, TcpFlags::SYN | TcpFlags::ACK);
                assert_eq!(reply.repr.ack, PEER_ISS + 1);
                reply
            }
            other => panic!("no SYN-ACK but {other:?}"),
        }
    }

    /// Sends the final ACK.
    pub(super) fn ack(&mut self, port: u16, syn_ack: &Transmit, data: &[u8]) -> Option<ListenOutcome> {
        let ack = syn_ack.repr.seq + 1;
        self.deliver(port, segment(&Self::flow(port), PEER_ISS + 1, ack, TcpFlags::ACK, data))
    }

    /// The whole handshake.
    #[track_caller]
    pub(super) fn connect(&mut self, port: u16) {
        let syn_ack = self.expect_syn_ack(port);
        let outcome = self.ack(port, &syn_ack, b"");
        assert!(outcome.is_none(), "{outcome:?}");
    }

    /// The user accepts one connection.
    pub(super) fn accept(&mut self) -> Option<Connection> {
        if self.accept_queue.is_empty() {
            return None;
        }
        self.listener.on_accepted();
        Some(self.accept_queue.remove(0))
    }
}
