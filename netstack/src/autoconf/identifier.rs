//! Interface identifiers: stable per network (RFC 7217), or random for a while (RFC 8981).

use std::net::Ipv6Addr;

use crate::secret::hash_words;

/// Who makes identifiers.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Keys stable identifiers.
    pub(crate) secret: [u64; 2],
    /// Tells the NICs of a stack apart ("Net_Iface" of RFC 7217): a name outlives a number.
    pub(crate) interface: u64,
    /// The state of the generator of random numbers.
    pub(crate) random: u64,
}

impl Identity {
    /// RFC 7217 section 5: "RID = F(Prefix, Net_Iface, Network_ID, DAD_Counter, secret_key)".
    pub(super) fn stable(&self, prefix: Ipv6Addr, dad_counter: u8) -> u64 {
        let mut counter = u64::from(dad_counter);
        loop {
            let words = [upper_half(prefix), self.interface, counter];
            let identifier = hash_words(self.secret, &words);
            if !is_reserved(identifier) {
                return identifier;
            }
            // Keeps retries of this kind apart from those after a collision.
            counter += 1 << 32;
        }
    }

    /// RFC 8981 section 3.3.1: a random number that is not reserved.
    pub(super) fn temporary(&mut self) -> u64 {
        loop {
            let identifier = self.random();
            if !is_reserved(identifier) {
                return identifier;
            }
        }
    }

    /// A number below `bound`, which is above zero.
    pub(super) fn random_below(&mut self, bound: u64) -> u64 {
        self.random() % bound.max(1)
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(1);
        hash_words(self.secret, &[self.interface, self.random])
    }
}

/// The address of an identifier in a network of 64 bits.
pub(super) fn address(prefix: Ipv6Addr, identifier: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(upper_half(prefix)) << 64 | u128::from(identifier))
}

fn upper_half(prefix: Ipv6Addr) -> u64 {
    // The upper 64 of 128 bits.
    (prefix.to_bits() >> 64) as u64
}

/// RFC 5453: the subnet-router anycast address and the reserved anycast addresses (RFC 2526), and what is registered
/// under the IANA's own Ethernet block.
fn is_reserved(identifier: u64) -> bool {
    identifier == 0
        || (0x0200_5eff_fe00_0000..=0x0200_5eff_feff_ffff).contains(&identifier)
        || (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_identifiers_depend_on_network_interface_and_collisions() {
        let identity = Identity { secret: [1, 2], interface: 3, random: 0 };
        let other = Identity { interface: 4, ..identity.clone() };
        let (a, b) = ("2001:db8::".parse().unwrap(), "2001:db8:0:1::".parse().unwrap());
        assert_eq!(identity.stable(a, 0), identity.stable(a, 0));
        let all = [identity.stable(a, 0), identity.stable(b, 0), identity.stable(a, 1), other.stable(a, 0)];
        assert!(all.iter().enumerate().all(|(index, one)| !all[..index].contains(one)), "{all:x?}");
        assert_eq!(address(a, 5).to_string(), "2001:db8::5");
    }

    #[test]
    fn reserved_identifiers_are_known() {
        assert!(is_reserved(0) && is_reserved(0x0200_5eff_fe00_5213) && is_reserved(0xfdff_ffff_ffff_fffe));
        assert!(!is_reserved(1) && !is_reserved(0xfdff_ffff_ffff_ff7f) && !is_reserved(u64::MAX));
    }
}
