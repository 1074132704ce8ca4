//! What the congestion window becomes with an acknowledgment.

use super::super::congestion::{AckedData, Feedback, LossState};
use super::super::prr::PrrAck;
use super::super::recovery::Phase;
use super::Sender;
use super::ack::Context;

impl Sender {
    /// Sets the congestion window.
    pub(super) fn update_window(&mut self, context: &Context) {
        if self.congestion.is_autonomous() {
            self.feed_back(context);
        } else {
            self.adjust_window(context);
        }
        self.update_pacing();
        self.largest_flight = self.largest_flight.max(self.congestion.cwnd().min(self.snd_wnd));
    }

    /// Grows the window, or brings it down in proportion to what arrives.
    fn adjust_window(&mut self, context: &Context) {
        let Context { input, delivered, .. } = context;
        let (ssthresh, mss, in_flight) = (self.congestion.ssthresh(), self.mss(), self.board.in_flight());
        match &mut self.recovery.phase {
            Phase::Cwr { prr, .. } | Phase::Recovery { prr, .. } => {
                // Each duplicate ACK stands for a delivered segment where SACK does not tell.
                let bytes = match delivered.delivered {
                    0 if context.is_duplicate && !self.has_sack => mss,
                    bytes => bytes,
                };
                if bytes == 0 {
                    return;
                }
                let is_safe = delivered.acked > 0 && self.board.lost() <= context.prior_lost;
                let ack = PrrAck { delivered: bytes, in_flight, ssthresh, mss, is_safe };
                let cwnd = prr.on_ack(&ack);
                self.congestion.set_cwnd(cwnd);
            }
            Phase::Open | Phase::Loss { .. } => {
                // SACKs alone do not open the window (Linux's tcp_may_raise_cwnd).
                if delivered.acked == 0 || !self.is_window_limited() {
                    return;
                }
                let srtt = self.rtt.srtt().unwrap_or_default();
                let acked = AckedData {
                    now: input.now,
                    bytes: delivered.delivered,
                    rtt: context.rtt,
                    srtt,
                    round_ended: context.round_ended,
                };
                self.congestion.on_ack(&acked);
            }
        }
    }

    /// Tells an autonomous controller everything, and takes its pacing rate.
    fn feed_back(&mut self, context: &Context) {
        let Context { input, delivered, .. } = context;
        let state = match self.recovery.phase {
            Phase::Open | Phase::Cwr { .. } => LossState::Open,
            Phase::Recovery { .. } => LossState::Recovery,
            Phase::Loss { .. } => LossState::Loss,
        };
        let feedback = Feedback {
            now: input.now,
            acked: delivered.delivered,
            lost: (self.board.lost() + delivered.was_lost).saturating_sub(context.prior_lost),
            in_flight: self.board.in_flight(),
            prior_in_flight: context.prior_in_flight,
            delivered: self.board.rate.delivered(),
            sample: context.rate,
            rtt: context.exact_rtt,
            srtt: self.rtt.srtt(),
            state,
        };
        if self.congestion.on_feedback(&feedback) {
            self.board.rate.on_app_limited(feedback.in_flight);
        }
    }

    /// Whether the window may grow: it is what has limited us lately (RFC 9438 section 5.8; Linux's rule for slow start).
    pub(super) fn is_window_limited(&self) -> bool {
        if self.usage.is_limited {
            return true;
        }
        let window = self.congestion.window();
        window.is_slow_start() && window.cwnd < self.usage.max_in_flight.saturating_mul(2)
    }
}
