//! SYN cookies: a half-open connection kept in the sequence number and the timestamp of its SYN-ACK (RFC 4987 section 3.6).
//!
//! The cookie is `mask(flow, irs) + [time: 5 | MSS index: 3 | tag: 24]` with the tag a keyed hash of everything including
//! the time, so that a secret need not be replaced to let cookies expire. With timestamps, the low six bits of TSval keep
//! window scale, SACK and ECN as in Linux.

use super::flow::Flow;
use super::isn::Secret;
use super::negotiated::PeerOffer;
use super::num::low_u32;
use super::siphash::SipHasher;
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;

/// Makes and checks the cookies of one listener.
#[derive(Clone, Debug)]
pub(super) struct CookieJar {
    secret: Secret,
    /// When the last cookie was given out; without a recent one no ACK can carry a valid cookie.
    last_baked: Option<Instant>,
}

impl CookieJar {
    pub(super) fn new(secret: Secret) -> Self {
        Self { secret, last_baked: None }
    }

    /// Makes the initial sequence number that stands for a SYN with sequence number `irs`.
    pub(super) fn bake(&mut self, now: Instant, flow: &Flow, irs: SeqNum, peer_mss: u16) -> SeqNum {
        self.last_baked = Some(now);
        let index = MSS_TABLE.iter().rposition(|&mss| mss <= peer_mss).unwrap_or(0);
        let index = u32::try_from(index).unwrap_or(0);
        let time = clock(now);
        let raw = time << 27 | index << 24 | self.tag(flow, irs, time, index);
        SeqNum(raw.wrapping_add(self.mask(flow, irs)))
    }

    /// Whether cookies were given out lately, so that an ACK may carry one (Linux's `tcp_synq_no_recent_overflow` turned round).
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        self.last_baked.is_some_and(|last| now - last <= TICK * (MAX_AGE + 1))
    }

    /// Returns the peer's MSS if `cookie` was given out for this flow and `irs` at most two clock ticks ago.
    pub(super) fn check(&self, now: Instant, flow: &Flow, irs: SeqNum, cookie: SeqNum) -> Option<u16> {
        self.is_recent(now).then_some(())?;
        let raw = cookie.0.wrapping_sub(self.mask(flow, irs));
        let (time, index, tag) = (raw >> 27, raw >> 24 & 7, raw & 0x00ff_ffff);
        let age = clock(now).wrapping_sub(time) & 31;
        if age > MAX_AGE || tag != self.tag(flow, irs, time, index) {
            return None;
        }
        MSS_TABLE.get(super::num::usize_of(index)).copied()
    }

    fn tag(&self, flow: &Flow, irs: SeqNum, time: u32, index: u32) -> u32 {
        low_u32(SipHasher::hash_one(self.secret, &(flow, irs, time, index))) & 0x00ff_ffff
    }

    fn mask(&self, flow: &Flow, irs: SeqNum) -> u32 {
        low_u32(SipHasher::hash_one(self.secret, &(flow, irs)))
    }
}

/// Puts the options of a SYN into the low bits of a timestamp, which stays at or before `value`.
pub(super) fn encode_timestamp(value: u32, peer: &PeerOffer, has_ecn: bool) -> u32 {
    let bits = u32::from(peer.window_shift.unwrap_or(NO_SHIFT))
        | if peer.sack { SACK_BIT } else { 0 }
        | if has_ecn { ECN_BIT } else { 0 };
    let encoded = value & !OPTION_BITS | bits;
    if encoded.wrapping_sub(value).cast_signed() > 0 {
        encoded.wrapping_sub(OPTION_BITS + 1)
    } else {
        encoded
    }
}

/// Reads the options back from the echo: window shift, SACK, ECN.
pub(super) fn decode_timestamp(echo: u32) -> (Option<u8>, bool, bool) {
    let shift = u8::try_from(echo & 0xf).ok().filter(|&shift| shift != NO_SHIFT);
    (shift, echo & SACK_BIT != 0, echo & ECN_BIT != 0)
}

/// Five bits of 64-second ticks: wraps after 34 minutes, far beyond a cookie's life.
fn clock(now: Instant) -> u32 {
    low_u32(now.as_millis() >> 16) & 31
}

/// Common values of the MSS; the largest not above the peer's is kept. Index 0 is the floor for smaller ones.
const MSS_TABLE: [u16; 8] = [216, 536, 1220, 1300, 1380, 1440, 1460, 8940];
/// One tick of `clock`: 65.536 s.
const TICK: Duration = Duration::from_millis(1 << 16);
/// Cookies are good for two to three ticks (Linux: two minutes and a bit).
const MAX_AGE: u32 = 2;
/// "No window scaling": larger than any valid shift (14).
const NO_SHIFT: u8 = 0xf;
const SACK_BIT: u32 = 1 << 4;
const ECN_BIT: u32 = 1 << 5;
const OPTION_BITS: u32 = 0x3f;

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};

    fn flow(port: u16) -> Flow {
        let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Flow { local_addr: addr, remote_addr: addr, local_port: 80, remote_port: port, zone: 0 }
    }

    #[test]
    fn cookie_is_good_for_its_flow_and_time_only() {
        let mut jar = CookieJar::new(Secret([7, 8]));
        let now = Instant::from_millis(10_000_000);
        let irs = SeqNum(99);
        assert_eq!(jar.check(now, &flow(1), irs, SeqNum(5)), None);
        let cookie = jar.bake(now, &flow(1), irs, 1459);
        assert_eq!(jar.check(now, &flow(1), irs, cookie), Some(1440));
        assert_eq!(jar.check(now + TICK * 2, &flow(1), irs, cookie), Some(1440));
        assert_eq!(jar.check(now + TICK * 3, &flow(1), irs, cookie), None);
        assert_eq!(jar.check(now, &flow(2), irs, cookie), None);
        assert_eq!(jar.check(now, &flow(1), irs + 1, cookie), None);
        let guesses = (0..100_000).filter(|i| jar.check(now, &flow(1), irs, cookie + 1 + *i).is_some());
        assert!(guesses.count() <= 1);
    }

    #[test]
    fn timestamp_keeps_the_options_and_never_runs_ahead() {
        for value in [0, 1, 63, 64, 1_000_003, u32::MAX] {
            for (shift, sack, ecn) in [(None, false, false), (Some(0), true, false), (Some(14), false, true)]
            {
                let peer = PeerOffer { mss: 1, window_shift: shift, sack, timestamps: Some(1) };
                let encoded = encode_timestamp(value, &peer, ecn);
                assert!(value.wrapping_sub(encoded) <= 64);
                assert_eq!(decode_timestamp(encoded), (shift, sack, ecn));
            }
        }
    }
}
