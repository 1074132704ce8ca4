//! The IPv4 header (RFC 791 section 3.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+-------------------------------+
//! |Version|  IHL  |Type of Service|          Total Length         |
//! +-------+-------+---------------+-----+-------------------------+
//! |         Identification        |Flags|     Fragment Offset     |
//! +---------------+---------------+-----+-------------------------+
//! |  Time to Live |    Protocol   |        Header Checksum        |
//! +---------------+---------------+-------------------------------+
//! |                         Source Address                        |
//! |                      Destination Address                      |
//! |                    Options                    |    Padding    |
//! +-----------------------------------------------+---------------+
//! ```

use core::net::Ipv4Addr;

use crate::checksum;
use crate::ip::{ParseError, Protocol};

pub mod options;

/// The header's length without options.
pub const MIN_HEADER_LEN: usize = 20;
/// The longest header: IHL has four bits and counts 32-bit words.
pub const MAX_HEADER_LEN: usize = 60;
/// The largest packet.
pub const MAX_PACKET_LEN: usize = 65_535;
/// The offset of the time to live.
pub const TTL_OFFSET: usize = 8;
/// The offset of the header checksum.
pub const CHECKSUM_OFFSET: usize = 10;

const TOTAL_LEN_OFFSET: usize = 2;
const IDENT_OFFSET: usize = 4;
const FLAGS_OFFSET: usize = 6;
const PROTOCOL_OFFSET: usize = 9;
const SOURCE_OFFSET: usize = 12;
const DESTINATION_OFFSET: usize = 16;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 header as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Repr {
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What follows.
    pub protocol: Protocol,
    /// Time to live.
    pub ttl: u8,
    /// The type-of-service byte: DSCP (RFC 2474) and ECN (RFC 3168).
    pub tos: u8,
    /// Identification, significant in fragments only (RFC 6864).
    pub ident: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// Where the fragment belongs, in bytes, a multiple of eight.
    pub fragment_offset: u16,
    /// The length of the options in bytes, a multiple of four up to 40.
    pub options_len: u8,
    /// The length of what follows the header.
    pub payload_len: u16,
}

impl Ipv4Repr {
    /// The header of a whole packet without options that is not to be fragmented, with a TTL of 64.
    #[must_use]
    pub const fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: Protocol, payload_len: u16) -> Self {
        Self {
            source,
            destination,
            protocol,
            ttl: 64,
            tos: 0,
            ident: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options_len: 0,
            payload_len,
        }
    }

    /// Reads and checks the header at the front of `bytes`, which may be longer than the packet (Ethernet padding).
    ///
    /// The options are `bytes[MIN_HEADER_LEN..header_len()]`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let repr = Self::parse_unchecked(bytes)?;
        let header = bytes.get(..repr.header_len()).ok_or(ParseError::Truncated)?;
        if bytes.len() < repr.header_len() + usize::from(repr.payload_len) {
            return Err(ParseError::Truncated);
        }
        if checksum::sum(header) != 0xffff {
            return Err(ParseError::BadChecksum);
        }
        Ok(repr)
    }

    /// Reads the header without its checksum and without asking for the whole packet, as ICMP errors quote it.
    pub fn parse_unchecked(bytes: &[u8]) -> Result<Self, ParseError> {
        let h: &[u8; MIN_HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let header_len = u16::from(h[0] & 0x0f) * 4;
        let total_len = u16::from_be_bytes([h[TOTAL_LEN_OFFSET], h[TOTAL_LEN_OFFSET + 1]]);
        let payload_len = total_len.checked_sub(header_len).ok_or(ParseError::Malformed)?;
        // MIN_HEADER_LEN is 20.
        let options_len = header_len.checked_sub(MIN_HEADER_LEN as u16).ok_or(ParseError::Malformed)?;
        if h[0] >> 4 != 4 {
            return Err(ParseError::Malformed);
        }
        let flags = u16::from_be_bytes([h[FLAGS_OFFSET], h[FLAGS_OFFSET + 1]]);
        Ok(Self {
            source: address(h, SOURCE_OFFSET),
            destination: address(h, DESTINATION_OFFSET),
            protocol: Protocol(h[PROTOCOL_OFFSET]),
            ttl: h[TTL_OFFSET],
            tos: h[1],
            ident: u16::from_be_bytes([h[IDENT_OFFSET], h[IDENT_OFFSET + 1]]),
            dont_fragment: flags & DONT_FRAGMENT != 0,
            more_fragments: flags & MORE_FRAGMENTS != 0,
            fragment_offset: (flags & OFFSET_MASK) * 8,
            // At most 40: IHL is at most 15 words.
            options_len: options_len as u8,
            payload_len,
        })
    }

    /// The length of the header with its options.
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + usize::from(self.options_len)
    }

    /// Returns whether the packet is a part of a larger one.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes the header with its checksum to the front of `out`. Options must be in their place before.
    ///
    /// A payload that does not fit 16 bits together with the header gives a total length of 65535; callers that build
    /// super-segments get it fixed when those are cut.
    ///
    /// # Panics
    /// If `out` is shorter than [`header_len`](Self::header_len).
    pub fn emit(&self, out: &mut [u8]) {
        let Self { source, destination, protocol, ttl, tos, ident, .. } = *self;
        let header_len = self.header_len();
        // The header is at most 60 bytes.
        let total_len = self.payload_len.saturating_add(header_len as u16);
        let flags = (if self.dont_fragment { DONT_FRAGMENT } else { 0 })
            | (if self.more_fragments { MORE_FRAGMENTS } else { 0 })
            | (self.fragment_offset / 8);
        let [a, b, c, d] = source.octets();
        let [e, f, g, h] = destination.octets();
        let ([len0, len1], [id0, id1], [flags0, flags1]) =
            (total_len.to_be_bytes(), ident.to_be_bytes(), flags.to_be_bytes());
        // The header is at most 15 words.
        let first = 0x40 | (header_len / 4) as u8;
        let mut fixed =
            [first, tos, len0, len1, id0, id1, flags0, flags1, ttl, protocol.0, 0, 0, a, b, c, d, e, f, g, h];
        let options = out.get(MIN_HEADER_LEN..header_len).unwrap_or_default();
        let sum = checksum::sum(&fixed);
        let checksum = !(if options.is_empty() { sum } else { checksum::add(sum, checksum::sum(options)) });
        fixed[CHECKSUM_OFFSET..SOURCE_OFFSET].copy_from_slice(&checksum.to_be_bytes());
        out[..MIN_HEADER_LEN].copy_from_slice(&fixed);
    }
}

