//! An established connection at rest: nothing in flight, nothing to read, to send or to acknowledge.
//!
//! Connections wait for their peers most of the time, and by the hundred thousand. While one does, four fifths of its data
//! say that nothing is the matter. A connection begins at rest, and rests again after a second without traffic.
//! Waking gives back exactly what was: what a connection has learnt about its path stays with it.
//!
//! One that has carried nothing also ends at rest, if it ends in order (`brief.rs`).

use super::super::common::Common;
use super::super::negotiated::Negotiated;
use super::super::rate_limit::RateLimit;
use super::super::readiness::Readiness;
use super::super::receiver::{ReceiverHistory, RestingReceiver};
use super::super::sender::{RestingSender, SenderHistory};
use super::timer::IDLE_BEFORE_RELEASE;
use super::{Open, Synchronised};
use crate::time::Instant;

/// A connection at rest: in ESTABLISHED, or in a later state without ever having carried anything but a FIN.
#[derive(Clone, Debug)]
pub(in super::super) struct Resting {
    pub(super) snd: RestingSender,
    pub(super) rcv: RestingReceiver,
    /// Absent on a connection that has carried nothing yet.
    pub(super) history: Option<Box<History>>,
    /// As in [`Open`]; [`Instant::FAR_FUTURE`] if it does not run.
    pub(super) slow_timer: Instant,
    pub(super) last_segment_at: Instant,
    pub(super) segments_in: u64,
    pub(super) segments_out: u64,
    pub(super) state: Synchronised,
    /// As in [`Open`]: closed, and not only shut.
    pub(super) is_orphan: bool,
    /// Our FIN has not been sent.
    pub(super) is_fin_due: bool,
    pub(super) owed_ack: OwedAck,
}

/// Whether an ACK is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OwedAck {
    None,
    /// For the peer's FIN, the last segment that came: the user's may carry it.
    Delayed,
    Now,
}

/// What a connection has learnt, and what only few have to remember.
#[derive(Clone, Debug)]
pub(super) struct History {
    snd: SenderHistory,
    rcv: ReceiverHistory,
    challenge: RateLimit,
}

impl Open {
    /// Whether the connection has asked to rest since the last call.
    pub(in super::super) fn take_wish_to_rest(&mut self) -> bool {
        core::mem::take(&mut self.wants_rest)
    }

    /// Whether it has.
    pub(in super::super) fn wishes_to_rest(&self) -> bool {
        self.wants_rest
    }

    /// The connection at rest; `None` while something is the matter with it.
    pub(in super::super) fn rest(&self) -> Option<Resting> {
        // All fields: one that is forgotten here would be lost.
        let Self {
            state,
            snd,
            rcv,
            is_read_shut,
            is_orphan,
            challenge,
            slow_timer,
            keepalive_probes,
            is_keepalive_due,
            cork_until,
            is_cork_expired,
            has_more,
            release_at: _,
            wants_rest: _,
            last_segment_at,
            soft_error,
            segments_in,
            segments_out,
            unconfirmed,
        } = self;
        let is_plain = *state == Synchronised::Established
            && !is_read_shut
            && !is_orphan
            && *keepalive_probes == 0
            && !is_keepalive_due
            && cork_until.is_none()
            && !is_cork_expired
            && !has_more
            && soft_error.is_none()
            && unconfirmed.is_none();
        if !is_plain || !snd.can_rest() || !rcv.can_rest() {
            return None;
        }
        let is_unused = snd.is_unused() && rcv.is_unused() && challenge.is_unused();
        let history = || Box::new(History { snd: snd.history(), rcv: rcv.history(), challenge: *challenge });
        Some(Resting {
            snd: snd.rest(),
            rcv: rcv.rest(),
            history: (!is_unused).then(history),
            slow_timer: slow_timer.unwrap_or(Instant::FAR_FUTURE),
            last_segment_at: *last_segment_at,
            segments_in: *segments_in,
            segments_out: *segments_out,
            state: Synchronised::Established,
            is_orphan: false,
            is_fin_due: false,
            owed_ack: OwedAck::None,
        })
    }
}

