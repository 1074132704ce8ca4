//! From bytes to fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::wire::checksum;

use crate::packet::{Body, ICMP, ICMPV6, Packet, Segment, TCP, TcpOption, UDP};

/// Reads an IP packet; `None` if it is not whole.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Packet> {
    match bytes.first()? >> 4 {
        4 => parse_v4(bytes),
        6 => parse_v6(bytes),
        _ => None,
    }
}

fn parse_v4(bytes: &[u8]) -> Option<Packet> {
    let header_len = usize::from(bytes[0] & 0xf) * 4;
    let total = usize::from(u16_at(bytes, 2)?);
    let body = bytes.get(header_len..total)?;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    let fragment = u16_at(bytes, 6)?;
    let mut packet = Packet {
        source: address(12)?,
        destination: address(16)?,
        ecn: bytes[1] & 3,
        tos: bytes[1] & !3,
        ttl: *bytes.get(8)?,
        df: fragment & 0x4000 != 0,
        has_good_checksum: true,
        label: 0,
        ip_options: bytes.get(20..header_len)?.to_vec(),
        extensions: Vec::new(),
        body: Body::Other(*bytes.get(9)?),
    };
    if fragment & 0x3fff == 0 {
        parse_body(&mut packet, bytes[9], body)?;
    }
    Some(packet)
}

fn parse_v6(bytes: &[u8]) -> Option<Packet> {
    let len = usize::from(u16_at(bytes, 4)?);
    let body = bytes.get(40..40 + len)?;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let class = (u16_at(bytes, 0)? >> 4).to_be_bytes()[1];
    let mut packet = Packet {
        source: address(8)?,
        destination: address(24)?,
        ecn: class & 3,
        tos: class & !3,
        ttl: bytes[7],
        df: true,
        has_good_checksum: true,
        label: u32_at(bytes, 0)? & 0xf_ffff,
        ip_options: Vec::new(),
        extensions: Vec::new(),
        body: Body::Other(bytes[6]),
    };
    let (mut protocol, mut rest) = (bytes[6], body);
    // Hop-by-hop options, routing headers and options for the destination.
    while matches!(protocol, 0 | 43 | 60) {
        let len = (usize::from(*rest.get(1)?) + 1) * 8;
        packet.extensions.push((protocol, rest.get(2..len)?.to_vec()));
        (protocol, rest) = (rest[0], &rest[len..]);
    }
    parse_body(&mut packet, protocol, rest)?;
    Some(packet)
}

fn parse_body(packet: &mut Packet, protocol: u8, bytes: &[u8]) -> Option<()> {
    let is_v6 = packet.source.is_ipv6();
    packet.body = match protocol {
        TCP => Body::Tcp(parse_tcp(bytes)?),
        UDP => Body::Udp {
            source_port: u16_at(bytes, 0)?,
            destination_port: u16_at(bytes, 2)?,
            payload: bytes.get(8..)?.to_vec(),
        },
        ICMP if !is_v6 => parse_icmp(bytes)?,
        ICMPV6 if is_v6 => parse_icmp(bytes)?,
        other => Body::Other(other),
    };
    let pseudo = match protocol {
        TCP | UDP | ICMPV6 => {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            checksum::pseudo_header(packet.source, packet.destination, protocol, len)
        }
        ICMP => 0,
        _ => return Some(()),
    };
    packet.has_good_checksum = checksum::add(checksum::sum(bytes), pseudo) == 0xffff;
    Some(())
}

fn parse_icmp(bytes: &[u8]) -> Option<Body> {
    let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
    Some(Body::Icmp { kind, code, rest: u32_at(bytes, 4)?, quoted: bytes.get(8..)?.to_vec() })
}

fn parse_tcp(bytes: &[u8]) -> Option<Segment> {
    let offset_and_flags = u16_at(bytes, 12)?;
    let header_len = usize::from(offset_and_flags >> 12) * 4;
    Some(Segment {
        source_port: u16_at(bytes, 0)?,
        destination_port: u16_at(bytes, 2)?,
        seq: u32_at(bytes, 4)?,
        ack: u32_at(bytes, 8)?,
        flags: offset_and_flags & 0x1ff,
        window: u16_at(bytes, 14)?,
        urgent: u16_at(bytes, 18)?,
        options: parse_options(bytes.get(20..header_len)?)?,
        payload: bytes[header_len..].to_vec(),
    })
}

fn parse_options(mut bytes: &[u8]) -> Option<Vec<TcpOption>> {
    let mut options = Vec::new();
    while let [kind, rest @ ..] = bytes {
        match kind {
            0 => return Some(options),
            1 => {
                options.push(TcpOption::Nop);
                bytes = rest;
            }
            kind => {
                let len = usize::from(*rest.first()?);
                let body = bytes.get(2..len)?;
                options.push(parse_option(*kind, body)?);
                bytes = &bytes[len..];
            }
        }
    }
    Some(options)
}

fn parse_option(kind: u8, body: &[u8]) -> Option<TcpOption> {
    Some(match (kind, body.len()) {
        (2, 2) => TcpOption::Mss(u16_at(body, 0)?),
        (3, 1) => TcpOption::WindowScale(body[0]),
        (4, 0) => TcpOption::SackPermitted,
        (5, _) => {
            let blocks = body.chunks_exact(8).map(|block| Some((u32_at(block, 0)?, u32_at(block, 4)?)));
            TcpOption::Sack(blocks.collect::<Option<_>>()?)
        }
        (8, 8) => TcpOption::Timestamps(u32_at(body, 0)?, u32_at(body, 4)?),
        (34, _) => TcpOption::FastOpen(body.to_vec()),
        _ => TcpOption::Other(kind, body.to_vec()),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
