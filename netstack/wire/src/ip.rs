//! What IPv4 and IPv6 share: protocol numbers and the reasons a header is refused.

use core::fmt;

/// A protocol number (IANA "Assigned Internet Protocol Numbers"); in IPv6 also the type of an extension header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// IGMP.
    pub const IGMP: Self = Self(2);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// IPv6 routing header.
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header.
    pub const FRAGMENT: Self = Self(44);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// IPv6: nothing follows.
    pub const NO_NEXT: Self = Self(59);
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: Self = Self(60);
    /// Protocol Independent Multicast.
    pub const PIM: Self = Self(103);

    /// Tells whether this is an IPv6 extension header that this stack knows, not a transport.
    #[must_use]
    pub const fn is_extension(self) -> bool {
        matches!(self, Self::HOP_BY_HOP | Self::ROUTING | Self::FRAGMENT | Self::DESTINATION_OPTIONS)
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::HOP_BY_HOP => "HopByHop",
            Self::ICMP => "Icmp",
            Self::IGMP => "Igmp",
            Self::TCP => "Tcp",
            Self::UDP => "Udp",
            Self::ROUTING => "Routing",
            Self::FRAGMENT => "Fragment",
            Self::ICMPV6 => "Icmpv6",
            Self::NO_NEXT => "NoNext",
            Self::DESTINATION_OPTIONS => "DestinationOptions",
            Self::PIM => "Pim",
            Self(number) => return write!(f, "Protocol({number})"),
        };
        f.write_str(name)
    }
}

/// Why a header was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// Fewer bytes than the header, or than it announces.
    Truncated,
    /// Not the version, or a length field that contradicts itself.
    Malformed,
    /// The checksum is wrong.
    BadChecksum,
}
