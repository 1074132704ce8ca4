//! All that is known about one packet, line by line.

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};

use crate::dissect::{Content, Segment};
use crate::examine::Examined;
use crate::source::{Course, LinkType};

/// A line of the details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A header, or what else begins a part.
    Title(String),
    Text(String),
    /// What analysis or the stack has to say.
    Remark(String),
    Hex(String),
}

/// The packet's layers, what is known about it, and its bytes.
pub(super) fn lines(examined: &Examined) -> Vec<Line> {
    let mut lines = vec![frame(examined)];
    remarks(examined, &mut lines);
    let data = &examined.packet.data;
    let sliced = match examined.packet.link() {
        LinkType::Ethernet => LaxSlicedPacket::from_ethernet(data).ok(),
        LinkType::Ip => LaxSlicedPacket::from_ip(data).ok(),
        LinkType::Other => None,
    };
    match &sliced {
        Some(sliced) => layers(sliced, &mut lines),
        None => lines.push(Line::Title("malformed, or of an unknown link type".into())),
    }
    match examined.dissection.as_ref().map(|dissection| &dissection.content) {
        Some(Content::Tcp(segment)) => tcp(segment, &mut lines),
        Some(Content::Udp(datagram)) => {
            if let Some(dns) = &datagram.dns {
                lines.push(Line::Title(format!("DNS: {dns}")));
            }
        }
        _ => {}
    }
    if let Some((error, layer)) = sliced.as_ref().and_then(|sliced| sliced.stop_err.as_ref()) {
        lines.push(Line::Remark(format!("stopped at {layer}: {error}")));
    }
    lines.push(Line::Title(format!("{} bytes captured", data.len())));
    lines.extend(hex(data).map(Line::Hex));
    lines
}

fn frame(examined: &Examined) -> Line {
    let packet = &examined.packet;
    let mut text = format!(
        "Packet {}: {} bytes on the wire, {} captured, {:.9} s after the first, at {}.{:09}",
        examined.number,
        packet.original_len,
        packet.data.len(),
        examined.since_start.as_secs_f64(),
        packet.time.as_secs(),
        packet.time.subsec_nanos(),
    );
    match &packet.interface.name {
        Some(name) => text += &format!(", interface {name}"),
        None => text += &format!(", interface {}", packet.interface.number),
    }
    text += match packet.course {
        Some(Course::Inbound) => ", inbound",
        Some(Course::Outbound) => ", outbound",
        None => "",
    };
    Line::Title(text)
}

/// Of the analysis first, then of the stack that captured it.
fn remarks(examined: &Examined, lines: &mut Vec<Line>) {
    let judgement = &examined.judgement;
    if let Some(flow) = examined.flow {
        let side = match examined.dissection.as_ref().and_then(|d| d.tcp()) {
            Some(_) if examined.is_from_client => ", from the client",
            Some(_) => ", from the server",
            None => "",
        };
        lines.push(Line::Text(format!("  flow: {flow}{side}")));
    }
    lines.extend(judgement.texts().map(|note| Line::Remark(format!("  note: {note}"))));
    let figures = [
        judgement.rtt.map(|rtt| format!("  round trip: {rtt:?}")),
        judgement.in_flight.map(|bytes| format!("  in flight: {bytes} bytes")),
        judgement.window.map(|bytes| format!("  window: {bytes} bytes")),
    ];
    lines.extend(figures.into_iter().flatten().map(Line::Text));
    let remarks = &examined.remarks;
    let said = [
        remarks.drop.as_ref().map(|reason| format!("  drop: {reason}")),
        remarks.process.as_ref().map(|process| format!("  process: {process}")),
        remarks.sender.as_ref().map(|sender| format!("  sender: {sender}")),
        remarks.state.as_ref().map(|state| format!("  state: {state}")),
    ];
    lines.extend(said.into_iter().flatten().map(Line::Remark));
    lines.extend(remarks.other.iter().map(|comment| Line::Remark(format!("  comment: {comment}"))));
}

