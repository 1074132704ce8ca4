//! Frames made by hand, and frames taken apart: what attackers and hand-driven peers need.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use netstack::MacAddr;
use netstack::wire::checksum::{Accumulator, pseudo_header};
use netstack::wire::ethernet::{EtherType, EthernetRepr};
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::Ipv6Repr;
use netstack::wire::tcp::{CHECKSUM_OFFSET, MAX_HEADER_LEN, TcpRepr, TcpView};

/// A TCP segment with its headers; the ports are those of the addresses.
///
/// # Panics
/// If the addresses are of different families, or the packet exceeds 64 KiB.
#[must_use]
pub fn tcp(
    stations: (MacAddr, MacAddr),
    addresses: (SocketAddr, SocketAddr),
    repr: &TcpRepr,
    data: &[u8],
) -> Bytes {
    let (source, destination) = addresses;
    let repr = TcpRepr { src_port: source.port(), dst_port: destination.port(), ..*repr };
    let mut header = [0; MAX_HEADER_LEN];
    let len = repr.emit(&mut header).expect("fits the longest header");
    let mut segment = [&header[..len], data].concat();
    let total = u32::try_from(segment.len()).expect("at most 64 KiB");
    let mut sum = Accumulator::new(pseudo_header(source.ip(), destination.ip(), Protocol::TCP.0, total));
    sum.add(&segment);
    segment[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.checksum().to_be_bytes());
    ip(stations, (source.ip(), destination.ip()), Protocol::TCP, &segment)
}

/// An IP packet in an Ethernet frame.
///
/// # Panics
/// If the addresses are of different families, or the packet exceeds 64 KiB.
#[must_use]
pub fn ip(
    stations: (MacAddr, MacAddr),
    addresses: (IpAddr, IpAddr),
    protocol: Protocol,
    data: &[u8],
) -> Bytes {
    let payload_len = u16::try_from(data.len()).expect("at most 64 KiB");
    let mut frame = vec![0; ETHERNET];
    let ether_type = match addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.resize(ETHERNET + 20, 0);
            let header = Ipv4Repr::new(source, destination, protocol, payload_len);
            header.emit(&mut frame[ETHERNET..]);
            EtherType::IPV4
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.resize(ETHERNET + 40, 0);
            let header = Ipv6Repr::new(source, destination, protocol, payload_len);
            header.emit(&mut frame[ETHERNET..]);
            EtherType::IPV6
        }
        _ => panic!("addresses of different families"),
    };
    EthernetRepr { destination: stations.1, source: stations.0, ether_type }.emit(&mut frame);
    frame.extend_from_slice(data);
    frame.into()
}

/// The TCP segment in a frame with IPv4 or IPv6 and no extension headers: its header and its data.
#[must_use]
pub fn parse_tcp(frame: &Bytes) -> Option<(TcpRepr, Bytes)> {
    let packet = frame.get(ETHERNET..)?;
    let (header, len) = match packet.first()? >> 4 {
        4 => {
            let header = Ipv4Repr::parse(packet).ok().filter(|header| header.protocol == Protocol::TCP)?;
            (header.header_len(), usize::from(header.payload_len))
        }
        _ => {
            let header = Ipv6Repr::parse(packet).ok().filter(|header| header.next_header == Protocol::TCP)?;
            (40, usize::from(header.payload_len))
        }
    };
    let segment = frame.slice(ETHERNET + header..ETHERNET + header + len);
    let view = TcpView::new(&segment).ok()?;
    Some((TcpRepr::parse(&view), segment.slice(view.header_len()..)))
}

const ETHERNET: usize = 14;
