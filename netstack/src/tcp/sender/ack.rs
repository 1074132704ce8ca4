//! Acknowledgments: what they deliver, what they say about losses, and what the window becomes.

use super::super::config::Config;
use super::super::congestion::AckedData;
use super::super::prr::{Prr, PrrAck};
use super::super::rack::RackContext;
use super::super::recovery::{Frto, Phase, Undo};
use super::super::scoreboard::{Delivered, Fate};
use super::{LossProbe, Sender, SenderTimer};
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, SackBlocks};

/// The parts of an acceptable segment that concern the sender.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct AckInput {
    pub(in super::super) now: Instant,
    pub(in super::super) seq: SeqNum,
    pub(in super::super) ack: SeqNum,
    /// The window, scaled.
    pub(in super::super) window: u32,
    pub(in super::super) sack: SackBlocks,
    /// The timestamp echo, where there is a valid one.
    pub(in super::super) echo: Option<u32>,
    /// ECE is set.
    pub(in super::super) has_ecn_echo: bool,
    /// The segment carries data or FIN, so it is no duplicate ACK (RFC 5681 section 2).
    pub(in super::super) has_payload: bool,
}

/// What an acknowledgment did.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct AckReport {
    /// Sequence space newly acknowledged.
    pub(in super::super) acked: u32,
}

/// What the steps of one acknowledgment share.
struct Context {
    input: AckInput,
    delivered: Delivered,
    prior_in_flight: u32,
    prior_lost: u32,
    has_dsack: bool,
    is_duplicate: bool,
    round_ended: bool,
    rtt: Option<Duration>,
}

impl Sender {
    /// Processes an acknowledgment with SND.UNA <= SEG.ACK <= SND.NXT.
    pub(in super::super) fn on_ack(&mut self, config: &Config, input: AckInput) -> AckReport {
        let mut context = self.take_delivery(input);
        let acked = context.delivered.acked;
        self.measure(&mut context);
        if acked > 0 {
            self.recovery.timeouts = 0;
            self.stalled_since = None;
            self.counters.bytes_acked += u64::from(acked);
        }
        if context.rtt.is_some() {
            // RFC 6298 section 5.7 and Karn: the backed-off timeout stays until there is a new sample.
            self.rtt.set_backoff(0);
        }
        if acked > 0 || self.board.is_empty() {
            self.window_probes = 0;
        }
        let wait = self.detect_losses(config, &context);
        self.close_probe(&context);
        self.advance_phase(config, &context);
        self.update_window(&context);
        self.rearm(config, &context, wait);
        AckReport { acked }
    }

    /// Applies an old acknowledgment (below SND.UNA): only its SACK blocks may be news.
    pub(in super::super) fn on_old_ack(&mut self, config: &Config, input: AckInput) {
        if self.has_sack && !input.sack.is_empty() {
            let ack = self.snd_una;
            self.on_ack(config, AckInput { ack, window: self.snd_wnd, seq: self.snd_wl1, ..input });
        }
    }

    /// Applies the cumulative part, the SACK blocks and the window.
    fn take_delivery(&mut self, input: AckInput) -> Context {
        let prior_una = self.snd_una;
        let prior_in_flight = self.board.in_flight();
        let prior_lost = self.board.lost();
        let mut delivered = Delivered::default();
        let window_changed = self.update_peer_window(&input);
        let has_dsack = self.has_sack && self.take_sack(&input, &mut delivered);
        if input.ack.gt(prior_una) {
            self.board.on_ack(input.ack, &mut delivered);
            self.snd_una = input.ack;
            self.queue.advance(input.ack);
            self.forced = None;
        }
        let round_ended = input.ack.gt(self.round_end);
        if round_ended {
            self.round_end = self.snd_nxt;
        }
        let is_duplicate = input.ack == prior_una
            && !input.has_payload
            && !window_changed
            && !self.board.is_empty()
            && delivered.delivered == 0;
        Context {
            input,
            delivered,
            prior_in_flight,
            prior_lost,
            has_dsack,
            is_duplicate,
            round_ended,
            rtt: None,
        }
    }

