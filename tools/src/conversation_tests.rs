//! Flows of DNS, ping and ARP, from packets made by hand.

use std::sync::Arc;
use std::time::Duration;

use etherparse::PacketBuilder;

use super::Conversation;
use crate::examine::{Examiner, Subject};
use crate::source::{Interface, Packet};
use crate::testing::examine;

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 53];

fn packet(millis: u64, data: Vec<u8>) -> Packet {
    Packet {
        time: Duration::from_millis(millis),
        interface: Arc::new(Interface { number: 0, name: None, link_type: 1 }),
        course: None,
        original_len: data.len().try_into().unwrap(),
        data,
        comments: Vec::new(),
    }
}

fn udp(millis: u64, is_reply: bool, payload: &[u8]) -> Packet {
    let (from, to, ports) =
        if is_reply { (SERVER, CLIENT, (53, 4000)) } else { (CLIENT, SERVER, (4000, 53)) };
    let mut data = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64).udp(ports.0, ports.1);
    builder.write(&mut data, payload).unwrap();
    packet(millis, data)
}

/// RFC 1035, 4: a question for the address of a.org, or the answer 1.2.3.4.
fn dns(id: u8, is_reply: bool) -> Vec<u8> {
    let flags = if is_reply { 0x81 } else { 0x01 };
    let mut message = vec![0, id, flags, 0, 0, 1, 0, u8::from(is_reply), 0, 0, 0, 0];
    message.extend(b"\x01a\x03org\0\0\x01\0\x01");
    if is_reply {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
    }
    message
}

fn ping(millis: u64, is_reply: bool, seq: u16) -> Packet {
    let (from, to) = if is_reply { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64);
    let mut data = Vec::new();
    if is_reply {
        builder.icmpv4_echo_reply(9, seq).write(&mut data, b"abc").unwrap();
    } else {
        builder.icmpv4_echo_request(9, seq).write(&mut data, b"abc").unwrap();
    }
    packet(millis, data)
}

fn conversation(examiner: &Examiner, number: usize) -> &Conversation {
    match examiner.flow(number).unwrap().subject {
        Subject::Other(conversation) => conversation,
        Subject::Tcp(_) => panic!("TCP"),
    }
}

#[test]
fn questions_are_paired_with_their_answers() {
    let packets =
        vec![udp(0, false, &dns(1, false)), udp(1, false, &dns(2, false)), udp(31, true, &dns(1, true))];
    let (examined, examiner) = examine(packets);
    let summaries: Vec<_> =
        examined.iter().map(|e| e.dissection.as_ref().unwrap().summary.as_str()).collect();
    assert_eq!(summaries[0], "DNS 10.0.0.1:4000 > 10.0.0.53:53 0x0001 A? a.org");
    assert_eq!(summaries[2], "DNS 10.0.0.53:53 > 10.0.0.1:4000 0x0001 A? a.org = 1.2.3.4");
    let flow = conversation(&examiner, 0);
    assert_eq!((flow.protocol.as_str(), flow.packets, flow.unanswered), ("DNS", [2, 1], 1));
    assert_eq!(flow.slowest, Some(Duration::from_millis(31)));
}

#[test]
fn pings_are_paired_and_other_flows_are_apart() {
    let (examined, examiner) =
        examine(vec![ping(0, false, 1), udp(1, false, b"no message"), ping(4, false, 2), ping(5, true, 1)]);
    assert_eq!(examined.iter().map(|e| e.flow).collect::<Vec<_>>(), [Some(0), Some(1), Some(0), Some(0)]);
    let flow = conversation(&examiner, 0);
    assert_eq!((flow.protocol.as_str(), flow.packets, flow.unanswered), ("ICMP", [2, 1], 1));
    assert_eq!(flow.slowest, Some(Duration::from_millis(5)));
    assert_eq!(conversation(&examiner, 1).protocol, "UDP");
}
