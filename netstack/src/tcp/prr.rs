//! Proportional rate reduction (RFC 6937, in the form of RFC 9937): how fast the window comes down in recovery.

/// The state during one reduction. All figures are bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prr {
    /// RecoverFS: what was in flight when recovery began.
    flight: u32,
    delivered: u32,
    out: u32,
}

/// An ACK during recovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct PrrAck {
    /// Bytes that this ACK newly reported as delivered.
    pub(super) delivered: u32,
    /// Bytes now believed in the network.
    pub(super) in_flight: u32,
    pub(super) ssthresh: u32,
    pub(super) mss: u32,
    /// SafeACK: it advanced SND.UNA and showed no new loss.
    pub(super) is_safe: bool,
}

impl Prr {
    pub(super) fn new(flight: u32) -> Self {
        Self { flight: flight.max(1), delivered: 0, out: 0 }
    }

    /// Notes bytes sent (or sent again) during recovery.
    pub(super) fn on_sent(&mut self, bytes: u32) {
        self.out = self.out.saturating_add(bytes);
    }

    /// Returns the congestion window after `ack`: what is in flight plus what may be sent now.
    pub(super) fn on_ack(&mut self, ack: &PrrAck) -> u32 {
        self.delivered = self.delivered.saturating_add(ack.delivered);
        let mut budget = if ack.in_flight > ack.ssthresh {
            // "Proportional Rate Reduction": sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out
            let due = (u64::from(self.delivered) * u64::from(ack.ssthresh)).div_ceil(u64::from(self.flight));
            u32::try_from(due).unwrap_or(u32::MAX).saturating_sub(self.out)
        } else {
            // Slow start reduction bound, or the conservative bound when losses continue.
            let mut limit = self.delivered.saturating_sub(self.out).max(ack.delivered);
            if ack.is_safe {
                limit = limit.saturating_add(ack.mss);
            }
            limit.min(ack.ssthresh - ack.in_flight)
        };
        // "Force a fast retransmit upon entering recovery".
        if self.out == 0 {
            budget = budget.max(ack.mss);
        }
        ack.in_flight.saturating_add(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// One loss out of 20: the window comes down to ssthresh evenly, and the first ACK may retransmit.
    #[test]
    fn single_loss_reduces_in_proportion() {
        let mut prr = Prr::new(20 * MSS);
        let ssthresh = 14 * MSS;
        let mut in_flight = 16 * MSS;
        let mut sent = 0;
        for _ in 0..16 {
            in_flight -= MSS;
            let cwnd = prr.on_ack(&PrrAck { delivered: MSS, in_flight, ssthresh, mss: MSS, is_safe: false });
            let room = (cwnd - in_flight) / MSS * MSS;
            prr.on_sent(room);
            in_flight += room;
            sent += room;
        }
        assert!((13 * MSS..=14 * MSS).contains(&in_flight), "{in_flight}");
        assert!(sent >= 11 * MSS, "{sent}");
    }

    #[test]
    fn after_heavy_loss_it_grows_back_to_ssthresh() {
        let mut prr = Prr::new(20 * MSS);
        let mut in_flight = 2 * MSS;
        for _ in 0..40 {
            in_flight -= MSS;
            let ack = PrrAck { delivered: MSS, in_flight, ssthresh: 10 * MSS, mss: MSS, is_safe: true };
            let cwnd = prr.on_ack(&ack);
            assert!(cwnd <= 10 * MSS);
            prr.on_sent(cwnd - in_flight);
            in_flight = cwnd;
        }
        assert_eq!(in_flight, 10 * MSS);
    }
}
