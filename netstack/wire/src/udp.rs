//! The UDP header (RFC 768).
//!
//! ```text
//! +-----------------+-----------------+
//! |   Source Port   | Destination Port|
//! +-----------------+-----------------+
//! |     Length      |     Checksum    |
//! +-----------------+-----------------+
//! ```

/// The header's length.
pub const HEADER_LEN: usize = 8;
/// The offset of the checksum field.
pub const CHECKSUM_OFFSET: usize = 6;

/// A UDP header as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpRepr {
    /// From which port; zero if the sender wants no answer.
    pub source_port: u16,
    /// To which port.
    pub destination_port: u16,
    /// The length of header and payload.
    pub len: u16,
    /// The checksum; zero if there is none (IPv4 only).
    pub checksum: u16,
}

impl UdpRepr {
    /// Reads the header at the front of `bytes`; `None` if it is cut off or announces less than itself.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[s0, s1, d0, d1, l0, l1, c0, c1] = bytes.first_chunk::<HEADER_LEN>()?;
        let len = u16::from_be_bytes([l0, l1]);
        // HEADER_LEN is 8.
        (len >= HEADER_LEN as u16).then_some(Self {
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            len,
            checksum: u16::from_be_bytes([c0, c1]),
        })
    }

    /// Writes the header to the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, out: &mut [u8]) {
        let Self { source_port, destination_port, len, checksum } = *self;
        out[..2].copy_from_slice(&source_port.to_be_bytes());
        out[2..4].copy_from_slice(&destination_port.to_be_bytes());
        out[4..6].copy_from_slice(&len.to_be_bytes());
        out[CHECKSUM_OFFSET..HEADER_LEN].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
#[must_use]
pub const fn checksum_on_wire(computed: u16) -> u16 {
    if computed == 0 { 0xffff } else { computed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let bytes = [0x30, 0x39, 0x00, 0x35, 0x00, 0x0a, 0xab, 0xcd];
        let repr = UdpRepr::parse(&bytes).unwrap();
        assert_eq!(repr, UdpRepr { source_port: 12345, destination_port: 53, len: 10, checksum: 0xabcd });
        let mut out = [0; 8];
        repr.emit(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert_eq!(UdpRepr::parse(&[0; 7]), None);
        assert_eq!(UdpRepr::parse(&[0, 1, 0, 2, 0, 7, 0, 0]), None);
    }
}
