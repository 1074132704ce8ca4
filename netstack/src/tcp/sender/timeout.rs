//! The sender's one timer: retransmission (RFC 6298), tail loss probe and reordering (RFC 8985), zero-window probe
//! (RFC 9293 section 3.8.6.1). At most one of them is ever needed.

use super::super::config::Config;
use super::super::prr::PrrAck;
use super::super::rack::RackContext;
use super::super::recovery::{Frto, Phase};
use super::super::scoreboard::Fate;
use super::ack::MIN_TIMEOUT;
use super::{Forced, Sender};
use crate::hint::{likely, unlikely};
use crate::time::{Instant, nanos_of};
use core::time::Duration;

/// What the timer stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum SenderTimer {
    /// The retransmission timeout.
    Retransmit,
    /// A tail loss probe.
    LossProbe,
    /// The reordering window of RACK closes.
    Reorder,
    /// A zero-window probe.
    Persist,
}

/// When to give a silent peer up.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct GiveUp {
    /// The user's limit on the time that data may stay unacknowledged (RFC 5482).
    pub(in super::super) user_timeout: Option<Duration>,
    /// Otherwise: after this many timeouts, expressed as the time that their exponential backoff takes.
    pub(in super::super) retries: u32,
}

impl GiveUp {
    /// Cuts `wait` so that the user's limit is noticed when it comes (Linux's `tcp_clamp_rto_to_user_timeout`).
    fn bounded(&self, wait: Duration, stalled: Duration) -> Duration {
        match self.user_timeout {
            Some(limit) => wait.min(limit.saturating_sub(stalled).max(MIN_TIMEOUT)),
            None => wait,
        }
    }
}

impl Sender {
    /// When the timer is due.
    pub(in super::super) fn deadline(&self) -> Option<Instant> {
        let timer = self.timer.map(|(_, at)| at);
        match self.pacing.as_ref().and_then(|pacing| pacing.deadline()) {
            Some(release) => Some(timer.map_or(release, |timer| timer.min(release))),
            None => timer,
        }
    }

    /// Which timer is running.
    pub(in super::super) fn timer(&self) -> Option<SenderTimer> {
        self.timer.map(|(kind, _)| kind)
    }

    /// Arms the timer for data in flight: a tail loss probe if one may help, otherwise the retransmission timeout.
    #[inline]
    pub(super) fn arm(&mut self, config: &Config, now: Instant) {
        let rto = self.rtt.rto_ns(config);
        self.timer = Some(match self.probe_timeout_ns(config) {
            // RFC 8985 section 7.2: "If (the RTO would fire earlier): PTO = TCP_RTO_expiration() - now". The probe takes its
            // place: a tail that is lost does not collapse the window at once.
            Some(timeout) => (SenderTimer::LossProbe, now.plus_nanos(timeout.min(rto))),
            None => (SenderTimer::Retransmit, now.plus_nanos(rto)),
        });
    }

    /// RFC 8985 section 7.2: the time in nanoseconds after which a probe is worth sending; `None` if it may not be.
    fn probe_timeout_ns(&self, config: &Config) -> Option<u64> {
        let may_probe = config.tail_loss_probe
            && self.has_sack
            && likely(self.recovery.is_open())
            && likely(self.board.sacked() == 0)
            && likely(self.probe.is_none())
            && likely(self.rtt.backoff() == 0);
        let srtt = self.rtt.srtt_ns();
        if !may_probe || unlikely(srtt == 0) {
            return None;
        }
        // "If the flight size is one segment, PTO += WCDelAckT": the receiver may delay its only ACK.
        let slack = if self.board.total() <= self.mss() { config.rto_min } else { MIN_TIMEOUT };
        Some(probe_wait_ns(srtt, slack))
    }

