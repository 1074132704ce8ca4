//! Round-trip time and the retransmission timeout (RFC 6298), with the windowed minimum that RACK and HyStart++ use.

use super::config::Config;
use crate::hint::{likely, unlikely};
use crate::time::{Instant, nanos_of};
use core::time::Duration;

/// The estimator of one connection. Times are nanoseconds: idle connections are counted by the hundred thousand, and a
/// `Duration` is twice as large.
#[derive(Clone, Debug)]
pub(super) struct RttEstimator {
    /// Zero before the first measurement.
    srtt_ns: u64,
    /// Before the first measurement: the timeout, if the handshake has shown the initial one to be too short.
    rttvar_ns: u64,
    min: MinFilter,
    /// How often the timer has expired since the last progress.
    backoff: u32,
}

impl RttEstimator {
    pub(super) fn new() -> Self {
        Self { srtt_ns: 0, rttvar_ns: 0, min: MinFilter::default(), backoff: 0 }
    }

    /// Takes a measurement (RFC 6298 sections 2.2 and 2.3, with alpha 1/8 and beta 1/4).
    pub(super) fn on_sample(&mut self, now: Instant, rtt: Duration) {
        self.on_sample_ns(now, nanos_of(rtt));
    }

    /// The same in nanoseconds.
    pub(super) fn on_sample_ns(&mut self, now: Instant, rtt: u64) {
        // A zero would make every timer zero; the clock's resolution is not that good.
        let rtt = rtt.clamp(MIN_SAMPLE_NS, MAX_SAMPLE_NS);
        self.min.on_sample(now, rtt);
        if unlikely(self.srtt_ns == 0) {
            self.srtt_ns = rtt;
            self.rttvar_ns = rtt / 2;
            return;
        }
        let error = self.srtt_ns.abs_diff(rtt);
        // Linux weighs a falling RTT less, lest the drop itself widen the timeout.
        let weight = if rtt < self.srtt_ns.saturating_sub(self.rttvar_ns) { 32 } else { 4 };
        self.rttvar_ns = (self.rttvar_ns * (weight - 1) + error) / weight;
        self.srtt_ns = (self.srtt_ns * 7 + rtt) / 8;
    }

    /// RFC 6298 section 5.7: "the RTO MUST be re-initialized to 3 seconds when data transmission begins", as the handshake
    /// took a retransmission and gave no measurement.
    pub(super) fn distrust(&mut self) {
        if self.srtt_ns == 0 {
            self.rttvar_ns = FALLBACK_NS;
        }
    }

    pub(super) fn srtt(&self) -> Option<Duration> {
        (self.srtt_ns > 0).then(|| Duration::from_nanos(self.srtt_ns))
    }

    /// The same in nanoseconds; zero before the first measurement.
    pub(super) fn srtt_ns(&self) -> u64 {
        self.srtt_ns
    }

    pub(super) fn rttvar(&self) -> Duration {
        Duration::from_nanos(self.rttvar_ns)
    }

    /// The least RTT of the last minutes.
    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt_ns().map(Duration::from_nanos)
    }

    /// The same in nanoseconds.
    #[inline]
    pub(super) fn min_rtt_ns(&self) -> Option<u64> {
        self.min.get()
    }

    pub(super) fn backoff(&self) -> u32 {
        self.backoff
    }

    pub(super) fn set_backoff(&mut self, backoff: u32) {
        self.backoff = backoff;
    }

    /// RFC 6298 section 5.5: "The host MUST set RTO <- RTO * 2 ("back off the timer")".
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The timeout.
    pub(super) fn rto(&self, config: &Config) -> Duration {
        Duration::from_nanos(self.rto_ns(config))
    }

    /// The same in nanoseconds: each segment asks.
    #[inline]
    pub(super) fn rto_ns(&self, config: &Config) -> u64 {
        let base = self.base_rto_ns(config);
        if likely(self.backoff == 0) {
            return base;
        }
        let factor = 1_u64.checked_shl(self.backoff).unwrap_or(u64::MAX);
        base.saturating_mul(factor).min(nanos_of(config.rto_max))
    }

    /// The timeout without backoff, at most the largest.
    fn base_rto_ns(&self, config: &Config) -> u64 {
        if unlikely(self.srtt_ns == 0) {
            let first = if self.rttvar_ns > 0 { self.rttvar_ns } else { nanos_of(config.rto_initial) };
            return first.min(nanos_of(config.rto_max));
        }
        // The floor is on the variation, as in Linux: srtt + 200 ms never fires on a peer's delayed ACK.
        let rto = self.srtt_ns + (self.rttvar_ns * 4).max(nanos_of(config.rto_min));
        rto.min(nanos_of(config.rto_max))
    }
}

/// The minimum over a sliding window in nanoseconds, approximated by the minima of its current and previous halves.
#[derive(Clone, Debug)]
struct MinFilter {
    /// `u64::MAX` while there is none.
    current: u64,
    previous: u64,
    since: Instant,
}

impl Default for MinFilter {
    fn default() -> Self {
        Self { current: u64::MAX, previous: u64::MAX, since: Instant::ZERO }
    }
}

impl MinFilter {
    fn on_sample(&mut self, now: Instant, rtt: u64) {
        if unlikely(now.nanos_since(self.since) > HALF_MIN_RTT_WINDOW_NS) {
            self.previous = core::mem::replace(&mut self.current, u64::MAX);
            self.since = now;
        }
        self.current = self.current.min(rtt);
    }

    fn get(&self) -> Option<u64> {
        Some(self.current.min(self.previous)).filter(|&min| min != u64::MAX)
    }
}

/// RFC 6298 section 5.7; Linux's `TCP_TIMEOUT_FALLBACK`.
const FALLBACK_NS: u64 = 3_000_000_000;
const MIN_SAMPLE_NS: u64 = 1_000;
/// An hour: no path is slower, and the sums cannot overflow.
const MAX_SAMPLE_NS: u64 = 3_600_000_000_000;
/// Half of Linux's `tcp_min_rtt_wlen`, five minutes.
const HALF_MIN_RTT_WINDOW_NS: u64 = 150_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn first_sample_and_floor() {
        let config = Config::default();
        let mut rtt = RttEstimator::new();
        assert_eq!(rtt.rto(&config), config.rto_initial);
        rtt.on_sample(Instant::ZERO, 100 * MS);
        assert_eq!(rtt.rto(&config), 300 * MS);
        for _ in 0..100 {
            rtt.on_sample(Instant::ZERO, 100 * MS);
        }
        assert_eq!(rtt.rto(&config), 300 * MS, "srtt plus the floor of the variation");
    }

    #[test]
    fn backoff_doubles_up_to_the_maximum() {
        let config = Config::default();
        let mut rtt = RttEstimator::new();
        rtt.on_sample(Instant::ZERO, 100 * MS);
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.rto(&config), 1200 * MS);
        rtt.set_backoff(60);
        assert_eq!(rtt.rto(&config), config.rto_max);
    }

    #[test]
    fn minimum_forgets_after_its_window() {
        let mut rtt = RttEstimator::new();
        rtt.on_sample(Instant::ZERO, 10 * MS);
        rtt.on_sample(Instant::from_millis(160_000), 20 * MS);
        assert_eq!(rtt.min_rtt(), Some(10 * MS));
        rtt.on_sample(Instant::from_millis(320_000), 30 * MS);
        rtt.on_sample(Instant::from_millis(480_000), 30 * MS);
        assert_eq!(rtt.min_rtt(), Some(30 * MS));
    }
}
