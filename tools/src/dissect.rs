//! From bytes to headers.

mod dns;
mod tcp;

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::flow::Endpoints;
use crate::source::{LinkType, Packet};

pub(crate) use dns::Dns;
#[cfg(test)]
pub(crate) use tcp::Options;
pub(crate) use tcp::Segment;

/// A packet taken apart as far as possible.
#[derive(Debug, Clone)]
pub(crate) struct Dissection {
    /// A line of text for people.
    pub(crate) summary: String,
    /// Source and destination of the IP packet, or of the question that ARP asks.
    pub(crate) addresses: Option<(IpAddr, IpAddr)>,
    /// A router on the way marked the packet (RFC 3168).
    pub(crate) is_ce: bool,
    pub(crate) content: Content,
}

/// What is in the frame, or the IP packet.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Tcp(Segment),
    Udp(Datagram),
    Icmp(Icmp),
    Arp,
    /// Another protocol or a fragment; the protocol's number if it is IP.
    Other(Option<u8>),
}

/// A UDP datagram.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) endpoints: Endpoints,
    /// Bytes of payload on the wire.
    pub(crate) payload_len: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) dns: Option<Dns>,
}

/// An ICMP message of either version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Icmp {
    pub(crate) is_v6: bool,
    /// An echo request or reply, with its identifier and sequence number.
    pub(crate) echo: Option<(EchoKind, u16, u16)>,
}

/// The two halves of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EchoKind {
    Request,
    Reply,
}

impl Dissection {
    /// `None` where not even the link header makes sense.
    pub(crate) fn of(packet: &Packet) -> Option<Self> {
        let sliced = match packet.link() {
            LinkType::Ethernet => LaxSlicedPacket::from_ethernet(&packet.data).ok()?,
            LinkType::Ip => LaxSlicedPacket::from_ip(&packet.data).ok()?,
            LinkType::Other => return None,
        };
        let captured = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
        let cut = packet.original_len.saturating_sub(captured);
        let Some(ip) = Ip::of(sliced.net.as_ref()) else { return Some(Self::without_ip(&sliced)) };
        let Ip { source, destination, is_ce, protocol } = ip;
        let (summary, content) = match &sliced.transport {
            Some(TransportSlice::Tcp(slice)) => {
                let endpoints =
                    Endpoints::new((source, slice.source_port()), (destination, slice.destination_port()));
                let segment = Segment::new(slice, endpoints, cut);
                (segment.to_string(), Content::Tcp(segment))
            }
            Some(TransportSlice::Udp(slice)) => {
                let endpoints =
                    Endpoints::new((source, slice.source_port()), (destination, slice.destination_port()));
                let datagram = Datagram::new(slice, endpoints, cut);
                (datagram.summary(), Content::Udp(datagram))
            }
            Some(TransportSlice::Icmpv4(icmp)) => {
                let echo = match icmp.icmp_type() {
                    etherparse::Icmpv4Type::EchoRequest(e) => Some((EchoKind::Request, e.id, e.seq)),
                    etherparse::Icmpv4Type::EchoReply(e) => Some((EchoKind::Reply, e.id, e.seq)),
                    _ => None,
                };
                let summary = format!("ICMP {source} > {destination} {:?}", icmp.icmp_type());
                (summary, Content::Icmp(Icmp { is_v6: false, echo }))
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                let echo = match icmp.icmp_type() {
                    etherparse::Icmpv6Type::EchoRequest(e) => Some((EchoKind::Request, e.id, e.seq)),
                    etherparse::Icmpv6Type::EchoReply(e) => Some((EchoKind::Reply, e.id, e.seq)),
                    _ => None,
                };
                let summary = format!("ICMPv6 {source} > {destination} {:?}", icmp.icmp_type());
                (summary, Content::Icmp(Icmp { is_v6: true, echo }))
            }
            None => {
                (format!("IP {source} > {destination} protocol {protocol}"), Content::Other(Some(protocol)))
            }
        };
        Some(Self { summary, addresses: Some((source, destination)), is_ce, content })
    }

    /// The TCP segment, if it is one.
    pub(crate) fn tcp(&self) -> Option<&Segment> {
        match &self.content {
            Content::Tcp(segment) => Some(segment),
            _ => None,
        }
    }

    /// Addresses and ports, where there are ports.
    pub(crate) fn endpoints(&self) -> Option<Endpoints> {
        match &self.content {
            Content::Tcp(segment) => Some(segment.endpoints),
            Content::Udp(datagram) => Some(datagram.endpoints),
            _ => None,
        }
    }

    /// What TCP or UDP carry, as far as it was captured.
    pub(crate) fn payload(&self) -> &[u8] {
        match &self.content {
            Content::Tcp(segment) => &segment.payload,
            Content::Udp(datagram) => &datagram.payload,
            _ => &[],
        }
    }

    fn without_ip(sliced: &LaxSlicedPacket<'_>) -> Self {
        let (summary, addresses, content) = match &sliced.net {
            Some(LaxNetSlice::Arp(arp)) => {
                let (sender, target) = (v4(arp.sender_protocol_addr()), v4(arp.target_protocol_addr()));
                let text = |address: Option<IpAddr>| address.map_or("?".into(), |a| a.to_string());
                let verb = match arp.operation().0 {
                    1 => "who has",
                    2 => "reply",
                    _ => "operation",
                };
                let summary = format!("ARP {verb} {} > {}", text(sender), text(target));
                (summary, sender.zip(target), Content::Arp)
            }
            _ => ("not IP".to_owned(), None, Content::Other(None)),
        };
        Self { summary, addresses, is_ce: false, content }
    }
}

/// What is needed of an IP header.
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    is_ce: bool,
    protocol: u8,
}

impl Ip {
    fn of(net: Option<&LaxNetSlice<'_>>) -> Option<Self> {
        Some(match net? {
            LaxNetSlice::Ipv4(ip) => Self {
                source: ip.header().source_addr().into(),
                destination: ip.header().destination_addr().into(),
                is_ce: ip.header().ecn().value() == CONGESTION_EXPERIENCED,
                protocol: ip.payload().ip_number.0,
            },
            LaxNetSlice::Ipv6(ip) => Self {
                source: ip.header().source_addr().into(),
                destination: ip.header().destination_addr().into(),
                is_ce: ip.header().ecn().value() == CONGESTION_EXPERIENCED,
                protocol: ip.payload().ip_number.0,
            },
            LaxNetSlice::Arp(_) => return None,
        })
    }
}

impl Datagram {
    fn new(udp: &etherparse::UdpSlice<'_>, endpoints: Endpoints, cut: u32) -> Self {
        let payload = udp.payload().to_vec();
        let is_dns = [endpoints.source, endpoints.destination].iter().any(|a| DNS_PORTS.contains(&a.port()));
        let dns = if is_dns { Dns::parse(&payload) } else { None };
        let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(cut);
        Self { endpoints, payload_len, payload, dns }
    }

    fn summary(&self) -> String {
        let Self { endpoints, payload_len, payload: _, dns } = self;
        match dns {
            Some(dns) => format!("DNS {endpoints} {dns}"),
            None => format!("UDP {endpoints} length {payload_len}"),
        }
    }
}

fn v4(address: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(address).ok().map(IpAddr::from)
}

/// RFC 3168, 5.
const CONGESTION_EXPERIENCED: u8 = 3;
/// DNS and multicast DNS.
const DNS_PORTS: [u16; 2] = [53, 5353];
