//! NewReno (RFC 5681, RFC 6582) with appropriate byte counting (RFC 3465).

use super::{AckedData, Window};

/// The controller's state.
#[derive(Clone, Debug, Default)]
pub(super) struct NewReno {
    /// Bytes acknowledged in congestion avoidance that have not yet been worth a segment.
    credit: u32,
}

impl NewReno {
    pub(super) fn is_unused(&self) -> bool {
        self.credit == 0
    }

    pub(super) fn on_ack(&mut self, window: &mut Window, acked: &AckedData) {
        let mut bytes = acked.bytes;
        if window.is_slow_start() {
            bytes = slow_start(window, bytes);
        }
        // RFC 3465 section 2.1: "cwnd SHOULD be incremented by SMSS when bytes_acked reaches cwnd".
        self.credit = self.credit.saturating_add(bytes);
        if self.credit >= window.cwnd {
            self.credit -= window.cwnd;
            window.cwnd = window.cwnd.saturating_add(window.mss);
        }
    }

    /// RFC 5681 equation 4, on the window as Linux does rather than the flight: a sender that is not limited by the
    /// window does not grow it either.
    pub(super) fn reduce(&mut self, window: &Window) -> u32 {
        self.credit = 0;
        // In whole segments: a fraction would have to be acknowledged with the rest for the next one, and never be sent.
        window.cwnd / 2 / window.mss.max(1) * window.mss
    }

    pub(super) fn on_timeout(&mut self) {
        self.credit = 0;
    }
}

/// Grows the window by the bytes acknowledged (RFC 3465 with L without limit, as Linux) up to `ssthresh`; returns the
/// bytes left for congestion avoidance.
pub(super) fn slow_start(window: &mut Window, bytes: u32) -> u32 {
    let grown = window.cwnd.saturating_add(bytes).min(window.ssthresh);
    let used = grown - window.cwnd;
    window.cwnd = grown;
    bytes - used
}
