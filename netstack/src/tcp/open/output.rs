//! Segments that leave in the synchronised states.

use super::super::common::{Common, bare};
use super::super::num::sat_u32;
use super::super::segment::{Ecn, Payload, PlainTransmit, Transmit};
use super::super::sender::{DataOut, TIMESTAMPS_LEN, TransmitLimits};
use super::{Open, Synchronised};
use crate::hint::{likely, unlikely};
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlocks, TcpFlags, TcpRepr, Timestamps};

impl Open {
    /// Gives the next segment: data if the windows allow any, otherwise an ACK or probe that is due.
    pub(in super::super) fn poll_transmit(
        &mut self,
        common: &Common,
        now: Instant,
        max_payload: u32,
    ) -> Option<Transmit> {
        if !self.wants_to_transmit() {
            return None;
        }
        let (rcv_nxt, echo) = (self.rcv.rcv_nxt, self.rcv.timestamp_echo());
        let unconfirmed = self.unconfirmed.as_mut();
        if let Some(syn_ack) = unconfirmed.and_then(|it| it.poll_transmit(common, now, rcv_nxt, echo)) {
            self.segments_out += 1;
            self.rcv.policy.on_ack_sent(&common.config);
            return Some(syn_ack);
        }
        let sack = self.rcv.sack_blocks(self.max_sack_blocks());
        if self.snd.wants_to_send() {
            let sack_len = match sack.as_slice().len() {
                0 => 0,
                blocks => 4 + 8 * sat_u32(blocks),
            };
            let limits = self.limits(common, max_payload, sack_len);
            if let Some((seq, payload)) = self.snd.poll_last(&common.config, now, &limits) {
                return Some(self.last_segment(common, now, seq, payload, sack));
            }
            if let Some(data) = self.snd.poll_data(&common.config, now, limits) {
                return Some(self.data_segment(common, now, data, sack));
            }
            self.arm_cork(common, now);
        }
        if core::mem::take(&mut self.is_keepalive_due) {
            // RFC 1122 section 4.2.3.6: an old sequence number, which the peer has to answer.
            let seq = self.snd.snd_una - 1;
            return Some(bare(self.compose(common, now, seq, TcpFlags::ACK, sack)));
        }
        if self.rcv.policy.is_due() {
            let seq = self.acceptable_seq();
            return Some(bare(self.compose(common, now, seq, TcpFlags::ACK, sack)));
        }
        None
    }

    /// Queues a few bytes and gives them as the next segment, if that may go at once and there is nothing special about it.
    /// Otherwise nothing has happened; `send_copied` and `poll_transmit` do the same with anything.
    pub(in super::super) fn send_now(
        &mut self,
        common: &Common,
        now: Instant,
        data: &[u8],
    ) -> Option<PlainTransmit> {
        let len = sat_u32(data.len());
        let is_plain = likely(self.state == Synchronised::Established)
            && likely(self.unconfirmed.is_none())
            && likely(!self.is_keepalive_due)
            && likely(!self.has_more)
            && likely(self.cork_until.is_none())
            && likely(!self.is_cork_expired)
            && likely(!self.wants_rest)
            && likely(self.snd.not_sent() == 0)
            && likely(self.snd.has_room_behind(data.len()))
            && likely(!self.snd.is_urgent())
            && likely(!self.rcv.has_report());
        if !is_plain || unlikely(len == 0) {
            return None;
        }
        let limits = self.limits(common, 0, 0);
        if !self.snd.may_send_last(&common.config, now, len, &limits) {
            return None;
        }
        self.note_app_limit(common);
        self.snd.push_behind(data);
        let seq = self.snd.send_last(&common.config, now, len, limits.segment);
        self.rcv.policy.on_data_sent(now);
        let (window, timestamps) = (self.rcv.take_window_field(), self.timestamps(now));
        self.rcv.policy.on_ack_sent(&common.config);
        self.segments_out += 1;
        let ecn = if self.snd.has_ecn() { Ecn::Capable0 } else { Ecn::NotCapable };
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        Some(PlainTransmit { seq, ack: self.rcv.rcv_nxt, flags, window, timestamps, ecn })
    }

    /// Whether `poll_transmit` may have something.
    pub(in super::super) fn wants_to_transmit(&self) -> bool {
        self.rcv.policy.is_due()
            || self.is_keepalive_due
            || self.snd.wants_to_send()
            || self.unconfirmed.as_ref().is_some_and(|it| it.wants_to_transmit())
    }

    /// A RST of ours.
    pub(super) fn make_reset(&self, common: &Common, now: Instant) -> Box<Transmit> {
        let timestamps = self.timestamps(now);
        Box::new(common.reset(self.acceptable_seq(), Some(self.rcv.rcv_nxt), timestamps))
    }

