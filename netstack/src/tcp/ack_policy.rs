//! When to acknowledge: at once, or a little later with company (RFC 9293 section 3.8.6.3, RFC 5681 section 4.2).
//!
//! Linux's rules: quick ACKs while the peer's window is likely to be small, otherwise one ACK for two full segments, a
//! timer adapted to the gaps between arrivals, and none of the delay's benefit lost on one-way streams.

use super::config::Config;
use crate::hint::{cold_path, unlikely};
use crate::time::{Instant, nanos_of};
use core::time::Duration;

/// The acknowledgment policy of one connection.
#[derive(Clone, Debug)]
pub(super) struct AckPolicy {
    pending: Pending,
    /// ACKs still to be sent at once.
    quick: u8,
    /// The user answers what arrives, so ACKs can ride on the answers.
    is_interactive: bool,
    /// The delay in use in nanoseconds (Linux's `ato`); `None` before the first data.
    delay: Option<u64>,
    last_received: Instant,
    /// The largest payload seen lately: what the peer's full segments look like.
    rcv_mss: u32,
}

/// What a policy under which nothing is owed has learnt; the rest is as it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct AckHabit {
    quick: u8,
    is_interactive: bool,
    delay: Option<u64>,
}

/// Whether an ACK is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    None,
    Delayed(Instant),
    Now,
}

impl AckPolicy {
    /// What the peer's full segments may look like, before any has come.
    pub(super) fn first_mss(mss_hint: u32) -> u32 {
        mss_hint.clamp(MIN_RCV_MSS, DEFAULT_RCV_MSS)
    }

    /// A policy that goes on where another one was left, or, without habits, begins.
    pub(super) fn resumed(last_received: Instant, rcv_mss: u32, habit: AckHabit) -> Self {
        let AckHabit { quick, is_interactive, delay } = habit;
        Self { pending: Pending::None, quick, is_interactive, delay, last_received, rcv_mss }
    }

    /// See [`resumed`](Self::resumed).
    pub(super) fn habit(&self) -> AckHabit {
        let Self { pending: _, quick, is_interactive, delay, last_received: _, rcv_mss: _ } = *self;
        AckHabit { quick, is_interactive, delay }
    }

    pub(super) fn rcv_mss(&self) -> u32 {
        self.rcv_mss
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_nanos(self.delay.unwrap_or_default())
    }

    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    pub(super) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    pub(super) fn is_due(&self) -> bool {
        self.pending == Pending::Now
    }

    /// Whether any ACK is owed, now or later.
    pub(super) fn is_owed(&self) -> bool {
        self.pending != Pending::None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.pending {
            Pending::Delayed(at) => Some(at),
            Pending::None | Pending::Now => None,
        }
    }

    /// Data arrived: `largest` is the payload of its largest wire segment, `rto` in nanoseconds, `window` what was offered.
    /// Adapts the delay.
    pub(super) fn on_data(
        &mut self,
        config: &Config,
        now: Instant,
        largest: u32,
        rto: impl FnOnce() -> u64,
        window: u32,
    ) {
        self.rcv_mss = match largest {
            len if len >= self.rcv_mss => len,
            // A smaller full-sized segment shows a smaller MSS; Linux wants to see it twice, we let it sink slowly.
            len if len >= MIN_RCV_MSS => self.rcv_mss - (self.rcv_mss - len) / 16,
            _ => self.rcv_mss,
        };
        let min = nanos_of(config.delayed_ack_min);
        match self.delay {
            None => {
                cold_path();
                self.raise_quick(window);
                self.delay = Some(min);
            }
            Some(delay) => {
                let gap = now.nanos_since(self.last_received);
                if gap <= min / 2 {
                    self.delay = Some(delay / 2 + min / 2);
                } else if gap < delay {
                    self.delay = Some((delay / 2).saturating_add(gap).min(rto()));
                } else if unlikely(gap > rto()) {
                    // The sender has restarted and waits for each ACK.
                    self.raise_quick(window);
                }
            }
        }
        self.last_received = now;
    }

    /// Decides about the ACK for data just taken. `srtt` is in nanoseconds, zero while it is not known. `is_urgent`: more than
    /// a full segment is unacknowledged, or there is a hole.
    #[inline]
    pub(super) fn schedule(&mut self, config: &Config, now: Instant, srtt: u64, is_urgent: bool) {
        if is_urgent || self.quick > 0 && !self.is_interactive {
            self.pending = Pending::Now;
            return;
        }
        if self.pending == Pending::Now {
            return;
        }
        let (min, max) = (nanos_of(config.delayed_ack_min), nanos_of(config.delayed_ack_limit()));
        let mut delay = self.delay.unwrap_or(nanos_of(BARE_FIN_DELAY));
        if delay > min {
            let most = if self.is_interactive { max } else { HALF_SECOND };
            delay = delay.min(if srtt == 0 { most } else { srtt.max(min).min(most) });
        }
        let at = now.plus_nanos(delay.min(max));
        self.pending = match self.pending {
            // "An ACK SHOULD be generated for at least every second full-sized segment, and MUST be generated within
            // 500 ms of the arrival of the first unacknowledged packet": the earlier deadline stays.
            Pending::Delayed(earlier) => Pending::Delayed(earlier.min(at)),
            _ => Pending::Delayed(at),
        };
    }

