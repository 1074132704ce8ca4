//! Segments that arrive in the synchronised states (RFC 9293 section 3.10.7.4, with RFC 5961 and RFC 7323).

use super::super::common::Common;
use super::super::outcome::{CloseReason, DropReason, Events, Outcome, Verdict};
use super::super::receiver::{PayloadFacts, Taken};
use super::super::segment::{Ecn, SegmentIn};
use super::super::sender::{AckInput, Sender};
use super::{Next, Open, Reaction, Synchronised};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::TcpFlags;

/// Why a segment goes no further.
enum Reject {
    Drop(DropReason),
    Reset(CloseReason),
}

impl Open {
    /// Processes a segment and takes its payload.
    pub(in super::super) fn on_segment(
        &mut self,
        common: &Common,
        now: Instant,
        segment: &mut SegmentIn,
    ) -> Reaction {
        self.segments_in += u64::from(segment.merged);
        if let Some(unconfirmed) = self.unconfirmed.as_mut().filter(|it| it.is_same_syn(segment)) {
            unconfirmed.repeat();
            return self.dropped(DropReason::UnexpectedSyn, Events::empty());
        }
        match self.validate(common, now, segment) {
            Ok(()) => {}
            Err(Reject::Drop(reason)) => return self.dropped(reason, Events::empty()),
            Err(Reject::Reset(reason)) => return Reaction::closed(reason, None),
        }
        self.last_segment_at = now;
        self.keepalive_probes = 0;
        let mut events = Events::empty();
        if let Err(reason) = self.take_ack(common, now, segment, &mut events) {
            return self.dropped(reason, events);
        }
        self.note_ecn(segment);
        match self.after_ack(common, now, segment.repr.ack, &mut events) {
            Next::Stay => {}
            next => return Reaction { outcome: Outcome { verdict: Verdict::Accepted, events }, next },
        }
        if segment.repr.flags.contains(TcpFlags::URG) || self.rcv.is_urgent_announced() {
            // RFC 9293 section 3.10.7.4, sixth check: wherever the segment stands in the stream.
            let is_news = self.may_take_urgent() && self.rcv.on_urgent(segment, common.options.urgent_inline);
            events.set(Events::URGENT, is_news);
        }
        let reaction = self.take_payload(common, now, segment, events);
        self.arm_release(now);
        reaction
    }

    /// The checks before the ACK field: PAWS, sequence, RST, SYN, in Linux's order (`tcp_validate_incoming`).
    fn validate(&mut self, common: &Common, now: Instant, segment: &SegmentIn) -> Result<(), Reject> {
        let repr = &segment.repr;
        let is_reset = repr.flags.contains(TcpFlags::RST);
        if self.rcv.is_paws_violation(now, repr.options.timestamps) && !is_reset {
            // RFC 7323 section 5.3, R1: "send an acknowledgment in reply and drop the segment".
            self.answer_invalid(common, now, segment);
            return Err(Reject::Drop(DropReason::PawsOld));
        }
        if !self.rcv.is_acceptable(segment) {
            if is_reset {
                return Err(Reject::Drop(DropReason::OutOfWindow));
            }
            if repr.flags.contains(TcpFlags::SYN) {
                self.challenge(common, now);
                return Err(Reject::Drop(DropReason::UnexpectedSyn));
            }
            self.answer_invalid(common, now, segment);
            return Err(Reject::Drop(DropReason::OutOfWindow));
        }
        if is_reset {
            return Err(self.judge_reset(common, now, segment));
        }
        if repr.flags.contains(TcpFlags::SYN) {
            // RFC 5961 section 4.2: "TCP MUST send an ACK ... to the remote peer" whatever the sequence number.
            self.challenge(common, now);
            return Err(Reject::Drop(DropReason::UnexpectedSyn));
        }
        if !repr.flags.contains(TcpFlags::ACK) {
            return Err(Reject::Drop(DropReason::NoAck));
        }
        Ok(())
    }

    /// RFC 5961 section 3.2: only an exact RST resets. Like Linux, one that stands right behind the data received out of
    /// order is exact as well: the peer may not know of the hole.
    fn judge_reset(&mut self, common: &Common, now: Instant, segment: &SegmentIn) -> Reject {
        let seq = segment.repr.seq;
        if seq == self.rcv.rcv_nxt || self.rcv.highest_received() == Some(seq) {
            return Reject::Reset(match self.state {
                // Linux's tcp_reset: EPIPE in CLOSE-WAIT, otherwise ECONNRESET.
                Synchronised::CloseWait => CloseReason::ResetAfterFin,
                _ => CloseReason::Reset,
            });
        }
        self.challenge(common, now);
        Reject::Drop(DropReason::InexactReset)
    }