    /// SND.NXT, or the window's edge should the peer have shrunk its window (Linux's `tcp_acceptable_seq`).
    fn acceptable_seq(&self) -> SeqNum {
        let edge = self.snd.snd_una + self.snd.snd_wnd;
        let past = self.snd.snd_nxt.saturating_since(edge);
        if past > 0 && past >= 1 << self.snd.wnd_shift() { edge } else { self.snd.snd_nxt }
    }

    /// The segment with all that was still to be sent, which is not empty.
    fn last_segment(
        &mut self,
        common: &Common,
        now: Instant,
        seq: SeqNum,
        payload: Payload,
        sack: SackBlocks,
    ) -> Transmit {
        self.rcv.policy.on_data_sent(now);
        let ecn = if self.snd.has_ecn() { Ecn::Capable0 } else { Ecn::NotCapable };
        let repr = self.compose(common, now, seq, TcpFlags::ACK | TcpFlags::PSH, sack);
        Transmit { repr, payload, gso_size: None, ecn }
    }

    fn data_segment(&mut self, common: &Common, now: Instant, data: DataOut, sack: SackBlocks) -> Transmit {
        let DataOut { seq, payload, has_fin, has_push, has_cwr, gso_size, is_new } = data;
        let mut flags = TcpFlags::ACK;
        flags.set(TcpFlags::PSH, has_push && !payload.is_empty());
        flags.set(TcpFlags::FIN, has_fin);
        flags.set(TcpFlags::CWR, has_cwr);
        if !payload.is_empty() {
            self.rcv.policy.on_data_sent(now);
        }
        let ecn =
            if is_new && self.snd.has_ecn() && !payload.is_empty() { Ecn::Capable0 } else { Ecn::NotCapable };
        if let Some(size) = gso_size {
            let segments = payload.len_u32().div_ceil(u32::from(size.get()));
            self.segments_out += u64::from(segments.saturating_sub(1));
        }
        let repr = self.compose(common, now, seq, flags, sack);
        Transmit { repr, payload, gso_size, ecn }
    }

    /// Makes the header of a segment that leaves now, with the latest acknowledgment and window.
    fn compose(
        &mut self,
        common: &Common,
        now: Instant,
        seq: SeqNum,
        flags: TcpFlags,
        sack: SackBlocks,
    ) -> TcpRepr {
        let mut repr = common.header(seq, self.rcv.rcv_nxt, flags);
        repr.flags.set(TcpFlags::ECE, self.rcv.has_ce);
        if let Some(pointer) = self.snd.urgent_pointer(seq) {
            repr.flags |= TcpFlags::URG;
            repr.urgent = pointer;
        }
        repr.window = self.rcv.take_window_field();
        repr.options.timestamps = self.timestamps(now);
        repr.options.sack = sack;
        self.rcv.on_sack_sent();
        self.rcv.policy.on_ack_sent(&common.config);
        self.segments_out += 1;
        repr
    }

    fn timestamps(&self, now: Instant) -> Option<Timestamps> {
        let value = self.snd.timestamp(now);
        self.snd.has_timestamps.then(|| Timestamps { value, echo: self.rcv.timestamp_echo() })
    }

    #[inline]
    fn limits(&self, common: &Common, max_payload: u32, sack_len: u32) -> TransmitLimits {
        let timestamps = if self.snd.has_timestamps { TIMESTAMPS_LEN } else { 0 };
        let segment = u32::from(self.snd.base_mss()).saturating_sub(timestamps + sack_len).max(1);
        // Each segment has its own urgent pointer, and nothing is worth waiting for (Linux's tcp_nagle_check).
        let is_urgent = self.snd.is_urgent();
        TransmitLimits {
            max_payload: if is_urgent { segment } else { max_payload.min(MAX_SUPER_SEGMENT) },
            segment,
            no_delay: common.options.no_delay || is_urgent,
            cork: (common.options.cork || self.has_more) && !self.is_cork_expired && !is_urgent,
        }
    }

    fn max_sack_blocks(&self) -> usize {
        if self.snd.has_timestamps { SackBlocks::MAX_WITH_TIMESTAMPS } else { SackBlocks::MAX }
    }

    /// Corked data waits 200 ms at most (tcp(7), TCP_CORK).
    fn arm_cork(&mut self, common: &Common, now: Instant) {
        if (common.options.cork || self.has_more)
            && self.snd.not_sent() > 0
            && self.cork_until.is_none()
            && !self.is_cork_expired
        {
            self.cork_until = Some(now + CORK_LIMIT);
        }
    }
}

const CORK_LIMIT: Duration = Duration::from_millis(200);
/// A super-segment's payload with its headers must fit the 16-bit length of an IP packet.
const MAX_SUPER_SEGMENT: u32 = 65_535 - 40 - 60;
