//! What analysis says about hand-made conversations.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Analysis, Note};
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