    /// Answers an unacceptable segment with an ACK; segments without data only so often, lest two ends ping-pong.
    fn answer_invalid(&mut self, common: &Common, now: Instant, segment: &SegmentIn) {
        let has_data = segment.sequence_len() > 0 && !segment.repr.flags.contains(TcpFlags::SYN);
        if has_data || self.challenge.allows(now, common.config.challenge_ack_interval) {
            self.rcv.note_old(&common.config, segment);
            self.rcv.policy.demand();
        }
    }

    /// RFC 5961's challenge ACK, within its rate (section 7).
    fn challenge(&mut self, common: &Common, now: Instant) {
        if self.challenge.allows(now, common.config.challenge_ack_interval) {
            self.rcv.policy.demand();
        }
    }

    /// RFC 3168 sections 6.1.3 and 6.1.2: remembers CE until the peer says CWR.
    fn note_ecn(&mut self, segment: &SegmentIn) {
        if !self.snd.has_ecn() {
            return;
        }
        let has_data = !segment.payload.is_empty();
        if segment.repr.flags.contains(TcpFlags::CWR) {
            self.rcv.has_ce = false;
            if has_data {
                // The peer's window may be down to this one segment (Linux's tcp_ecn_accept_cwr).
                self.rcv.policy.demand();
            }
        }
        // Section 6.1.5: not of what has come before, and section 6.1.4: not of what has no data.
        let is_new = has_data && (segment.repr.seq + segment.payload.len_u32()).gt(self.rcv.rcv_nxt);
        if is_new && segment.ecn == Ecn::CongestionExperienced {
            self.rcv.has_ce = true;
            self.rcv.policy.demand();
        }
    }

    /// The ACK field (RFC 9293 section 3.10.7.4 fifth check, RFC 5961 section 5.2).
    fn take_ack(
        &mut self,
        common: &Common,
        now: Instant,
        segment: &SegmentIn,
        events: &mut Events,
    ) -> Result<(), DropReason> {
        let repr = &segment.repr;
        let input = AckInput {
            now,
            seq: repr.seq,
            ack: repr.ack,
            window: self.snd.scale_window(repr.window),
            sack: repr.options.sack,
            echo: Sender::echo_of(repr.options.timestamps).filter(|_| self.snd.has_timestamps),
            has_ecn_echo: repr.flags.contains(TcpFlags::ECE),
            has_payload: !segment.payload.is_empty() || repr.flags.contains(TcpFlags::FIN),
        };
        if repr.ack.gt(self.snd.snd_nxt) {
            // "If the ACK acks something not yet sent, then send an ACK, drop the segment, and return."
            self.challenge(common, now);
            return Err(DropReason::BadAck);
        }
        if repr.ack.lt(self.snd.snd_una) {
            // RFC 5961 section 5.2: older than the largest window ever offered is an attack or a ghost.
            // Nothing can be older than the beginning (Linux: tcp_ack).
            let acked = u32::try_from(self.snd.counters.bytes_acked).unwrap_or(u32::MAX).saturating_add(1);
            if repr.ack.lt(self.snd.snd_una - self.snd.max_wnd().min(acked)) {
                self.challenge(common, now);
                return Err(DropReason::BadAck);
            }
            self.snd.on_old_ack(&common.config, input);
            return Ok(());
        }
        // Not before: who guesses a sequence number must not be able to make all that the peer sends look old.
        self.rcv.update_timestamp(now, repr.seq, repr.options.timestamps);
        if let Some(unconfirmed) = self.unconfirmed.take()
            && let Some(rtt) = unconfirmed.rtt(now)
        {
            self.snd.rtt.on_sample(now, rtt);
        }
        *events |= self.on_valid_ack(common, input);
        Ok(())
    }

    /// An acknowledgment within what is in flight.
    #[inline]
    pub(super) fn on_valid_ack(&mut self, common: &Common, input: AckInput) -> Events {
        // An ACK pushes what waits, promise or not (Linux's tcp_data_snd_check).
        self.has_more = false;
        let report = self.snd.on_ack(&common.config, input);
        if report.acked == 0 {
            Events::empty()
        } else if self.is_writable(common) {
            Events::ACKED | Events::WRITABLE
        } else {
            Events::ACKED
        }
    }

    /// "This should not occur since a FIN has been received from the remote side.  Ignore the URG."
    fn may_take_urgent(&self) -> bool {
        !self.is_fin_received()
    }

