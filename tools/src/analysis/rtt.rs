//! Round-trip times from data to its acknowledgement, as seen from the capture point.

use std::collections::VecDeque;
use std::time::Duration;

use netstack_wire::seq::SeqNum;

/// Minimum, mean and maximum of round-trip times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    pub(crate) samples: u32,
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    total: Duration,
}

impl Rtt {
    fn add(&mut self, sample: Duration) {
        self.min = if self.samples == 0 { sample } else { self.min.min(sample) };
        self.max = self.max.max(sample);
        self.total = self.total.saturating_add(sample);
        self.samples = self.samples.saturating_add(1);
    }

    /// `None` without samples.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.total.checked_div(self.samples)
    }
}

/// Times segments from when they were sent to when they were acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Timing {
    pub(super) rtt: Rtt,
    /// In the order of their sequence numbers.
    outstanding: VecDeque<Outstanding>,
}

#[derive(Debug, Clone, Copy)]
struct Outstanding {
    end: SeqNum,
    sent: Duration,
    /// Sent once: an acknowledgement of what was sent twice could be of either copy (Karn's algorithm).
    is_timed: bool,
}

impl Timing {
    /// New data up to `end` was sent.
    pub(super) fn on_sent(&mut self, end: SeqNum, sent: Duration) {
        if self.outstanding.len() < MAX_OUTSTANDING {
            self.outstanding.push_back(Outstanding { end, sent, is_timed: true });
        }
    }

    /// Data from `start` to `end` was sent again.
    pub(super) fn on_sent_again(&mut self, start: SeqNum, end: SeqNum) {
        for outstanding in self.outstanding.iter_mut().filter(|o| o.end.gt(start)) {
            outstanding.is_timed = false;
            if outstanding.end.ge(end) {
                break;
            }
        }
    }

    /// Nothing that was sent so far can be timed.
    pub(super) fn forget(&mut self) {
        self.outstanding.clear();
    }

    /// Everything up to `ack` arrived; the time since the newest of it was sent, if that is known.
    pub(super) fn on_acked(&mut self, ack: SeqNum, now: Duration) -> Option<Duration> {
        let mut newest = None;
        // Behind what was sent twice, an acknowledgement waits for the second copy.
        let mut is_certain = true;
        while let Some(first) = self.outstanding.front().filter(|o| o.end.le(ack)) {
            is_certain &= first.is_timed;
            newest = Some(first.sent);
            self.outstanding.pop_front();
        }
        let sample = newest.filter(|_| is_certain).and_then(|sent| now.checked_sub(sent))?;
        self.rtt.add(sample);
        Some(sample)
    }
}

/// Beyond a window of that many segments some go untimed.
const MAX_OUTSTANDING: usize = 65_536;