fn layers(sliced: &LaxSlicedPacket<'_>, lines: &mut Vec<Line>) {
    if let Some(LinkSlice::Ethernet2(ethernet)) = &sliced.link {
        let (source, destination) = (mac(&ethernet.source()), mac(&ethernet.destination()));
        lines.push(Line::Title(format!("Ethernet {source} > {destination}, {:?}", ethernet.ether_type())));
    }
    for extension in &sliced.link_exts {
        lines.push(Line::Text(format!("  {:?}", extension.to_header())));
    }
    match &sliced.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let ip = ip.header();
            lines.push(Line::Title(format!("IPv4 {} > {}", ip.source_addr(), ip.destination_addr())));
            lines.push(Line::Text(format!(
                "  header {} bytes, total {} bytes, TTL {}, protocol {}, checksum {:#06x}",
                usize::from(ip.ihl()) * 4,
                ip.total_len(),
                ip.ttl(),
                ip.protocol().0,
                ip.header_checksum(),
            )));
            let fragment = match (ip.more_fragments(), ip.fragments_offset().value()) {
                (false, 0) => "no fragment".to_owned(),
                (more, offset) => {
                    format!(
                        "fragment at {}{}",
                        u32::from(offset) * 8,
                        if more { ", more follow" } else { "" }
                    )
                }
            };
            lines.push(Line::Text(format!(
                "  identification {}, {fragment}{}, DSCP {}, ECN {}",
                ip.identification(),
                if ip.dont_fragment() { ", don't fragment" } else { "" },
                ip.dcp().value(),
                ip.ecn().value(),
            )));
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let ip = ip.header();
            lines.push(Line::Title(format!("IPv6 {} > {}", ip.source_addr(), ip.destination_addr())));
            lines.push(Line::Text(format!(
                "  payload {} bytes, hop limit {}, next header {}, flow label {:#07x}, traffic class {:#04x}",
                ip.payload_length(),
                ip.hop_limit(),
                ip.next_header().0,
                ip.flow_label().value(),
                ip.traffic_class(),
            )));
        }
        Some(LaxNetSlice::Arp(arp)) => {
            lines.push(Line::Title(format!("ARP {:?}", arp.operation())));
            for (who, hardware, protocol) in [
                ("sender", arp.sender_hw_addr(), arp.sender_protocol_addr()),
                ("target", arp.target_hw_addr(), arp.target_protocol_addr()),
            ] {
                lines.push(Line::Text(format!("  {who} {} {}", mac(hardware), dotted(protocol))));
            }
        }
        None => {}
    }
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => lines.push(Line::Title(format!(
            "UDP port {} > {}, length {}, checksum {:#06x}",
            udp.source_port(),
            udp.destination_port(),
            udp.length(),
            udp.checksum()
        ))),
        Some(TransportSlice::Icmpv4(icmp)) => {
            lines.push(Line::Title(format!("ICMP {:?}", icmp.icmp_type())));
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            lines.push(Line::Title(format!("ICMPv6 {:?}", icmp.icmp_type())));
        }
        Some(TransportSlice::Tcp(tcp)) => lines.push(Line::Title(format!(
            "TCP port {} > {}, header {} bytes, checksum {:#06x}",
            tcp.source_port(),
            tcp.destination_port(),
            tcp.header_slice().len(),
            tcp.checksum(),
        ))),
        None => {}
    }
}

fn tcp(segment: &Segment, lines: &mut Vec<Line>) {
    let flags = [
        (segment.is_syn, "SYN"),
        (segment.is_fin, "FIN"),
        (segment.is_rst, "RST"),
        (segment.is_psh, "PSH"),
        (segment.ack.is_some(), "ACK"),
        (segment.is_urg, "URG"),
        (segment.is_ece, "ECE"),
        (segment.is_cwr, "CWR"),
    ];
    let flags: Vec<&str> = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
    let ack = segment.ack.map_or(String::new(), |ack| format!(", acknowledges {ack}"));
    lines.push(Line::Text(format!("  flags {}", flags.join(" "))));
    lines.push(Line::Text(format!(
        "  sequence number {}, {} bytes of data{ack}, window field {}",
        segment.seq, segment.payload_len, segment.window
    )));
    let options = &segment.options;
    let texts = [
        options.mss.map(|mss| format!("maximum segment size {mss}")),
        options.window_scale.map(|shift| format!("window scale {shift}")),
        options.sack_permitted.then(|| "SACK permitted".to_owned()),
        options.timestamps.map(|(value, echo)| format!("timestamp {value}, echoes {echo}")),
    ];
    lines.extend(texts.into_iter().flatten().map(|text| Line::Text(format!("  option: {text}"))));
    let sacks = options.sack.iter().map(|(left, right)| format!("  option: SACK {left} to {right}"));
    lines.extend(sacks.map(Line::Text));
}

/// Sixteen bytes a line: offset, bytes, characters.
pub(super) fn hex(data: &[u8]) -> impl Iterator<Item = String> {
    data.chunks(16).enumerate().map(|(row, chunk)| {
        let mut text = format!("{:06x} ", row * 16);
        for (column, byte) in chunk.iter().enumerate() {
            text += if column == 8 { "  " } else { " " };
            text += &format!("{byte:02x}");
        }
        let characters = chunk.iter().map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        });
        format!("{text:<57}  {}", characters.collect::<String>())
    })
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn dotted(bytes: &[u8]) -> String {
    bytes.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}