    /// Arms the zero-window probe; `poll_data` found data that the peer's window does not admit.
    pub(super) fn arm_persist(&mut self, config: &Config, now: Instant) {
        if self.timer.is_none() {
            let wait = self.rtt.rto(config).max(RTO_BASE);
            self.timer = Some((SenderTimer::Persist, now + wait));
        }
    }

    /// Runs the timer if it is due. Returns whether the peer is to be given up.
    pub(in super::super) fn on_timer(&mut self, config: &Config, now: Instant, give_up: GiveUp) -> bool {
        if let Some(pacing) = &mut self.pacing {
            pacing.on_timer(now);
        }
        let Some((kind, at)) = self.timer else { return false };
        if now < at {
            return false;
        }
        self.timer = None;
        match kind {
            SenderTimer::Retransmit => return self.on_retransmit_timeout(config, now, give_up),
            SenderTimer::Persist => return self.on_persist(config, now, give_up),
            SenderTimer::LossProbe => {
                self.forced = Some(Forced::LossProbe);
                self.timer = Some((SenderTimer::Retransmit, now + self.rtt.rto(config)));
            }
            SenderTimer::Reorder => self.on_reorder_timeout(config, now),
        }
        false
    }

    fn on_retransmit_timeout(&mut self, config: &Config, now: Instant, give_up: GiveUp) -> bool {
        if self.board.is_empty() {
            return false;
        }
        // Linux counts from the first retransmission (retransmits_timed_out).
        let since = *self.stalled_since.get_or_insert(now);
        if self.is_hopeless(config, now - since, give_up) {
            return true;
        }
        if now - since >= backoff_time(config, BLACK_HOLE_RETRIES) {
            // Nothing has come through for several timeouts. Perhaps the segments are too large.
            self.suspect_black_hole(config, now);
        }
        self.enter_loss(config, now);
        self.recovery.timeouts = self.recovery.timeouts.saturating_add(1);
        if config.thin_linear_timeouts && self.is_thin() && self.recovery.timeouts <= THIN_LINEAR_RETRIES {
            self.rtt.set_backoff(0);
        } else {
            self.rtt.back_off();
        }
        let wait = give_up.bounded(self.rtt.rto(config), now - since);
        self.timer = Some((SenderTimer::Retransmit, now + wait));
        false
    }

    /// Linux's `tcp_stream_is_thin`: so little is in flight that there are never enough duplicate ACKs, and it is not
    /// because the connection has only begun.
    fn is_thin(&self) -> bool {
        self.board.total() < 4 * self.mss() && self.congestion.ssthresh() != u32::MAX
    }

    /// RFC 5681 section 3.1, RFC 6298 section 5.4, RFC 8985 section 6.3.
    fn enter_loss(&mut self, config: &Config, now: Instant) {
        // The peer has dropped what it had selectively acknowledged if the first record is one of those.
        if self.board.first().is_some_and(|record| record.fate == Fate::Sacked) {
            self.board.forget_sacks();
        }
        // A repeated timeout of the same data reduces once: "ssthresh ... is held constant".
        let is_new = match self.recovery.phase {
            Phase::Open | Phase::Cwr { .. } => true,
            Phase::Recovery { high, .. } => self.snd_una.ge(high) || self.recovery.timeouts == 0,
            Phase::Loss { high, .. } => self.snd_una.ge(high),
        };
        if is_new {
            self.remember_for_undo(self.snd_una);
            self.congestion.on_congestion();
        }
        let first = self.snd_una;
        let rack = &self.rack;
        self.board.mark_lost(
            |record| record.start == first || !config.rack || !rack.is_recent(record.sent_at, now),
            |_| false,
        );
        self.congestion.on_timeout(self.board.in_flight());
        let frto = if config.frto && is_new { Frto::FirstAck } else { Frto::Off };
        self.recovery.phase = Phase::Loss { high: self.snd_nxt, frto };
        self.probe = None;
    }

