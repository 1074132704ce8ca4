//! Acknowledgments: what they deliver and measure, and the timer after them. What they say about losses is in `loss.rs`,
//! where recovery goes in `phase.rs`, what the window becomes in `window.rs`.

use super::super::config::Config;
use super::super::delivery_rate::RateSample;
use super::super::scoreboard::Delivered;
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
pub(super) struct Context {
    pub(super) input: AckInput,
    pub(super) delivered: Delivered,
    pub(super) prior_in_flight: u32,
    pub(super) prior_lost: u32,
    pub(super) has_dsack: bool,
    pub(super) is_duplicate: bool,
    pub(super) round_ended: bool,
    pub(super) rtt: Option<Duration>,
    /// The same, where it comes from the time of sending rather than from a timestamp.
    pub(super) exact_rtt: Option<Duration>,
    pub(super) rate: Option<RateSample>,
}

impl Sender {
    /// Processes an acknowledgment with SND.UNA <= SEG.ACK <= SND.NXT.
    pub(in super::super) fn on_ack(&mut self, config: &Config, input: AckInput) -> AckReport {
        if self.is_calm(&input) {
            return self.on_calm_ack(config, input);
        }
        self.on_any_ack(config, input)
    }

    /// The same without looking for what is usual first.
    #[inline(never)]
    pub(super) fn on_any_ack(&mut self, config: &Config, input: AckInput) -> AckReport {
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
        self.judge_mtu_probe();
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
            self.snd_up = self.snd_up.max(input.ack);
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
            exact_rtt: None,
            rate: None,
        }
    }

    /// RFC 9293 section 3.10.7.4: takes the window of a segment that is not older than the last one that gave one.
    pub(super) fn update_peer_window(&mut self, input: &AckInput) -> bool {
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
        self.counters.dsacks += u64::from(has_dsack);
        // More than was ever sent again is the network's doing and proves nothing (Linux's tcp_dsack_seen).
        let has_dsack = has_dsack && self.counters.dsacks <= self.counters.retransmits;
        if has_dsack {
            self.recovery.on_dsack(first.start, first.end - first.start);
            // RFC 8985 section 7.4: a needless tail loss probe was sent for want of ACKs, not because of reordering.
            if self.probe.is_none_or(|probe| probe.end != first.end) {
                self.rack.on_dsack(input.ack, self.snd_nxt);
            }
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
        context.exact_rtt = delivered.rtt_from().map(|sent_at| now - sent_at);
        let rtt = match context.exact_rtt {
            Some(rtt) => Some(rtt),
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
        self.rack.on_delivered(now, delivered, input.ack, self.rtt.min_rtt_ns(), is_echo_old);
        context.rate = self.board.measure_rate(now, delivered, self.rtt.min_rtt_ns());
        if let Some(sample) = context.rate {
            self.delivery_rate = sample.rate();
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
                self.congestion.end_reduction(self.congestion.cwnd());
            }
        }
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
pub(in super::super) const MAX_ECHO_AGE_MS: u32 = 1 << 22;
/// Linux's `TCP_TIMEOUT_MIN`: no timer below two ticks.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(2);
