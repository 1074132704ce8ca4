//! What analysis says of transfers whose truth is known: from the stack's own counters, or from what was done to the
//! capture.

use netstack_sim::{HostSpec, LinkSpec, Loss};

use super::{Connection, Note};
use crate::examine::{Examiner, Subject};
use crate::source::Packet;
use crate::testing::{Simulated, examine, packets, plain_link, simulate};

const BYTES: usize = 400_000;

fn connection(examiner: &Examiner) -> &Connection {
    match examiner.flow(0).unwrap().subject {
        Subject::Tcp(connection) => connection,
        Subject::Other(_) => panic!("not TCP"),
    }
}

fn count(connection: &Connection, note: Note) -> u64 {
    let of = |half: &super::Half| half.notes.get(&note).copied().unwrap_or(0);
    of(&connection.from_client) + of(&connection.from_server)
}

fn carries_data(packet: &Packet) -> bool {
    crate::dissect::Dissection::of(packet).is_some_and(|d| d.tcp().is_some_and(|s| s.payload_len > 0))
}

#[test]
fn a_clean_transfer_has_no_faults_and_the_true_round_trip() {
    let Simulated { file, .. } = simulate(1, BYTES, plain_link(), &HostSpec::default());
    let (_, examiner) = examine(packets(file));
    let connection = connection(&examiner);
    assert_eq!(connection.from_client.bytes, BYTES as u64);
    assert_eq!(connection.from_client.retransmitted_segments, 0);
    for note in [Note::LostSegment, Note::OutOfOrder, Note::DuplicateAck, Note::AckOfUnseenData] {
        assert_eq!(count(connection, note), 0, "{note:?}");
    }
    // An acknowledgement is captured where it is sent: one way after the data. The handshake takes both ways.
    let min = connection.from_client.rtt().min.as_millis();
    assert!((20..25).contains(&min), "{min} ms");
    assert_eq!(connection.handshake.map(|time| time.as_millis()), Some(40));
    assert_eq!(connection.end(), "closed");
}

#[test]
fn retransmissions_are_those_that_the_sender_counted() {
    for seed in 1..5 {
        let link = LinkSpec { loss: Loss::Random { ppm: 20_000 }, ..plain_link() };
        let Simulated { file, client } = simulate(seed, BYTES, link, &HostSpec::default());
        let (_, examiner) = examine(packets(file));
        let connection = connection(&examiner);
        let half = &connection.from_client;
        assert!(client.total_retransmits > 0);
        assert_eq!(half.retransmitted_segments, client.total_retransmits, "seed {seed}");
        // The stack counts a FIN as the sequence number that it takes.
        let fin = client.bytes_retransmitted - half.retransmitted_bytes;
        assert!(fin <= 1, "seed {seed}: {fin}");
        assert_eq!(half.bytes, BYTES as u64);
        assert!(count(connection, Note::FastRetransmission) > 0, "seed {seed}: {:?}", half.notes);
        // The receiver reports nothing twice that was lost.
        assert_eq!(count(connection, Note::LostSegment), 0);
    }
}

#[test]
fn a_retransmission_after_its_acknowledgement_is_spurious() {
    // The network delivers everything twice: the receiver says so with D-SACKs, and nothing is sent again.
    let link = LinkSpec { duplicate_ppm: 50_000, ..plain_link() };
    let Simulated { file, client } = simulate(7, BYTES, link, &HostSpec::default());
    let (_, examiner) = examine(packets(file));
    let connection = connection(&examiner);
    assert_eq!(connection.from_client.retransmitted_segments, client.total_retransmits);
    assert!(count(connection, Note::DuplicateSack) > 0);
}

#[test]
fn what_the_capture_lost_is_no_retransmission() {
    let Simulated { file, .. } = simulate(3, BYTES, plain_link(), &HostSpec::default());
    let mut packets = packets(file);
    let all = packets.len();
    let mut data = 0;
    packets.retain(|packet| {
        data += usize::from(carries_data(packet));
        !(carries_data(packet) && data % 40 == 20)
    });
    let lost = all - packets.len();
    assert!(lost > 3, "{lost}");
    let (_, examiner) = examine(packets);
    let connection = connection(&examiner);
    assert_eq!(count(connection, Note::LostSegment), lost as u64);
    assert_eq!(connection.from_client.retransmitted_segments, 0);
}

#[test]
fn swapped_segments_are_out_of_order_and_no_retransmissions() {
    let Simulated { file, .. } = simulate(4, BYTES, plain_link(), &HostSpec::default());
    let mut packets = packets(file);
    let mut swapped = 0;
    let mut at = 30;
    while at + 1 < packets.len() {
        if carries_data(&packets[at]) && carries_data(&packets[at + 1]) {
            let (first, second) = (packets[at].time, packets[at + 1].time);
            packets.swap(at, at + 1);
            (packets[at].time, packets[at + 1].time) = (first, second);
            swapped += 1;
            at += 20;
        }
        at += 1;
    }
    assert!(swapped > 3);
    let (_, examiner) = examine(packets);
    let connection = connection(&examiner);
    assert_eq!(count(connection, Note::OutOfOrder), swapped);
    assert_eq!(connection.from_client.retransmitted_segments, 0);
}
