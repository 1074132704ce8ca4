//! What was answered, in a few words.

use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::Ipv6Repr;
use netstack::wire::tcp::{TcpRepr, TcpView};

/// The answers to the peer among `frames`, joined by commas.
pub(crate) fn describe_all(frames: &[Vec<u8>]) -> String {
    let answers: Vec<String> = frames.iter().filter_map(|frame| describe(frame)).collect();
    answers.join(", ")
}

/// An answer: `icmp TYPE/CODE POINTER`, `icmp6 TYPE/CODE POINTER`, `tcp FLAGS`, `udp` or `arp`. Nothing for frames
/// that are for no single station, which the hosts send of themselves.
pub(crate) fn describe(frame: &[u8]) -> Option<String> {
    if frame.first()? & 1 != 0 {
        return None;
    }
    let packet = frame.get(14..)?;
    match frame.get(12..14)? {
        [0x08, 0x06] => Some("arp".to_owned()),
        [0x08, 0x00] => {
            let header = Ipv4Repr::parse(packet).ok()?;
            let payload = packet.get(header.header_len()..)?;
            describe_transport(header.protocol, payload)
        }
        [0x86, 0xdd] => {
            let header = Ipv6Repr::parse(packet).ok()?;
            describe_transport(header.next_header, packet.get(40..)?)
        }
        _ => Some("unknown".to_owned()),
    }
}

fn describe_transport(protocol: Protocol, payload: &[u8]) -> Option<String> {
    match protocol {
        Protocol::ICMP => {
            let [kind, code, _, _, pointer, ..] = *payload else { return None };
            let pointer = if kind == 12 { format!(" @{pointer}") } else { String::new() };
            Some(format!("icmp {kind}/{code}{pointer}"))
        }
        Protocol::ICMPV6 => {
            let [kind, code, _, _, _, _, _, pointer, ..] = *payload else { return None };
            // Solicitations about the sender of a packet are not answers.
            if kind == 135 {
                return None;
            }
            let pointer = if kind == 4 { format!(" @{pointer}") } else { String::new() };
            Some(format!("icmp6 {kind}/{code}{pointer}"))
        }
        Protocol::TCP => {
            let view = TcpView::new(payload).ok()?;
            let flags: Vec<_> =
                TcpRepr::parse(&view).flags.iter_names().map(|(name, _)| name.to_lowercase()).collect();
            Some(format!("tcp {}", flags.join("+")))
        }
        Protocol::UDP => Some("udp".to_owned()),
        Protocol(other) => Some(format!("protocol {other}")),
    }
}
