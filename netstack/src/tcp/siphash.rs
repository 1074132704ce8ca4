//! SipHash-2-4 (Aumasson and Bernstein, 2012): the keyed hash behind ISNs, timestamp offsets and SYN cookies.
//!
//! The standard library's `SipHasher` is deprecated and `DefaultHasher` takes no key and promises no algorithm, while
//! these values must survive a save and restore.

use super::isn::Secret;
use core::hash::{Hash, Hasher};

/// A SipHash-2-4 state.
#[derive(Clone, Debug)]
pub(super) struct SipHasher {
    v: [u64; 4],
    /// Bytes not yet mixed in, little endian, `len % 8` of them.
    pending: u64,
    len: u64,
}

impl SipHasher {
    pub(super) fn new(Secret([k0, k1]): Secret) -> Self {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, pending: 0, len: 0 }
    }

    /// Hashes one value under `secret`.
    pub(super) fn hash_one(secret: Secret, value: &impl Hash) -> u64 {
        let mut hasher = Self::new(secret);
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.v;
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }

    #[inline]
    fn mix(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.round();
        self.v[0] ^= word;
    }

    /// Appends the low `count` bytes (1 to 8) of `value`.
    fn push(&mut self, value: u64, count: u32) {
        let have = u32::try_from(self.len % 8).unwrap_or(0);
        self.len += u64::from(count);
        self.pending |= value << (8 * have);
        if have + count >= 8 {
            let word = self.pending;
            self.mix(word);
            // What did not fit: nothing when the word was exactly filled.
            self.pending = value.checked_shr(8 * (8 - have)).unwrap_or(0);
        }
    }
}

impl Hasher for SipHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.push(u64::from_le_bytes(word), u32::try_from(chunk.len()).unwrap_or(8));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.push(u64::from(value), 1);
    }

    fn write_u16(&mut self, value: u16) {
        self.push(u64::from(value), 2);
    }

    fn write_u32(&mut self, value: u32) {
        self.push(u64::from(value), 4);
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        if self.len.is_multiple_of(8) {
            // Nothing is pending.
            self.len += 8;
            self.mix(value);
        } else {
            self.push(value, 8);
        }
    }

    fn finish(&self) -> u64 {
        let mut end = self.clone();
        let last = end.pending | (end.len << 56);
        end.mix(last);
        end.v[2] ^= 0xff;
        for _ in 0..4 {
            end.round();
        }
        end.v[0] ^ end.v[1] ^ end.v[2] ^ end.v[3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference vectors of the SipHash paper's implementation: key 00..0f, message 00..n.
    #[test]
    fn reference_vectors() {
        let secret = Secret([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let expected = [(0, 0x726f_db47_dd0e_0e31), (1, 0x74f8_39c5_93dc_67fd), (15, 0xa129_ca61_49be_45e5)];
        for (len, hash) in expected {
            let message: Vec<u8> = (0..len).collect();
            let mut whole = SipHasher::new(secret);
            whole.write(&message);
            assert_eq!(whole.finish(), hash, "length {len}");
            let mut bytewise = SipHasher::new(secret);
            message.iter().for_each(|&byte| bytewise.write_u8(byte));
            assert_eq!(bytewise.finish(), hash, "length {len} byte by byte");
        }
    }
}
