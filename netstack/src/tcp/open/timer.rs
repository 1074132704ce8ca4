//! What is due in the synchronised states.

use super::super::common::Common;
use super::super::outcome::{CloseReason, Events};
use super::super::sender::GiveUp;
use super::{Open, Reaction, Synchronised};
use crate::time::Instant;
use core::time::Duration;

impl Open {
    /// The earliest deadline.
    pub(in super::super) fn next_deadline(&self) -> Option<Instant> {
        let Self { snd, rcv, slow_timer, cork_until, release_at, .. } = self;
        let or_never = |deadline: Option<Instant>| deadline.unwrap_or(Instant::FAR_FUTURE);
        let first = or_never(snd.deadline())
            .min(or_never(rcv.policy.deadline()))
            .min(or_never(*slow_timer))
            .min(or_never(*cork_until))
            .min(or_never(*release_at))
            .min(or_never(self.unconfirmed.as_ref().map(|it| it.deadline())));
        (first != Instant::FAR_FUTURE).then_some(first)
    }

    /// Runs what is due at `now`.
    pub(in super::super) fn on_timer(&mut self, common: &Common, now: Instant) -> Reaction {
        if let Some(Err(reason)) = self.unconfirmed.as_mut().map(|it| it.on_timer(common, now)) {
            return Reaction::closed(reason, None);
        }
        let give_up = self.give_up(common);
        if self.snd.on_timer(&common.config, now, give_up) {
            return Reaction::closed(self.timeout_reason(), None);
        }
        self.rcv.policy.on_timer(&common.config, now, self.snd.rtt.rto_ns(&common.config));
        if self.cork_until.is_some_and(|at| at <= now) {
            self.cork_until = None;
            self.is_cork_expired = true;
        }
        if self.release_at.is_some_and(|at| at <= now) {
            self.on_release_timer(now);
        }
        if self.slow_timer.is_some_and(|at| at <= now)
            && let Some(reaction) = self.on_slow_timer(common, now)
        {
            return reaction;
        }
        let events = if self.wants_to_transmit() { Events::TRANSMIT } else { Events::empty() };
        Reaction::stay(events)
    }

    /// Starts or stops keepalive as the options say.
    pub(super) fn arm_keepalive(&mut self, common: &Common, now: Instant) {
        if self.state == Synchronised::FinWait2 && self.is_orphan {
            return;
        }
        self.keepalive_probes = 0;
        self.slow_timer = common.options.keepalive.then(|| now + common.keepalive_idle());
    }

    /// Sees to it that the memory of a busy time does not stay with an idle connection.
    pub(super) fn arm_release(&mut self, now: Instant) {
        if self.release_at.is_none() && (self.snd.has_spare() || self.rcv.queue.has_spare()) {
            self.release_at = Some(now + IDLE_BEFORE_RELEASE);
        }
    }

    fn on_release_timer(&mut self, now: Instant) {
        self.release_at = None;
        let active = self.last_segment_at.max(self.snd.last_sent_at()) + IDLE_BEFORE_RELEASE;
        if active > now {
            self.release_at = Some(active);
            return;
        }
        self.snd.release();
        self.rcv.queue.release();
        self.wants_rest = true;
    }

    /// Bounds an orphan's FIN-WAIT-2; returns whether it may stay at all.
    pub(super) fn arm_fin_wait2(&mut self, common: &Common, now: Instant) -> bool {
        let Some(time) = common.fin_timeout() else { return false };
        self.slow_timer = Some(now + time);
        true
    }

    /// RFC 1122 section 4.2.3.5 (R2) and RFC 5482: when the peer counts as gone.
    fn give_up(&self, common: &Common) -> GiveUp {
        let retries = match (self.is_orphan, common.config.orphan_retries) {
            (false, _) => common.config.retries,
            // Linux: zero means 8.
            (true, 0) => 8,
            (true, retries) => retries,
        };
        GiveUp { user_timeout: common.options.user_timeout, retries: u32::from(retries) }
    }

    /// RFC 1122 section 4.2.3.9: a soft error is what a later timeout reports.
    fn timeout_reason(&self) -> CloseReason {
        self.soft_error.map_or(CloseReason::TimedOut, CloseReason::Unreachable)
    }

    /// Keepalive (RFC 1122 section 4.2.3.6) or the end of FIN-WAIT-2.
    fn on_slow_timer(&mut self, common: &Common, now: Instant) -> Option<Reaction> {
        self.slow_timer = None;
        if self.state == Synchronised::FinWait2 && self.is_orphan {
            return Some(Reaction::closed(CloseReason::Done, None));
        }
        if !common.options.keepalive {
            return None;
        }
        if !self.snd.is_idle() {
            // Data in flight has its own timer.
            self.slow_timer = Some(now + common.keepalive_idle());
            return None;
        }
        let silence = now - self.last_segment_at;
        if silence < common.keepalive_idle() {
            self.slow_timer = Some(self.last_segment_at + common.keepalive_idle());
            return None;
        }
        let is_over = match common.options.user_timeout {
            Some(limit) => silence >= limit && self.keepalive_probes > 0,
            None => self.keepalive_probes >= common.keepalive_probes(),
        };
        if is_over {
            let reset = self.make_reset(common, now);
            return Some(Reaction::closed(self.timeout_reason(), Some(reset)));
        }
        self.keepalive_probes += 1;
        self.is_keepalive_due = true;
        self.slow_timer = Some(now + common.keepalive_interval());
        None
    }
}

/// Long enough that a connection in use is never asked twice, short enough for memory to follow the load.
pub(super) const IDLE_BEFORE_RELEASE: Duration = Duration::from_secs(1);
