//! An established connection at rest: nothing in flight, nothing to read, to send or to acknowledge.
//!
//! Connections wait for their peers most of the time, and by the hundred thousand. While one does, four fifths of its data
//! say that nothing is the matter. A connection rests as soon as it is established, which costs nothing more if nothing
//! follows, and again after a second without traffic. Waking gives back exactly what was: what a connection has
//! learnt about its path stays with it.

use super::super::common::Common;
use super::super::rate_limit::RateLimit;
use super::super::readiness::Readiness;
use super::super::receiver::{ReceiverHistory, RestingReceiver};
use super::super::sender::{RestingSender, SenderHistory};
use super::timer::IDLE_BEFORE_RELEASE;
use super::{Open, Synchronised};
use crate::time::Instant;

/// A connection in ESTABLISHED at rest.
#[derive(Clone, Debug)]
pub(in super::super) struct Resting {
    snd: RestingSender,
    rcv: RestingReceiver,
    /// Absent on a connection that has carried nothing yet.
    history: Option<Box<History>>,
    keepalive_at: Option<Instant>,
    last_segment_at: Instant,
    segments_in: u64,
    segments_out: u64,
}

/// What a connection has learnt, and what only few have to remember.
#[derive(Clone, Debug)]
struct History {
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
            keepalive_at: *slow_timer,
            last_segment_at: *last_segment_at,
            segments_in: *segments_in,
            segments_out: *segments_out,
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
}

impl Resting {
    /// The connection as it was. It wants to rest again when it has been idle for a while from `now` on; without a time, it
    /// may at once.
    pub(in super::super) fn wake(&self, common: &Common, now: Option<Instant>) -> Open {
        let history = self.history.as_deref();
        Open {
            state: Synchronised::Established,
            snd: self.snd.wake(common, history.map(|history| &history.snd)),
            rcv: self.rcv.wake(common, history.map(|history| &history.rcv)),
            is_read_shut: false,
            is_orphan: false,
            challenge: history.map(|history| history.challenge).unwrap_or_default(),
            slow_timer: self.keepalive_at,
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
        }
    }

    pub(in super::super) fn next_deadline(&self) -> Option<Instant> {
        self.keepalive_at
    }

    /// As [`Open::readiness`] with empty queues.
    pub(in super::super) fn readiness(&self, common: &Common) -> Readiness {
        let mut ready = Readiness::empty();
        ready.set(Readiness::WRITABLE, common.not_sent_low_water() > 0);
        ready
    }

    /// As [`Open::send_room`] with an empty queue.
    pub(in super::super) fn send_room(&self, common: &Common) -> u32 {
        common.send_capacity(self.snd.mss(), self.snd.largest_flight())
    }
}