    /// RFC 9293 section 3.10.7.4: takes the window of a segment that is not older than the last one that gave one.
    fn update_peer_window(&mut self, input: &AckInput) -> bool {
        let is_newer = input.ack.gt(self.snd_una)
            || input.seq.gt(self.snd_wl1)
            || input.seq == self.snd_wl1 && input.window > self.snd_wnd;
        if !is_newer {
            return false;
        }
        self.snd_wl1 = input.seq;
        let changed = input.window != self.snd_wnd;
        self.snd_wnd = input.window;
        self.max_wnd = self.max_wnd.max(input.window);
        changed
    }

    /// Enters the SACK blocks; returns whether the first one is a DSACK (RFC 2883 section 4).
    fn take_sack(&mut self, input: &AckInput, delivered: &mut Delivered) -> bool {
        let blocks = input.sack.as_slice();
        let Some((&first, others)) = blocks.split_first() else { return false };
        let is_inside = |outer: &SackBlock| first.start.ge(outer.start) && first.end.le(outer.end);
        let has_dsack = first.start.lt(first.end)
            && (first.start.lt(input.ack) && first.end.le(input.ack) || others.first().is_some_and(is_inside))
            // Too old to be about anything in this flight: cannot be trusted (RFC 2883 section 5).
            && first.end.distance_from(self.snd_una).unsigned_abs() <= self.max_wnd.max(1 << 16);
        if has_dsack {
            self.counters.dsacks += 1;
            self.recovery.on_dsack(first.start, first.end - first.start);
            self.rack.on_dsack(input.ack, self.snd_nxt);
        }
        let skip = usize::from(has_dsack);
        for block in &blocks[skip..] {
            // RFC 2018 section 8 leaves the sanity checks to us: a block must lie within what was sent.
            if block.start.lt(block.end) && block.end.le(self.snd_nxt) && block.end.gt(self.snd_una) {
                self.board.on_sack(*block, delivered);
            }
        }
        has_dsack
    }

    /// Takes round-trip samples for the RTO and RACK.
    fn measure(&mut self, context: &mut Context) {
        let Context { input, delivered, .. } = context;
        let now = input.now;
        let rtt = match delivered.rtt_from() {
            Some(sent_at) => Some(now - sent_at),
            // RFC 7323 section 4: a timestamp measures retransmissions as well, to the millisecond.
            None if delivered.acked > 0 => {
                let elapsed = input.echo.map(|echo| self.timestamp(now).wrapping_sub(echo));
                elapsed
                    .filter(|&ms| ms < MAX_ECHO_AGE_MS)
                    .map(|ms| Duration::from_millis(u64::from(ms.max(1))))
            }
            None => None,
        };
        if let Some(rtt) = rtt {
            self.rtt.on_sample(now, rtt);
        }
        context.rtt = rtt;
        let is_echo_old = self.recovery.is_eifel(input.echo);
        self.rack.on_delivered(now, delivered, input.ack, self.rtt.min_rtt(), is_echo_old);
    }

    /// Marks what this acknowledgment shows to be lost; returns when to look again.
    fn detect_losses(&mut self, config: &Config, context: &Context) -> Option<Duration> {
        let now = context.input.now;
        let mss = self.mss();
        if !self.has_sack {
            self.count_duplicates(config, context);
            return None;
        }
        // SACK reneging: the cumulative ACK stops right before what had been selectively acknowledged (RFC 2018 section 8).
        // Only a timeout acts on it (section 8: "MUST turn off all of the SACKed bits" then).
        if !config.rack {
            let threshold = u32::from(config.reordering).saturating_sub(1).saturating_mul(mss);
            self.mark_by_rfc6675(threshold);
            return None;
        }
        let rack = RackContext {
            now,
            srtt: self.rtt.srtt().unwrap_or(config.rto_initial),
            min_rtt: self.rtt.min_rtt().unwrap_or_default(),
            is_recovering: self.recovery.is_recovering(),
            dup_thresh_bytes: u32::from(config.reordering).saturating_mul(mss),
        };
        self.rack.detect(&mut self.board, &rack)
    }

