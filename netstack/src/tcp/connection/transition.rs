//! The transitions: what a state's reaction means for the connection.

use super::super::num::sat_u16;
use super::super::open::{Next, Open, Reaction, Resting, Step};
use super::super::outcome::{CloseReason, Events, Outcome, Verdict};
use super::super::receiver::Unread;
use super::super::segment::{SegmentIn, Transmit};
use super::super::syn_received::SynReceivedReaction;
use super::super::syn_sent::SynSentReaction;
use super::super::time_wait::{FinalNumbers, TimeWait};
use super::{Closed, Connection, Ended, Phase};
use crate::time::Instant;
use netstack_wire::tcp::TcpFlags;

impl Connection {
    /// Carries out what a synchronised state decided.
    pub(super) fn apply(&mut self, now: Instant, reaction: Reaction) -> Outcome {
        let Reaction { mut outcome, next } = reaction;
        match next {
            Next::Stay => return outcome,
            Next::TimeWait => {
                self.enter_time_wait(now);
                outcome.events |= Events::TIME_WAIT | Events::READABLE | Events::READ_CLOSED;
            }
            Next::Closed(reason, farewell) => {
                let has_failed = !matches!(reason, CloseReason::Done | CloseReason::Aborted);
                if has_failed {
                    self.common.error = Some(reason);
                    outcome.events |= Events::ERROR;
                }
                self.close_phase(reason, farewell);
                outcome.events |= CLOSED;
            }
        }
        outcome.events |= self.transmit_event();
        outcome
    }

    /// Carries out what a connection at rest has come to.
    pub(super) fn take_step(&mut self, now: Instant, step: Step) -> Events {
        match step {
            Step::Stay(events) => events,
            Step::TimeWait(events) => {
                let Phase::Resting(resting) = &self.phase else { return events };
                let rest = TimeWait::new(&self.common, now, resting.final_numbers());
                let unread = Unread::nothing_before(resting.stream_end());
                self.phase = Phase::TimeWait(Ended { rest, unread });
                events
            }
            Step::Done(events) => {
                self.close_phase(CloseReason::Done, None);
                events | CLOSED
            }
        }
    }

    pub(super) fn apply_syn_sent(&mut self, now: Instant, reaction: SynSentReaction) -> Outcome {
        match reaction {
            SynSentReaction::Drop(reason) => {
                Outcome { verdict: Verdict::Dropped(reason), events: self.transmit_event() }
            }
            SynSentReaction::Closed(reason) => self.close_with_error(reason, None),
            SynSentReaction::SynReceived(state) => {
                self.phase = Phase::SynReceived(state);
                Outcome { verdict: Verdict::Accepted, events: Events::TRANSMIT }
            }
            SynSentReaction::Established(negotiated, segment, unacked) => {
                let is_bare = unacked.is_empty()
                    && segment.payload.is_empty()
                    && !segment.repr.flags.contains(TcpFlags::FIN);
                let resting = is_bare.then(|| Resting::new(&self.common, &negotiated));
                if let Some(resting) = resting.and_then(|it| Resting::begin_active(&self.common, it)) {
                    self.phase = Phase::Resting(resting);
                    return Outcome { verdict: Verdict::Accepted, events: ESTABLISHED };
                }
                let mut open = Open::new(&self.common, &negotiated);
                for range in unacked.into_ranges() {
                    // A new connection takes whatever it is given.
                    let _ = open.send_admitted(&self.common, range);
                }
                // The third step of the handshake; data that waits goes with it.
                open.rcv.policy.demand();
                self.phase = Phase::Open(Box::new(open));
                self.take_rest_of_syn(now, segment)
            }
        }
    }

    /// A SYN-ACK may carry data or FIN (RFC 9293 section 3.10.7.3 step 4).
    fn take_rest_of_syn(&mut self, now: Instant, mut segment: SegmentIn) -> Outcome {
        let mut events = ESTABLISHED;
        let has_rest = !segment.payload.is_empty() || segment.repr.flags.contains(TcpFlags::FIN);
        if has_rest {
            segment.repr.seq += 1;
            segment.repr.flags.remove(TcpFlags::SYN);
            events |= self.on_segment(now, segment).events;
        }
        Outcome { verdict: Verdict::Accepted, events }
    }

    pub(super) fn apply_syn_received(&mut self, now: Instant, reaction: SynReceivedReaction) -> Outcome {
        match reaction {
            SynReceivedReaction::Drop(reason) => {
                Outcome { verdict: Verdict::Dropped(reason), events: self.transmit_event() }
            }
            SynReceivedReaction::Closed(reason) => self.close_with_error(reason, None),
            SynReceivedReaction::Established(negotiated, mut segment) => {
                let (is_closing, pending) = match &mut self.phase {
                    Phase::SynReceived(state) => (state.is_closing, core::mem::take(&mut state.pending)),
                    _ => Default::default(),
                };
                let is_syn = segment.repr.flags.contains(TcpFlags::SYN);
                let mut open = Open::new(&self.common, &negotiated);
                for range in pending.into_ranges() {
                    // A new connection takes whatever it is given.
                    let _ = open.send_admitted(&self.common, range);
                }
                if is_syn {
                    // RFC 9293 section 3.5, figure 8: the crossed SYN-ACK is acknowledged as any SYN-ACK is.
                    open.rcv.policy.demand();
                }
                self.phase = Phase::Open(Box::new(open));
                let mut outcome = if is_syn {
                    self.take_rest_of_syn(now, segment)
                } else {
                    // The timestamp and window were taken; data and FIN remain.
                    segment.repr.flags.remove(TcpFlags::SYN);
                    self.on_segment(now, segment)
                };
                outcome.events |= Events::CONNECTED | Events::WRITABLE;
                if is_closing {
                    outcome.events |= self.close(now).events;
                }
                outcome
            }
        }
    }

