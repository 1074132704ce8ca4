//! Aggregated ACKs: how much more than the bandwidth explains arrives acknowledged at once.
//!
//! Links that collect frames (Wi-Fi, cable, interrupt moderation, a user-space receiver) acknowledge in bursts. Between
//! two bursts the window must not run dry, so it grows by the largest burst of late (Linux's `extra_acked`).

use super::super::super::delivery_rate::bytes_in;
use super::Feedback;
use crate::time::Instant;
use core::time::Duration;

/// The measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aggregation {
    /// When the current burst began and what it has acknowledged.
    since: Instant,
    acked: u64,
    /// The largest excess of this window of rounds and the one before.
    excess: [u64; 2],
    rounds: u8,
}

impl Aggregation {
    /// Takes an acknowledgment.
    pub(super) fn update(&mut self, feedback: &Feedback, bandwidth: u64, is_round_start: bool, cwnd: u32) {
        if feedback.acked == 0 || feedback.sample.is_none() {
            return;
        }
        if is_round_start {
            self.rounds += 1;
            if self.rounds >= WINDOW_ROUNDS {
                self.rounds = 0;
                self.excess = [0, self.excess[0]];
            }
        }
        let mut expected = bytes_in(bandwidth, feedback.now - self.since);
        if self.acked <= expected || self.acked >= EPOCH_LIMIT {
            // No more than the bandwidth explains: the next burst may begin.
            self.restart(feedback.now);
            expected = 0;
        }
        self.acked += u64::from(feedback.acked);
        let excess = self.acked.saturating_sub(expected).min(cwnd.into());
        self.excess[0] = self.excess[0].max(excess);
    }

    /// Begins anew, after idleness.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.acked = 0;
    }

    /// By how much the window should be larger.
    pub(super) fn extra(&self, bandwidth: u64) -> u64 {
        self.excess[0].max(self.excess[1]).min(bytes_in(bandwidth, MAX_TIME))
    }
}

/// Linux's `bbr_extra_acked_win_rtts`.
const WINDOW_ROUNDS: u8 = 5;
/// Linux's `bbr_ack_epoch_acked_reset_thresh`, 2^20 packets, in bytes.
const EPOCH_LIMIT: u64 = (1 << 20) * 1460;
/// Linux's `bbr_extra_acked_max_us`.
const MAX_TIME: Duration = Duration::from_millis(100);
