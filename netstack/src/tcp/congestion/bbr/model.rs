//! The model of the path: bottleneck bandwidth, round-trip propagation time, rounds, and whether the pipe is full.

use super::super::super::delivery_rate::bytes_in;
use super::{Feedback, UNIT, scale};
use crate::time::Instant;
use core::time::Duration;

/// Draft section 4.1.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// BtlBw: the largest delivery rates of the last rounds, by round number modulo their count.
    rates: [u64; BANDWIDTH_ROUNDS],
    /// BBR.round_count.
    round: usize,
    /// BBR.next_round_delivered: the round ends with the delivery of what was sent after so much had been delivered.
    round_end: u64,
    /// Whether the latest acknowledgment began a round.
    pub(super) is_round_start: bool,
    /// RTprop.
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    /// BBR.full_bw and for how many rounds it has not grown.
    full_bandwidth: u64,
    full_rounds: u8,
}

impl Model {
    /// The bandwidth in bytes a second; zero before the first measurement.
    pub(super) fn bandwidth(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// The bandwidth-delay product times a gain.
    pub(super) fn bdp(&self, gain: u64) -> u64 {
        self.bdp_at(self.bandwidth(), gain)
    }

    /// The same at another bandwidth.
    pub(super) fn bdp_at(&self, bandwidth: u64, gain: u64) -> u64 {
        scale(bytes_in(bandwidth, self.min_rtt.unwrap_or_default()), gain)
    }

    /// Draft section 4.1.1.3. Returns whether a round began.
    pub(super) fn update_bandwidth(&mut self, feedback: &Feedback) -> bool {
        self.is_round_start = false;
        let Some(sample) = feedback.sample else { return false };
        if sample.prior_delivered >= self.round_end {
            self.begin_round(feedback.delivered);
            self.round += 1;
            self.is_round_start = true;
            // The round that falls out of the window makes room.
            self.rates[self.round % BANDWIDTH_ROUNDS] = 0;
        }
        let rate = sample.rate();
        // "a sample ... that is application-limited ... [is used] if it is higher than the current estimate".
        if !sample.is_app_limited || rate >= self.bandwidth() {
            let slot = &mut self.rates[self.round % BANDWIDTH_ROUNDS];
            *slot = (*slot).max(rate);
        }
        self.is_round_start
    }

    /// The current round ends when what is sent from now on is delivered.
    pub(super) fn begin_round(&mut self, delivered: u64) {
        self.round_end = delivered;
    }

    /// Draft section 4.3.2: the pipe is full when three rounds have not raised the bandwidth by a quarter.
    pub(super) fn check_full_pipe(&mut self, feedback: &Feedback) {
        let is_app_limited = feedback.sample.is_none_or(|sample| sample.is_app_limited);
        if self.is_pipe_full() || !self.is_round_start || is_app_limited {
            return;
        }
        let bandwidth = self.bandwidth();
        if bandwidth >= scale(self.full_bandwidth, UNIT * 5 / 4) {
            self.full_bandwidth = bandwidth;
            self.full_rounds = 0;
        } else {
            self.full_rounds += 1;
        }
    }

    pub(super) fn is_pipe_full(&self) -> bool {
        self.full_rounds >= FULL_ROUNDS
    }

    /// Whether this acknowledgment was under way for a quarter longer than the path alone takes.
    pub(super) fn has_queue(&self, feedback: &Feedback) -> bool {
        let took = feedback.rtt.or(feedback.srtt).unwrap_or_default();
        self.min_rtt.is_none_or(|min| took > min + min / 4)
    }

    /// The bandwidth at which the pipe seemed full may have been too low.
    pub(super) fn doubt_full_pipe(&mut self) {
        self.full_bandwidth = 0;
        if !self.is_pipe_full() {
            self.full_rounds = 0;
        }
    }

    /// Draft section 4.1.2.3. Returns whether the estimate had expired.
    pub(super) fn update_min_rtt(&mut self, now: Instant, rtt: Option<Duration>) -> bool {
        let is_expired = self.min_rtt.is_some() && now > self.min_rtt_at + MIN_RTT_WINDOW;
        if let Some(rtt) = rtt
            && (is_expired || self.min_rtt.is_none_or(|min| rtt <= min))
        {
            self.min_rtt = Some(rtt);
            self.min_rtt_at = now;
        }
        is_expired
    }

    /// PROBE_RTT has just shown it.
    pub(super) fn confirm_min_rtt(&mut self, now: Instant) {
        self.min_rtt_at = now;
    }
}

/// Draft section 4.1.1.5: a cycle of PROBE_BW and two more.
const BANDWIDTH_ROUNDS: usize = 10;
const FULL_ROUNDS: u8 = 3;
/// Draft section 4.1.2.4.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
