//! Long-term sampling (Linux's `bbr_lt_bw_sampling`): recognises a traffic policer, which lets bursts through and then drops
//! whatever is beyond its rate. Two intervals between losses that deliver at about the same rate although much is lost
//! give that rate away; sending at it loses nothing more. After a while it is tried whether there is more again.

use super::super::super::delivery_rate::per_second;
use super::Feedback;
use crate::time::Instant;

/// What long-term sampling knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Policer {
    /// A loss has begun an interval.
    is_sampling: bool,
    /// The policer's rate is in use.
    is_recognised: bool,
    /// Round trips in the interval, or since the rate is in use.
    rounds: u8,
    /// The rate of the interval before, or the one in use; zero without one.
    rate: u64,
    /// Bytes ever believed lost.
    lost: u64,
    /// Where the interval began.
    start: Start,
}

#[derive(Clone, Copy, Debug, Default)]
struct Start {
    at: Instant,
    delivered: u64,
    lost: u64,
}

/// What an acknowledgment does about the policer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    /// Nothing new.
    Same,
    /// The rate was in use for long enough: the cycle of gains begins anew.
    TryMore,
}

impl Policer {
    /// The rate that the policer lets through, if there seems to be one.
    pub(super) fn rate(&self) -> Option<u64> {
        self.is_recognised.then_some(self.rate)
    }

    /// Counts what an acknowledgment says is lost, whatever else is done with it.
    pub(super) fn count(&mut self, feedback: &Feedback) {
        self.lost += u64::from(feedback.lost);
    }

    /// Takes a sample of the delivery rate.
    pub(super) fn on_sample(
        &mut self,
        feedback: &Feedback,
        is_round_start: bool,
        is_cycling: bool,
    ) -> Finding {
        if self.is_recognised {
            if is_cycling && is_round_start {
                self.rounds += 1;
                if self.rounds >= MAX_ROUNDS_IN_USE {
                    self.reset(feedback.now, feedback.delivered);
                    return Finding::TryMore;
                }
            }
            return Finding::Same;
        }
        let has_loss = feedback.lost > 0;
        // "Wait for the first loss before sampling, to let the policer exhaust its tokens".
        if !self.is_sampling {
            if !has_loss {
                return Finding::Same;
            }
            self.begin_interval(feedback.now, feedback.delivered);
            self.is_sampling = true;
        }
        if feedback.sample.is_some_and(|sample| sample.is_app_limited) {
            self.reset(feedback.now, feedback.delivered);
            return Finding::Same;
        }
        self.rounds += u8::from(is_round_start);
        if self.rounds > 4 * MIN_ROUNDS {
            self.reset(feedback.now, feedback.delivered);
        } else if self.rounds >= MIN_ROUNDS && has_loss {
            // A loss ends the interval: the tokens are gone again.
            self.end_interval(feedback.now, feedback.delivered);
        }
        Finding::Same
    }

    /// A retransmission timeout, which Linux takes for a loss without a delivery.
    pub(super) fn on_timeout(&mut self, feedback: Option<(Instant, u64)>) {
        let Some((now, delivered)) = feedback else { return };
        if !self.is_recognised && !self.is_sampling {
            self.begin_interval(now, delivered);
            self.is_sampling = true;
        }
    }

    /// Forgets everything: the losses were none, or too much time has passed.
    pub(super) fn reset(&mut self, now: Instant, delivered: u64) {
        let lost = self.lost;
        *self = Self { lost, ..Self::default() };
        self.begin_interval(now, delivered);
    }

    fn begin_interval(&mut self, now: Instant, delivered: u64) {
        self.start = Start { at: now, delivered, lost: self.lost };
        self.rounds = 0;
    }

    fn end_interval(&mut self, now: Instant, delivered: u64) {
        let (lost, got) = (self.lost - self.start.lost, delivered - self.start.delivered);
        if got == 0 || lost * 256 < LOSS_THRESHOLD * got {
            return;
        }
        let elapsed = now - self.start.at;
        if elapsed.as_millis() == 0 {
            return;
        }
        let rate = per_second(got, elapsed);
        let difference = rate.abs_diff(self.rate);
        if self.rate > 0 && (difference <= self.rate / RATE_RATIO || difference <= RATE_DIFFERENCE) {
            self.rate = rate.midpoint(self.rate);
            self.is_recognised = true;
            self.rounds = 0;
        } else {
            self.rate = rate;
            self.begin_interval(now, delivered);
        }
    }
}

/// The least length of an interval in round trips; four times that is too long.
const MIN_ROUNDS: u8 = 4;
/// How long the rate is used, in round trips.
const MAX_ROUNDS_IN_USE: u8 = 48;
/// The least share of losses in what is delivered, in 256ths: a fifth.
const LOSS_THRESHOLD: u64 = 50;
/// Rates of two intervals agree within an eighth ...
const RATE_RATIO: u64 = 8;
/// ... or 4 kbit/s.
const RATE_DIFFERENCE: u64 = 500;
