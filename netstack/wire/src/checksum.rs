//! The Internet checksum (RFC 1071), alone and fused with a copy.
//!
//! The one's complement sum does not care in which byte order the words are read as long as all are read alike, so the
//! inner loops add native 32-bit words into independent 64-bit lanes, a shape that compilers turn into vector code. The
//! lanes cannot overflow below 2^32 words.

use core::net::IpAddr;

/// The folded one's complement sum of `bytes` as big-endian words, an odd byte padded with zero. Not complemented.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut lanes = [0_u64; LANES];
    let (blocks, tail) = bytes.as_chunks::<BLOCK>();
    for block in blocks {
        add_block(&mut lanes, block);
    }
    finish(&lanes, tail)
}

/// Copies `source` to `target` and returns [`sum`] of it, reading each byte once.
///
/// # Panics
/// If the lengths differ.
pub fn copy_and_sum(target: &mut [u8], source: &[u8]) -> u16 {
    assert_eq!(target.len(), source.len());
    let mut lanes = [0_u64; LANES];
    let (from, from_tail) = source.as_chunks::<BLOCK>();
    let (to, to_tail) = target.as_chunks_mut::<BLOCK>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
        add_block(&mut lanes, from);
    }
    to_tail.copy_from_slice(from_tail);
    finish(&lanes, from_tail)
}

/// Adds two folded sums.
#[must_use]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // A carry means that the sum is at most 0xfffe.
    if carry { sum + 1 } else { sum }
}

/// The sum of the pseudo-header of TCP, UDP (RFC 9293 section 3.1, RFC 768) or ICMPv6 (RFC 8200 section 8.1).
///
/// Mixed families do not occur in packets; the sum is then merely meaningless.
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: u32) -> u16 {
    let [a, b, c, d] = len.to_be_bytes();
    let addresses = add(sum_address(source), sum_address(destination));
    let len = add(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    add(add(addresses, len), u16::from(protocol))
}

fn sum_address(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// RFC 1624 equation 3: the checksum after a 16-bit word changed.
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !add(add(!checksum, !old), new)
}

/// Sums several ranges that follow each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accumulator {
    sum: u16,
    is_odd: bool,
}

impl Accumulator {
    /// Starts with a folded sum, as of a pseudo-header.
    #[must_use]
    pub const fn new(sum: u16) -> Self {
        Self { sum, is_odd: false }
    }

    /// Adds the next range.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_sum(sum(bytes), bytes.len());
    }

    /// Adds the next range of `len` bytes by its [`sum`].
    pub const fn add_sum(&mut self, range: u16, len: usize) {
        // A range that starts at an odd offset has its bytes in the other halves of the words.
        let range = if self.is_odd { range.swap_bytes() } else { range };
        self.sum = add(self.sum, range);
        self.is_odd ^= len % 2 == 1;
    }

    /// The folded sum so far.
    #[must_use]
    pub const fn sum(self) -> u16 {
        self.sum
    }

    /// The checksum to put into a header whose checksum field was summed as zero.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.sum
    }

    /// Returns whether a range that included its checksum field is right.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.sum == 0xffff
    }
}

const LANES: usize = 8;
const BLOCK: usize = LANES * 4;

#[inline]
fn add_block(lanes: &mut [u64; LANES], block: &[u8; BLOCK]) {
    let (words, _) = block.as_chunks::<4>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane += u64::from(u32::from_ne_bytes(*word));
    }
}

#[inline]
fn finish(lanes: &[u64; LANES], tail: &[u8]) -> u16 {
    let mut total: u64 = lanes.iter().map(|lane| (lane & 0xffff_ffff) + (lane >> 32)).sum();
    let (words, rest) = tail.as_chunks::<4>();
    total += words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));
    let folded = (total & 0xffff_ffff) + (total >> 32);
    let folded = (folded & 0xffff_ffff) + (folded >> 32);
    let folded = (folded & 0xffff) + (folded >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    // Folded to 16 bits just above.
    u16::from_be(folded as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| match *pair {
            [high, low] => u16::from_be_bytes([high, low]),
            [high] => u16::from_be_bytes([high, 0]),
            _ => 0,
        });
        words.fold(0, add)
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x1234_5678_u32;
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(step).collect()
    }

    #[test]
    fn rfc_1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn every_length_agrees_with_the_definition() {
        for len in 0..200 {
            let bytes = noise(len);
            assert_eq!(sum(&bytes), reference(&bytes), "length {len}");
            let mut copy = vec![0; len];
            assert_eq!(copy_and_sum(&mut copy, &bytes), reference(&bytes), "length {len}");
            assert_eq!(copy, bytes);
        }
        assert_eq!(sum(&[0xff; 70_000]), 0xffff);
    }

    #[test]
    fn ranges_add_up_wherever_they_are_cut() {
        let bytes = noise(67);
        for cut in 0..bytes.len() {
            let mut total = Accumulator::default();
            total.add(&bytes[..cut]);
            total.add(&bytes[cut..]);
            assert_eq!(total.sum(), reference(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn incremental_update_equals_a_new_sum() {
        let mut bytes = noise(20);
        let before = !sum(&bytes);
        let old = u16::from_be_bytes([bytes[8], bytes[9]]);
        bytes[8] = bytes[8].wrapping_sub(1);
        let new = u16::from_be_bytes([bytes[8], bytes[9]]);
        assert_eq!(update(before, old, new), !sum(&bytes));
    }
}
