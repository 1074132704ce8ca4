//! Payload that tells where in the stream it belongs, so that every byte that arrives can be checked.

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The stack under test.
    FromStack,
    /// The script's peer.
    FromPeer,
}

/// The bytes at `offset` of a stream; the first byte after the SYN is at 0.
#[must_use]
pub fn fill(direction: Direction, offset: u32, len: usize) -> Vec<u8> {
    let key = match direction {
        Direction::FromStack => 0x11,
        Direction::FromPeer => 0xa5,
    };
    let byte = |index: u32| {
        // Knuth's multiplicative hash: neighbours are unlike each other, and so are shifted ranges.
        let mixed = offset.wrapping_add(index).wrapping_mul(2_654_435_761);
        mixed.to_be_bytes()[0] ^ key
    };
    (0..u32::try_from(len).unwrap_or(u32::MAX)).map(byte).collect()
}
