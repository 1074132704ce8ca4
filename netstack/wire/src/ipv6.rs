//! The IPv6 header (RFC 8200 section 3), its extension headers (section 4) and the fragment header (section 4.5).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+---------------+---------------------------------------+
//! |Version| Traffic Class |              Flow Label               |
//! +-------+---------------+-------+---------------+---------------+
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! +-------------------------------+---------------+---------------+
//! |                    Source Address (16)                        |
//! |                 Destination Address (16)                      |
//! +---------------------------------------------------------------+
//! ```

use core::net::Ipv6Addr;

use crate::ip::{ParseError, Protocol};

/// The header's length.
pub const HEADER_LEN: usize = 40;
/// The offset of the payload length.
pub const PAYLOAD_LEN_OFFSET: usize = 4;
/// The offset of the next-header field.
pub const NEXT_HEADER_OFFSET: usize = 6;
/// The offset of the hop limit.
pub const HOP_LIMIT_OFFSET: usize = 7;
/// RFC 8200 section 5: every link must "have an MTU of 1280 octets or greater".
pub const MIN_MTU: u32 = 1280;

const SOURCE_OFFSET: usize = 8;
const DESTINATION_OFFSET: usize = 24;

/// An IPv6 header as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Repr {
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// What follows: a protocol or an extension header.
    pub next_header: Protocol,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP (RFC 2474) and ECN (RFC 3168).
    pub traffic_class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// The length of what follows the header.
    pub payload_len: u16,
}

impl Ipv6Repr {
    /// A header with a hop limit of 64, no traffic class and no flow label.
    #[must_use]
    pub const fn new(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next_header: Protocol,
        payload_len: u16,
    ) -> Self {
        Self { source, destination, next_header, hop_limit: 64, traffic_class: 0, flow_label: 0, payload_len }
    }

    /// Reads and checks the header at the front of `bytes`, which may be longer than the packet (Ethernet padding).
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let repr = Self::parse_unchecked(bytes)?;
        if bytes.len() < HEADER_LEN + usize::from(repr.payload_len) {
            return Err(ParseError::Truncated);
        }
        Ok(repr)
    }

    /// Reads the header without asking for the whole packet, as ICMPv6 errors quote it.
    pub fn parse_unchecked(bytes: &[u8]) -> Result<Self, ParseError> {
        let h: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let word = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
        if word >> 28 != 6 {
            return Err(ParseError::Malformed);
        }
        Ok(Self {
            source: address(&h[SOURCE_OFFSET..DESTINATION_OFFSET]),
            destination: address(&h[DESTINATION_OFFSET..]),
            next_header: Protocol(h[NEXT_HEADER_OFFSET]),
            hop_limit: h[HOP_LIMIT_OFFSET],
            // Masked to eight bits.
            traffic_class: ((word >> 20) & 0xff) as u8,
            flow_label: word & 0xf_ffff,
            payload_len: u16::from_be_bytes([h[PAYLOAD_LEN_OFFSET], h[PAYLOAD_LEN_OFFSET + 1]]),
        })
    }

    /// Writes the header to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) {
        let Self { source, destination, next_header, hop_limit, traffic_class, flow_label, payload_len } =
            *self;
        let word = 6 << 28 | u32::from(traffic_class) << 20 | (flow_label & 0xf_ffff);
        out[..PAYLOAD_LEN_OFFSET].copy_from_slice(&word.to_be_bytes());
        out[PAYLOAD_LEN_OFFSET..NEXT_HEADER_OFFSET].copy_from_slice(&payload_len.to_be_bytes());
        out[NEXT_HEADER_OFFSET] = next_header.0;
        out[HOP_LIMIT_OFFSET] = hop_limit;
        out[SOURCE_OFFSET..DESTINATION_OFFSET].copy_from_slice(&source.octets());
        out[DESTINATION_OFFSET..HEADER_LEN].copy_from_slice(&destination.octets());
    }
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    let octets: [u8; 16] = bytes.try_into().unwrap_or_default();
    Ipv6Addr::from(octets)
}

