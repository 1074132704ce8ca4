//! The fast paths of a sender to which nothing out of the ordinary has happened. `ack.rs` and `transmit.rs` do the same in
//! general; what does not meet the preconditions here goes there.
//!
//! An acknowledgment is *calm* if
//! - it acknowledges something new, without SACK blocks and without an ECN echo;
//! - of what is in flight nothing is selectively acknowledged, lost or sent again, and no loss probe or probe of the path is out;
//! - no recovery is under way, and none is left to be undone;
//! - the window was not closed (no zero-window probe is pending);
//! - the congestion control is one that sees nothing but acknowledgments.
//!
//! Then there are no losses to detect and no phases to go through: what is left is to measure and to open the window.
//!
//! A transmission is the *last* one if all that was never sent is at most a segment, fits both windows and may go at once:
//! nothing is lost, no probe and no FIN is due, nothing is paced, neither Nagle's algorithm nor a cork holds it back, and
//! the congestion window is not to be reduced after a pause.

use super::super::config::Config;
use super::super::congestion::AckedData;
use super::super::scoreboard::{Delivered, Record};
use super::super::segment::Payload;
use super::ack::{AckInput, AckReport};
use super::{Sender, SenderTimer, TransmitLimits};
use crate::hint::{likely, unlikely};
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;

impl Sender {
    /// The preconditions.
    #[inline]
    pub(super) fn is_calm(&self, input: &AckInput) -> bool {
        likely(input.ack.gt(self.snd_una))
            && likely(input.sack.is_empty())
            && likely(!input.has_ecn_echo)
            && likely(self.board.is_untroubled())
            && likely(self.probe.is_none())
            && likely(!self.is_mtu_probing())
            && likely(self.recovery.is_open())
            && likely(self.recovery.undo.is_none())
            && likely(!matches!(self.timer, Some((SenderTimer::Persist, _))))
            && likely(!self.congestion.is_autonomous())
    }

    /// Processes it.
    pub(super) fn on_calm_ack(&mut self, config: &Config, input: AckInput) -> AckReport {
        let AckInput { now, ack, .. } = input;
        self.update_peer_window(&input);
        let only = self.board.take_only(ack);
        let mut delivered = Delivered::default();
        if only.is_none() {
            self.board.on_ack(ack, &mut delivered);
        }
        let acked = only.as_ref().map_or(delivered.acked, Record::len);
        self.snd_una = ack;
        self.snd_up = self.snd_up.max(ack);
        self.queue.advance(ack);
        self.forced = None;
        let round_ended = ack.gt(self.round_end);
        if round_ended {
            self.round_end = self.snd_nxt;
        }
        let rtt = match &only {
            Some(record) => Some(self.measure_only(now, record)),
            None => self.measure_calm(now, &delivered, ack),
        };
        self.recovery.timeouts = 0;
        self.recovery.dup_acks = if self.has_sack { self.recovery.dup_acks } else { 0 };
        self.stalled_since = None;
        self.window_probes = 0;
        self.counters.bytes_acked += u64::from(acked);
        if acked > 0 && self.is_window_limited() {
            let srtt = self.rtt.srtt().unwrap_or_default();
            // Nothing was selectively acknowledged before.
            let (bytes, rtt) = (acked, rtt.map(Duration::from_nanos));
            self.congestion.on_ack(&AckedData { now, bytes, rtt, srtt, round_ended });
        }
        self.update_pacing();
        self.largest_flight = self.largest_flight.max(self.congestion.cwnd().min(self.snd_wnd));
        if self.board.is_empty() {
            self.timer = None;
        } else if acked > 0 || self.timer.is_none() {
            self.arm(config, now);
        }
        AckReport { acked }
    }

    /// The samples of an acknowledgment that covers one transmission to its end. The round-trip time is in nanoseconds.
    #[inline]
    fn measure_only(&mut self, now: Instant, record: &Record) -> u64 {
        let nanos = now.nanos_since(record.sent_at);
        self.rtt.on_sample_ns(now, nanos);
        self.rtt.set_backoff(0);
        self.rack.on_delivered_once(now, record.sent_at, record.end);
        if let Some(sample) = self.board.measure_rate_of(now, record, self.rtt.min_rtt_ns()) {
            self.delivery_rate = sample.rate();
        }
        nanos
    }

    /// The samples of an acknowledgment that covers nothing but first transmissions.
    #[inline]
    fn measure_calm(&mut self, now: Instant, delivered: &Delivered, ack: SeqNum) -> Option<u64> {
        let sent_at = delivered.rtt_from()?;
        let nanos = now.nanos_since(sent_at);
        self.rtt.on_sample_ns(now, nanos);
        self.rtt.set_backoff(0);
        let min_rtt = self.rtt.min_rtt_ns();
        self.rack.on_delivered(now, delivered, ack, min_rtt, false);
        if let Some(sample) = self.board.measure_rate(now, delivered, min_rtt) {
            self.delivery_rate = sample.rate();
        }
        Some(nanos)
    }

    /// Gives the rest of the queue as the next transmission, if that is the last one.
    #[inline]
    pub(in super::super) fn poll_last(
        &mut self,
        config: &Config,
        now: Instant,
        limits: &TransmitLimits,
    ) -> Option<(SeqNum, Payload)> {
        let unsent = self.not_sent();
        if unsent == 0 || !self.may_send_last(config, now, unsent, limits) {
            return None;
        }
        let start = self.send_last(config, now, unsent, limits.segment);
        Some((start, self.queue.range(start, unsent)))
    }

    /// Whether `unsent` bytes, all that was never sent, may go at once as the last transmission.
    #[inline]
    pub(in super::super) fn may_send_last(
        &self,
        config: &Config,
        now: Instant,
        unsent: u32,
        limits: &TransmitLimits,
    ) -> bool {
        let may_go = likely(unsent <= limits.segment)
            && likely(unsent <= self.window_room())
            && likely(self.forced.is_none())
            && likely(self.board.lost() == 0)
            && likely(self.recovery.is_open())
            && likely(self.pacing.is_none())
            && likely(!self.has_fin)
            && likely(!self.cwr_pending);
        if !may_go || unlikely(unsent > self.cwnd_room()) {
            return false;
        }
        let is_idle = self.board.is_empty();
        if unsent < limits.segment
            && (limits.cork || !limits.no_delay && !is_idle && self.small_end.gt(self.snd_una))
        {
            return false;
        }
        !is_idle || !(self.congestion.is_autonomous() || self.is_restart_due(config, now))
    }

    /// Notes that they are sent; returns where they start.
    #[inline]
    pub(in super::super) fn send_last(
        &mut self,
        config: &Config,
        now: Instant,
        unsent: u32,
        segment: u32,
    ) -> SeqNum {
        let start = self.snd_nxt;
        let end = start + unsent;
        if unsent < segment {
            self.small_end = end;
        }
        self.snd_nxt = end;
        self.board.on_sent(start, end, now);
        self.account(config, now, unsent);
        self.note_usage();
        start
    }
}

#[cfg(test)]
#[path = "calm_tests.rs"]
mod tests;
