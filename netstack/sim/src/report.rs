//! What a router answers to a packet that does not fit: ICMP fragmentation needed (RFC 1191) or packet too big (RFC 8201).

use std::net::IpAddr;

use bytes::Bytes;
use netstack::wire::checksum::{self, Accumulator};
use netstack::wire::ethernet::EthernetRepr;
use netstack::wire::icmpv4::{FRAGMENTATION_NEEDED, Icmpv4Message};
use netstack::wire::icmpv6::Icmpv6Message;
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::Ipv6Repr;

/// The report for a frame, addressed to its sender; it names the packet's destination as the router. `None` for what
/// routers do not report: other protocols, and IPv4 packets that may be fragmented (which the simulator just loses).
pub(crate) fn too_large_report(frame: &[u8], mtu: usize) -> Option<Bytes> {
    let ethernet = EthernetRepr::parse(frame)?;
    let packet = frame.get(HEADER..)?;
    let mtu = u16::try_from(mtu).ok()?;
    let (header, mut message) = match packet.first()? >> 4 {
        4 => v4(packet, mtu)?,
        6 => v6(packet, mtu)?,
        _ => return None,
    };
    let mut out = vec![0; HEADER];
    EthernetRepr { destination: ethernet.source, source: ethernet.destination, ..ethernet }.emit(&mut out);
    out.extend(header);
    out.append(&mut message);
    Some(out.into())
}

fn v4(packet: &[u8], mtu: u16) -> Option<(Vec<u8>, Vec<u8>)> {
    let offending = Ipv4Repr::parse_unchecked(packet).ok()?;
    if !offending.dont_fragment {
        return None;
    }
    let mut message = vec![0; ICMP_HEADER];
    Icmpv4Message::Unreachable { code: FRAGMENTATION_NEEDED, mtu }.emit(&mut message);
    message.extend(packet.get(..offending.header_len() + 8)?);
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let repr = Ipv4Repr {
        source: offending.destination,
        destination: offending.source,
        protocol: Protocol::ICMP,
        ttl: 64,
        tos: 0,
        ident: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options_len: 0,
        payload_len: u16::try_from(message.len()).ok()?,
    };
    let mut header = vec![0; 20];
    repr.emit(&mut header);
    Some((header, message))
}

fn v6(packet: &[u8], mtu: u16) -> Option<(Vec<u8>, Vec<u8>)> {
    let offending = Ipv6Repr::parse_unchecked(packet).ok()?;
    let mut message = vec![0; ICMP_HEADER];
    Icmpv6Message::PacketTooBig { mtu: mtu.into() }.emit(&mut message);
    // RFC 4443 section 2.4 (c): as much as fits the minimum MTU.
    message.extend(&packet[..packet.len().min(1280 - 40 - ICMP_HEADER)]);
    let (source, destination) = (offending.destination, offending.source);
    let len = u16::try_from(message.len()).ok()?;
    let pseudo =
        checksum::pseudo_header(IpAddr::V6(source), IpAddr::V6(destination), Protocol::ICMPV6.0, len.into());
    let mut total = Accumulator::new(pseudo);
    total.add(&message);
    let sum = total.checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let repr = Ipv6Repr {
        source,
        destination,
        next_header: Protocol::ICMPV6,
        hop_limit: 64,
        payload_len: len,
        ..offending
    };
    let mut header = vec![0; 40];
    repr.emit(&mut header);
    Some((header, message))
}

const HEADER: usize = 14;
const ICMP_HEADER: usize = 8;