/// One extension header of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extension<'a> {
    /// Its type.
    pub kind: Protocol,
    /// Where it starts, counted from the start of the chain.
    pub offset: usize,
    /// The type of what follows it.
    pub next_header: Protocol,
    /// All its bytes.
    pub bytes: &'a [u8],
}

/// Walks the extension headers that this stack knows: hop-by-hop, routing, fragment and destination options.
///
/// It stops, without an error, at the first header of another type ([`Extensions::next_header`] at
/// [`Extensions::offset`]), and after a fragment header that is not the first fragment's.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    bytes: &'a [u8],
    next_header: Protocol,
    offset: usize,
}

impl<'a> Extensions<'a> {
    /// Starts at the bytes that follow the IPv6 header.
    #[must_use]
    pub const fn new(next_header: Protocol, bytes: &'a [u8]) -> Self {
        Self { bytes, next_header, offset: 0 }
    }

    /// The type of what comes next: after the walk, the upper-layer protocol.
    #[must_use]
    pub const fn next_header(&self) -> Protocol {
        self.next_header
    }

    /// Where what comes next starts.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = self.next_header;
        let rest = self.bytes.get(self.offset..)?;
        let len = match kind {
            Protocol::HOP_BY_HOP | Protocol::ROUTING | Protocol::DESTINATION_OPTIONS => {
                rest.get(1).map_or(usize::MAX, |&words| (usize::from(words) + 1) * 8)
            }
            Protocol::FRAGMENT => FRAGMENT_HEADER_LEN,
            _ => return None,
        };
        let Some(bytes) = rest.get(..len) else {
            self.next_header = Protocol::NO_NEXT;
            return Some(Err(ParseError::Truncated));
        };
        let extension = Extension { kind, offset: self.offset, next_header: Protocol(bytes[0]), bytes };
        self.next_header = extension.next_header;
        self.offset += len;
        Some(Ok(extension))
    }
}

/// The length of a fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// A fragment header as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentRepr {
    /// What the reassembled fragmentable part starts with.
    pub next_header: Protocol,
    /// Where the fragment belongs, in bytes, a multiple of eight.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Common to all fragments of a packet.
    pub ident: u32,
}

impl FragmentRepr {
    /// Reads the header at the front of `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[next, _, hi, lo, i0, i1, i2, i3] = bytes.first_chunk::<FRAGMENT_HEADER_LEN>()?;
        let word = u16::from_be_bytes([hi, lo]);
        Some(Self {
            next_header: Protocol(next),
            offset: word & !7,
            more: word & 1 != 0,
            ident: u32::from_be_bytes([i0, i1, i2, i3]),
        })
    }

    /// Writes the header to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`FRAGMENT_HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) {
        let Self { next_header, offset, more, ident } = *self;
        out[0] = next_header.0;
        out[1] = 0;
        out[2..4].copy_from_slice(&((offset & !7) | u16::from(more)).to_be_bytes());
        out[4..FRAGMENT_HEADER_LEN].copy_from_slice(&ident.to_be_bytes());
    }
}

/// What an option says about itself to those who do not know it (RFC 8200 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownOption {
    /// Skip it.
    Skip,
    /// Drop the packet.
    Discard,
    /// Drop the packet and tell the sender.
    DiscardAndReport,
    /// Drop the packet and tell the sender, unless it was sent to a group.
    DiscardAndReportUnicast,
}

impl UnknownOption {
    /// The action encoded in an option's type.
    #[must_use]
    pub const fn of(option_type: u8) -> Self {
        match option_type >> 6 {
            0 => Self::Skip,
            1 => Self::Discard,
            2 => Self::DiscardAndReport,
            _ => Self::DiscardAndReportUnicast,
        }
    }
}

/// Pad1 and PadN (RFC 8200 section 4.2).
pub const OPTION_PAD1: u8 = 0;
/// See [`OPTION_PAD1`].
pub const OPTION_PADN: u8 = 1;
/// Router alert (RFC 2711).
pub const OPTION_ROUTER_ALERT: u8 = 5;

