//! A connection: the machine that the endpoints wrap. Each state's data and rules are in a file of their own; this one
//! holds the current state and gives it what comes in. `user.rs` carries out commands, `transition.rs` what follows.

use super::common::Common;
use super::config::Config;
use super::error::SendError;
use super::fast_open::FastOpen;
use super::flow::Flow;
use super::info::Info;
use super::isn::Seed;
use super::negotiated::Negotiated;
use super::open::{Open, Resting};
use super::options::Options;
use super::outcome::{CloseReason, DropReason, Events, IcmpError, Outcome, Verdict};
use super::path::PathInfo;
use super::readiness::Readiness;
use super::receiver::{Stream, Unread};
use super::rtt::RttEstimator;
use super::segment::{PlainSegment, PlainTransmit, SegmentIn, Transmit};
use super::state::State;
use super::syn_received::SynReceived;
use super::syn_sent::SynSent;
use super::time_wait::{TimeWait, TimeWaitReaction};
use super::unconfirmed::Unconfirmed;
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::TcpFlags;
use std::sync::Arc;

mod transition;
mod user;

/// One TCP connection from SYN to CLOSED.
///
/// Calling order: any input (`on_*`) or user command, then `poll_transmit` until it gives `None`, then `next_deadline`.
/// `on_timer` may come late or for nothing. When [`Connection::state`] is CLOSED and `poll_transmit` is drained, the
/// flow may be forgotten; unread data stays readable for as long as the value lives.
#[derive(Debug)]
pub struct Connection {
    pub(super) common: Common,
    pub(super) phase: Phase,
}

/// The states by the data that they need.
#[derive(Debug)]
pub(super) enum Phase {
    SynSent(SynSent),
    SynReceived(Box<SynReceived>),
    Open(Box<Open>),
    /// A synchronised state with nothing going on.
    Resting(Resting),
    TimeWait(Ended<TimeWait>),
    Closed(Ended<Closed>),
}

/// A state in which nothing more arrives for the user, with what has not been read yet.
#[derive(Debug)]
pub(super) struct Ended<T> {
    rest: T,
    unread: Unread,
}

#[derive(Debug)]
pub(super) struct Closed {
    reason: CloseReason,
    /// A last RST or ACK.
    farewell: Option<Box<Transmit>>,
}

/// Which directions `shutdown` closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Both.
    Both,
}

impl Connection {
    /// Opens actively: the first `poll_transmit` gives the SYN.
    #[must_use]
    pub fn connect(
        now: Instant,
        config: &Arc<Config>,
        options: impl Into<Arc<Options>>,
        flow: &Flow,
        path: PathInfo,
        seed: Seed,
    ) -> Self {
        let common = Common::new(config, options, flow);
        let phase = Phase::SynSent(SynSent::new(&common, now, path, seed));
        Self { common, phase }
    }

    /// Answers a SYN that no listener took: the first `poll_transmit` gives the SYN-ACK.
    #[must_use]
    pub fn answer(
        now: Instant,
        config: &Arc<Config>,
        options: impl Into<Arc<Options>>,
        flow: &Flow,
        path: PathInfo,
        seed: Seed,
        syn: &SegmentIn,
    ) -> Self {
        let common = Common::new(config, options, flow);
        let phase = Phase::SynReceived(Box::new(SynReceived::passive(&common, now, seed, path, syn)));
        Self { common, phase }
    }

    /// Starts in ESTABLISHED after a handshake that the listener has led; `segment` is the ACK that completed it.
    pub(super) fn accepted(
        common: Common,
        now: Instant,
        negotiated: &Negotiated,
        segment: SegmentIn,
    ) -> Self {
        let resting = Resting::new(&common, negotiated);
        if let Some(resting) = Resting::begin_passive(&common, now, resting, &segment) {
            return Self { common, phase: Phase::Resting(resting) };
        }
        let open = Open::new(&common, negotiated);
        let mut connection = Self { common, phase: Phase::Open(Box::new(open)) };
        // Its data, FIN or RST counts. The shell looks at readiness when it takes the connection over.
        let _ = connection.on_segment(now, segment);
        connection
    }

