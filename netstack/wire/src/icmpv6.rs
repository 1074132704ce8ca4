//! ICMP for IPv6 (RFC 4443): an 8-byte header and what follows it. Neighbour discovery is in [`ndp`](crate::ndp).
//!
//! ```text
//! +--------+--------+-----------------+
//! |  Type  |  Code  |    Checksum     |
//! +--------+--------+-----------------+
//! |      depends on the type (4)      |
//! +-----------------------------------+
//! |  echo data, or the offending packet's start
//! ```

/// The header's length.
pub const HEADER_LEN: usize = 8;
/// The offset of the checksum field.
pub const CHECKSUM_OFFSET: usize = 2;

/// Code of [`Icmpv6Message::Unreachable`]: no route to the destination.
pub const NO_ROUTE: u8 = 0;
/// Communication is administratively prohibited.
pub const PROHIBITED: u8 = 1;
/// The source address has a smaller scope than the destination.
pub const BEYOND_SCOPE: u8 = 2;
/// The host does not answer.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 4;
/// The source address failed the ingress policy.
pub const POLICY_FAILED: u8 = 5;
/// A reject route leads there.
pub const REJECT_ROUTE: u8 = 6;
/// Code of [`Icmpv6Message::TimeExceeded`]: the hop limit reached zero.
pub const HOP_LIMIT_EXCEEDED: u8 = 0;
/// Code of [`Icmpv6Message::TimeExceeded`]: a fragment was missing for too long.
pub const REASSEMBLY_EXCEEDED: u8 = 1;
/// Code of [`Icmpv6Message::ParameterProblem`]: a header field makes no sense.
pub const ERRONEOUS_HEADER: u8 = 0;
/// Code of [`Icmpv6Message::ParameterProblem`]: the next header is not known.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
/// Code of [`Icmpv6Message::ParameterProblem`]: an option is not known.
pub const UNKNOWN_OPTION: u8 = 2;
/// Code of [`Icmpv6Message::ParameterProblem`]: the first fragment has not all headers (RFC 7112).
pub const INCOMPLETE_CHAIN: u8 = 3;

/// The header of an ICMPv6 message as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmpv6Message {
    /// The packet could not be delivered.
    Unreachable {
        /// Why.
        code: u8,
    },
    /// The packet does not fit the next link.
    PacketTooBig {
        /// The MTU of that link.
        mtu: u32,
    },
    /// The packet or its fragments took too long.
    TimeExceeded {
        /// Which.
        code: u8,
    },
    /// Something in the packet makes no sense.
    ParameterProblem {
        /// What kind of thing.
        code: u8,
        /// Its offset.
        pointer: u32,
    },
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

impl Icmpv6Message {
    /// Reads the header at the front of `bytes`; the checksum is the caller's to verify.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[kind, code, _, _, a, b, c, d] = bytes.first_chunk::<HEADER_LEN>()?;
        let word = u32::from_be_bytes([a, b, c, d]);
        let (ident, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(match kind {
            1 => Self::Unreachable { code },
            2 => Self::PacketTooBig { mtu: word },
            3 => Self::TimeExceeded { code },
            4 => Self::ParameterProblem { code, pointer: word },
            128 => Self::EchoRequest { ident, sequence },
            129 => Self::EchoReply { ident, sequence },
            _ => Self::Other { kind, code, rest: [a, b, c, d] },
        })
    }

    /// Writes the header, with a zero checksum, to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) {
        let (code, rest) = match *self {
            Self::Unreachable { code } | Self::TimeExceeded { code } => (code, [0; 4]),
            Self::PacketTooBig { mtu } => (0, mtu.to_be_bytes()),
            Self::ParameterProblem { code, pointer } => (code, pointer.to_be_bytes()),
            Self::EchoRequest { ident, sequence } | Self::EchoReply { ident, sequence } => {
                let ([a, b], [c, d]) = (ident.to_be_bytes(), sequence.to_be_bytes());
                (0, [a, b, c, d])
            }
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
            Self::Unreachable { .. } => 1,
            Self::PacketTooBig { .. } => 2,
            Self::TimeExceeded { .. } => 3,
            Self::ParameterProblem { .. } => 4,
            Self::EchoRequest { .. } => 128,
            Self::EchoReply { .. } => 129,
            Self::Other { kind, .. } => kind,
        }
    }

    /// Returns whether a message of that type reports an error: "error messages are identified as such by a zero in the
    /// high-order bit of their message Type field" (RFC 4443 section 2.1).
    #[must_use]
    pub const fn is_error_kind(kind: u8) -> bool {
        kind < 128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        for message in [
            Icmpv6Message::Unreachable { code: PORT_UNREACHABLE },
            Icmpv6Message::PacketTooBig { mtu: 0x12345 },
            Icmpv6Message::TimeExceeded { code: HOP_LIMIT_EXCEEDED },
            Icmpv6Message::ParameterProblem { code: UNKNOWN_OPTION, pointer: 42 },
            Icmpv6Message::EchoRequest { ident: 1, sequence: 0xfffe },
            Icmpv6Message::EchoReply { ident: 1, sequence: 0xfffe },
            Icmpv6Message::Other { kind: 135, code: 0, rest: [0; 4] },
        ] {
            let mut out = [0xff; HEADER_LEN];
            message.emit(&mut out);
            assert_eq!(Icmpv6Message::parse(&out), Some(message));
            assert_eq!(out[0], message.kind());
        }
        assert_eq!(Icmpv6Message::parse(&[128; 7]), None);
    }
}
