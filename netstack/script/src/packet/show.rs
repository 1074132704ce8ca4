//! The notation of packets in traces: that of scripts, with sequence numbers relative to the connection.

use std::fmt;

use crate::packet::{Body, Packet, Segment, TcpOption, flags};

/// A packet to show, with the numbers that its own are relative to.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// The initial sequence number of its sender.
    pub seq_base: u32,
    /// The initial sequence number of its receiver.
    pub ack_base: u32,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ip: Vec<String> = Vec::new();
        match self.packet.ecn {
            0 => {}
            1 => ip.push("ect1".to_owned()),
            2 => ip.push("ect0".to_owned()),
            _ => ip.push("ce".to_owned()),
        }
        if !self.packet.ip_options.is_empty() {
            ip.push(format!("opts {}", hex(&self.packet.ip_options)));
        }
        for (kind, body) in &self.packet.extensions {
            let name = match kind {
                0 => "hop",
                43 => "route",
                _ => "dst",
            };
            ip.push(format!("{name} {}", hex(body)));
        }
        if !self.packet.has_good_checksum {
            ip.push("badsum".to_owned());
        }
        if !ip.is_empty() {
            write!(f, "[{}] ", ip.join(", "))?;
        }
        match &self.packet.body {
            Body::Tcp(segment) => self.segment(segment, f),
            Body::Udp { payload, source_port, destination_port } => {
                write!(f, "udp {} (ports {source_port} to {destination_port})", payload.len())
            }
            Body::Icmp { kind, code, rest, .. } => write!(f, "icmp type {kind} code {code} ({rest:#x})"),
            Body::Other(protocol) => write!(f, "protocol {protocol}"),
        }
    }
}

impl Shown<'_> {
    fn segment(&self, segment: &Segment, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = segment.seq.wrapping_sub(self.seq_base);
        let len = segment.payload.len();
        let end = seq.wrapping_add(u32::try_from(len).unwrap_or(0));
        write!(f, "{} {seq}:{end}({len})", flags::show(segment.flags))?;
        if segment.has(flags::ACK) {
            write!(f, " ack {}", segment.ack.wrapping_sub(self.ack_base))?;
        }
        write!(f, " rawwin {}", segment.window)?;
        if segment.urgent != 0 {
            write!(f, " urg {}", segment.urgent)?;
        }
        if segment.options.is_empty() {
            return Ok(());
        }
        let options: Vec<String> = segment.options.iter().map(|option| self.option(option)).collect();
        write!(f, " <{}>", options.join(","))
    }

    fn option(&self, option: &TcpOption) -> String {
        match option {
            TcpOption::Nop => "nop".to_owned(),
            TcpOption::End => "eol".to_owned(),
            TcpOption::Mss(mss) => format!("mss {mss}"),
            TcpOption::WindowScale(shift) => format!("wscale {shift}"),
            TcpOption::SackPermitted => "sackOK".to_owned(),
            TcpOption::Sack(blocks) => {
                let relative = |n: &u32| n.wrapping_sub(self.ack_base);
                let blocks: Vec<String> =
                    blocks.iter().map(|(a, b)| format!("{}:{}", relative(a), relative(b))).collect();
                format!("sack {}", blocks.join(" "))
            }
            TcpOption::Timestamps(value, echo) => format!("ts {value} {echo}"),
            TcpOption::FastOpen(cookie) => format!("fo {}", hex(cookie)),
            TcpOption::Other(kind, body) => format!("kind {kind} {}", hex(body)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
