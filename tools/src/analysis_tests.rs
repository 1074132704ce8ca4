//! What analysis says about hand-made conversations.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Analysis, Note, ResetReason};
use crate::dissect::{Options, Segment};
use crate::flow::Endpoints;

struct Talk {
    analysis: Analysis,
    time: Duration,
}

impl Talk {
    fn new() -> Self {
        let mut talk = Self { analysis: Analysis::default(), time: Duration::ZERO };
        talk.client(100, None, 0, |s| s.is_syn = true);
        talk.server(500, Some(101), 0, |s| s.is_syn = true);
        talk.client(101, Some(501), 0, |_| {});
        talk
    }

    fn say(
        &mut self,
        endpoints: Endpoints,
        seq: u32,
        ack: Option<u32>,
        len: u32,
        change: impl Fn(&mut Segment),
    ) -> Vec<Note> {
        self.time += Duration::from_millis(10);
        let mut segment = Segment {
            endpoints,
            seq,
            ack,
            is_syn: false,
            is_fin: false,
            is_rst: false,
            is_psh: false,
            is_urg: false,
            is_ece: false,
            is_cwr: false,
            window: 1000,
            options: Options::default(),
            payload_len: len,
            payload: vec![0; len as usize],
        };
        change(&mut segment);
        self.analysis.on_segment(self.time, &segment, false).1.notes
    }

    fn client(&mut self, seq: u32, ack: Option<u32>, len: u32, change: impl Fn(&mut Segment)) -> Vec<Note> {
        self.say(endpoints(), seq, ack, len, change)
    }

    fn server(&mut self, seq: u32, ack: Option<u32>, len: u32, change: impl Fn(&mut Segment)) -> Vec<Note> {
        self.say(endpoints().reversed(), seq, ack, len, change)
    }
}

fn endpoints() -> Endpoints {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Endpoints { source: at(40000), destination: at(80) }
}

#[test]
fn handshake_and_data_are_unremarkable_and_timed() {
    let mut talk = Talk::new();
    assert!(talk.client(101, Some(501), 50, |_| {}).is_empty());
    assert!(talk.server(501, Some(151), 20, |_| {}).is_empty());
    let connection = &talk.analysis.connections[0];
    assert_eq!((connection.from_client.bytes, connection.from_server.bytes), (50, 20));
    assert_eq!(connection.from_client.rtt().mean(), Some(Duration::from_millis(10)));
}

#[test]
fn retransmissions_are_told_from_filled_gaps() {
    let mut talk = Talk::new();
    talk.client(101, Some(501), 50, |_| {});
    assert_eq!(talk.client(101, Some(501), 50, |_| {}), [Note::Retransmission]);
    assert_eq!(talk.client(201, Some(501), 50, |_| {}), [Note::LostSegment]);
    assert_eq!(talk.client(151, Some(501), 50, |_| {}), [Note::OutOfOrder]);
    assert_eq!(talk.client(241, Some(501), 50, |_| {}), [Note::PartialRetransmission]);
    let half = &talk.analysis.connections[0].from_client;
    assert_eq!((half.bytes, half.retransmitted_segments, half.retransmitted_bytes), (190, 2, 60));
}

#[test]
fn duplicate_acks_zero_windows_and_probes() {
    let mut talk = Talk::new();
    talk.client(101, Some(501), 50, |_| {});
    assert_eq!(talk.server(501, Some(101), 0, |_| {}), [Note::DuplicateAck]);
    assert_eq!(talk.server(501, Some(151), 0, |s| s.window = 0), [Note::ZeroWindow]);
    assert_eq!(talk.client(151, Some(501), 1, |_| {}), [Note::WindowProbe]);
    talk.server(501, Some(152), 0, |_| {});
    assert_eq!(talk.client(151, Some(501), 0, |_| {}), [Note::KeepAlive]);
}

#[test]
fn reset_and_port_reuse() {
    let mut talk = Talk::new();
    assert_eq!(talk.server(501, Some(101), 0, |s| s.is_rst = true), [Note::Reset]);
    assert_eq!(talk.client(9000, None, 0, |s| s.is_syn = true), [Note::PortReuse]);
    assert_eq!(talk.analysis.connections.len(), 2);
    assert!(talk.analysis.connections[0].reset.is_some() && talk.analysis.connections[1].reset.is_none());
}

#[test]
fn acknowledgement_of_unseen_data_is_noted_once() {
    let mut talk = Talk::new();
    assert_eq!(talk.server(501, Some(2000), 0, |_| {}), [Note::AckOfUnseenData]);
    assert!(talk.client(2000, Some(501), 10, |_| {}).is_empty());
}

#[test]
fn a_window_is_filled_closed_probed_and_opened() {
    let mut talk = Talk::new();
    assert_eq!(talk.client(101, Some(501), 1000, |_| {}), [Note::WindowFull]);
    assert_eq!(talk.server(501, Some(1101), 0, |s| s.window = 0), [Note::ZeroWindow]);
    assert_eq!(talk.client(1101, Some(501), 1, |_| {}), [Note::WindowProbe]);
    let answer = talk.server(501, Some(1101), 0, |s| s.window = 0);
    assert_eq!(answer, [Note::ZeroWindow, Note::WindowProbeAck]);
    assert_eq!(talk.server(501, Some(1101), 0, |s| s.window = 500), [Note::WindowUpdate]);
}