    /// An ACK may wait until then, if none has to go out sooner.
    pub(super) fn allow_until(&mut self, at: Instant) {
        if self.pending == Pending::None {
            self.pending = Pending::Delayed(at);
        }
    }

    /// An ACK has to go out at once.
    pub(super) fn demand(&mut self) {
        self.pending = Pending::Now;
    }

    /// A segment with an up-to-date acknowledgment left.
    pub(super) fn on_ack_sent(&mut self, config: &Config) {
        self.pending = Pending::None;
        if unlikely(self.quick > 0) {
            self.quick -= 1;
            if self.quick == 0 {
                self.delay = self.delay.map(|_| nanos_of(config.delayed_ack_min));
            }
        }
    }

    /// Data left soon after data came: an interactive exchange.
    pub(super) fn on_data_sent(&mut self, now: Instant) {
        if self.delay.is_some_and(|delay| now.nanos_since(self.last_received) < delay) {
            self.is_interactive = true;
        }
    }

    /// Runs the timer; `rto` is in nanoseconds.
    pub(super) fn on_timer(&mut self, config: &Config, now: Instant, rto: u64) {
        let Pending::Delayed(at) = self.pending else { return };
        if now < at {
            return;
        }
        self.pending = Pending::Now;
        if self.is_interactive {
            // The guess was wrong: the user did not answer in time.
            self.is_interactive = false;
            self.delay = Some(nanos_of(config.delayed_ack_min));
        } else {
            self.delay = self.delay.map(|delay| delay.saturating_mul(2).min(rto));
        }
    }

    /// `TCP_QUICKACK`.
    pub(super) fn set_quick(&mut self, on: bool, window: u32) {
        self.is_interactive = !on;
        self.quick = if on { self.max_quick(window) } else { 0 };
        if on && self.is_owed() {
            self.pending = Pending::Now;
        }
    }

    /// Something was lost or out of order: acknowledge quickly for a while.
    pub(super) fn enter_quick(&mut self, window: u32) {
        self.is_interactive = false;
        self.raise_quick(window);
        self.delay = self.delay.or(Some(0));
    }

    /// Linux's `tcp_incr_quickack`. A division that few segments need.
    #[cold]
    #[inline(never)]
    fn raise_quick(&mut self, window: u32) {
        self.quick = self.quick.max(self.max_quick(window));
    }

    /// As many quick ACKs as half of an offered window holds segments, at most 16.
    fn max_quick(&self, window: u32) -> u8 {
        let segments = window / self.rcv_mss.saturating_mul(2).max(1);
        u8::try_from(segments.clamp(2, MAX_QUICK_ACKS)).unwrap_or(u8::MAX)
    }
}

/// Linux's `TCP_MIN_RCVMSS`-like floor of the estimate.
const MIN_RCV_MSS: u32 = 88;
/// Linux starts the estimate at the smaller of the advertised MSS and this.
const DEFAULT_RCV_MSS: u32 = 536;
/// Linux's `TCP_MAX_QUICKACKS`.
const MAX_QUICK_ACKS: u32 = 16;
/// How long the ACK of a FIN may wait where no data has ever come: for the user's close, whose FIN then carries it. Linux
/// (`tcp_send_delayed_ack` with an `ato` of zero) waits for its next tick, which is this at `CONFIG_HZ` 250.
pub(super) const BARE_FIN_DELAY: Duration = Duration::from_millis(4);
/// RFC 5681 section 4.2, in nanoseconds.
const HALF_SECOND: u64 = 500_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const RTO: u64 = 300_000_000;

    #[test]
    fn first_segments_are_acknowledged_at_once_then_delayed() {
        let config = Config::default();
        let mut policy = AckPolicy::resumed(Instant::ZERO, AckPolicy::first_mss(1448), AckHabit::default());
        let mut now = Instant::from_millis(1);
        for i in 0..5 {
            policy.on_data(&config, now, 1448, || RTO, 4 * 2 * 1448);
            policy.schedule(&config, now, 0, false);
            assert_eq!(policy.is_due(), i < 4, "segment {i}");
            if policy.is_due() {
                policy.on_ack_sent(&config);
            }
            now += Duration::from_millis(1);
        }
        let deadline = policy.deadline().unwrap();
        assert!(deadline <= now + config.delayed_ack_min);
        policy.on_timer(&config, deadline, RTO);
        assert!(policy.is_due());
    }

    #[test]
    fn answers_turn_quick_acks_off() {
        let config = Config::default();
        let mut policy = AckPolicy::resumed(Instant::ZERO, AckPolicy::first_mss(1448), AckHabit::default());
        let now = Instant::from_millis(1);
        policy.on_data(&config, now, 10, || RTO, 65_535);
        policy.on_data_sent(now);
        policy.on_data(&config, now, 10, || RTO, 65_535);
        policy.schedule(&config, now, 0, false);
        assert!(!policy.is_due() && policy.deadline().is_some());
        policy.set_quick(true, 65_535);
        assert!(policy.is_due());
    }
}
