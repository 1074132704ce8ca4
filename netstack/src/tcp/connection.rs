//! A connection: the machine that the endpoints wrap. Each state's data and rules are in a file of their own; this one
//! holds the current state and carries out the transitions between them.

use super::common::Common;
use super::config::Config;
use super::error::{RecvError, SendError, ShutdownError};
use super::fast_open::FastOpen;
use super::flow::Flow;
use super::info::Info;
use super::isn::Seed;
use super::negotiated::Negotiated;
use super::open::{Next, Open, Reaction};
use super::options::Options;
use super::outcome::{CloseReason, DropReason, Events, IcmpError, Outcome, Verdict};
use super::path::PathInfo;
use super::readiness::Readiness;
use super::receive_queue::ReceiveQueue;
use super::segment::{SegmentIn, Transmit};
use super::state::State;
use super::syn_received::{SynReceived, SynReceivedReaction};
use super::syn_sent::{SynSent, SynSentReaction};
use super::time_wait::{FinalNumbers, TimeWait, TimeWaitReaction};
use super::unconfirmed::Unconfirmed;
use crate::time::Instant;
use bytes::Bytes;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::TcpFlags;
use std::sync::Arc;

/// One TCP connection from SYN to CLOSED.
///
/// Calling order: any input (`on_*`) or user command, then `poll_transmit` until it gives `None`, then `next_deadline`.
/// `on_timer` may come late or for nothing. When [`Connection::state`] is CLOSED and `poll_transmit` is drained, the
/// flow may be forgotten; unread data stays readable for as long as the value lives.
#[derive(Debug)]
pub struct Connection {
    common: Common,
    phase: Phase,
    /// The error to report once (`SO_ERROR`).
    error: Option<CloseReason>,
}

/// The states by the data that they need.
#[derive(Debug)]
enum Phase {
    SynSent(Box<SynSent>),
    SynReceived(Box<SynReceived>),
    Open(Box<Open>),
    TimeWait(Box<Ended<TimeWait>>),
    Closed(Box<Ended<Closed>>),
}

/// A state in which nothing more arrives for the user, with what has not been read yet.
#[derive(Debug)]
struct Ended<T> {
    rest: T,
    unread: ReceiveQueue,
}

