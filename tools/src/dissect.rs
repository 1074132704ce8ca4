//! From bytes to headers.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::flow::Endpoints;
use crate::source::{LinkType, Packet};

/// A TCP segment as analysis wants it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) endpoints: Endpoints,
    pub(crate) seq: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) is_syn: bool,
    pub(crate) is_fin: bool,
    pub(crate) is_rst: bool,
    pub(crate) is_psh: bool,
    pub(crate) window: u16,
    pub(crate) options: Options,
    /// Payload bytes on the wire, also where the capture cut them off.
    pub(crate) payload_len: u32,
    /// Payload bytes captured.
    pub(crate) payload: Vec<u8>,
}

/// The TCP options that analysis uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) timestamps: Option<(u32, u32)>,
    /// `(left edge, right edge)` of each SACK block.
    pub(crate) sack: Vec<(u32, u32)>,
}

impl Segment {
    /// What the segment takes of the sequence space (RFC 9293, 3.4).
    pub(crate) fn sequence_len(&self) -> u32 {
        self.payload_len.wrapping_add(u32::from(self.is_syn)).wrapping_add(u32::from(self.is_fin))
    }
}

/// A packet taken apart as far as possible.
#[derive(Debug, Clone)]
pub(crate) struct Dissection {
    /// A line of text for people.
    pub(crate) summary: String,
    pub(crate) tcp: Option<Segment>,
}

impl Dissection {
    /// `None` where not even the link header makes sense.
    pub(crate) fn of(packet: &Packet) -> Option<Self> {
        let sliced = match packet.link {
            LinkType::Ethernet => LaxSlicedPacket::from_ethernet(&packet.data).ok()?,
            LinkType::Ip => LaxSlicedPacket::from_ip(&packet.data).ok()?,
            LinkType::Other(_) => return None,
        };
        let Some((source, destination, captured, on_wire)) = addresses(&sliced, packet) else {
            return Some(Self { summary: without_ip(&sliced), tcp: None });
        };
        let cut = on_wire.saturating_sub(captured);
        match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let endpoints =
                    Endpoints::new((source, tcp.source_port()), (destination, tcp.destination_port()));
                let segment = segment(tcp, endpoints, cut);
                Some(Self { summary: describe(&segment), tcp: Some(segment) })
            }
            Some(TransportSlice::Udp(udp)) => {
                let endpoints =
                    Endpoints::new((source, udp.source_port()), (destination, udp.destination_port()));
                Some(Self { summary: format!("UDP {endpoints} length {}", udp.length()), tcp: None })
            }
            Some(TransportSlice::Icmpv4(icmp)) => Some(Self {
                summary: format!("ICMP {source} > {destination} {:?}", icmp.icmp_type()),
                tcp: None,
            }),
            Some(TransportSlice::Icmpv6(icmp)) => Some(Self {
                summary: format!("ICMPv6 {source} > {destination} {:?}", icmp.icmp_type()),
                tcp: None,
            }),
            None => Some(Self { summary: format!("IP {source} > {destination}"), tcp: None }),
        }
    }
}

/// Source, destination, bytes captured and bytes on the wire of the IP packet.
fn addresses(sliced: &LaxSlicedPacket<'_>, packet: &Packet) -> Option<(IpAddr, IpAddr, u32, u32)> {
    let captured = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
    match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((
                header.source_addr().into(),
                header.destination_addr().into(),
                captured,
                packet.original_len,
            ))
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((
                header.source_addr().into(),
                header.destination_addr().into(),
                captured,
                packet.original_len,
            ))
        }
        LaxNetSlice::Arp(_) => None,
    }
}

fn without_ip(sliced: &LaxSlicedPacket<'_>) -> String {
    match &sliced.net {
        Some(LaxNetSlice::Arp(arp)) => format!(
            "ARP {:?} {} > {}",
            arp.operation(),
            dotted(arp.sender_protocol_addr()),
            dotted(arp.target_protocol_addr())
        ),
        _ => "not IP".to_owned(),
    }
}

fn dotted(address: &[u8]) -> String {
    address.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
}

fn segment(tcp: &etherparse::TcpSlice<'_>, endpoints: Endpoints, cut: u32) -> Segment {
    let mut options = Options::default();
    for option in tcp.options_iterator().map_while(Result::ok) {
        use etherparse::TcpOptionElement as Element;
        match option {
            Element::MaximumSegmentSize(mss) => options.mss = Some(mss),
            Element::WindowScale(shift) => options.window_scale = Some(shift.min(14)),
            Element::Timestamp(value, echo) => options.timestamps = Some((value, echo)),
            Element::SelectiveAcknowledgement(first, rest) => {
                options.sack.push(first);
                options.sack.extend(rest.into_iter().flatten());
            }
            Element::Noop | Element::SelectiveAcknowledgementPermitted => {}
        }
    }
    let payload = tcp.payload().to_vec();
    Segment {
        endpoints,
        seq: tcp.sequence_number(),
        ack: tcp.ack().then(|| tcp.acknowledgment_number()),
        is_syn: tcp.syn(),
        is_fin: tcp.fin(),
        is_rst: tcp.rst(),
        is_psh: tcp.psh(),
        window: tcp.window_size(),
        options,
        payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(cut),
        payload,
    }
}

fn describe(segment: &Segment) -> String {
    let flags = [
        (segment.is_syn, 'S'),
        (segment.is_fin, 'F'),
        (segment.is_rst, 'R'),
        (segment.is_psh, 'P'),
        (segment.ack.is_some(), '.'),
    ];
    let flags: String = flags.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
    let mut text = format!("TCP {} [{flags}] seq {}", segment.endpoints, segment.seq);
    if let Some(ack) = segment.ack {
        text += &format!(" ack {ack}");
    }
    text += &format!(" win {} length {}", segment.window, segment.payload_len);
    if let Some(mss) = segment.options.mss {
        text += &format!(" mss {mss}");
    }
    if let Some(shift) = segment.options.window_scale {
        text += &format!(" wscale {shift}");
    }
    for (left, right) in &segment.options.sack {
        text += &format!(" sack {left}-{right}");
    }
    text
}