    /// RFC 6675 section 4, IsLost: more than (DupThresh - 1) * SMSS bytes above it have been selectively acknowledged.
    fn mark_by_rfc6675(&mut self, threshold: u32) {
        let mut above = 0;
        let mut limit = None;
        for record in self.board.iter().rev() {
            if above > threshold {
                limit = Some(record.end);
                break;
            }
            if record.fate == Fate::Sacked {
                above += record.end - record.start;
            }
        }
        if let Some(limit) = limit {
            self.board.mark_lost(|record| !record.is_retransmission, |record| record.start.ge(limit));
        }
    }

    /// Without SACK: the third duplicate marks the first segment, a partial acknowledgment the next (RFC 6582).
    fn count_duplicates(&mut self, config: &Config, context: &Context) {
        let mss = self.mss();
        if context.delivered.acked > 0 {
            self.recovery.dup_acks = 0;
            let is_partial = match self.recovery.phase {
                Phase::Recovery { high, .. } => self.snd_una.lt(high),
                _ => false,
            };
            if is_partial && self.board.first().is_some_and(|first| !first.is_retransmission) {
                self.board.mark_head_lost(mss);
            }
        } else if context.is_duplicate {
            self.recovery.dup_acks = self.recovery.dup_acks.saturating_add(1);
            if self.recovery.dup_acks == u32::from(config.reordering) && self.recovery.is_open() {
                self.board.mark_head_lost(mss);
            }
        }
    }

    /// RFC 8985 section 7.4: what the acknowledgment says about the tail loss probe.
    fn close_probe(&mut self, context: &Context) {
        let Some(LossProbe { end, is_retransmission }) = self.probe else { return };
        let ack = context.input.ack;
        if ack.lt(end) {
            return;
        }
        let was_needless = !is_retransmission || context.has_dsack || context.is_duplicate;
        if was_needless {
            self.probe = None;
        } else if ack.gt(end) {
            // The probe repaired a loss, which deserves a reduction.
            self.probe = None;
            if self.recovery.is_open() {
                self.congestion.on_congestion();
                self.congestion.set_cwnd(self.congestion.ssthresh().min(self.congestion.cwnd()));
            }
        }
    }

    /// Moves through the phases of recovery.
    fn advance_phase(&mut self, config: &Config, context: &Context) {
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
                    self.congestion.set_cwnd(self.congestion.ssthresh().min(self.congestion.cwnd()));
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
        self.congestion.set_cwnd(self.congestion.ssthresh());
        self.leave_recovery();
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
            self.leave_recovery();
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

    fn leave_recovery(&mut self) {
        self.recovery.phase = Phase::Open;
        self.recovery.dup_acks = 0;
        self.rack.on_recovery_end();
    }

    /// Sets the congestion window.
    fn update_window(&mut self, context: &Context) {
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

    /// Whether the window may grow: it is what has limited us lately (RFC 9438 section 5.8; Linux's rule for slow start).
    fn is_window_limited(&self) -> bool {
        if self.usage.is_limited {
            return true;
        }
        let window = self.congestion.window();
        window.is_slow_start() && window.cwnd < self.usage.max_in_flight.saturating_mul(2)
    }

    /// Sets the timer after an acknowledgment.
    fn rearm(&mut self, config: &Config, context: &Context, wait: Option<Duration>) {
        let now = context.input.now;
        if let Some((SenderTimer::Persist, _)) = self.timer {
            // An answer to a probe proves the peer alive: the backoff goes on, the counting starts anew.
            self.window_probes = 0;
            if self.window_room() > 0 || self.unsent_sequence() == 0 {
                self.timer = None;
                self.rtt.set_backoff(0);
            } else {
                return;
            }
        }
        if self.board.is_empty() {
            self.timer = None;
            return;
        }
        if let Some(wait) = wait {
            let at = now + wait.max(MIN_TIMEOUT);
            self.timer = Some((SenderTimer::Reorder, at));
        } else if context.delivered.delivered > 0 || self.timer.is_none() {
            self.arm(config, now);
        }
    }
}

/// Echoes older than this (2^31 ms would be ambiguous) come from broken peers.
const MAX_ECHO_AGE_MS: u32 = 1 << 22;
/// Linux's `TCP_TIMEOUT_MIN`: no timer below two ticks.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(2);
