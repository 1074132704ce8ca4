//! Dynamic right-sizing: the receive buffer follows the rate at which the user reads (Linux's `tcp_rcv_space_adjust`).

use crate::hint::likely;
use crate::time::Instant;
use core::num::NonZeroU64;
use netstack_wire::seq::SeqNum;

/// The measurement of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveTuning {
    /// The receiver's own estimate of the round-trip time in nanoseconds.
    rtt: Option<NonZeroU64>,
    /// When the RTT measurement began and the sequence number whose arrival ends it: one window later.
    rtt_from: Instant,
    rtt_until: SeqNum,
    /// What the user read in the last round trip.
    space: u32,
    /// The start of the current measurement: what had been read, and when.
    read_from: SeqNum,
    since: Instant,
}

impl ReceiveTuning {
    pub(super) fn new(now: Instant, rcv_nxt: SeqNum, window: u32, space: u32) -> Self {
        Self { rtt: None, rtt_from: now, rtt_until: rcv_nxt + window, space, read_from: rcv_nxt, since: now }
    }

    /// Whether nothing was measured: it is as made at `since`.
    pub(super) fn is_unused(&self, since: Instant, rcv_nxt: SeqNum) -> bool {
        let Self { rtt, rtt_from, rtt_until: _, space: _, read_from, since: from } = *self;
        rtt.is_none() && rtt_from == since && from == since && read_from == rcv_nxt
    }

    /// The window it was made with, while [`is_unused`](Self::is_unused).
    pub(super) fn first_window(&self) -> u32 {
        self.rtt_until.saturating_since(self.read_from)
    }

    /// What the user read in the last round trip (`tcpi_rcv_space`).
    pub(super) fn space(&self) -> u32 {
        self.space
    }

    /// Data has arrived up to `rcv_nxt`, with `window` open. A whole window takes at least one round trip. `echo_age` is in
    /// nanoseconds.
    pub(super) fn on_data(&mut self, now: Instant, rcv_nxt: SeqNum, window: u32, echo_age: Option<u64>) {
        if let Some(age) = echo_age {
            self.sample(age);
        }
        if rcv_nxt.ge(self.rtt_until) {
            self.sample(now.nanos_since(self.rtt_from));
            self.rtt_from = now;
            self.rtt_until = rcv_nxt + window;
        }
    }

    /// The user has read up to `read_to`. Returns the window that the buffer should offer, if that is more than the last
    /// measurement asked for.
    pub(super) fn on_read(&mut self, now: Instant, read_to: SeqNum, mss: u32) -> Option<u32> {
        if now.nanos_since(self.since) < self.rtt?.get() {
            return None;
        }
        let copied = read_to - self.read_from;
        let previous = self.space;
        self.read_from = read_to;
        self.since = now;
        if likely(copied <= previous) {
            return None;
        }
        self.space = copied;
        // "rcvwin = 2 * copied + 16 * advmss", plus twice the growth, so that slow start is never held back.
        let window = u64::from(copied) * 2 + 16 * u64::from(mss);
        // Who repairs a connection can move its sequence numbers by as much as there is, which is nothing that was read.
        let grow = window.saturating_mul(u64::from(copied - previous)) / u64::from(previous.max(1));
        Some(u32::try_from(window.saturating_add(grow.saturating_mul(2))).unwrap_or(u32::MAX))
    }

    #[inline(never)]
    fn sample(&mut self, rtt: u64) {
        let rtt = rtt.max(MIN_RTT);
        self.rtt = NonZeroU64::new(match self.rtt {
            // The least is nearest the truth; upward it only drifts.
            Some(old) if rtt > old.get() => (old.get().saturating_mul(7).saturating_add(rtt)) / 8,
            _ => rtt,
        });
    }
}

/// Below this, in nanoseconds, scheduling noise is larger than the path.
const MIN_RTT: u64 = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_that_was_moved_by_all_there_is_asks_for_the_largest_window() {
        let start = SeqNum(1);
        let mut tuning = ReceiveTuning::new(Instant::ZERO, start, 65_535, 1);
        tuning.sample(MIN_RTT);
        let later = Instant::ZERO + core::time::Duration::from_secs(1);
        assert_eq!(tuning.on_read(later, start + u32::MAX, 1460), Some(u32::MAX));
    }
}
