//! RACK: loss detection by time (RFC 8985 section 6).

use super::scoreboard::{Delivered, Scoreboard, is_sent_after};
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;

/// The state of RACK for one connection (RFC 8985 section 5.3).
#[derive(Clone, Debug)]
pub(super) struct Rack {
    /// RACK.segment: the most recently sent segment that is known to be delivered, with its RTT.
    latest: Option<Latest>,
    /// RACK.fack: the highest sequence number known to be delivered.
    fack: SeqNum,
    is_reordering_seen: bool,
    /// RACK.reo_wnd_mult.
    window_steps: u32,
    /// RACK.reo_wnd_persist: recoveries until the window goes back to one step.
    persist: u8,
    /// RACK.dsack_round: the window grows at most once per round trip.
    dsack_round: Option<SeqNum>,
}

#[derive(Clone, Copy, Debug)]
struct Latest {
    sent_at: Instant,
    end: SeqNum,
    /// Nanoseconds: a `Duration` is twice as large.
    rtt_ns: u64,
}

/// What RACK needs to know of the connection to detect losses.
#[derive(Clone, Copy, Debug)]
pub(super) struct RackContext {
    pub(super) now: Instant,
    pub(super) srtt: Duration,
    pub(super) min_rtt: Duration,
    /// In fast recovery or after a timeout.
    pub(super) is_recovering: bool,
    /// The bytes of `DupThresh` segments.
    pub(super) dup_thresh_bytes: u32,
}

impl Latest {
    fn rtt(&self) -> Duration {
        Duration::from_nanos(self.rtt_ns)
    }
}

impl Rack {
    pub(super) fn new(snd_una: SeqNum) -> Self {
        Self {
            latest: None,
            fack: snd_una,
            is_reordering_seen: false,
            window_steps: 1,
            persist: 0,
            dsack_round: None,
        }
    }

    /// RFC 8985 section 6.2 steps 1 to 3: takes what an ACK delivered. `is_echo_old` says that the ACK's timestamp echo
    /// is older than the last retransmission, which makes it the answer to the original.
    pub(super) fn on_delivered(
        &mut self,
        now: Instant,
        delivered: &Delivered,
        una: SeqNum,
        min_rtt_ns: Option<u64>,
        is_echo_old: bool,
    ) {
        // Step 3: a never retransmitted segment delivered below one that was delivered before.
        if let Some(end) = delivered.lowest_original_end
            && end.lt(self.fack)
        {
            self.is_reordering_seen = true;
        }
        let Some((sent_at, end, is_retransmission)) = delivered.newest else { return };
        self.fack = self.fack.max(end).max(una);
        let rtt_ns = now.nanos_since(sent_at);
        // Step 2: "If the ACK is likely for the original transmission, ignore it".
        if is_retransmission && (is_echo_old || min_rtt_ns.is_some_and(|min| rtt_ns < min)) {
            return;
        }
        if self.latest.is_none_or(|latest| is_sent_after((sent_at, end), (latest.sent_at, latest.end))) {
            self.latest = Some(Latest { sent_at, end, rtt_ns });
        }
    }

    /// The same for one transmission, never repeated, that an ACK covers to its end.
    #[inline]
    pub(super) fn on_delivered_once(&mut self, now: Instant, sent_at: Instant, end: SeqNum) {
        if end.lt(self.fack) {
            self.is_reordering_seen = true;
        }
        self.fack = self.fack.max(end);
        if self.latest.is_none_or(|latest| is_sent_after((sent_at, end), (latest.sent_at, latest.end))) {
            self.latest = Some(Latest { sent_at, end, rtt_ns: now.nanos_since(sent_at) });
        }
    }

    /// RFC 8985 section 6.2 step 4: a DSACK says that the window was too small; widen it once per round trip.
    pub(super) fn on_dsack(&mut self, una: SeqNum, snd_nxt: SeqNum) {
        if self.dsack_round.is_some_and(|round| una.lt(round)) {
            return;
        }
        self.dsack_round = Some(snd_nxt);
        self.window_steps = self.window_steps.saturating_add(1);
        self.persist = PERSIST;
        self.is_reordering_seen = true;
    }

    /// A recovery has ended: after enough of them without DSACK the window shrinks again.
    pub(super) fn on_recovery_end(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.window_steps = 1;
        }
    }

    /// RFC 8985 section 6.2 step 5: marks what was sent sufficiently long before the latest delivered segment. Returns
    /// after how long to look again, if some records may yet turn out lost.
    pub(super) fn detect(&self, board: &mut Scoreboard, context: &RackContext) -> Option<Duration> {
        let latest = self.latest?;
        // Without anything delivered out of order there is no evidence: everything left was sent later.
        if board.sacked() == 0 && board.retransmitted() == 0 {
            return None;
        }
        let patience = latest.rtt() + self.reorder_window(board, context);
        let mut wait = Duration::ZERO;
        board.mark_lost(
            |record| {
                if !is_sent_after((latest.sent_at, latest.end), (record.sent_at, record.end)) {
                    return false;
                }
                let expires = record.sent_at + patience;
                let is_lost = expires <= context.now;
                if !is_lost {
                    wait = wait.max(expires - context.now);
                }
                is_lost
            },
            // Originals further up were all sent later.
            |record| !record.is_retransmission && record.sent_at > latest.sent_at,
        );
        (wait > Duration::ZERO).then_some(wait)
    }

    /// Whether a record sent at `sent_at` would be overdue at `now` by the latest RTT (used on a timeout, so as not to
    /// mark what was sent just now).
    pub(super) fn is_recent(&self, sent_at: Instant, now: Instant) -> bool {
        self.latest.is_some_and(|latest| now < sent_at + latest.rtt())
    }

    fn reorder_window(&self, board: &Scoreboard, context: &RackContext) -> Duration {
        let is_certain = context.is_recovering || board.sacked() >= context.dup_thresh_bytes;
        if !self.is_reordering_seen && is_certain {
            return Duration::ZERO;
        }
        (context.min_rtt / 4).saturating_mul(self.window_steps).min(context.srtt)
    }
}

/// RFC 8985 section 6.2: "16 loss recoveries".
const PERSIST: u8 = 16;
