//! A receiver that waits for nothing in particular, in few bytes.
//!
//! Every receiver begins as one: the handshake makes it, and what it needs besides comes with the first data.

use super::super::ack_policy::{AckHabit, AckPolicy};
use super::super::config::Config;
use super::super::negotiated::{Negotiated, window_space};
use super::super::num::sat_u16;
use super::super::options::Options;
use super::super::receive_queue::ReceiveQueue;
use super::super::receive_tuning::ReceiveTuning;
use super::{Receiver, ReceiverCounters, WindowOffer, is_timestamp_old};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::Timestamps;

/// What a receiver with an empty queue keeps, besides its [`ReceiverHistory`].
#[derive(Clone, Debug)]
pub(in super::super) struct RestingReceiver {
    rcv_nxt: SeqNum,
    last_ack_sent: SeqNum,
    rcv_wnd: u32,
    buffer: u32,
    /// TS.Recent and when it was taken, where timestamps are in use.
    recent: u32,
    recent_at: Instant,
    advertised_mss: u16,
    wnd_shift: u8,
    has_window_scaling: bool,
    has_sack: bool,
    has_timestamps: bool,
    has_ce: bool,
    rcv_mss: u32,
    /// When data came last, or when the connection was established.
    last_received: Instant,
    /// Of a receiver without history: the first window and what it began to measure with.
    first_window: u32,
    tuning_space: u32,
}

/// What receiving has taught: the rest of a receiver that has received data.
#[derive(Clone, Debug)]
pub(in super::super) struct ReceiverHistory {
    habit: AckHabit,
    tuning: ReceiveTuning,
    counters: ReceiverCounters,
}

impl Receiver {
    /// Whether everything has been read and acknowledged and nothing is missing.
    pub(in super::super) fn can_rest(&self) -> bool {
        self.queue.is_empty()
            && self.out_of_order.is_none()
            && self.dsack.is_none()
            && self.fin_at.is_none()
            && self.urgent.is_none()
            && !self.policy.is_owed()
    }

    /// The part of an idle receiver that each one has.
    pub(in super::super) fn rest(&self) -> RestingReceiver {
        // All fields: one that is forgotten here would be lost.
        let Self {
            rcv_nxt,
            last_ack_sent,
            rcv_wnd,
            wnd_shift,
            has_window_scaling,
            has_sack,
            queue: _,
            out_of_order: _,
            dsack: _,
            fin_at: _,
            timestamps,
            policy,
            tuning,
            buffer,
            window_clamp: _,
            advertised_mss,
            // Only an established connection rests.
            is_fin_taken: _,
            urgent: _,
            has_ce,
            counters: _,
        } = self;
        let (recent, recent_at) = timestamps.unwrap_or_default();
        RestingReceiver {
            rcv_nxt: *rcv_nxt,
            last_ack_sent: *last_ack_sent,
            rcv_wnd: *rcv_wnd,
            buffer: *buffer,
            recent,
            recent_at,
            advertised_mss: *advertised_mss,
            wnd_shift: *wnd_shift,
            has_window_scaling: *has_window_scaling,
            has_sack: *has_sack,
            has_timestamps: timestamps.is_some(),
            has_ce: *has_ce,
            rcv_mss: policy.rcv_mss(),
            last_received: policy.last_received(),
            first_window: tuning.first_window(),
            tuning_space: tuning.space(),
        }
    }

    /// Whether its history would be that of a receiver just made.
    pub(in super::super) fn is_unused(&self) -> bool {
        let ReceiverCounters { bytes_received, out_of_order } = self.counters;
        bytes_received == 0
            && out_of_order == 0
            && self.policy.habit() == AckHabit::default()
            && self.tuning.is_unused(self.policy.last_received(), self.rcv_nxt)
    }

    /// The other part.
    pub(in super::super) fn history(&self) -> ReceiverHistory {
        ReceiverHistory { habit: self.policy.habit(), tuning: self.tuning, counters: self.counters }
    }
}

