//! The four-tuple that names a connection.

use core::hash::{Hash, Hasher};
use core::net::IpAddr;

/// A connection's addresses and ports, seen from this end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flow {
    /// Our address.
    pub local_addr: IpAddr,
    /// The peer's address.
    pub remote_addr: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Tells apart equal link-local addresses of different links: the NIC's number there, otherwise zero.
    pub zone: u32,
}

/// In whole words: keyed hashes take a few rounds for each write, and a connection's birth asks for several hashes. Flows
/// of different families differ in the number of words.
impl Hash for Flow {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { local_addr: _, remote_addr: _, local_port, remote_port, zone } = *self;
        self.hash_addresses(state);
        state.write_u64(u64::from(local_port) << 48 | u64::from(remote_port) << 32 | u64::from(zone));
    }
}

impl Flow {
    /// The same conversation as the other end sees it.
    #[must_use]
    pub fn reversed(self) -> Self {
        let Self { local_addr, remote_addr, local_port, remote_port, zone } = self;
        Self {
            local_addr: remote_addr,
            remote_addr: local_addr,
            local_port: remote_port,
            remote_port: local_port,
            zone,
        }
    }

    /// The first words of its hash.
    #[inline]
    fn hash_addresses<H: Hasher>(&self, state: &mut H) {
        match (self.local_addr, self.remote_addr) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                state.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => {
                for address in [local, remote] {
                    let bits = match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                        IpAddr::V6(address) => address.to_bits(),
                    };
                    // The upper and the lower half.
                    state.write_u64((bits >> 64) as u64);
                    state.write_u64(bits as u64);
                }
            }
        }
    }

    /// Hashes it with its ports and without, the addresses once.
    pub(super) fn hash_both<H: Hasher + Clone>(&self, mut state: H) -> [u64; 2] {
        let Self { local_addr: _, remote_addr: _, local_port, remote_port, zone } = *self;
        self.hash_addresses(&mut state);
        let mut without = state.clone();
        state.write_u64(u64::from(local_port) << 48 | u64::from(remote_port) << 32 | u64::from(zone));
        without.write_u64(u64::from(zone));
        [state.finish(), without.finish()]
    }
}
