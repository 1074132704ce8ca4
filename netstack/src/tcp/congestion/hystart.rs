//! HyStart++ (RFC 9406): leaves slow start when the round-trip time begins to rise, before losses do it.

use super::{AckedData, Window};

/// The state of slow start in rounds (RFC 9406 section 4.2).
#[derive(Clone, Debug, Default)]
pub(super) struct HyStart {
    phase: Phase,
    /// The least RTT of the round before, in microseconds; zero if unknown.
    last_round_us: u32,
    /// The least RTT of this round.
    current_round_us: u32,
    samples: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    SlowStart,
    /// Conservative slow start: growth is a quarter, to see whether the delay was a mistake.
    Conservative { baseline_us: u32, rounds: u32 },
    /// Slow start has been left; there is nothing to watch.
    Done,
}

impl HyStart {
    pub(super) fn is_unused(&self) -> bool {
        let Self { phase, last_round_us, current_round_us, samples } = self;
        matches!(phase, Phase::SlowStart) && *last_round_us == 0 && *current_round_us == 0 && *samples == 0
    }

    /// Takes an ACK in slow start. Returns the bytes by which to grow, or `None` when slow start ends here (`ssthresh`
    /// has been set to the window).
    pub(super) fn on_ack(&mut self, window: &mut Window, acked: &AckedData) -> Option<u32> {
        if acked.round_ended {
            self.on_round();
        }
        if let Some(rtt) = acked.rtt {
            let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
            self.current_round_us = if self.samples == 0 { rtt } else { self.current_round_us.min(rtt) };
            self.samples = self.samples.saturating_add(1);
        }
        self.evaluate();
        match self.phase {
            Phase::SlowStart | Phase::Done => Some(acked.bytes),
            Phase::Conservative { rounds, .. } if rounds >= CSS_ROUNDS => {
                self.phase = Phase::Done;
                window.ssthresh = window.cwnd;
                None
            }
            // Section 4.2: "cwnd = cwnd + (min(N, L * SMSS) / CSS_GROWTH_DIVISOR)".
            Phase::Conservative { .. } => Some(acked.bytes / CSS_GROWTH_DIVISOR),
        }
    }

    /// Slow start ended by a congestion event.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Done;
    }

    /// Slow start begins again (after a timeout). RFC 9406 section 4.3 uses HyStart++ for the initial slow start only:
    /// afterwards `ssthresh` is known.
    pub(super) fn reset(&mut self) {
        self.phase = Phase::Done;
    }

    fn on_round(&mut self) {
        if self.samples > 0 {
            self.last_round_us = self.current_round_us;
        }
        self.samples = 0;
        if let Phase::Conservative { rounds, .. } = &mut self.phase {
            *rounds += 1;
        }
    }

    fn evaluate(&mut self) {
        let (current, last) = (self.current_round_us, self.last_round_us);
        if self.samples < N_RTT_SAMPLE || last == 0 {
            return;
        }
        match self.phase {
            Phase::SlowStart => {
                if current >= last.saturating_add(threshold(last)) {
                    self.phase = Phase::Conservative { baseline_us: current, rounds: 0 };
                }
            }
            // "If ... currentRoundMinRTT < cssBaselineMinRtt, then the slow start phase was exited prematurely".
            Phase::Conservative { baseline_us, .. } if current < baseline_us => self.phase = Phase::SlowStart,
            // DEVIATION: the RFC goes on for five rounds, by when the window has tripled. A delay that rises by the
            // threshold again was no mistake, and a queue of less than two round trips would overflow.
            Phase::Conservative { baseline_us, rounds } => {
                if current >= baseline_us.saturating_add(threshold(baseline_us)) {
                    self.phase = Phase::Conservative { baseline_us, rounds: rounds.max(CSS_ROUNDS) };
                }
            }
            Phase::Done => {}
        }
    }
}

/// RttThresh: by how much the delay must rise.
fn threshold(rtt_us: u32) -> u32 {
    (rtt_us / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH)
}

/// RFC 9406 section 4.3, all of these; times in microseconds.
const MIN_RTT_THRESH: u32 = 4_000;
const MAX_RTT_THRESH: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u32 = 5;
