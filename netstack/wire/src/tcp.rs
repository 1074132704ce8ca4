//! The TCP header (RFC 9293 section 3.1): a checked view, a representation, and the flags.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          Source Port          |       Destination Port        |
//! +-------------------------------+-------------------------------+
//! |                        Sequence Number                        |
//! +---------------------------------------------------------------+
//! |                    Acknowledgment Number                      |
//! +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//! | Offset| Rsrvd |C|E|U|A|P|R|S|F|            Window             |
//! +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//! |           Checksum            |         Urgent Pointer        |
//! +-------------------------------+-------------------------------+
//! |                           [Options]                           |
//! +---------------------------------------------------------------+
//! ```
//!
//! Checksums are not computed here: [`TcpRepr::emit`] leaves the field zero and [`CHECKSUM_OFFSET`] says where it is,
//! because only the layer below knows the pseudo-header and what the link offloads.

mod options;

pub use options::{FastOpenCookie, SackBlock, SackBlocks, TcpOptions, Timestamps};

use crate::seq::SeqNum;

/// The header's length without options.
pub const MIN_HEADER_LEN: usize = 20;
/// The longest header: the offset field has four bits and counts 32-bit words.
pub const MAX_HEADER_LEN: usize = 60;
/// The room for options in the longest header.
pub const MAX_OPTIONS_LEN: usize = MAX_HEADER_LEN - MIN_HEADER_LEN;
/// The offset of the checksum field (for pseudo-header sums and checksum offload).
pub const CHECKSUM_OFFSET: usize = 16;

const SEQ_OFFSET: usize = 4;
const ACK_OFFSET: usize = 8;
const DATA_OFFSET_OFFSET: usize = 12;
const FLAGS_OFFSET: usize = 13;
const WINDOW_OFFSET: usize = 14;
const URGENT_OFFSET: usize = 18;

bitflags::bitflags! {
    /// The control bits (RFC 9293 section 3.1, RFC 3168 section 6.1 for the two ECN bits).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct TcpFlags: u8 {
        /// No more data from the sender.
        const FIN = 0x01;
        /// Synchronise sequence numbers.
        const SYN = 0x02;
        /// Reset the connection.
        const RST = 0x04;
        /// Push.
        const PSH = 0x08;
        /// The acknowledgment field is significant.
        const ACK = 0x10;
        /// The urgent pointer is significant.
        const URG = 0x20;
        /// ECN echo.
        const ECE = 0x40;
        /// Congestion window reduced.
        const CWR = 0x80;
    }
}

/// Why bytes are not a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpError {
    /// Fewer bytes than the smallest header.
    TooShort,
    /// The data offset is below 5 words or past the end of the segment.
    BadDataOffset,
}

impl core::fmt::Display for TcpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooShort => "tcp segment shorter than its fixed header",
            Self::BadDataOffset => "tcp data offset outside the segment",
        })
    }
}

impl core::error::Error for TcpError {}

/// A TCP segment in place: shows anything, panics never once the length check has passed.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    /// At least `header_len` bytes.
    bytes: &'a [u8],
    header_len: usize,
}

impl<'a> TcpView<'a> {
    /// Checks that `bytes` holds a whole header.
    ///
    /// # Errors
    /// Says what is wrong with the lengths; nothing else is checked.
    pub fn new(bytes: &'a [u8]) -> Result<Self, TcpError> {
        if bytes.len() < MIN_HEADER_LEN {
            return Err(TcpError::TooShort);
        }
        let header_len = usize::from(bytes[DATA_OFFSET_OFFSET] >> 4) * 4;
        if header_len < MIN_HEADER_LEN || header_len > bytes.len() {
            return Err(TcpError::BadDataOffset);
        }
        Ok(Self { bytes, header_len })
    }

    /// The source port.
    #[must_use]
    pub fn src_port(&self) -> u16 {
        self.u16_at(0)
    }

