//! The phases of loss recovery as acknowledgments move through them: entry, exit, undo.

use super::super::config::Config;
use super::super::prr::Prr;
use super::super::recovery::{Frto, Phase, Undo};
use super::super::scoreboard::Delivered;
use super::Sender;
use super::ack::Context;
use netstack_wire::seq::SeqNum;

impl Sender {
    /// Moves through the phases of recovery.
    pub(super) fn advance_phase(&mut self, config: &Config, context: &Context) {
        match self.recovery.phase {
            Phase::Open => {
                if context.has_dsack && self.recovery.is_all_reported() {
                    // The proof came after the recovery had ended (Linux's tcp_try_undo_dsack).
                    self.undo();
                }
                if self.board.lost() > 0 {
                    self.begin_recovery(context.prior_in_flight);
                } else if context.input.has_ecn_echo && self.has_ecn {
                    self.enter_cwr(context);
                }
            }
            Phase::Cwr { high, prr } => {
                if self.board.lost() > 0 {
                    // The reduction is under way already; the losses only add retransmissions.
                    self.recovery.phase = Phase::Recovery { high: self.snd_nxt, prr };
                    self.recovery.undo = None;
                } else if self.snd_una.ge(high) {
                    self.congestion.end_reduction(self.congestion.cwnd());
                    self.recovery.phase = Phase::Open;
                }
            }
            Phase::Recovery { high, .. } => self.advance_recovery(context, high),
            Phase::Loss { high, frto } => self.advance_loss(config, context, high, frto),
        }
    }

    /// Starts fast recovery with `flight` bytes in the network before the loss was seen.
    pub(super) fn begin_recovery(&mut self, flight: u32) {
        self.remember_for_undo(self.snd_una);
        self.congestion.on_congestion();
        self.recovery.phase = Phase::Recovery { high: self.snd_nxt, prr: Prr::new(flight) };
        self.probe = None;
    }

    fn enter_cwr(&mut self, context: &Context) {
        self.recovery.undo = None;
        self.congestion.on_congestion();
        self.cwr_pending = true;
        self.recovery.phase = Phase::Cwr { high: self.snd_nxt, prr: Prr::new(context.prior_in_flight) };
    }

    /// Keeps what an undo restores; nested reductions keep the first.
    pub(super) fn remember_for_undo(&mut self, marker: SeqNum) {
        let (cwnd, ssthresh) = (self.congestion.cwnd(), self.congestion.ssthresh());
        self.recovery.remember(marker, cwnd, ssthresh, self.board.retransmitted());
    }

    fn advance_recovery(&mut self, context: &Context, high: SeqNum) {
        let advanced = context.delivered.acked > 0;
        if advanced && self.recovery.is_eifel(context.input.echo) || self.recovery.is_all_reported() {
            return self.undo();
        }
        if self.snd_una.lt(high) {
            return;
        }
        self.congestion.end_reduction(u32::MAX);
        self.end_recovery(context);
    }

    fn advance_loss(&mut self, config: &Config, context: &Context, high: SeqNum, frto: Frto) {
        let advanced = context.delivered.acked > 0;
        if advanced && self.recovery.is_eifel(context.input.echo) {
            return self.undo();
        }
        if frto != Frto::Off {
            // RFC 5682 section 3.1 step 3b: never retransmitted data was acknowledged, so the timeout was spurious.
            // Without SACK, data that a retransmission has let through proves nothing.
            let Delivered { original, was_lost, retransmission, .. } = context.delivered;
            let is_certain = original && (self.has_sack || !retransmission);
            if is_certain && was_lost > 0 || self.is_frto_proof(context, frto) {
                return self.undo();
            }
            let next = match frto {
                Frto::FirstAck if advanced && self.snd_una.lt(high) && self.unsent_sequence() > 0 => {
                    Frto::SentNew
                }
                _ => Frto::Off,
            };
            self.recovery.phase = Phase::Loss { high, frto: if config.frto { next } else { Frto::Off } };
        }
        if self.recovery.is_all_reported() {
            return self.undo();
        }
        if self.snd_una.ge(high) {
            self.end_recovery(context);
        }
    }

    /// RFC 5682 section 2.1 step 3: the second ACK after the timeout advances over data that was not retransmitted.
    fn is_frto_proof(&self, context: &Context, frto: Frto) -> bool {
        frto == Frto::SentNew && context.delivered.acked > 0 && context.delivered.original
    }

    /// The reduction was a mistake: RFC 4015 and Linux restore the window and forget the loss marks.
    fn undo(&mut self) {
        self.board.forget_losses();
        if let Some(Undo { cwnd, ssthresh, .. }) = self.recovery.undo {
            self.congestion.undo(cwnd, ssthresh);
            self.counters.undos += 1;
        }
        self.recovery.undo = None;
        self.leave_recovery();
    }

    /// What the recovery was for is repaired. What was sent since it began and is lost too, sent again or not, is a
    /// congestion of its own (RFC 5681 section 3.2, RFC 6675 section 5): the next recovery begins with the same ACK, as in
    /// Linux, so that BBR sees no moment without losses in between.
    fn end_recovery(&mut self, context: &Context) {
        self.leave_recovery();
        if self.board.lost() + self.board.retransmitted() > 0 {
            self.begin_recovery(context.prior_in_flight);
        }
    }

    fn leave_recovery(&mut self) {
        self.recovery.phase = Phase::Open;
        self.recovery.dup_acks = 0;
        self.rack.on_recovery_end();
    }
}
