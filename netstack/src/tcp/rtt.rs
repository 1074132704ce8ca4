//! Round-trip time and the retransmission timeout (RFC 6298), with the windowed minimum that RACK and HyStart++ use.

use super::config::Config;
use crate::time::Instant;
use core::time::Duration;

/// The estimator of one connection.
#[derive(Clone, Debug)]
pub(super) struct RttEstimator {
    /// `None` before the first measurement.
    estimate: Option<Estimate>,
    min: MinFilter,
    /// How often the timer has expired since the last progress.
    backoff: u32,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    srtt: Duration,
    rttvar: Duration,
}

impl RttEstimator {
    pub(super) fn new() -> Self {
        Self { estimate: None, min: MinFilter::default(), backoff: 0 }
    }

    /// Takes a measurement (RFC 6298 sections 2.2 and 2.3, with alpha 1/8 and beta 1/4).
    pub(super) fn on_sample(&mut self, now: Instant, rtt: Duration) {
        // A zero would make every timer zero; the clock's resolution is not that good.
        let rtt = rtt.max(MIN_SAMPLE);
        self.min.on_sample(now, rtt);
        self.estimate = Some(match self.estimate {
            None => Estimate { srtt: rtt, rttvar: rtt / 2 },
            Some(Estimate { srtt, rttvar }) => {
                let error = srtt.abs_diff(rtt);
                // Linux weighs a falling RTT less, lest the drop itself widen the timeout.
                let rttvar = if rtt < srtt.saturating_sub(rttvar) {
                    (rttvar * 31 + error) / 32
                } else {
                    (rttvar * 3 + error) / 4
                };
                Estimate { srtt: (srtt * 7 + rtt) / 8, rttvar }
            }
        });
    }

    pub(super) fn srtt(&self) -> Option<Duration> {
        self.estimate.map(|estimate| estimate.srtt)
    }

    pub(super) fn rttvar(&self) -> Duration {
        self.estimate.map_or(Duration::ZERO, |estimate| estimate.rttvar)
    }

    /// The least RTT of the last minutes.
    pub(super) fn min_rtt(&self) -> Option<Duration> {
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

    /// The timeout without backoff.
    pub(super) fn base_rto(&self, config: &Config) -> Duration {
        match self.estimate {
            None => config.rto_initial,
            // The floor is on the variation, as in Linux: srtt + 200 ms never fires on a peer's delayed ACK.
            Some(Estimate { srtt, rttvar }) => (srtt + (rttvar * 4).max(config.rto_min)).min(config.rto_max),
        }
    }

    /// The timeout.
    pub(super) fn rto(&self, config: &Config) -> Duration {
        let factor = 1_u32.checked_shl(self.backoff).unwrap_or(u32::MAX);
        self.base_rto(config).saturating_mul(factor).min(config.rto_max)
    }
}

/// The minimum over a sliding window, approximated by the minima of its current and previous halves.
#[derive(Clone, Debug, Default)]
struct MinFilter {
    current: Option<Duration>,
    previous: Option<Duration>,
    since: Instant,
}

impl MinFilter {
    fn on_sample(&mut self, now: Instant, rtt: Duration) {
        if now - self.since > MIN_RTT_WINDOW / 2 {
            self.previous = self.current.take();
            self.since = now;
        }
        self.current = Some(self.current.map_or(rtt, |min| min.min(rtt)));
    }

    fn get(&self) -> Option<Duration> {
        match (self.current, self.previous) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

const MIN_SAMPLE: Duration = Duration::from_micros(1);
/// Linux's `tcp_min_rtt_wlen`.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(300);

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