    /// Starts before the handshake is complete; `syn` brought a right Fast Open cookie, and perhaps data.
    pub(super) fn fast_opened(
        common: Common,
        now: Instant,
        negotiated: &Negotiated,
        unconfirmed: Unconfirmed,
        mut syn: SegmentIn,
    ) -> Self {
        let mut open = Open::new(&common, negotiated);
        // There is no round trip yet because the SYN-ACK has not left, not because one was lost.
        open.snd.rtt = RttEstimator::new();
        let mut connection = Self { common, phase: Phase::Open(Box::new(open)) };
        // Its data and FIN as a segment of their own, which acknowledges nothing.
        let repr = &mut syn.repr;
        repr.flags.remove(TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR);
        repr.flags.insert(TcpFlags::ACK);
        repr.seq += 1;
        repr.ack = negotiated.iss + 1;
        repr.window >>= negotiated.snd_wnd_shift;
        let _ = connection.on_segment(now, syn);
        if let Phase::Open(open) = &mut connection.phase {
            open.set_unconfirmed(unconfirmed);
        }
        connection
    }

    /// Puts data, or the request for a cookie, into the SYN (RFC 7413). To be called before the SYN was polled; in other
    /// states the data is not sent, and handed back.
    pub fn fast_open(&mut self, attempt: FastOpen) -> Result<(), FastOpen> {
        match &mut self.phase {
            Phase::SynSent(state) if state.is_fresh() => {
                state.set_fast_open(attempt);
                Ok(())
            }
            _ => Err(attempt),
        }
    }

    /// Keeps the SYN back until [`release_syn`](Self::release_syn). To be called before anything was polled.
    pub fn hold_syn(&mut self) {
        if let Phase::SynSent(state) = &mut self.phase
            && state.is_fresh()
        {
            state.hold();
        }
    }

    /// Whether the SYN waits for the first data.
    #[must_use]
    pub fn is_syn_held(&self) -> bool {
        matches!(&self.phase, Phase::SynSent(state) if state.is_held())
    }

    /// Lets the SYN leave that was kept back, with data. Where it has left already, the data follows what went with it.
    ///
    /// # Errors
    /// There is no connection any more; the data was not taken.
    pub fn release_syn(&mut self, now: Instant, attempt: FastOpen) -> Result<(), SendError> {
        match &mut self.phase {
            Phase::SynSent(state) if state.is_held() => {
                state.set_fast_open(attempt);
                state.release(&self.common, now);
                Ok(())
            }
            Phase::SynSent(state) => {
                state.append(attempt.data);
                Ok(())
            }
            _ => attempt.data.into_ranges().into_iter().try_for_each(|range| self.send_admitted(now, range)),
        }
    }

