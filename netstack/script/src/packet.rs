//! Packets: their fields, bytes and notation. Written apart from the stack's own wire code, which it checks.

mod build;
pub mod flags;
mod parse;
mod pattern;
mod show;

use std::net::IpAddr;

pub use build::build;
pub use parse::parse;
pub use pattern::{Direction, fill};
pub use show::Shown;

/// An IP packet with what scripts look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The sender.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// The ECN codepoint.
    pub ecn: u8,
    /// The differentiated services codepoint with two zero bits.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// "Don't fragment"; always so in IPv6.
    pub df: bool,
    /// The transport checksum is right (received) or is to be right (sent).
    pub has_good_checksum: bool,
    /// The flow label; zero in IPv4.
    pub label: u32,
    /// The options of IPv4 with their padding.
    pub ip_options: Vec<u8>,
    /// The extension headers of IPv6 before the transport: their kinds, and what follows their lengths.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What is in it.
    pub body: Body,
}

impl Packet {
    /// Whether it announces urgent data.
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        matches!(&self.body, Body::Tcp(segment) if segment.flags & flags::URG != 0)
    }
}

/// The transport's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A TCP segment.
    Tcp(Segment),
    /// A UDP datagram.
    Udp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// The payload.
        payload: Vec<u8>,
    },
    /// An ICMP message: type, code, the rest of the header, and what it quotes.
    Icmp {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// The four bytes after the checksum.
        rest: u32,
        /// The quoted packet.
        quoted: Vec<u8>,
    },
    /// Something else, by its protocol number.
    Other(u8),
}

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The sequence number.
    pub seq: u32,
    /// The acknowledgment number.
    pub ack: u32,
    /// The flags, see [`flags`].
    pub flags: u16,
    /// The window field.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// The options in order.
    pub options: Vec<TcpOption>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Segment {
    /// Whether a flag is set.
    #[must_use]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The timestamps option.
    #[must_use]
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        self.options.iter().find_map(|option| match option {
            TcpOption::Timestamps(value, echo) => Some((*value, *echo)),
            _ => None,
        })
    }

    /// The window scale option.
    #[must_use]
    pub fn window_scale(&self) -> Option<u8> {
        self.options.iter().find_map(|option| match option {
            TcpOption::WindowScale(shift) => Some(*shift),
            _ => None,
        })
    }
}

/// A TCP option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpOption {
    /// Padding.
    Nop,
    /// The end of the options.
    End,
    /// Maximum segment size.
    Mss(u16),
    /// Window scale.
    WindowScale(u8),
    /// SACK permitted.
    SackPermitted,
    /// SACK blocks.
    Sack(Vec<(u32, u32)>),
    /// Timestamps: value and echo.
    Timestamps(u32, u32),
    /// Fast Open.
    FastOpen(Vec<u8>),
    /// Something else: its kind and body.
    Other(u8, Vec<u8>),
}

/// Protocol numbers.
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests;
