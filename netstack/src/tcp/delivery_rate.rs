//! Delivery-rate sampling (draft-cheng-iccrg-delivery-rate-estimation): how fast the network delivered what an ACK
//! acknowledges.
//!
//! Each transmission remembers how much had been delivered when it left; the ACK that delivers it divides what was
//! delivered since by the time that took. Bytes where the draft counts packets.

use crate::time::{Instant, nanos_of};
use core::time::Duration;

/// The connection's side: the draft's `C.*`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeliveryRate {
    /// C.delivered: bytes ever delivered, selectively or not.
    delivered: u64,
    /// C.delivered_time.
    delivered_at: Instant,
    /// C.first_sent_time: when the most recently delivered data of this flight had been sent.
    first_sent_at: Instant,
    /// C.app_limited: until so much has been delivered, samples say how fast the application was; zero if they do not.
    app_limited_until: u64,
}

/// What a transmission remembers: the draft's `P.*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Snapshot {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    is_app_limited: bool,
}

/// What an ACK measures: the draft's `rs.*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RateSample {
    /// C.delivered when the data that this ACK delivers was sent.
    pub(super) prior_delivered: u64,
    /// Bytes delivered since.
    pub(super) delivered: u64,
    /// How long that took; not zero.
    pub(super) interval: Duration,
    /// The application, rather than the network, may have set the rate.
    pub(super) is_app_limited: bool,
}

impl DeliveryRate {
    /// Bytes ever delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the application has left room in the window.
    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited_until > 0
    }

    /// Something is sent; `is_first` if nothing else is outstanding.
    pub(super) fn on_sent(&mut self, now: Instant, is_first: bool) -> Snapshot {
        if is_first {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            is_app_limited: self.is_app_limited(),
        }
    }

    /// The application had nothing to send although the window had room; `in_flight` bytes are on their way.
    pub(super) fn on_app_limited(&mut self, in_flight: u32) {
        self.app_limited_until = (self.delivered + u64::from(in_flight)).max(1);
    }

    /// An ACK delivered `bytes`; `newest` is the last-sent transmission among them, with the time when it was sent.
    ///
    /// Intervals below `min_rtt`, in nanoseconds, are an artefact of data that was delivered before and acknowledged only now, which the
    /// draft says to leave out.
    pub(super) fn on_delivered(
        &mut self,
        now: Instant,
        bytes: u32,
        newest: (Instant, Snapshot),
        min_rtt: Option<u64>,
    ) -> Option<RateSample> {
        self.delivered += u64::from(bytes);
        self.delivered_at = now;
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let (sent_at, snapshot) = newest;
        self.first_sent_at = sent_at;
        // "Use the longer of the send_elapsed and ack_elapsed": neither bunched ACKs nor a burst make it look faster.
        let nanos = sent_at.nanos_since(snapshot.first_sent_at).max(now.nanos_since(snapshot.delivered_at));
        if nanos == 0 || min_rtt.is_some_and(|min| nanos < min) {
            return None;
        }
        let interval = Duration::from_nanos(nanos);
        Some(RateSample {
            prior_delivered: snapshot.delivered,
            delivered: self.delivered - snapshot.delivered,
            interval,
            is_app_limited: snapshot.is_app_limited,
        })
    }
}

impl RateSample {
    /// Bytes a second.
    pub(super) fn rate(&self) -> u64 {
        per_second(self.delivered, self.interval)
    }
}

/// `bytes` in `span` as bytes a second.
pub(super) fn per_second(bytes: u64, span: Duration) -> u64 {
    let nanos = nanos_of(span).max(1);
    match bytes.checked_mul(1_000_000_000) {
        Some(scaled) => scaled / nanos,
        // A division of 128 bits takes many times as long.
        None => u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(nanos)).unwrap_or(u64::MAX),
    }
}

/// What `rate` bytes a second are in `span`.
pub(super) fn bytes_in(rate: u64, span: Duration) -> u64 {
    u64::try_from(u128::from(rate) * span.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Ten segments, one every 10 ms, over 100 ms: 100 kB/s, whichever way the ACKs come.
    #[test]
    fn steady_stream_is_measured_at_its_rate() {
        for ack_every in [1_u32, 2, 5] {
            let mut rate = DeliveryRate::default();
            let mut sent: Vec<(Instant, Snapshot)> = Vec::new();
            let mut last = None;
            for i in 0..40_u64 {
                let now = at(i * 10);
                if i >= 10 && (i + 1) % u64::from(ack_every) == 0 {
                    let newest = sent[usize::try_from(i - 10).unwrap()];
                    last = rate.on_delivered(now, MSS * ack_every, newest, None);
                }
                sent.push((now, rate.on_sent(now, i == 0)));
            }
            let measured = last.unwrap().rate();
            assert!((90_000..=110_000).contains(&measured), "{ack_every}: {measured}");
        }
    }

    #[test]
    fn compressed_acks_do_not_look_faster_than_the_sending() {
        let mut rate = DeliveryRate::default();
        let sent: Vec<_> = (0..10).map(|i| (at(i * 10), rate.on_sent(at(i * 10), i == 0))).collect();
        // All arrive at once.
        let sample = (0..10).filter_map(|i| rate.on_delivered(at(200), MSS, sent[i], None)).last().unwrap();
        assert!(sample.rate() <= 10 * u64::from(MSS) * 1000 / 90, "{}", sample.rate());
    }

    #[test]
    fn interval_below_the_least_round_trip_is_no_sample() {
        let mut rate = DeliveryRate::default();
        let newest = (at(0), rate.on_sent(at(0), true));
        let min_rtt = Some(50_000_000);
        assert_eq!(rate.on_delivered(at(20), MSS, newest, min_rtt), None);
        assert_eq!(rate.delivered(), u64::from(MSS), "it counts all the same");
    }

    #[test]
    fn application_limit_lasts_until_what_was_in_flight_is_delivered() {
        let mut rate = DeliveryRate::default();
        let first = (at(0), rate.on_sent(at(0), true));
        rate.on_app_limited(2 * MSS);
        let second = (at(1), rate.on_sent(at(1), false));
        let sample = rate.on_delivered(at(10), MSS, first, None).unwrap();
        assert!(!sample.is_app_limited && rate.is_app_limited());
        assert!(rate.on_delivered(at(11), MSS, second, None).unwrap().is_app_limited);
        let third = (at(12), rate.on_sent(at(12), false));
        let _ = rate.on_delivered(at(20), MSS, third, None);
        assert!(!rate.is_app_limited());
    }
}
