//! A receiver that waits for nothing in particular, in few bytes.

use super::super::ack_policy::{AckHabit, AckPolicy};
use super::super::common::Common;
use super::super::receive_queue::ReceiveQueue;
use super::super::receive_tuning::ReceiveTuning;
use super::{Receiver, ReceiverCounters};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;

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
    /// The receiver as it was.
    pub(in super::super) fn wake(&self, common: &Common, history: Option<&ReceiverHistory>) -> Receiver {
        let &Self { rcv_nxt, last_received, rcv_mss, first_window, tuning_space, .. } = self;
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
                None => ReceiveTuning::new(last_received, rcv_nxt, first_window, tuning_space),
            },
            buffer: self.buffer,
            window_clamp: common.options.window_clamp.unwrap_or(u32::MAX),
            advertised_mss: self.advertised_mss,
            is_fin_taken: false,
            urgent: None,
            has_ce: self.has_ce,
            counters: history.map(|history| history.counters).unwrap_or_default(),
        }
    }
}