fn address(header: &[u8; MIN_HEADER_LEN], offset: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[offset], header[offset + 1], header[offset + 2], header[offset + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ipv4Repr {
        Ipv4Repr {
            source: Ipv4Addr::new(192, 168, 0, 1),
            destination: Ipv4Addr::new(192, 168, 0, 199),
            protocol: Protocol::UDP,
            ttl: 64,
            tos: 0,
            ident: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options_len: 0,
            payload_len: 95,
        }
    }

    /// A widely quoted worked example of the header checksum (0xb861).
    const VECTOR: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
        0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn vector() {
        let mut packet = VECTOR.to_vec();
        packet.resize(0x73, 0);
        assert_eq!(Ipv4Repr::parse(&packet), Ok(sample()));
        let mut out = [0; 20];
        sample().emit(&mut out);
        assert_eq!(out, VECTOR);
    }

    #[test]
    fn damaged_headers_are_refused() {
        assert_eq!(Ipv4Repr::parse(&VECTOR), Err(ParseError::Truncated));
        let mut packet = VECTOR.to_vec();
        packet.resize(0x73, 0);
        for (index, value, why) in [
            (0, 0x44, ParseError::Malformed),
            (0, 0x65, ParseError::Malformed),
            (3, 0x10, ParseError::Malformed),
            (9, 0x06, ParseError::BadChecksum),
            (3, 0xff, ParseError::Truncated),
        ] {
            let mut bad = packet.clone();
            bad[index] = value;
            assert_eq!(Ipv4Repr::parse(&bad), Err(why), "byte {index} = {value:#x}");
        }
    }

    #[test]
    fn fragments_round_trip() {
        let repr = Ipv4Repr {
            dont_fragment: false,
            more_fragments: true,
            fragment_offset: 65_528,
            ident: 0xbeef,
            payload_len: 8,
            options_len: 4,
            ..sample()
        };
        let mut out = vec![0; 24 + 8];
        out[20..24].copy_from_slice(&[0x94, 4, 0, 0]);
        repr.emit(&mut out);
        assert_eq!(Ipv4Repr::parse(&out), Ok(repr));
        assert!(repr.is_fragment());
    }
}
