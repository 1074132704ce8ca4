//! The Internet checksum (RFC 1071), alone and fused with a copy.
//!
//! The one's complement sum does not care in which byte order or in how wide words the bytes are read as long as all are
//! read alike (RFC 1071 section 2). The inner loops add native 64-bit words into independent 128-bit lanes: an addition
//! and an addition with carry for eight bytes, which a baseline x86-64 does faster than its vector instructions do
//! without a widening sum. The lanes cannot overflow below 2^64 words.

use core::net::IpAddr;

/// The folded one's complement sum of `bytes` as big-endian words, an odd byte padded with zero. Not complemented.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // Headers are all tail.
    if bytes.len() < WORTH_BLOCKS { finish(0, bytes) } else { sum_long(bytes) }
}

fn sum_long(bytes: &[u8]) -> u16 {
    let (blocks, tail) = bytes.as_chunks::<BLOCK>();
    finish(sum_blocks(blocks), tail)
}

fn sum_blocks(blocks: &[[u8; BLOCK]]) -> u128 {
    let mut lanes = [0_u128; LANES];
    for block in blocks {
        add_block(&mut lanes, block);
    }
    lanes.iter().sum()
}

/// Copies `source` to `target` and returns [`sum`] of it, reading each byte once.
///
/// # Panics
/// If the lengths differ.
pub fn copy_and_sum(target: &mut [u8], source: &[u8]) -> u16 {
    assert_eq!(target.len(), source.len());
    let mut lanes = [0_u128; LANES];
    let (from, from_tail) = source.as_chunks::<BLOCK>();
    let (to, to_tail) = target.as_chunks_mut::<BLOCK>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
        add_block(&mut lanes, from);
    }
    to_tail.copy_from_slice(from_tail);
    finish(lanes.iter().sum(), from_tail)
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
#[inline]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: u32) -> u16 {
    fold(wide_pseudo_header(source, destination, protocol, len))
}

/// The same before it is [`fold`]ed.
#[must_use]
#[inline]
pub fn wide_pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: u32) -> u64 {
    // Each is a sum of a few words of at most 32 bits.
    let addresses = wide_sum(source) + wide_sum(destination);
    // As big-endian words all along.
    addresses + u64::from(len) + u64::from(protocol)
}

/// An address as big-endian 32-bit words, added up.
#[inline]
fn wide_sum(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let word = |shift: u32| ((bits >> shift) & u128::from(u32::MAX)) as u64;
            word(96) + word(64) + word(32) + word(0)
        }
    }
}

/// Big-endian 32-bit words added up, to be [`fold`]ed: at most 2^16 of them.
#[must_use]
#[inline]
pub fn wide_sum_of(words: &[u32]) -> u64 {
    words.iter().map(|&word| u64::from(word)).sum()
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

/// Enough that the additions of one do not wait for those of the other.
const LANES: usize = 4;
const BLOCK: usize = LANES * 8;

#[inline]
fn add_block(lanes: &mut [u128; LANES], block: &[u8; BLOCK]) {
    let (words, _) = block.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane += u128::from(u64::from_ne_bytes(*word));
    }
}

/// Below this, adding the lanes up costs more than they save.
const WORTH_BLOCKS: usize = 96;

/// Adds a tail and folds.
#[inline]
fn finish(total: u128, tail: &[u8]) -> u16 {
    // Both halves: the upper one counts carries.
    let mut halves = [(total & u128::from(u64::MAX)) as u64, (total >> 64) as u64];
    let mut add = |word: u64| {
        let (sum, carry) = halves[0].overflowing_add(word);
        halves[0] = sum;
        halves[1] += u64::from(carry);
    };
    let (words, rest) = tail.as_chunks::<8>();
    words.iter().for_each(|word| add(u64::from_ne_bytes(*word)));
    if !rest.is_empty() {
        let (quads, rest) = rest.as_chunks::<4>();
        quads.iter().for_each(|quad| add(u64::from(u32::from_ne_bytes(*quad))));
        let (pairs, rest) = rest.as_chunks::<2>();
        pairs.iter().for_each(|pair| add(u64::from(u16::from_ne_bytes(*pair))));
        rest.iter().for_each(|&byte| add(u64::from(u16::from_ne_bytes([byte, 0]))));
    }
    // 2^64 is 1 modulo 2^16 - 1.
    let (sum, carry) = halves[0].overflowing_add(halves[1]);
    u16::from_be(fold(sum + u64::from(carry)))
}

/// Folds a sum to 16 bits. Zero only if it is zero.
#[must_use]
#[inline]
pub const fn fold(sum: u64) -> u16 {
    // A half and the other one, added in the upper half: the carry from the same addition in the lower half comes in, which
    // is the one that the upper half loses.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
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
    fn folding_adds_the_words() {
        let edges = [0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff];
        for [a, b, c, d] in edges
            .iter()
            .flat_map(|&a| edges.map(|b| [a, b, b, a]).into_iter().chain(edges.map(|b| [a, a, a, b])))
        {
            let sum = u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d);
            let expected = [b, c, d].into_iter().fold(a, add);
            assert_eq!(fold(sum), expected, "{sum:#x}");
        }
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
