//! The fast path of input: the next segment in order of an established connection to which nothing out of the ordinary
//! has happened (Van Jacobson's header prediction).
//!
//! Taken are plain segments ([`PlainSegment`]) with all of these; everything else goes to `on_segment`, which does the same
//! with any segment:
//! - the connection is ESTABLISHED, and our SYN is acknowledged; the segment carries no FIN;
//! - the segment starts at RCV.NXT and fits the window, nothing waits out of order, and no FIN was seen behind a hole;
//! - its timestamp is not old (PAWS), and no urgent byte is announced;
//! - it acknowledges something between SND.UNA and SND.NXT.
//!
//! What is left of RFC 9293 section 3.10.7.4 is the acknowledgment, which the sender treats as any other, and an append to
//! the receive queue.

use super::super::common::Common;
use super::super::num::sat_u32;
use super::super::outcome::Events;
use super::super::receiver::PayloadFacts;
use super::super::segment::PlainSegment;
use super::super::sender::{AckInput, Sender};
use super::{Open, Synchronised};
use crate::hint::{likely, unlikely};
use crate::time::Instant;
use netstack_wire::tcp::SackBlocks;

impl Open {
    /// Processes a segment if it is the expected one; otherwise nothing happens, and the caller turns to `on_segment`.
    pub(in super::super) fn on_plain(
        &mut self,
        common: &Common,
        now: Instant,
        segment: &PlainSegment<'_>,
    ) -> Option<Events> {
        if unlikely(!self.expects(now, segment)) {
            return None;
        }
        let &PlainSegment { seq, ack, window, is_pushed: _, has_fin: _, timestamps, payload } = segment;
        self.segments_in += 1;
        self.rcv.update_timestamp(now, seq, timestamps);
        self.last_segment_at = now;
        self.keepalive_probes = 0;
        let input = AckInput {
            now,
            seq,
            ack,
            window: self.snd.scale_window(window),
            sack: SackBlocks::default(),
            echo: Sender::echo_of(timestamps).filter(|_| self.snd.has_timestamps),
            has_ecn_echo: false,
            has_payload: !payload.is_empty(),
        };
        let mut events = self.on_valid_ack(common, input);
        if !payload.is_empty() {
            let facts = PayloadFacts {
                has_fin: false,
                merged: 1,
                true_size: sat_u32(payload.len()),
                rtt: &self.snd.rtt,
                echo_age: self.echo_age(now, timestamps.map(|timestamps| timestamps.echo)),
            };
            self.rcv.on_next_payload(&common.config, now, payload, &facts);
            events |= Events::READABLE;
        }
        self.arm_release(now);
        if self.wants_to_transmit() {
            events |= Events::TRANSMIT;
        }
        Some(events)
    }

    /// The preconditions.
    fn expects(&self, now: Instant, segment: &PlainSegment<'_>) -> bool {
        likely(!segment.has_fin)
            && likely(self.state == Synchronised::Established)
            && likely(self.unconfirmed.is_none())
            && likely(!self.rcv.is_urgent_announced())
            && likely(self.rcv.is_next(segment.seq, segment.payload.len()))
            && likely(!self.rcv.is_paws_violation(now, segment.timestamps))
            && likely(segment.ack.ge(self.snd.snd_una))
            && likely(segment.ack.le(self.snd.snd_nxt))
    }
}