#[cfg(test)]
impl Resting {
    pub(in super::super) const HISTORY_LEN: usize = size_of::<History>();
}

#[cfg(test)]
impl Open {
    /// Takes over what is about resting itself, and the memory that queues keep for what may follow.
    pub(in super::super) fn ignore_memory(&mut self, other: &mut Self) {
        other.snd.release();
        other.rcv.queue.release();
        self.release_at = other.release_at;
        self.wants_rest = other.wants_rest;
    }

    /// Forgets when it is to rest.
    pub(in super::super) fn forget_rest(&mut self) {
        self.release_at = None;
        self.wants_rest = false;
    }
}

impl Resting {
    /// Begins in ESTABLISHED.
    pub(in super::super) fn new(common: &Common, negotiated: &Negotiated) -> Self {
        let idle = common.options.keepalive.then(|| negotiated.now + common.keepalive_idle());
        Self {
            snd: RestingSender::new(&common.config, negotiated),
            rcv: RestingReceiver::new(&common.config, &common.options, negotiated),
            history: None,
            slow_timer: idle.unwrap_or(Instant::FAR_FUTURE),
            last_segment_at: negotiated.now,
            segments_in: 0,
            segments_out: 0,
            state: Synchronised::Established,
            is_orphan: false,
            is_fin_due: false,
            owed_ack: OwedAck::None,
        }
    }

    /// The connection as it was. It wants to rest again when it has been idle for a while from `now` on; without a time, it
    /// may at once.
    pub(in super::super) fn wake(&self, common: &Common, now: Option<Instant>) -> Open {
        let history = self.history.as_deref();
        let (algorithm, max_pacing_rate) = (common.algorithm(), common.options.max_pacing_rate);
        let is_fin_taken = self.is_fin_received();
        let mut open = Open {
            state: if is_fin_taken { Synchronised::CloseWait } else { Synchronised::Established },
            snd: self.snd.wake(algorithm, max_pacing_rate, history.map(|history| &history.snd)),
            rcv: self.rcv.wake(&common.options, history.map(|history| &history.rcv), is_fin_taken),
            is_read_shut: false,
            is_orphan: false,
            challenge: history.map(|history| history.challenge).unwrap_or_default(),
            slow_timer: Some(self.slow_timer).filter(|at| *at != Instant::FAR_FUTURE),
            keepalive_probes: 0,
            is_keepalive_due: false,
            cork_until: None,
            is_cork_expired: false,
            has_more: false,
            release_at: Some(now.unwrap_or(self.last_segment_at) + IDLE_BEFORE_RELEASE),
            wants_rest: false,
            last_segment_at: self.last_segment_at,
            soft_error: None,
            segments_in: self.segments_in,
            segments_out: self.segments_out,
            unconfirmed: None,
        };
        self.repeat_end(common, &mut open);
        open
    }

    /// As [`Open::readiness`] with empty queues.
    pub(in super::super) fn readiness(&self, common: &Common) -> Readiness {
        let (is_read_over, is_write_shut) = (self.is_read_over(), self.is_write_shut());
        let mut ready = Readiness::empty();
        ready.set(Readiness::READABLE | Readiness::READ_CLOSED, is_read_over);
        ready.set(Readiness::WRITABLE, is_write_shut || common.not_sent_low_water() > 0);
        ready.set(Readiness::HANGUP, is_read_over && is_write_shut);
        ready
    }

    /// As [`Open::send_room`] with an empty queue.
    pub(in super::super) fn send_room(&self, common: &Common) -> u32 {
        match self.is_write_shut() {
            true => 0,
            false => common.send_capacity(self.snd.mss(), self.snd.largest_flight()),
        }
    }
}
