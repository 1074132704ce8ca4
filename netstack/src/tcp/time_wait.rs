//! TIME-WAIT: the flow, the final numbers and a deadline (RFC 9293 sections 3.6.1 and 3.10.7.4, RFC 1337, RFC 6191).

use super::common::Common;
use super::outcome::{DropReason, Events, Outcome, Verdict};
use super::rate_limit::RateLimit;
use super::segment::{Ecn, PlainTransmit, SegmentIn};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, Timestamps};

/// The data of TIME-WAIT.
#[derive(Clone, Debug)]
pub(super) struct TimeWait {
    snd_nxt: SeqNum,
    rcv_nxt: SeqNum,
    /// The window field of the last ACK.
    window: u16,
    /// TS.Recent, when timestamps are in use.
    recent: Option<u32>,
    timestamp_offset: u32,
    deadline: Instant,
    is_ack_due: bool,
    challenge: RateLimit,
}

/// The numbers that TIME-WAIT begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct FinalNumbers {
    pub(super) snd_nxt: SeqNum,
    pub(super) rcv_nxt: SeqNum,
    pub(super) window: u16,
    pub(super) recent: Option<u32>,
    pub(super) timestamp_offset: u32,
    pub(super) is_ack_due: bool,
}

/// Whether the state goes on.
#[derive(Debug)]
pub(super) enum TimeWaitReaction {
    Stay(Outcome),
    Closed(Outcome),
}

impl TimeWait {
    pub(super) fn new(common: &Common, now: Instant, numbers: FinalNumbers) -> Self {
        let FinalNumbers { snd_nxt, rcv_nxt, window, recent, timestamp_offset, is_ack_due } = numbers;
        Self {
            snd_nxt,
            rcv_nxt,
            window,
            recent,
            timestamp_offset,
            deadline: now + common.config.time_wait,
            is_ack_due,
            challenge: RateLimit::default(),
        }
    }

    /// Processes a segment, in the order of Linux's `tcp_timewait_state_process`.
    pub(super) fn on_segment(
        &mut self,
        common: &Common,
        now: Instant,
        segment: &SegmentIn,
    ) -> TimeWaitReaction {
        let repr = &segment.repr;
        let tsval = repr.options.timestamps.map(|timestamps| timestamps.value);
        let age = self.recent.zip(tsval).map(|(recent, new)| new.wrapping_sub(recent).cast_signed());
        let is_old = age.is_some_and(|age| age < 0);
        let is_reset = repr.flags.contains(TcpFlags::RST);
        let is_exact = repr.seq == self.rcv_nxt && (is_reset || segment.sequence_len() == 0);
        if !is_old && is_exact {
            if is_reset && !common.config.time_wait_ignores_reset {
                let outcome = Outcome { verdict: Verdict::Accepted, events: Events::CLOSED };
                return TimeWaitReaction::Closed(outcome);
            }
            if is_reset {
                // RFC 1337 section 3: "ignore RST segments in TIME-WAIT state".
                return TimeWaitReaction::Stay(dropped(DropReason::ResetInTimeWait, false));
            }
            self.recent = tsval.or(self.recent);
            self.deadline = now + common.config.time_wait;
            return TimeWaitReaction::Stay(Outcome::default());
        }
        let flags = repr.flags & (TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK);
        // RFC 9293 section 3.6.1 (MAY-2) and RFC 6191 section 2: a SYN beyond the old numbers opens a new connection.
        let is_beyond = repr.seq.gt(self.rcv_nxt) || age.is_some_and(|age| age > 0);
        if flags == TcpFlags::SYN && !is_old && is_beyond {
            let isn_above = self.snd_nxt + REINCARNATION_GAP;
            let outcome = Outcome { verdict: Verdict::Reincarnate { isn_above }, events: Events::CLOSED };
            return TimeWaitReaction::Closed(outcome);
        }
        if is_reset {
            return TimeWaitReaction::Stay(dropped(DropReason::ResetInTimeWait, false));
        }
        // A retransmitted FIN, mostly: acknowledge it and start over.
        if is_old || repr.flags.contains(TcpFlags::ACK) {
            self.deadline = now + common.config.time_wait;
        }
        // What takes sequence space is no part of an ACK loop (Linux's tcp_oow_rate_limited).
        let is_data = segment.sequence_len() > 0 && !repr.flags.contains(TcpFlags::SYN);
        let is_answered = is_data || self.challenge.allows(now, common.config.challenge_ack_interval);
        self.is_ack_due |= is_answered;
        let reason = if is_old { DropReason::PawsOld } else { DropReason::OutOfWindow };
        TimeWaitReaction::Stay(dropped(reason, is_answered))
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    pub(super) fn wants_to_transmit(&self) -> bool {
        self.is_ack_due
    }

    /// Gives the ACK that is due.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<PlainTransmit> {
        if !core::mem::take(&mut self.is_ack_due) {
            return None;
        }
        let value = super::num::low_u32(now.as_millis()).wrapping_add(self.timestamp_offset);
        Some(PlainTransmit {
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: TcpFlags::ACK,
            window: self.window,
            timestamps: self.recent.map(|echo| Timestamps { value, echo }),
            ecn: Ecn::NotCapable,
        })
    }
}

fn dropped(reason: DropReason, transmits: bool) -> Outcome {
    let events = if transmits { Events::TRANSMIT } else { Events::empty() };
    Outcome { verdict: Verdict::Dropped(reason), events }
}

/// Linux: `tw_snd_nxt + 65535 + 2`, past whatever the old connection could still have in the network.
const REINCARNATION_GAP: u32 = 65_537;
