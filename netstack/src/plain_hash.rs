//! A cheap hash of addresses and ports, for tables whose keys only this host chooses.
//!
//! Nobody outside decides what such a table holds, so nobody can fill one of its buckets, and a keyed hash would buy
//! nothing. Tables that grow by what arrives use the keyed hashes of [`Secrets`](crate::secret::Secrets).

use std::hash::{BuildHasherDefault, Hasher};

/// A map by address or port of what is configured here.
pub(crate) type PlainMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<PlainHasher>>;

/// Multiplies and rotates word by word.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct PlainHasher(u64);

impl Hasher for PlainHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<4>();
        words.iter().for_each(|word| self.write_u32(u32::from_ne_bytes(*word)));
        rest.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }

    /// Lengths and discriminants: the values tell them apart well enough.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    #[inline]
    fn write_isize(&mut self, _: isize) {}

    #[inline]
    fn finish(&self) -> u64 {
        // The table looks at the low bits, which a multiplication mixes least.
        self.0 ^ (self.0 >> 32)
    }
}

/// The golden ratio in 64 bits, an odd number without structure.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn neighbouring_addresses_spread_over_the_low_bits() {
        let build = BuildHasherDefault::<PlainHasher>::default();
        let v4 = (0..256_u32).map(|host| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + host)));
        let v6 = (0..256_u128).map(|host| IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + host)));
        for addresses in [v4.collect::<Vec<_>>(), v6.collect()] {
            let buckets: HashSet<u64> =
                addresses.iter().map(|address| build.hash_one(address) % 1024).collect();
            // Random placement would fill about 226.
            assert!(buckets.len() > 150, "{} buckets", buckets.len());
        }
    }
}