#[test]
fn keep_alives_are_told_from_retransmissions_of_a_last_byte() {
    let mut talk = Talk::new();
    talk.client(101, Some(501), 1, |_| {});
    assert_eq!(talk.client(101, Some(501), 1, |_| {}), [Note::Retransmission]);
    assert!(talk.server(501, Some(102), 0, |_| {}).is_empty());
    assert_eq!(talk.client(101, Some(501), 1, |_| {}), [Note::KeepAlive]);
    assert_eq!(talk.server(501, Some(102), 0, |_| {}), [Note::KeepAliveAck]);
}

#[test]
fn kinds_of_retransmissions() {
    let mut talk = Talk::new();
    for at in 0..4 {
        talk.client(101 + at * 100, Some(501), 100, |_| {});
    }
    for _ in 0..3 {
        assert_eq!(talk.server(501, Some(101), 0, |_| {}), [Note::DuplicateAck]);
    }
    assert_eq!(talk.client(101, Some(501), 100, |_| {}), [Note::FastRetransmission]);
    talk.server(501, Some(501), 0, |_| {});
    assert_eq!(talk.client(301, Some(501), 100, |_| {}), [Note::SpuriousRetransmission]);
    let duplicate = talk.server(501, Some(501), 0, |s| s.options.sack = vec![(301, 401)]);
    assert_eq!(duplicate, [Note::DuplicateSack]);
}

#[test]
fn duplicate_acks_are_numbered_and_sack_makes_one_whatever_the_window_does() {
    let mut talk = Talk::new();
    talk.client(101, Some(501), 300, |_| {});
    let sack = |s: &mut Segment| {
        s.options.sack = vec![(201, 301)];
        s.window = 1001;
    };
    assert_eq!(talk.server(501, Some(101), 0, sack), [Note::DuplicateAck]);
    talk.server(501, Some(101), 0, sack);
    let count = talk.analysis.connections[0].from_server.notes[&Note::DuplicateAck];
    assert_eq!(count, 2);
}

#[test]
fn ecn_is_noted_outside_of_handshakes() {
    let mut talk = Talk { analysis: Analysis::default(), time: Duration::ZERO };
    let negotiation = talk.client(100, None, 0, |s| {
        s.is_syn = true;
        s.is_ece = true;
        s.is_cwr = true;
    });
    assert!(negotiation.is_empty());
    talk.server(500, Some(101), 0, |s| s.is_syn = true);
    assert_eq!(talk.server(501, Some(101), 0, |s| s.is_ece = true), [Note::EcnEcho]);
    assert_eq!(talk.client(101, Some(501), 5, |s| s.is_cwr = true), [Note::WindowReduced]);
}

#[test]
fn resets_have_reasons() {
    let reason = |talk: &Talk| talk.analysis.connections[0].reset;
    let reset = |s: &mut Segment| s.is_rst = true;

    let mut refused = Talk { analysis: Analysis::default(), time: Duration::ZERO };
    refused.client(100, None, 0, |s| s.is_syn = true);
    refused.server(0, Some(101), 0, reset);
    assert_eq!(reason(&refused), Some(ResetReason::Refused));

    let mut unknown = Talk { analysis: Analysis::default(), time: Duration::ZERO };
    unknown.client(100, Some(7), 10, |_| {});
    unknown.server(7, None, 0, reset);
    assert_eq!(reason(&unknown), Some(ResetReason::NoSuchConnection));

    let mut rejected = Talk { analysis: Analysis::default(), time: Duration::ZERO };
    rejected.client(100, None, 0, |s| s.is_syn = true);
    rejected.server(500, Some(101), 0, |s| s.is_syn = true);
    rejected.client(101, None, 0, reset);
    assert_eq!(reason(&rejected), Some(ResetReason::HandshakeRejected));

    let mut unread = Talk::new();
    unread.client(101, Some(501), 10, |_| {});
    unread.server(501, Some(101), 0, reset);
    assert_eq!(reason(&unread), Some(ResetReason::UnreadData));

    let mut late = Talk::new();
    late.server(501, Some(101), 0, |s| s.is_fin = true);
    late.client(101, Some(502), 10, |_| {});
    late.server(502, None, 0, reset);
    assert_eq!(reason(&late), Some(ResetReason::DataAfterClose));

    let mut silent = Talk::new();
    for _ in 0..5 {
        silent.client(101, Some(501), 10, |_| {});
    }
    silent.client(111, Some(501), 0, reset);
    assert_eq!(reason(&silent), Some(ResetReason::NoAnswer));

    let mut aborted = Talk::new();
    aborted.client(101, Some(501), 0, reset);
    assert_eq!(reason(&aborted), Some(ResetReason::Aborted));
}