    /// What an acknowledgment of our FIN leads to.
    fn after_ack(&mut self, common: &Common, now: Instant, ack: SeqNum, events: &mut Events) -> Next {
        if !self.snd.is_fin_acked() {
            return Next::Stay;
        }
        match self.state {
            Synchronised::FinWait1 => {
                self.state = Synchronised::FinWait2;
                if self.is_orphan && !self.arm_fin_wait2(common, now) {
                    // TCP_LINGER2 below zero: nobody is there for what the peer still sends, and Linux says so.
                    return Next::Closed(CloseReason::Done, Some(Box::new(common.reset(ack, None, None))));
                }
                Next::Stay
            }
            Synchronised::Closing => {
                *events |= Events::TIME_WAIT;
                Next::TimeWait
            }
            Synchronised::LastAck => Next::Closed(CloseReason::Done, None),
            Synchronised::Established | Synchronised::CloseWait | Synchronised::FinWait2 => Next::Stay,
        }
    }

    /// Payload and FIN (RFC 9293 section 3.10.7.4 seventh and eighth checks).
    fn take_payload(
        &mut self,
        common: &Common,
        now: Instant,
        segment: &mut SegmentIn,
        mut events: Events,
    ) -> Reaction {
        let &mut SegmentIn { ref repr, ref mut payload, merged, true_size, ecn: _, headers: _ } = segment;
        let payload = core::mem::take(payload);
        let has_fin = repr.flags.contains(TcpFlags::FIN);
        if payload.is_empty() && !has_fin {
            return self.finish(events);
        }
        let data_end = repr.seq + payload.len_u32();
        if self.is_read_shut && self.is_write_shut() && !payload.is_empty() && data_end.gt(self.rcv.rcv_nxt) {
            // RFC 9293 section 3.6.1: "If a TCP implementation ... receives data after CLOSE ... it SHOULD send a RST".
            return Self::refuse_data(common, repr.ack, events);
        }
        if self.is_fin_received() {
            // Nothing can come after FIN; a repetition of what came before it wants its ACK again.
            if repr.seq.lt(self.rcv.rcv_nxt) {
                self.rcv.policy.demand();
            }
            return self.dropped(DropReason::Duplicate, events);
        }
        let facts = PayloadFacts {
            has_fin,
            merged,
            true_size,
            rtt: &self.snd.rtt,
            echo_age: self.echo_age(now, repr.options.timestamps.map(|timestamps| timestamps.echo)),
        };
        let taken = self.rcv.on_payload(&common.config, now, repr.seq, payload, facts);
        self.after_payload(taken, events).unwrap_or_else(|next| {
            events |= Events::READABLE | Events::READ_CLOSED | Events::TIME_WAIT;
            Reaction { outcome: Outcome { verdict: Verdict::Accepted, events }, next }
        })
    }

    /// Reports what was taken and moves on with the peer's FIN. `Err` when that ends the synchronised states.
    fn after_payload(&mut self, taken: Taken, mut events: Events) -> Result<Reaction, Next> {
        if taken.has_data {
            events |= Events::READABLE;
        }
        if taken.has_fin {
            events |= Events::READABLE | Events::READ_CLOSED;
            self.state = match self.state {
                Synchronised::Established => Synchronised::CloseWait,
                Synchronised::FinWait1 => {
                    // Nothing of ours is left that could carry the ACK.
                    self.rcv.policy.demand();
                    Synchronised::Closing
                }
                Synchronised::FinWait2 => return Err(Next::TimeWait),
                state @ (Synchronised::CloseWait | Synchronised::Closing | Synchronised::LastAck) => state,
            };
        }
        Ok(match taken.dropped {
            Some(reason) => self.dropped(reason, events),
            None => self.finish(events),
        })
    }

    /// Data for a user who has closed both directions.
    ///
    /// RFC 9293 section 3.10.7.1, as for a connection that is gone: `<SEQ=SEG.ACK><CTL=RST>`.
    fn refuse_data(common: &Common, ack: SeqNum, events: Events) -> Reaction {
        let reset = Box::new(common.reset(ack, None, None));
        let outcome = Outcome { verdict: Verdict::Dropped(DropReason::DataAfterClose), events };
        Reaction { outcome, next: Next::Closed(CloseReason::Aborted, Some(reset)) }
    }

    /// The age of the echo in a data segment: an upper bound of the round-trip time from here, in nanoseconds.
    pub(super) fn echo_age(&self, now: Instant, echo: Option<u32>) -> Option<u64> {
        let echo = echo.filter(|&echo| echo != 0)?;
        let age = self.snd.timestamp(now).wrapping_sub(echo);
        // Below a few milliseconds the clock's resolution says nothing.
        (4..60_000).contains(&age).then(|| u64::from(age) * 1_000_000)
    }

    fn dropped(&self, reason: DropReason, events: Events) -> Reaction {
        let mut reaction = self.finish(events);
        reaction.outcome.verdict = Verdict::Dropped(reason);
        reaction
    }

    fn finish(&self, mut events: Events) -> Reaction {
        if self.wants_to_transmit() {
            events |= Events::TRANSMIT;
        }
        Reaction::stay(events)
    }
}