#[derive(Debug)]
struct Closed {
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
        options: Options,
        flow: &Flow,
        path: PathInfo,
        seed: Seed,
    ) -> Self {
        let common = Common::new(config, &Arc::new(options), flow);
        let phase = Phase::SynSent(Box::new(SynSent::new(&common, now, path, seed)));
        Self { common, phase, error: None }
    }

    /// Answers a SYN that no listener took: the first `poll_transmit` gives the SYN-ACK.
    #[must_use]
    pub fn answer(
        now: Instant,
        config: &Arc<Config>,
        options: Options,
        flow: &Flow,
        path: PathInfo,
        seed: Seed,
        syn: &SegmentIn,
    ) -> Self {
        let common = Common::new(config, &Arc::new(options), flow);
        let phase = Phase::SynReceived(Box::new(SynReceived::passive(&common, now, seed, path, syn)));
        Self { common, phase, error: None }
    }

    /// Starts in ESTABLISHED after a handshake that the listener has led; `segment` is the ACK that completed it.
    pub(super) fn accepted(
        common: Common,
        now: Instant,
        negotiated: &Negotiated,
        segment: SegmentIn,
    ) -> Self {
        let open = Open::new(&common, negotiated);
        let mut connection = Self { common, phase: Phase::Open(Box::new(open)), error: None };
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
        let open = Open::new(&common, negotiated);
        let mut connection = Self { common, phase: Phase::Open(Box::new(open)), error: None };
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

    /// Processes a segment whose checksum is right and whose flow is this connection's.
    pub fn on_segment(&mut self, now: Instant, segment: SegmentIn) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.on_segment(&self.common, now, segment);
                self.apply(now, reaction)
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

    /// Runs what is due at `now`.
    pub fn on_timer(&mut self, now: Instant) -> Outcome {
        let result = match &mut self.phase {
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
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open(open) => open.next_deadline(),
            Phase::SynSent(state) => Some(state.next_deadline()),
            Phase::SynReceived(state) => Some(state.next_deadline()),
            Phase::TimeWait(ended) => Some(ended.rest.next_deadline()),
            Phase::Closed(_) => None,
        }
    }

    /// Gives the next segment to send, a super-segment of at most `max_payload` payload bytes where possible.
    /// `max_payload` below the MSS counts as the MSS.
    pub fn poll_transmit(&mut self, now: Instant, max_payload: u32) -> Option<Transmit> {
        match &mut self.phase {
            Phase::Open(open) => open.poll_transmit(&self.common, now, max_payload),
            Phase::SynSent(state) => state.poll_transmit(&self.common, now),
            Phase::SynReceived(state) => state.poll_transmit(&self.common, now),
            Phase::TimeWait(ended) => ended.rest.poll_transmit(&self.common, now),
            Phase::Closed(ended) => ended.rest.farewell.take().map(|farewell| *farewell),
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
            Phase::SynSent(state) => {
                let result = state.on_icmp_error(error, quoted);
                self.close_on_error(result)
            }
            Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => Outcome::default(),
        }
    }

    /// Queues a copy of as much of `data` as there is room for, and returns how much.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn send(&mut self, _now: Instant, data: &[u8]) -> Result<usize, SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send(&self.common, data),
            _ => Err(self.send_error()),
        }
    }

    /// Queues as much of `data` as there is room for without copying it, and returns how much.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn send_bytes(&mut self, _now: Instant, data: &Bytes) -> Result<usize, SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send_bytes(&self.common, data),
            _ => Err(self.send_error()),
        }
    }

    /// Queues all of `data` without copying it, beyond the send buffer if need be.
    ///
    /// For a caller who consumed as many bytes as [`send_room`](Self::send_room) said: the room shrinks with the
    /// congestion window, and what was consumed must not be lost to that.
    ///
    /// # Errors
    /// `WriteClosed` or `Failed`; nothing was queued then.
    pub fn send_admitted(&mut self, _now: Instant, data: Bytes) -> Result<(), SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send_admitted(&self.common, data),
            _ => Err(self.send_error()),
        }
    }

    /// Queues a copy of all of `data`, with the rules of [`send_admitted`](Self::send_admitted).
    ///
    /// # Errors
    /// `WriteClosed` or `Failed`; nothing was queued then.
    pub fn send_copied(&mut self, _now: Instant, data: &[u8]) -> Result<(), SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send_copied(&self.common, data),
            _ => Err(self.send_error()),
        }
    }

    /// How many bytes `send` would take now; zero also when it would fail.
    #[must_use]
    pub fn send_room(&self) -> usize {
        match &self.phase {
            Phase::Open(open) => open.send_room(&self.common).unwrap_or(0),
            _ => 0,
        }
    }

    /// Moves received bytes into `buf`; zero at the end of the stream. It may leave a window update to transmit.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn recv(&mut self, now: Instant, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.read(now, |queue| queue.read(buf))
    }

    /// Takes one contiguous range of at most `max` received bytes without copying; empty at the end of the stream.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn take(&mut self, now: Instant, max: usize) -> Result<Bytes, RecvError> {
        self.read(now, |queue| queue.take(max))
    }

    /// Puts bytes that [`Connection::take`] gave back in front of the queue, the last ones first: their reader could not
    /// store them. The peer may have been offered their room already; the queue then holds that much more.
    pub fn put_back(&mut self, bytes: Bytes) {
        match &mut self.phase {
            Phase::Open(open) => open.rcv.queue.put_back(bytes),
            Phase::TimeWait(ended) => ended.unread.put_back(bytes),
            Phase::Closed(ended) => ended.unread.put_back(bytes),
            // A connection that data came over does not get back there.
            Phase::SynSent(_) | Phase::SynReceived(_) => {}
        }
    }

    /// Copies received bytes from `offset` on into `buf` and leaves them queued.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn peek(&mut self, offset: usize, buf: &mut [u8]) -> Result<usize, RecvError> {
        match self.unread() {
            Some(queue) if !queue.is_empty() => Ok(queue.peek(offset, buf)),
            _ => self.end_of_stream().map(|()| 0),
        }
    }

    /// How many received bytes wait for the reader (FIONREAD).
    #[must_use]
    pub fn receive_queued(&self) -> usize {
        self.unread().map_or(0, |queue| super::num::usize_of(queue.len()))
    }

    /// How many queued bytes are not acknowledged (SIOCOUTQ) and not sent (SIOCOUTQNSD).
    #[must_use]
    pub fn send_queued(&self) -> (usize, usize) {
        match &self.phase {
            Phase::Open(open) => {
                let (queued, unsent) = (open.snd.queued(), open.snd.not_sent());
                (super::num::usize_of(queued), super::num::usize_of(unsent))
            }
            _ => (0, 0),
        }
    }

    /// Shuts one or both directions, with the rules of Linux (nothing is sent for the read side).
    ///
    /// # Errors
    /// There is no connection to shut.
    pub fn shutdown(&mut self, now: Instant, how: Shutdown) -> Result<Outcome, ShutdownError> {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.shutdown(&self.common, now, how);
                Ok(self.apply(now, reaction))
            }
            // Linux disconnects a socket that is shut while it connects, whichever direction (inet_shutdown).
            Phase::SynSent(_) => Ok(self.close_with_error(CloseReason::Reset, None)),
            Phase::SynReceived(state) => {
                state.is_closing |= how != Shutdown::Read;
                Ok(Outcome::default())
            }
            Phase::TimeWait(_) => Ok(Outcome::default()),
            Phase::Closed(_) => Err(ShutdownError::NotConnected),
        }
    }

    /// The user is done: sends what is queued and FIN in the background, or RST if data is unread (RFC 2525 section 2.17).
    pub fn close(&mut self, now: Instant) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.close(&self.common, now);
                self.apply(now, reaction)
            }
            Phase::SynSent(_) => self.close_silently(CloseReason::Aborted, None),
            Phase::SynReceived(state) => {
                state.is_closing = true;
                Outcome::default()
            }
            Phase::TimeWait(ended) => {
                ended.unread = ReceiveQueue::default();
                Outcome::default()
            }
            Phase::Closed(ended) => {
                ended.unread = ReceiveQueue::default();
                Outcome::default()
            }
        }
    }

    /// Resets the connection (linger with a zero timeout).
    pub fn abort(&mut self, now: Instant) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.abort(&self.common, now);
                self.apply(now, reaction)
            }
            Phase::SynReceived(state) => {
                let reset = state.make_reset(&self.common);
                self.close_silently(CloseReason::Aborted, Some(reset))
            }
            Phase::SynSent(_) | Phase::TimeWait(_) => self.close_silently(CloseReason::Aborted, None),
            Phase::Closed(_) => Outcome::default(),
        }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.common.options
    }

    /// Changes options; the new ones take effect at once where Linux's do.
    pub fn set_options(&mut self, now: Instant, options: Options) {
        let had_keepalive = self.common.options.keepalive;
        self.common.options = Arc::new(options);
        if let Phase::Open(open) = &mut self.phase {
            open.set_options(&self.common, now, had_keepalive);
        }
    }

    /// `TCP_QUICKACK`: acknowledge at once for a while, or go back to delayed ACKs.
    pub fn set_quick_ack(&mut self, on: bool) {
        if let Phase::Open(open) = &mut self.phase {
            open.set_quick_ack(on);
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::SynSent(_) => State::SynSent,
            Phase::SynReceived(_) => State::SynReceived,
            Phase::Open(open) => open.state(),
            Phase::TimeWait(_) => State::TimeWait,
            Phase::Closed(_) => State::Closed,
        }
    }

    /// What the user could do now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut ready = match &self.phase {
            Phase::SynSent(_) | Phase::SynReceived(_) => Readiness::empty(),
            Phase::Open(open) => open.readiness(&self.common),
            Phase::TimeWait(_) | Phase::Closed(_) => {
                Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::HANGUP
            }
        };
        ready.set(Readiness::ERROR, self.error.is_some());
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
            Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => None,
        };
        self.error.take().or_else(|| soft().map(CloseReason::Unreachable))
    }

    /// A snapshot of the figures; `None` outside of the synchronised states, where there are none.
    #[must_use]
    pub fn info(&self, now: Instant) -> Option<Info> {
        match &self.phase {
            Phase::Open(open) => Some(open.info(&self.common, now)),
            _ => None,
        }
    }

    /// Carries out what a synchronised state decided.
    fn apply(&mut self, now: Instant, reaction: Reaction) -> Outcome {
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
                    self.error = Some(reason);
                    outcome.events |= Events::ERROR;
                }
                self.close_phase(reason, farewell);
                outcome.events |= Events::CLOSED | Events::READABLE | Events::WRITABLE | Events::READ_CLOSED;
            }
        }
        outcome.events |= self.transmit_event();
        outcome
    }

    fn apply_syn_sent(&mut self, now: Instant, reaction: SynSentReaction) -> Outcome {
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
        let mut events = Events::CONNECTED | Events::WRITABLE | Events::TRANSMIT;
        let has_rest = !segment.payload.is_empty() || segment.repr.flags.contains(TcpFlags::FIN);
        if has_rest {
            segment.repr.seq += 1;
            segment.repr.flags.remove(TcpFlags::SYN);
            events |= self.on_segment(now, segment).events;
        }
        Outcome { verdict: Verdict::Accepted, events }
    }

    fn apply_syn_received(&mut self, now: Instant, reaction: SynReceivedReaction) -> Outcome {
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

    fn enter_time_wait(&mut self, now: Instant) {
        let Phase::Open(open) = &mut self.phase else { return };
        let numbers = FinalNumbers {
            snd_nxt: open.snd.snd_nxt,
            rcv_nxt: open.rcv.rcv_nxt,
            window: super::num::sat_u16(open.rcv.rcv_wnd() >> open.rcv.wnd_shift()),
            recent: open.snd.has_timestamps.then(|| open.rcv.timestamp_echo()),
            timestamp_offset: open.snd.timestamp_offset(),
            is_ack_due: open.rcv.policy.is_owed(),
        };
        let unread = core::mem::take(&mut open.rcv.queue);
        let rest = TimeWait::new(&self.common, now, numbers);
        self.phase = Phase::TimeWait(Box::new(Ended { rest, unread }));
    }

    /// Enters CLOSED, keeping what the user has not read.
    fn close_phase(&mut self, reason: CloseReason, farewell: Option<Box<Transmit>>) {
        let unread = match &mut self.phase {
            // A user who aborted does not read any more.
            Phase::Open(open) if reason != CloseReason::Aborted => core::mem::take(&mut open.rcv.queue),
            Phase::TimeWait(ended) => core::mem::take(&mut ended.unread),
            _ => ReceiveQueue::default(),
        };
        self.phase = Phase::Closed(Box::new(Ended { rest: Closed { reason, farewell }, unread }));
    }

    fn close_silently(&mut self, reason: CloseReason, farewell: Option<Box<Transmit>>) -> Outcome {
        self.close_phase(reason, farewell);
        Outcome { verdict: Verdict::Accepted, events: Events::CLOSED | self.transmit_event() }
    }

    fn close_with_error(&mut self, reason: CloseReason, farewell: Option<Box<Transmit>>) -> Outcome {
        self.error = Some(reason);
        let mut outcome = self.close_silently(reason, farewell);
        outcome.events |= Events::ERROR | Events::READABLE | Events::WRITABLE | Events::READ_CLOSED;
        outcome
    }

    fn close_on_error(&mut self, result: Result<(), CloseReason>) -> Outcome {
        match result {
            Ok(()) => Outcome { verdict: Verdict::Accepted, events: self.transmit_event() },
            Err(CloseReason::Done) => self.close_silently(CloseReason::Done, None),
            Err(reason) => self.close_with_error(reason, None),
        }
    }

    fn transmit_event(&self) -> Events {
        let wants = match &self.phase {
            Phase::SynSent(state) => state.wants_to_transmit(),
            Phase::SynReceived(state) => state.wants_to_transmit(),
            // Reported by the reactions themselves.
            Phase::Open(_) => false,
            Phase::TimeWait(ended) => ended.rest.wants_to_transmit(),
            Phase::Closed(ended) => ended.rest.farewell.is_some(),
        };
        if wants { Events::TRANSMIT } else { Events::empty() }
    }

    /// Why a send outside of the synchronised states fails.
    fn send_error(&mut self) -> SendError {
        match &self.phase {
            Phase::SynSent(_) | Phase::SynReceived(_) | Phase::Open(_) => SendError::WouldBlock,
            Phase::TimeWait(_) | Phase::Closed(_) => {
                self.error.take().map_or(SendError::WriteClosed, SendError::Failed)
            }
        }
    }

    fn unread(&self) -> Option<&ReceiveQueue> {
        match &self.phase {
            Phase::Open(open) => Some(&open.rcv.queue),
            Phase::TimeWait(ended) => Some(&ended.unread),
            Phase::Closed(ended) => Some(&ended.unread),
            Phase::SynSent(_) | Phase::SynReceived(_) => None,
        }
    }

    /// Reads with `read` if there is something, otherwise says why not.
    fn read<T: Default>(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut ReceiveQueue) -> T,
    ) -> Result<T, RecvError> {
        match &mut self.phase {
            Phase::Open(open) if !open.rcv.queue.is_empty() => {
                let result = read(&mut open.rcv.queue);
                open.on_read(&self.common, now);
                Ok(result)
            }
            Phase::TimeWait(ended) if !ended.unread.is_empty() => Ok(read(&mut ended.unread)),
            Phase::Closed(ended) if !ended.unread.is_empty() => Ok(read(&mut ended.unread)),
            _ => self.end_of_stream().map(|()| T::default()),
        }
    }

    /// What a read at an empty queue gives: the end of the stream, or an error.
    fn end_of_stream(&mut self) -> Result<(), RecvError> {
        // A stream that had ended before the reset has ended in order (Linux, tcp_recvmsg: SOCK_DONE comes before the
        // error, which is left for the writer).
        if self.error != Some(CloseReason::ResetAfterFin)
            && let Some(error) = self.error.take()
        {
            return Err(RecvError::Failed(error));
        }
        match &self.phase {
            Phase::SynSent(_) | Phase::SynReceived(_) => Err(RecvError::WouldBlock),
            Phase::Open(open) if !open.is_read_over() => Err(RecvError::WouldBlock),
            Phase::Open(_) | Phase::TimeWait(_) | Phase::Closed(_) => Ok(()),
        }
    }
}