/// Walks the options of a hop-by-hop or destination-options header: their offset in it, type and data.
pub fn options(header: &[u8]) -> impl Iterator<Item = Result<(usize, u8, &[u8]), ParseError>> {
    let mut offset = 2;
    core::iter::from_fn(move || {
        loop {
            let &kind = header.get(offset)?;
            if kind == OPTION_PAD1 {
                offset += 1;
                continue;
            }
            let start = offset;
            let len = header.get(offset + 1).copied().map(usize::from);
            let data = len.and_then(|len| header.get(offset + 2..offset + 2 + len));
            let Some(data) = data else {
                offset = header.len();
                return Some(Err(ParseError::Malformed));
            };
            offset += 2 + data.len();
            if kind != OPTION_PADN {
                return Some(Ok((start, kind, data)));
            }
        }
    })
}

/// The solicited-node multicast group of an address (RFC 4291 section 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let o = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]])
}

/// All nodes on the link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All MLDv2-capable routers on the link (RFC 3810 section 5.2.14).
pub const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let repr = Ipv6Repr {
            source: "2001:db8::1".parse().unwrap(),
            destination: "ff02::1".parse().unwrap(),
            next_header: Protocol::ICMPV6,
            hop_limit: 255,
            traffic_class: 0xb8,
            flow_label: 0xabcde,
            payload_len: 4,
        };
        let mut out = [0; HEADER_LEN + 4];
        repr.emit(&mut out);
        assert_eq!(&out[..8], &[0x6b, 0x8a, 0xbc, 0xde, 0, 4, 58, 255]);
        assert_eq!(Ipv6Repr::parse(&out), Ok(repr));
        assert_eq!(Ipv6Repr::parse(&out[..43]), Err(ParseError::Truncated));
        out[0] = 0x45;
        assert_eq!(Ipv6Repr::parse(&out), Err(ParseError::Malformed));
    }

    #[test]
    fn extension_chain_is_walked_to_the_protocol() {
        let mut bytes = vec![60, 0, 5, 2, 0, 0, 1, 0]; // hop-by-hop with router alert and PadN
        bytes.extend([44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // destination options, 16 bytes
        bytes.extend([17, 0, 0, 1, 0, 0, 0, 9]); // fragment
        bytes.extend([1, 2, 3]);
        let mut walk = Extensions::new(Protocol::HOP_BY_HOP, &bytes);
        let kinds: Vec<_> = walk.by_ref().map(|extension| extension.unwrap().kind).collect();
        assert_eq!(kinds, [Protocol::HOP_BY_HOP, Protocol::DESTINATION_OPTIONS, Protocol::FRAGMENT]);
        assert_eq!((walk.next_header(), walk.offset()), (Protocol::UDP, 32));
        let alerts: Vec<_> = options(&bytes[..8]).collect();
        assert_eq!(alerts, [Ok((2, OPTION_ROUTER_ALERT, &[0, 0][..]))]);
    }

    #[test]
    fn truncated_chains_and_options_are_errors() {
        let mut walk = Extensions::new(Protocol::ROUTING, &[17, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(walk.next(), Some(Err(ParseError::Truncated)));
        assert_eq!(walk.next(), None);
        assert_eq!(options(&[17, 0, 5, 9, 0, 0, 0, 0]).collect::<Vec<_>>(), [Err(ParseError::Malformed)]);
    }

    #[test]
    fn fragment_header_round_trips() {
        let repr = FragmentRepr { next_header: Protocol::UDP, offset: 1448, more: true, ident: 0xdead_beef };
        let mut out = [0xff; 8];
        repr.emit(&mut out);
        assert_eq!(FragmentRepr::parse(&out), Some(repr));
        assert_eq!(FragmentRepr::parse(&out[..7]), None);
    }

    #[test]
    fn solicited_node_group() {
        let address = "2001:db8::12:3456".parse().unwrap();
        assert_eq!(solicited_node(address), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    }
}