    fn on_reorder_timeout(&mut self, config: &Config, now: Instant) {
        let context = RackContext {
            now,
            srtt: self.rtt.srtt().unwrap_or(config.rto_initial),
            min_rtt: self.rtt.min_rtt().unwrap_or_default(),
            is_recovering: self.recovery.is_recovering(),
            dup_thresh_bytes: u32::from(config.reordering).saturating_mul(self.mss()),
        };
        let in_flight = self.board.in_flight();
        let wait = self.rack.detect(&mut self.board, &context);
        if self.board.lost() > 0 && !self.recovery.is_recovering() {
            self.begin_recovery(in_flight);
            self.reduce_for_one_delivery();
        }
        match wait {
            Some(wait) => self.timer = Some((SenderTimer::Reorder, now + wait.max(MIN_TIMEOUT))),
            None => self.timer = Some((SenderTimer::Retransmit, now + self.rtt.rto(config))),
        }
    }

    /// Linux's `tcp_rack_reo_timeout`: what was delivered out of order pays for one retransmission, not for a burst.
    fn reduce_for_one_delivery(&mut self) {
        let (in_flight, mss, ssthresh) = (self.board.in_flight(), self.mss(), self.congestion.ssthresh());
        if let Phase::Recovery { prr, .. } = &mut self.recovery.phase {
            let cwnd = prr.on_ack(&PrrAck { delivered: mss, in_flight, ssthresh, mss, is_safe: false });
            self.congestion.set_cwnd(cwnd);
        }
    }

    fn on_persist(&mut self, config: &Config, now: Instant, give_up: GiveUp) -> bool {
        if !self.board.is_empty() || self.unsent_sequence() == 0 {
            return false;
        }
        let since = *self.stalled_since.get_or_insert(now);
        // A peer that answers its probes with a closed window may do so for ever (RFC 9293 section 3.8.6.1): only
        // unanswered ones count, except against the user's own limit.
        let is_over_user_limit = give_up.user_timeout.is_some_and(|limit| now - since >= limit);
        if self.window_probes > give_up.retries || is_over_user_limit {
            return true;
        }
        self.window_probes += 1;
        self.rtt.back_off();
        self.forced = Some(Forced::WindowProbe);
        let wait = give_up.bounded(self.rtt.rto(config).max(RTO_BASE), now - since);
        self.timer = Some((SenderTimer::Persist, now + wait));
        false
    }

    /// Whether `stalled` without an answer is too long. RFC 1122 section 4.2.3.5: R2 as a time; Linux's formula.
    fn is_hopeless(&self, config: &Config, stalled: Duration, give_up: GiveUp) -> bool {
        if let Some(limit) = give_up.user_timeout {
            return stalled >= limit && self.recovery.timeouts > 0;
        }
        self.recovery.timeouts > 0 && stalled >= backoff_time(config, give_up.retries)
    }
}

/// Linux's `TCP_RTO_MIN`: what limits on a number of retransmissions are counted in, and the least wait for a window,
/// whatever the smallest RTO is set to.
const RTO_BASE: Duration = Duration::from_millis(200);

/// Linux's `TCP_THIN_LINEAR_RETRIES`.
const THIN_LINEAR_RETRIES: u32 = 6;

/// Linux's `tcp_retries1` (RFC 1122 section 4.2.3.5: R1).
const BLACK_HOLE_RETRIES: u32 = 3;

/// "PTO = 2 * SRTT" and some slack.
pub(super) fn probe_wait_ns(srtt: u64, slack: Duration) -> u64 {
    srtt.saturating_mul(2).saturating_add(nanos_of(slack))
}

/// How long `retries` retransmissions and the wait after the last one take with exponential backoff from the smallest RTO.
fn backoff_time(config: &Config, retries: u32) -> Duration {
    let mut total = Duration::ZERO;
    let mut rto = RTO_BASE;
    for _ in 0..=retries.min(255) {
        total += rto;
        rto = (rto * 2).min(config.rto_max);
    }
    total
}
