//! Initial sequence numbers and timestamp offsets: keyed hashes over the flow (RFC 6528, RFC 7323 section 5.4).

use super::flow::Flow;
use super::num::low_u32;
use super::siphash::SipHasher;
use crate::time::Instant;
use core::hash::Hash;
use netstack_wire::seq::SeqNum;

/// The numbers a new connection starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed {
    /// The initial send sequence number.
    pub iss: SeqNum,
    /// What is added to the millisecond clock to give TSval.
    pub timestamp_offset: u32,
}

/// A 128-bit secret that keys hashes; drawn once by the owner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u64; 2]);

/// Makes [`Seed`]s. One per stack, so that a flow's numbers go on growing whoever opens it.
#[derive(Clone, Debug)]
pub struct SeedGenerator {
    secret: Secret,
}

impl SeedGenerator {
    /// Makes a generator keyed with `secret`.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self { secret }
    }

    /// Returns the numbers for a connection on `flow` opened at `now`.
    ///
    /// RFC 6528 section 3: "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)", with M a clock of 64 ns
    /// per tick as Linux uses. The timestamp offset depends on the addresses only, so that TSvals of successive
    /// connections between two hosts keep growing (RFC 7323 section 5.4 and RFC 6191 rely on it).
    #[must_use]
    pub fn seed(&self, now: Instant, flow: &Flow) -> Seed {
        let clock = low_u32(now.as_nanos() >> ISN_TICK_SHIFT);
        let [of_flow, of_addresses] = flow.hash_both(SipHasher::new(self.secret));
        let iss = SeqNum(low_u32(of_flow).wrapping_add(clock));
        Seed { iss, timestamp_offset: low_u32(of_addresses) }
    }

    pub(super) fn hash(&self, value: &impl Hash) -> u64 {
        SipHasher::hash_one(self.secret, value)
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// 2^6 ns per tick: the sequence space wraps after 274 s, beyond the maximum segment lifetime (Linux's choice).
const ISN_TICK_SHIFT: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};
    use core::time::Duration;

    fn flow(local_port: u16) -> Flow {
        let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Flow { local_addr: addr, remote_addr: addr, local_port, remote_port: 80, zone: 0 }
    }

    #[test]
    fn same_flow_grows_with_the_clock_and_others_differ() {
        let generator = SeedGenerator::new(Secret([1, 2]));
        let now = Instant::from_millis(1_000);
        let first = generator.seed(now, &flow(1));
        let later = generator.seed(now + Duration::from_micros(640), &flow(1));
        assert_eq!(later.iss - first.iss, 10_000);
        assert_eq!(later.timestamp_offset, first.timestamp_offset);
        assert_ne!(generator.seed(now, &flow(2)).iss, first.iss);
        assert_ne!(SeedGenerator::new(Secret([1, 3])).seed(now, &flow(1)).iss, first.iss);
        let addresses = Flow { local_port: 0, remote_port: 0, ..flow(1) };
        assert_eq!(
            flow(1).hash_both(SipHasher::new(Secret([1, 2]))),
            [flow(1), addresses].map(|it| generator.hash(&it))
        );
    }
}
