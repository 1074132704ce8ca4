//! ICMP for IPv4 (RFC 792): an 8-byte header and what follows it.
//!
//! ```text
//! +--------+--------+-----------------+
//! |  Type  |  Code  |    Checksum     |
//! +--------+--------+-----------------+
//! |      depends on the type (4)      |
//! +-----------------------------------+
//! |  echo data, or the offending packet's start
//! ```

use core::net::Ipv4Addr;

/// The header's length.
pub const HEADER_LEN: usize = 8;
/// The offset of the checksum field.
pub const CHECKSUM_OFFSET: usize = 2;

/// Code of [`Icmpv4Message::Unreachable`]: no route to the network.
pub const NET_UNREACHABLE: u8 = 0;
/// The host does not answer.
pub const HOST_UNREACHABLE: u8 = 1;
/// The host does not speak the protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 3;
/// The packet does not fit and must not be fragmented.
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// The source route does not work.
pub const SOURCE_ROUTE_FAILED: u8 = 5;
/// The network is unknown (RFC 1122 section 3.2.2.1).
pub const NET_UNKNOWN: u8 = 6;
/// The host is unknown.
pub const HOST_UNKNOWN: u8 = 7;
/// Communication with the network is administratively prohibited.
pub const NET_PROHIBITED: u8 = 9;
/// Communication with the host is administratively prohibited.
pub const HOST_PROHIBITED: u8 = 10;
/// Communication is administratively prohibited (RFC 1812 section 5.2.7.1).
pub const PROHIBITED: u8 = 13;
/// Code of [`Icmpv4Message::TimeExceeded`]: the TTL reached zero.
pub const TTL_EXCEEDED: u8 = 0;
/// Code of [`Icmpv4Message::TimeExceeded`]: a fragment was missing for too long.
pub const REASSEMBLY_EXCEEDED: u8 = 1;

/// The type of a timestamp request; the type of the answer is one more.
pub const TIMESTAMP: u8 = 13;
/// The type of the answer to a timestamp request.
pub const TIMESTAMP_REPLY: u8 = 14;

/// The header of an ICMP message as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmpv4Message {
    /// "Are you there?"
    EchoRequest {
        /// Tells the askers of a host apart.
        ident: u16,
        /// Tells the questions apart.
        sequence: u16,
    },
    /// The answer.
    EchoReply {
        /// As in the request.
        ident: u16,
        /// As in the request.
        sequence: u16,
    },
    /// The packet could not be delivered.
    Unreachable {
        /// Why.
        code: u8,
        /// With [`FRAGMENTATION_NEEDED`], the MTU of the next hop (RFC 1191 section 4); zero from old routers.
        mtu: u16,
    },
    /// "Send packets for that destination to another router."
    Redirect {
        /// For a network (0) or a host (1), and with the type of service (2, 3).
        code: u8,
        /// The better router.
        gateway: Ipv4Addr,
    },
    /// The packet or its fragments took too long.
    TimeExceeded {
        /// Which.
        code: u8,
    },
    /// A header field makes no sense.
    ParameterProblem {
        /// Which kind of problem.
        code: u8,
        /// The offset of the offending byte.
        pointer: u8,
    },
    /// Anything else.
    Other {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// The remaining four bytes of the header.
        rest: [u8; 4],
    },
}

impl Icmpv4Message {
    /// Reads the header at the front of `bytes`; the checksum is the caller's to verify.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[kind, code, _, _, a, b, c, d] = bytes.first_chunk::<HEADER_LEN>()?;
        let (ident, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(match kind {
            8 if code == 0 => Self::EchoRequest { ident, sequence },
            0 if code == 0 => Self::EchoReply { ident, sequence },
            3 => Self::Unreachable { code, mtu: if code == FRAGMENTATION_NEEDED { sequence } else { 0 } },
            5 => Self::Redirect { code, gateway: Ipv4Addr::new(a, b, c, d) },
            11 => Self::TimeExceeded { code },
            12 => Self::ParameterProblem { code, pointer: a },
            _ => Self::Other { kind, code, rest: [a, b, c, d] },
        })
    }

    /// Writes the header, with a zero checksum, to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) {
        let pair = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            [a, b, c, d]
        };
        let (code, rest) = match *self {
            Self::EchoRequest { ident, sequence } | Self::EchoReply { ident, sequence } => {
                (0, pair(ident, sequence))
            }
            Self::Unreachable { code, mtu } => (code, pair(0, mtu)),
            Self::Redirect { code, gateway } => (code, gateway.octets()),
            Self::TimeExceeded { code } => (code, [0; 4]),
            Self::ParameterProblem { code, pointer } => (code, [pointer, 0, 0, 0]),
            Self::Other { code, rest, .. } => (code, rest),
        };
        out[0] = self.kind();
        out[1] = code;
        out[2..4].fill(0);
        out[4..HEADER_LEN].copy_from_slice(&rest);
    }

    /// The type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match *self {
            Self::EchoReply { .. } => 0,
            Self::Unreachable { .. } => 3,
            Self::Redirect { .. } => 5,
            Self::EchoRequest { .. } => 8,
            Self::TimeExceeded { .. } => 11,
            Self::ParameterProblem { .. } => 12,
            Self::Other { kind, .. } => kind,
        }
    }

    /// Returns whether a message of that type reports an error, which must never cause another one (RFC 1122 section
    /// 3.2.2): unreachable, source quench, redirect, time exceeded, parameter problem.
    #[must_use]
    pub const fn is_error_kind(kind: u8) -> bool {
        matches!(kind, 3 | 4 | 5 | 11 | 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        for message in [
            Icmpv4Message::EchoRequest { ident: 0x1234, sequence: 7 },
            Icmpv4Message::EchoReply { ident: 0x1234, sequence: 7 },
            Icmpv4Message::Unreachable { code: FRAGMENTATION_NEEDED, mtu: 1400 },
            Icmpv4Message::Unreachable { code: PORT_UNREACHABLE, mtu: 0 },
            Icmpv4Message::Redirect { code: 1, gateway: Ipv4Addr::new(192, 0, 2, 1) },
            Icmpv4Message::TimeExceeded { code: TTL_EXCEEDED },
            Icmpv4Message::ParameterProblem { code: 0, pointer: 20 },
            Icmpv4Message::Other { kind: 13, code: 0, rest: [1, 2, 3, 4] },
        ] {
            let mut out = [0xff; HEADER_LEN];
            message.emit(&mut out);
            assert_eq!(Icmpv4Message::parse(&out), Some(message));
            assert_eq!(out[0], message.kind());
        }
        assert_eq!(Icmpv4Message::parse(&[8; 7]), None);
    }

    #[test]
    fn vector() {
        let mut out = [0; HEADER_LEN];
        Icmpv4Message::Unreachable { code: FRAGMENTATION_NEEDED, mtu: 0x0514 }.emit(&mut out);
        assert_eq!(out, [3, 4, 0, 0, 0, 0, 5, 0x14]);
    }
}
