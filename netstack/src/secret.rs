//! Keyed hashes and random numbers of a stack: one secret, drawn once, from which everything follows (STYLE R16).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tcp::{Flow, Secret};

/// The secrets of a stack.
pub(crate) struct Secrets {
    key: [u64; 2],
    /// For the hash of each packet's flow, drawn from `key`.
    flow_key: [u64; 3],
    drawn: AtomicU64,
}

impl Secrets {
    /// Draws the key from the operating system, or derives it from `seed`.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let mut key = [0_u64; 2];
        match seed {
            Some(seed) => key = [seed, !seed],
            None => {
                for word in &mut key {
                    // Without a source of randomness the address of a local is still better than a constant; the
                    // operating system refuses only before its pool is ready, which no caller here can run before.
                    *word = getrandom::u64().unwrap_or(std::ptr::from_ref(word).addr() as u64);
                }
            }
        }
        let flow_key = [0, 1, 2].map(|index| hash_words(key, &[FLOW_DOMAIN, index]));
        Self { key, flow_key, drawn: AtomicU64::new(0) }
    }

    /// A random number. Unpredictable without the key (a keyed hash of a counter).
    pub(crate) fn random(&self) -> u64 {
        let count = self.drawn.fetch_add(1, Ordering::Relaxed);
        hash_words(self.key, &[RANDOM_DOMAIN, count])
    }

    /// A random number below `bound`, which must not be zero.
    pub(crate) fn random_below(&self, bound: u32) -> u32 {
        // Lemire's multiplication: the high half of a 32x32-bit product is below the factor.
        (((self.random() & 0xffff_ffff) * u64::from(bound)) >> 32) as u32
    }

    /// A random secret for somebody else.
    pub(crate) fn secret(&self) -> Secret {
        Secret([self.random(), self.random()])
    }

    /// A key for values that must be the same as long as the stack's own key is.
    pub(crate) fn stable_key(&self) -> [u64; 2] {
        [0, 1].map(|half| hash_words(self.key, &[STABLE_DOMAIN, half]))
    }

    /// The hash of a flow: for demultiplexing and for spreading over groups.
    ///
    /// Once or twice per packet, so a keyed multiplication (as in wyhash) rather than a cryptographic hash: who cannot
    /// see which flows share a bucket cannot learn the key either, and a stack shows nobody.
    #[inline]
    pub(crate) fn hash_flow(&self, flow: &Flow) -> u64 {
        let ports = (flow.local_port, flow.remote_port);
        match (flow.local_addr, flow.remote_addr) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                self.hash_flow_v4((local.to_bits(), remote.to_bits()), ports, flow.zone)
            }
            (local, remote) => self.hash_flow_v6((halves(local), halves(remote)), ports, flow.zone),
        }
    }

    /// The same of an IPv4 flow whose addresses, ours first, are at hand as numbers.
    #[inline]
    pub(crate) fn hash_flow_v4(&self, (local, remote): (u32, u32), ports: (u16, u16), zone: u32) -> u64 {
        self.hash_words_of_flow(u64::from(local) << 32 | u64::from(remote), ports, zone)
    }

    #[inline]
    fn hash_flow_v6(&self, ([d, e], [f, g]): ([u64; 2], [u64; 2]), ports: (u16, u16), zone: u32) -> u64 {
        let [a, b, c] = self.flow_key;
        let addresses = folded_product(folded_product(d ^ a, e ^ b) ^ f, folded_product(g ^ c, b) ^ c);
        self.hash_words_of_flow(addresses, ports, zone)
    }

    #[inline]
    fn hash_words_of_flow(&self, addresses: u64, (local, remote): (u16, u16), zone: u32) -> u64 {
        let [a, b, c] = self.flow_key;
        let ports = u64::from(local) << 48 | u64::from(remote) << 32 | u64::from(zone);
        folded_product(folded_product(addresses ^ a, ports ^ b) ^ c, b)
    }

    /// The hash of a pair of addresses and a number.
    pub(crate) fn hash_pair(&self, a: IpAddr, b: IpAddr, number: u64) -> u64 {
        let ([a, b], [c, d]) = (halves(a), halves(b));
        hash_words(self.key, &[a, b, c, d, number])
    }
}

/// Keeps the counter's hashes apart from those of two-word flows.
const RANDOM_DOMAIN: u64 = 0x7261_6e64_6f6d_0000;
/// And those of stable keys.
const STABLE_DOMAIN: u64 = 0x7374_6162_6c65_0000;

/// Keeps the key of the flows apart from both.
const FLOW_DOMAIN: u64 = 0x666c_6f77_0000_0000;

/// The halves of a 128-bit product, combined: every bit of either factor reaches every bit.
#[inline]
fn folded_product(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // The upper and the lower half.
    (product >> 64) as u64 ^ product as u64
}

fn halves(address: IpAddr) -> [u64; 2] {
    let bits: u128 = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    // The upper and the lower half of the 128 bits.
    [(bits >> 64) as u64, bits as u64]
}

/// SipHash-1-3 (Aumasson and Bernstein) over whole words: the variant that hash tables use, since flooding them needs
/// collisions, not a forged tag.
pub(crate) fn hash_words(key: [u64; 2], words: &[u64]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for &word in words {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    let last = (words.len() as u64 * 8) << 56;
    v[3] ^= last;
    round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round([v0, v1, v2, v3]: &mut [u64; 4]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_spread_and_the_key_matters() {
        use std::collections::HashSet;
        use std::net::{Ipv4Addr, Ipv6Addr};
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        for address in [v4, v6] {
            let hashes = |seed| -> HashSet<u64> {
                let secrets = Secrets::new(Some(seed));
                let flow = |remote_port| Flow {
                    local_addr: address,
                    remote_addr: address,
                    local_port: 80,
                    remote_port,
                    zone: 0,
                };
                (0..10_000).map(|port| secrets.hash_flow(&flow(port))).collect()
            };
            let (one, two) = (hashes(1), hashes(2));
            assert_eq!(one.len(), 10_000);
            assert!(one.is_disjoint(&two));
            // The flow table takes its shard from the middle and its bucket from both ends.
            for shift in [0, 40, 54] {
                let slots: HashSet<u64> = one.iter().map(|hash| (hash >> shift) % 64).collect();
                assert_eq!(slots.len(), 64, "shift {shift}");
            }
        }
    }

    #[test]
    fn seeded_stacks_repeat_and_others_do_not() {
        let draw = |seed| {
            let secrets = Secrets::new(seed);
            [secrets.random(), secrets.random()]
        };
        assert_eq!(draw(Some(7)), draw(Some(7)));
        assert_ne!(draw(Some(7)), draw(Some(8)));
        assert_ne!(draw(None), draw(None));
        let secrets = Secrets::new(Some(1));
        assert!((0..1000).all(|_| secrets.random_below(10) < 10));
    }
}