impl RestingReceiver {
    /// Starts with what the handshake agreed on.
    pub(in super::super) fn new(config: &Config, options: &Options, negotiated: &Negotiated) -> Self {
        let now = negotiated.now;
        let rcv_nxt = negotiated.irs + 1;
        let (recent, recent_at) = negotiated.timestamps.map(|value| (value, now)).unwrap_or_default();
        Self {
            rcv_nxt,
            last_ack_sent: rcv_nxt,
            rcv_wnd: negotiated.rcv_wnd,
            buffer: options.receive_buffer.unwrap_or(config.receive_buffer.default),
            recent,
            recent_at,
            advertised_mss: negotiated.advertised_mss,
            wnd_shift: negotiated.rcv_wnd_shift,
            has_window_scaling: negotiated.has_window_scaling,
            has_sack: negotiated.has_sack,
            has_timestamps: negotiated.timestamps.is_some(),
            has_ce: false,
            rcv_mss: AckPolicy::first_mss(u32::from(negotiated.advertised_mss)),
            last_received: now,
            first_window: negotiated.rcv_wnd,
            tuning_space: negotiated
                .rcv_wnd
                .min(config.initial_window * u32::from(negotiated.advertised_mss)),
        }
    }

    pub(in super::super) fn rcv_nxt(&self) -> SeqNum {
        self.rcv_nxt
    }

    pub(in super::super) fn has_ce(&self) -> bool {
        self.has_ce
    }

    /// The window as it was offered last.
    pub(in super::super) fn rcv_wnd(&self) -> u32 {
        self.rcv_wnd
    }

    pub(in super::super) fn wnd_shift(&self) -> u8 {
        self.wnd_shift
    }

    /// TS.Recent, where timestamps are in use.
    pub(in super::super) fn recent(&self) -> Option<u32> {
        self.has_timestamps.then_some(self.recent)
    }

    /// As [`Receiver::is_paws_violation`].
    pub(in super::super) fn is_paws_violation(&self, now: Instant, timestamps: Option<Timestamps>) -> bool {
        let recent = self.has_timestamps.then_some((self.recent, self.recent_at));
        is_timestamp_old(recent, now, timestamps)
    }

    /// As [`Receiver::update_timestamp`] for a segment at RCV.NXT that is no PAWS violation.
    pub(in super::super) fn update_timestamp(&mut self, now: Instant, timestamps: Option<Timestamps>) {
        if let (Some(new), true) = (timestamps, self.has_timestamps && self.rcv_nxt.le(self.last_ack_sent)) {
            (self.recent, self.recent_at) = (new.value, now);
        }
    }

    /// Takes a FIN at RCV.NXT.
    pub(in super::super) fn take_fin(&mut self) {
        self.rcv_nxt += 1;
    }

    /// As [`Receiver::take_window_field`] with an empty queue.
    pub(in super::super) fn take_window_field(&mut self, options: &Options) -> u16 {
        let offer = WindowOffer {
            open: (self.last_ack_sent + self.rcv_wnd).saturating_since(self.rcv_nxt),
            full: window_space(self.buffer, options.window_clamp.unwrap_or(u32::MAX)),
            queued: 0,
            rcv_mss: self.rcv_mss,
            shift: self.wnd_shift,
        };
        let field = sat_u16(offer.window() >> self.wnd_shift);
        self.rcv_wnd = u32::from(field) << self.wnd_shift;
        self.last_ack_sent = self.rcv_nxt;
        field
    }

    /// The receiver as it was. `is_fin_taken`: the peer's FIN has come, and nothing else.
    pub(in super::super) fn wake(
        &self,
        options: &Options,
        history: Option<&ReceiverHistory>,
        is_fin_taken: bool,
    ) -> Receiver {
        let &Self { rcv_nxt, last_received, rcv_mss, first_window, tuning_space, .. } = self;
        let data_end = rcv_nxt - u32::from(is_fin_taken);
        Receiver {
            rcv_nxt,
            last_ack_sent: self.last_ack_sent,
            rcv_wnd: self.rcv_wnd,
            wnd_shift: self.wnd_shift,
            has_window_scaling: self.has_window_scaling,
            has_sack: self.has_sack,
            queue: ReceiveQueue::default(),
            out_of_order: None,
            dsack: None,
            fin_at: None,
            timestamps: self.has_timestamps.then_some((self.recent, self.recent_at)),
            policy: AckPolicy::resumed(
                last_received,
                rcv_mss,
                history.map_or_else(AckHabit::default, |it| it.habit),
            ),
            tuning: match history {
                Some(history) => history.tuning,
                None => ReceiveTuning::new(last_received, data_end, first_window, tuning_space),
            },
            buffer: self.buffer,
            window_clamp: options.window_clamp.unwrap_or(u32::MAX),
            advertised_mss: self.advertised_mss,
            is_fin_taken,
            urgent: None,
            has_ce: self.has_ce,
            counters: history.map(|history| history.counters).unwrap_or_default(),
        }
    }
}