    /// Makes an idle connection small.
    pub(super) fn rest(&mut self) {
        if let Phase::Open(open) = &self.phase
            && let Some(resting) = open.rest()
        {
            self.phase = Phase::Resting(resting);
        }
    }

    /// Makes a resting connection one that can be used. It rests again when it has been idle for a while, from now on or,
    /// where nobody knows the time, from the last segment on.
    pub(in super::super) fn wake(&mut self, now: Option<Instant>) {
        if let Phase::Resting(resting) = &self.phase {
            self.phase = Phase::Open(Box::new(resting.wake(&self.common, now)));
        }
    }

    /// Makes the connection small if it is idle, having checked that waking it would give back the same. Says whether.
    #[cfg(test)]
    pub(in super::super) fn rest_checked(&mut self) -> bool {
        let Phase::Open(open) = &mut self.phase else { return false };
        let Some(resting) = open.rest() else { return false };
        let mut woken = resting.wake(&self.common, None);
        woken.ignore_memory(open);
        assert_eq!(format!("{woken:#?}"), format!("{open:#?}"));
        self.phase = Phase::Resting(resting);
        true
    }

    /// The machine as it would be awake, less what is about resting itself, which it forgets.
    #[cfg(test)]
    pub(in super::super) fn awake_for_test(&mut self) -> String {
        match &mut self.phase {
            Phase::Resting(resting) => {
                let mut open = resting.wake(&self.common, None);
                open.forget_rest();
                format!("{open:#?}")
            }
            Phase::Open(open) => {
                open.forget_rest();
                format!("{open:#?}")
            }
            other => format!("{other:#?}"),
        }
    }

    #[cfg(test)]
    pub(in super::super) fn wake_for_test(&mut self) {
        self.wake(None);
    }

    fn enter_time_wait(&mut self, now: Instant) {
        let Phase::Open(open) = &mut self.phase else { return };
        let numbers = FinalNumbers {
            snd_nxt: open.snd.snd_nxt,
            rcv_nxt: open.rcv.rcv_nxt,
            window: sat_u16(open.rcv.rcv_wnd() >> open.rcv.wnd_shift()),
            recent: open.snd.has_timestamps.then(|| open.rcv.timestamp_echo()),
            timestamp_offset: open.snd.timestamp_offset(),
            is_ack_due: open.rcv.policy.is_owed(),
        };
        let unread = open.rcv.take_unread();
        let rest = TimeWait::new(&self.common, now, numbers);
        self.phase = Phase::TimeWait(Ended { rest, unread });
    }

    /// Enters CLOSED, keeping what the user has not read.
    pub(super) fn close_phase(&mut self, reason: CloseReason, farewell: Option<Box<Transmit>>) {
        let unread = match &mut self.phase {
            // A user who aborted does not read any more.
            Phase::Open(open) if reason != CloseReason::Aborted => open.rcv.take_unread(),
            Phase::TimeWait(ended) => core::mem::take(&mut ended.unread),
            // One at rest ends after the peer's FIN.
            Phase::Resting(resting) if reason == CloseReason::Done => {
                Unread::nothing_before(resting.stream_end())
            }
            _ => Unread::default(),
        };
        self.phase = Phase::Closed(Ended { rest: Closed { reason, farewell }, unread });
    }

    pub(in super::super) fn close_silently(
        &mut self,
        reason: CloseReason,
        farewell: Option<Box<Transmit>>,
    ) -> Outcome {
        self.close_phase(reason, farewell);
        Outcome { verdict: Verdict::Accepted, events: Events::CLOSED | self.transmit_event() }
    }

    pub(super) fn close_with_error(
        &mut self,
        reason: CloseReason,
        farewell: Option<Box<Transmit>>,
    ) -> Outcome {
        self.common.error = Some(reason);
        let mut outcome = self.close_silently(reason, farewell);
        outcome.events |= Events::ERROR | Events::READABLE | Events::WRITABLE | Events::READ_CLOSED;
        outcome
    }

    pub(super) fn close_on_error(&mut self, result: Result<(), CloseReason>) -> Outcome {
        match result {
            Ok(()) => Outcome { verdict: Verdict::Accepted, events: self.transmit_event() },
            Err(CloseReason::Done) => self.close_silently(CloseReason::Done, None),
            Err(reason) => self.close_with_error(reason, None),
        }
    }

    pub(super) fn transmit_event(&self) -> Events {
        let wants = match &self.phase {
            Phase::SynSent(state) => state.wants_to_transmit(),
            Phase::SynReceived(state) => state.wants_to_transmit(),
            // Reported by the reactions themselves.
            Phase::Open(_) => false,
            Phase::Resting(resting) => resting.wants_to_transmit(),
            Phase::TimeWait(ended) => ended.rest.wants_to_transmit(),
            Phase::Closed(ended) => ended.rest.farewell.is_some(),
        };
        if wants { Events::TRANSMIT } else { Events::empty() }
    }
}

/// Once the handshake is complete.
const ESTABLISHED: Events = Events::CONNECTED.union(Events::WRITABLE).union(Events::TRANSMIT);
/// Once the connection has ended, whichever way.
const CLOSED: Events =
    Events::CLOSED.union(Events::READABLE).union(Events::WRITABLE).union(Events::READ_CLOSED);
