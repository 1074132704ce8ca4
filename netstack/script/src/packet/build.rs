//! From fields to bytes.

use std::net::IpAddr;

use netstack::wire::checksum;

use crate::packet::{Body, ICMP, ICMPV6, Packet, Segment, TCP, TcpOption, UDP};

/// Makes the bytes of an IP packet. What does not fit a field (options beyond 40 bytes) is cut off.
#[must_use]
pub fn build(packet: &Packet) -> Vec<u8> {
    let is_v6 = packet.destination.is_ipv6();
    let (protocol, mut body, checksum_at) = match &packet.body {
        Body::Tcp(segment) => (TCP, tcp(segment), Some(16)),
        Body::Udp { source_port, destination_port, payload } => {
            let mut bytes = Vec::new();
            bytes.extend(source_port.to_be_bytes());
            bytes.extend(destination_port.to_be_bytes());
            bytes.extend(low16(payload.len() + 8).to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(payload);
            (UDP, bytes, Some(6))
        }
        Body::Icmp { kind, code, rest, quoted } => {
            let mut bytes = vec![*kind, *code, 0, 0];
            bytes.extend(rest.to_be_bytes());
            bytes.extend(quoted);
            (if is_v6 { ICMPV6 } else { ICMP }, bytes, Some(2))
        }
        Body::Other(protocol) => (*protocol, Vec::new(), None),
    };
    if let Some(at) = checksum_at {
        let pseudo = if protocol == ICMP {
            0
        } else {
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
            checksum::pseudo_header(packet.source, packet.destination, protocol, len)
        };
        let mut sum = !checksum::add(checksum::sum(&body), pseudo);
        if !packet.has_good_checksum {
            sum = !sum;
        }
        body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    let mut bytes = ip_header(packet, protocol, body.len());
    bytes.append(&mut body);
    bytes
}

fn ip_header(packet: &Packet, protocol: u8, len: usize) -> Vec<u8> {
    let traffic_class = packet.tos | packet.ecn;
    match (packet.source, packet.destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let first = 0x6000_0000 | u32::from(traffic_class) << 20 | packet.label & 0xf_ffff;
            let extensions = extensions(&packet.extensions, protocol);
            let mut bytes = first.to_be_bytes().to_vec();
            bytes.extend(low16(len + extensions.len()).to_be_bytes());
            bytes.extend([packet.extensions.first().map_or(protocol, |(kind, _)| *kind), packet.ttl]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend(extensions);
            bytes
        }
        (source, destination) => {
            let options = &packet.ip_options;
            // Five to fifteen words: the parser of scripts takes whole words only.
            let words = u8::try_from(options.len() / 4).unwrap_or(0).min(10) + 5;
            let mut bytes = vec![0x40 | words, traffic_class];
            bytes.extend(low16(len + usize::from(words) * 4).to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(if packet.df { [0x40, 0] } else { [0, 0] });
            bytes.extend([packet.ttl, protocol, 0, 0]);
            for address in [source, destination] {
                if let IpAddr::V4(address) = address {
                    bytes.extend(address.octets());
                }
            }
            bytes.extend(options.iter().take(40));
            let sum = !checksum::sum(&bytes);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes
        }
    }
}

/// Headers of a next header, a length in words of eight bytes beyond the first, and the rest.
fn extensions(headers: &[(u8, Vec<u8>)], protocol: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, (_, body)) in headers.iter().enumerate() {
        bytes.push(headers.get(index + 1).map_or(protocol, |(kind, _)| *kind));
        bytes.push(u8::try_from(body.len() / 8).unwrap_or(u8::MAX));
        bytes.extend(body);
    }
    bytes
}

fn tcp(segment: &Segment) -> Vec<u8> {
    let mut options = Vec::new();
    for option in &segment.options {
        put_option(option, &mut options);
    }
    while options.len() % 4 != 0 {
        options.push(0);
    }
    options.truncate(40);
    let words = low16((20 + options.len()) / 4);
    let mut bytes = Vec::new();
    bytes.extend(segment.source_port.to_be_bytes());
    bytes.extend(segment.destination_port.to_be_bytes());
    bytes.extend(segment.seq.to_be_bytes());
    bytes.extend(segment.ack.to_be_bytes());
    bytes.extend((words << 12 | segment.flags & 0x1ff).to_be_bytes());
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(segment.urgent.to_be_bytes());
    bytes.extend(options);
    bytes.extend(&segment.payload);
    bytes
}

fn put_option(option: &TcpOption, out: &mut Vec<u8>) {
    let mut put = |kind: u8, body: &[u8]| {
        out.push(kind);
        // An option is at most 40 bytes long.
        out.push(u8::try_from(body.len() + 2).unwrap_or(u8::MAX));
        out.extend(body);
    };
    match option {
        TcpOption::Nop => out.push(1),
        TcpOption::End => out.push(0),
        TcpOption::Mss(mss) => put(2, &mss.to_be_bytes()),
        TcpOption::WindowScale(shift) => put(3, &[*shift]),
        TcpOption::SackPermitted => put(4, &[]),
        TcpOption::Sack(blocks) => {
            let body: Vec<u8> =
                blocks.iter().flat_map(|(a, b)| [a.to_be_bytes(), b.to_be_bytes()].concat()).collect();
            put(5, &body);
        }
        TcpOption::Timestamps(value, echo) => put(8, &[value.to_be_bytes(), echo.to_be_bytes()].concat()),
        TcpOption::FastOpen(cookie) => put(34, cookie),
        TcpOption::Other(kind, body) => put(*kind, body),
    }
}

/// Lengths of packets fit 16 bits; longer ones are cut, as the peer of a script may.
fn low16(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