    /// Processes a segment whose checksum is right and whose flow is this connection's.
    pub fn on_segment(&mut self, now: Instant, mut segment: SegmentIn) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.on_segment(&self.common, now, &mut segment);
                self.apply(now, reaction)
            }
            Phase::Resting(resting) => {
                let plain = segment.as_bare();
                match plain.and_then(|plain| resting.on_plain(&self.common, now, &plain)) {
                    Some(step) => Outcome { verdict: Verdict::Accepted, events: self.take_step(now, step) },
                    None => {
                        self.wake(Some(now));
                        self.on_segment(now, segment)
                    }
                }
            }
            Phase::SynSent(state) => {
                let reaction = state.on_segment(&self.common, now, segment);
                self.apply_syn_sent(now, reaction)
            }
            Phase::SynReceived(state) => {
                let reaction = state.on_segment(&self.common, now, segment);
                self.apply_syn_received(now, reaction)
            }
            Phase::TimeWait(ended) => match ended.rest.on_segment(&self.common, now, &segment) {
                TimeWaitReaction::Stay(outcome) => outcome,
                TimeWaitReaction::Closed(outcome) => {
                    self.close_phase(CloseReason::Done, None);
                    outcome
                }
            },
            Phase::Closed(ended) => {
                if ended.rest.farewell.is_none() {
                    ended.rest.farewell = super::closed::reset_reply(&segment).map(Box::new);
                }
                let events = self.transmit_event();
                Outcome { verdict: Verdict::Dropped(DropReason::Closed), events }
            }
        }
    }

    /// Processes a plain segment if it is the one that the connection expects. `None`: it is not, nothing has happened, and
    /// [`on_segment`](Self::on_segment) knows what to do with it.
    #[inline]
    pub fn on_plain(&mut self, now: Instant, segment: &PlainSegment<'_>) -> Option<Events> {
        match &mut self.phase {
            Phase::Open(open) => open.on_plain(&self.common, now, segment),
            Phase::Resting(resting) => {
                let step = resting.on_plain(&self.common, now, segment)?;
                Some(self.take_step(now, step))
            }
            Phase::SynSent(_) | Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => None,
        }
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something to give or to do. A hint: false is certain.
    #[must_use]
    #[inline]
    pub fn has_output(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.wants_to_transmit() || open.wishes_to_rest(),
            Phase::Resting(resting) => resting.wants_to_transmit(),
            Phase::SynSent(_) | Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => {
                !self.transmit_event().is_empty()
            }
        }
    }

    /// Runs what is due at `now`.
    pub fn on_timer(&mut self, now: Instant) -> Outcome {
        let result = match &mut self.phase {
            Phase::Resting(resting) if resting.next_deadline(&self.common).is_none_or(|at| now < at) => {
                Ok(())
            }
            Phase::Resting(resting) => {
                if resting.on_ack_timer(now) {
                    return Outcome { verdict: Verdict::Accepted, events: Events::TRANSMIT };
                }
                self.wake(Some(now));
                return self.on_timer(now);
            }
            Phase::Open(open) => {
                let reaction = open.on_timer(&self.common, now);
                return self.apply(now, reaction);
            }
            Phase::SynSent(state) => state.on_timer(&self.common, now),
            Phase::SynReceived(state) => state.on_timer(&self.common, now),
            Phase::TimeWait(ended) if ended.rest.is_over(now) => Err(CloseReason::Done),
            Phase::TimeWait(_) | Phase::Closed(_) => Ok(()),
        };
        self.close_on_error(result)
    }

    /// When `on_timer` wants to be called next; `None` when nothing is pending.
    #[must_use]
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open(open) => open.next_deadline(),
            Phase::Resting(resting) => resting.next_deadline(&self.common),
            Phase::SynSent(state) => state.next_deadline(),
            Phase::SynReceived(state) => Some(state.next_deadline()),
            Phase::TimeWait(ended) => Some(ended.rest.next_deadline()),
            Phase::Closed(_) => None,
        }
    }

    /// The part of [`next_deadline`](Self::next_deadline) that sending moves; `None` when nothing of it is pending.
    #[must_use]
    #[inline]
    pub fn send_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open(open) => open.snd.deadline(),
            _ => self.next_deadline(),
        }
    }

    /// Gives the next segment to send, a super-segment of at most `max_payload` payload bytes where possible.
    /// `max_payload` below the MSS counts as the MSS.
    pub fn poll_transmit(&mut self, now: Instant, max_payload: u32) -> Option<Transmit> {
        if let Some(plain) = self.poll_plain(now) {
            return Some(plain.into_transmit(self.common.local_port, self.common.remote_port));
        }
        match &mut self.phase {
            Phase::Open(open) => {
                let transmit = open.poll_transmit(&self.common, now, max_payload);
                if transmit.is_none() && open.take_wish_to_rest() {
                    self.rest();
                }
                transmit
            }
            Phase::Resting(_) | Phase::TimeWait(_) => None,
            Phase::SynSent(state) => state.poll_transmit(&self.common, now),
            Phase::SynReceived(state) => state.poll_transmit(&self.common, now),
            Phase::Closed(ended) => ended.rest.farewell.take().map(|farewell| *farewell),
        }
    }

    /// Gives the next segment if that is a plain one without payload. `None` is no answer: `poll_transmit` has it.
    #[inline]
    pub fn poll_plain(&mut self, now: Instant) -> Option<PlainTransmit> {
        match &mut self.phase {
            Phase::Resting(resting) => resting.poll_transmit(&self.common, now),
            Phase::TimeWait(ended) => ended.rest.poll_transmit(now),
            Phase::Open(_) | Phase::SynSent(_) | Phase::SynReceived(_) | Phase::Closed(_) => None,
        }
    }

    /// The path MTU changed: `path_mss` is the new MTU less IP header and 20 bytes. From an ICMP message, `quoted` is the
    /// quoted sequence number, which must be in flight (RFC 5927).
    pub fn on_pmtu(&mut self, now: Instant, path_mss: u16, quoted: Option<SeqNum>) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.on_pmtu(&self.common, path_mss, quoted);
                self.apply(now, reaction)
            }
            Phase::Resting(_) => {
                self.wake(Some(now));
                self.on_pmtu(now, path_mss, quoted)
            }
            Phase::SynSent(state) => {
                state.path.path_mss = path_mss;
                Outcome::default()
            }
            Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => Outcome::default(),
        }
    }

    /// An ICMP error quoting a segment of ours arrived (RFC 5461 section 4).
    pub fn on_icmp_error(&mut self, now: Instant, error: IcmpError, quoted: SeqNum) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.on_icmp_error(error, quoted);
                self.apply(now, reaction)
            }
            Phase::Resting(resting) if resting.is_fin_in_flight() => {
                self.wake(Some(now));
                self.on_icmp_error(now, error, quoted)
            }
            // It is about nothing in flight.
            Phase::Resting(_) => {
                Outcome { verdict: Verdict::Dropped(DropReason::OutOfWindow), events: Events::empty() }
            }
            Phase::SynSent(state) => {
                let result = state.on_icmp_error(error, quoted);
                self.close_on_error(result)
            }
            Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => Outcome::default(),
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::SynSent(_) => State::SynSent,
            Phase::SynReceived(_) => State::SynReceived,
            Phase::Open(open) => open.state(),
            Phase::Resting(resting) => resting.state(),
            Phase::TimeWait(_) => State::TimeWait,
            Phase::Closed(_) => State::Closed,
        }
    }

    /// What the user could do now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut ready = match &self.phase {
            // Linux, tcp_poll: data is what a deferred connection waits for.
            Phase::SynSent(state) if state.is_held() => Readiness::WRITABLE,
            Phase::SynSent(_) | Phase::SynReceived(_) => Readiness::empty(),
            Phase::Open(open) => open.readiness(&self.common),
            Phase::Resting(resting) => resting.readiness(&self.common),
            Phase::TimeWait(ended) => readiness_at_end(&ended.unread),
            Phase::Closed(ended) => readiness_at_end(&ended.unread),
        };
        ready.set(Readiness::ERROR, self.common.error.is_some());
        ready
    }

    /// Why the connection is closed; `None` while it is not.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        match &self.phase {
            Phase::Closed(ended) => Some(ended.rest.reason),
            _ => None,
        }
    }

    /// Takes the pending error (`SO_ERROR`); each is reported once, here or by a send or receive. Without one, an
    /// ICMP error that did not end the connection is given, once, as Linux does (`sk_err_soft`).
    pub fn take_error(&mut self) -> Option<CloseReason> {
        let mut soft = || match &mut self.phase {
            Phase::Open(open) => open.take_soft_error(),
            Phase::SynSent(state) => state.take_soft_error(),
            Phase::Resting(_) | Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => None,
        };
        self.common.error.take().or_else(|| soft().map(CloseReason::Unreachable))
    }

    /// How often the retransmission timer has run out since the last answer.
    pub(crate) fn timeouts(&self) -> u32 {
        if let Phase::Open(open) = &self.phase { open.timeouts() } else { 0 }
    }

    /// A snapshot of the figures; `None` outside of the synchronised states, where there are none.
    #[must_use]
    pub fn info(&self, now: Instant) -> Option<Info> {
        match &self.phase {
            Phase::Open(open) => Some(open.info(&self.common, now)),
            Phase::Resting(resting) => Some(resting.wake(&self.common, None).info(&self.common, now)),
            _ => None,
        }
    }
}

/// What the user could do with a connection that is over.
fn readiness_at_end(unread: &Unread) -> Readiness {
    let mut ready = Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::HANGUP;
    ready.set(Readiness::PRIORITY, unread.has_urgent());
    ready
}
