//! Pacing: when the next data may leave, so that a window goes out over a round trip rather than at once.

use super::delivery_rate::bytes_in;
use crate::time::Instant;
use core::time::Duration;

/// A token bucket that holds a burst. Timers of user space are late by tens of microseconds and more; what a late one
/// misses is made up for within the burst, so that the rate is kept on average.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacing {
    /// Bytes a second, payload; `u64::MAX` for no limit.
    rate: u64,
    /// When the next transmission may leave.
    next_at: Instant,
    /// Something waits for `next_at`.
    is_waiting: bool,
}

impl Pacing {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), next_at: Instant::ZERO, is_waiting: false }
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    pub(super) fn set_rate(&mut self, rate: u64) {
        self.rate = rate.max(1);
    }

    /// Whether data may leave now. If not, `deadline` says when to ask again.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        self.is_waiting = self.next_at > now;
        !self.is_waiting
    }

    /// `bytes` leave.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u32) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let span = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.next_at = self.next_at.max(now.saturating_sub(BURST)) + span;
    }

    /// When something that waits may leave.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.is_waiting.then_some(self.next_at)
    }

    /// The deadline has been looked at.
    pub(super) fn on_timer(&mut self, now: Instant) {
        self.is_waiting &= self.next_at > now;
    }

    /// The payload of one transmission: what the rate gives in about a millisecond (Linux's `sk_pacing_shift`), so that
    /// slow connections send small pieces often and fast ones super-segments.
    pub(super) fn quantum(&self, segment: u32) -> u32 {
        let bytes = u32::try_from(bytes_in(self.rate, BURST)).unwrap_or(u32::MAX);
        bytes.max(segment.saturating_mul(2))
    }
}

/// What may leave at once after a pause or a late timer.
const BURST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 MB/s with a timer that is up to 0.7 ms late: the average is the rate.
    #[test]
    fn late_timers_do_not_lower_the_rate() {
        let mut pacing = Pacing::new(10_000_000);
        let mut now = Instant::from_millis(1000);
        let start = now;
        let mut sent = 0_u64;
        let mut late_us = 0;
        while now < start + Duration::from_secs(1) {
            while pacing.may_send(now) {
                pacing.on_sent(now, 3000);
                sent += 3000;
            }
            late_us = (late_us + 137) % 700;
            now = pacing.deadline().unwrap() + Duration::from_micros(late_us);
            pacing.on_timer(now);
            assert_eq!(pacing.deadline(), None);
        }
        assert!((9_900_000..=10_050_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_pause_earns_one_burst_and_no_more() {
        let mut pacing = Pacing::new(1_000_000);
        let now = Instant::from_millis(60_000);
        let mut sent = 0;
        while pacing.may_send(now) {
            pacing.on_sent(now, 100);
            sent += 100;
        }
        assert_eq!(sent, 1100);
    }

    #[test]
    fn quantum_is_a_millisecond_but_two_segments() {
        assert_eq!(Pacing::new(125_000_000).quantum(1448), 125_000);
        assert_eq!(Pacing::new(100_000).quantum(1448), 2896);
    }
}