    /// The destination port.
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        self.u16_at(2)
    }

    /// The sequence number of the first byte (or of the SYN).
    #[must_use]
    pub fn seq(&self) -> SeqNum {
        SeqNum(self.u32_at(SEQ_OFFSET))
    }

    /// The acknowledgment number; significant with [`TcpFlags::ACK`].
    #[must_use]
    pub fn ack(&self) -> SeqNum {
        SeqNum(self.u32_at(ACK_OFFSET))
    }

    /// The control bits.
    #[must_use]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits_retain(self.bytes[FLAGS_OFFSET])
    }

    /// The window field, unscaled.
    #[must_use]
    pub fn window(&self) -> u16 {
        self.u16_at(WINDOW_OFFSET)
    }

    /// The checksum field.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        self.u16_at(CHECKSUM_OFFSET)
    }

    /// The urgent pointer; significant with [`TcpFlags::URG`].
    #[must_use]
    pub fn urgent(&self) -> u16 {
        self.u16_at(URGENT_OFFSET)
    }

    /// The header's length with options, in bytes.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The option bytes.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        &self.bytes[MIN_HEADER_LEN..self.header_len]
    }

    /// Everything after the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len..]
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }
}

/// A TCP header as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpRepr {
    /// The source port.
    pub src_port: u16,
    /// The destination port.
    pub dst_port: u16,
    /// The sequence number of the first byte (or of the SYN).
    pub seq: SeqNum,
    /// The acknowledgment number; significant with [`TcpFlags::ACK`], otherwise zero when we send.
    pub ack: SeqNum,
    /// The control bits.
    pub flags: TcpFlags,
    /// The window field, unscaled.
    pub window: u16,
    /// The urgent pointer; significant with [`TcpFlags::URG`].
    pub urgent: u16,
    /// The options that this stack understands.
    pub options: TcpOptions,
}

impl TcpRepr {
    /// Parses a view. Unknown and malformed options are skipped, as RFC 9293 section 3.2 (MUST-6, MUST-7) asks.
    #[must_use]
    pub fn parse(view: &TcpView<'_>) -> Self {
        // A view has at least this much; at once, so that it is checked only once.
        let Some(&[s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, _, flags, w0, w1, _, _, u0, u1]) =
            view.bytes.first_chunk::<MIN_HEADER_LEN>()
        else {
            return Self::default();
        };
        Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            seq: SeqNum(u32::from_be_bytes([q0, q1, q2, q3])),
            ack: SeqNum(u32::from_be_bytes([a0, a1, a2, a3])),
            flags: TcpFlags::from_bits_retain(flags),
            window: u16::from_be_bytes([w0, w1]),
            urgent: u16::from_be_bytes([u0, u1]),
            options: TcpOptions::parse(view.options()),
        }
    }

    /// The length of the header with options, in bytes: a multiple of four.
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.emit_len()
    }

    /// Writes the header with a zero checksum into the front of `buf` and returns its length.
    ///
    /// Returns `None`, having written nothing, when `buf` is too short for it.
    pub fn emit(&self, buf: &mut [u8]) -> Option<usize> {
        let len = self.header_len();
        let header = buf.get_mut(..len)?;
        let words = u8::try_from(len / 4).ok()?;
        let (fixed, options) = header.split_first_chunk_mut::<MIN_HEADER_LEN>()?;
        let ([s0, s1], [d0, d1]) = (self.src_port.to_be_bytes(), self.dst_port.to_be_bytes());
        let ([q0, q1, q2, q3], [a0, a1, a2, a3]) = (self.seq.0.to_be_bytes(), self.ack.0.to_be_bytes());
        let ([w0, w1], [u0, u1]) = (self.window.to_be_bytes(), self.urgent.to_be_bytes());
        let (offset, flags) = (words << 4, self.flags.bits());
        *fixed = [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1, 0, 0, u0, u1];
        self.options.emit(options);
        Some(len)
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
