//! What rules compare ports and types of service with.

/// Ports to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortMatch {
    /// The first.
    pub first: u16,
    /// The last. Where it is the first, `mask` says which bits count.
    pub last: u16,
    /// The bits that count for a single port; all of them for others.
    pub mask: u16,
}

impl PortMatch {
    /// Ports from the first to the last.
    pub const fn range(first: u16, last: u16) -> Self {
        Self { first, last, mask: u16::MAX }
    }

    /// Tells whether a port is one of them. A packet whose ports are not known has port 0.
    pub const fn matches(self, port: u16) -> bool {
        let Self { first, last, mask } = self;
        match first == last {
            true => (port ^ first) & mask == 0,
            false => first <= port && port <= last,
        }
    }
}

/// A type of service or traffic class to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TosMatch {
    /// A whole byte, whose two lower bits are zero (`tos`). Of IPv4 packets only the bits are looked at that were once the
    /// type of service (RFC 1349), not the upper three.
    Tos(u8),
    /// A differentiated services code point (RFC 2474) under a mask; both have six bits (`dscp`).
    Dscp {
        /// The value.
        value: u8,
        /// The bits that count.
        mask: u8,
    },
}

impl TosMatch {
    /// Tells whether the byte of a packet matches.
    pub const fn matches(self, tos: u8, is_v4: bool) -> bool {
        match self {
            Self::Tos(wanted) => wanted == tos & if is_v4 { LEGACY_MASK } else { DSCP_MASK },
            Self::Dscp { value, mask } => ((tos >> 2) ^ value) & mask == 0,
        }
    }
}

/// `INET_DSCP_MASK`: without the bits of ECN.
const DSCP_MASK: u8 = 0xfc;
/// `INET_DSCP_LEGACY_TOS_MASK`.
const LEGACY_MASK: u8 = 0x1c;
