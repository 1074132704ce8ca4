//! Fragments of known datagrams in any order, cut anywhere, repeated and overlapping: what is delivered is what was sent.

use std::time::Duration;

use netstack::options::RecvFlags;
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::{FragmentRepr, Ipv6Repr};

use crate::input::Input;
use crate::packets::{OUR_MAC, OUR_V4, OUR_V6, PEER_MAC, PEER_V4, PEER_V6, Subject, repair};

/// Drives the reassembly of a stack.
pub fn fragments(data: &[u8]) {
    let mut input = Input::new(data);
    let subject = Subject::new();
    let socket = subject.udp(7);
    let is_v6 = input.bool();
    // The port makes the datagrams of one identification differ from those of another.
    let datagrams: Vec<Vec<u8>> = (0..4).map(|number| datagram(number, is_v6)).collect();
    while !input.is_empty() {
        match input.u8() % 16 {
            0 => {
                let now = subject.stack.now() + Duration::from_secs(input.u8().into());
                subject.stack.advance_to(now);
            }
            kind => {
                let number = kind % 4;
                let whole = &datagrams[usize::from(number)];
                let start = (usize::from(input.u8()) * 8).min(whole.len());
                // Up to the end of the datagram, or a multiple of eight.
                let end = match input.u8() {
                    0 => whole.len(),
                    blocks => (start + usize::from(blocks) * 8).min(whole.len()),
                };
                let lies = kind == 15;
                let mut piece = whole[start..end].to_vec();
                if lies {
                    // Other bytes in the same place; overlaps with it must not be mixed with the true ones.
                    piece.fill(0xee);
                }
                let more = end < whole.len();
                let frame =
                    if is_v6 { v6(number, start, more, &piece) } else { v4(number, start, more, &piece) };
                subject.stack.inject(subject.nic, frame);
            }
        }
        let gauges = subject.stack.gauges();
        assert!(gauges.reassembly_bytes <= MEMORY, "{} bytes", gauges.reassembly_bytes);
        let mut received = Vec::new();
        while let Ok(datagram) = socket.try_recv(&mut received, RecvFlags::default()) {
            let number = usize::from(datagram.from.port()) - 1000;
            assert!(received == datagrams[number][8..], "datagram {number} was put together wrongly");
            received.clear();
        }
    }
    drop(socket);
    subject.stack.advance_to(subject.stack.now() + Duration::from_secs(200));
    let gauges = subject.stack.gauges();
    assert_eq!((gauges.reassemblies, gauges.reassembly_bytes), (0, 0));
}

/// A UDP datagram with its header, checksum included.
fn datagram(number: u8, is_v6: bool) -> Vec<u8> {
    let len = 300 + usize::from(number) * 333;
    let mut frame = vec![0; 14];
    if is_v6 {
        let header = Ipv6Repr {
            source: PEER_V6,
            destination: OUR_V6,
            next_header: Protocol::UDP,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            payload_len: 0,
        };
        frame.resize(54, 0);
        header.emit(&mut frame[14..]);
    } else {
        frame.resize(34, 0);
        header_v4(number, 0, false, 0).emit(&mut frame[14..]);
        frame[20..22].fill(0);
    }
    let start = frame.len();
    frame.extend((1000 + u16::from(number)).to_be_bytes());
    frame.extend([0, 7, 0, 0, 0, 0]);
    // Below 256.
    frame.extend((0..len).map(|at| (at * 7 + usize::from(number)) as u8));
    repair(&mut frame);
    frame.split_off(start)
}

fn header_v4(number: u8, start: usize, more: bool, len: usize) -> Ipv4Repr {
    Ipv4Repr {
        source: PEER_V4,
        destination: OUR_V4,
        protocol: Protocol::UDP,
        ttl: 64,
        tos: 0,
        ident: number.into(),
        dont_fragment: false,
        more_fragments: more,
        fragment_offset: u16::try_from(start).expect("within a datagram"),
        options_len: 0,
        payload_len: u16::try_from(len).expect("within a datagram"),
    }
}

fn v4(number: u8, start: usize, more: bool, piece: &[u8]) -> Vec<u8> {
    let mut frame = [&OUR_MAC[..], &PEER_MAC, &[0x08, 0x00], &[0; 20]].concat();
    header_v4(number, start, more, piece.len()).emit(&mut frame[14..]);
    frame.extend(piece);
    frame
}

fn v6(number: u8, start: usize, more: bool, piece: &[u8]) -> Vec<u8> {
    let mut frame = [&OUR_MAC[..], &PEER_MAC, &[0x86, 0xdd], &[0; 48]].concat();
    let header = Ipv6Repr {
        source: PEER_V6,
        destination: OUR_V6,
        next_header: Protocol::FRAGMENT,
        hop_limit: 64,
        traffic_class: 0,
        flow_label: 0,
        payload_len: u16::try_from(8 + piece.len()).expect("within a datagram"),
    };
    header.emit(&mut frame[14..]);
    let offset = u16::try_from(start).expect("within a datagram");
    FragmentRepr { next_header: Protocol::UDP, offset, more, ident: number.into() }.emit(&mut frame[54..]);
    frame.extend(piece);
    frame
}

/// `ipfrag_high_thresh` and a packet.
const MEMORY: usize = (4 << 20) + (128 << 10);
