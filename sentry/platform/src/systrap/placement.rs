//! Where a guest thread runs: on the processor of the sentry's thread, or on another one.
//!
//! Together, they take turns by yielding, which costs two changes of threads a call and works on any machine. Apart, both
//! spin for a while, which costs a fifth of that where calls come fast and both processors are free, and a lot more where
//! they are not. So it is tried only where calls come fast, kept only while it is faster than it was together, and
//! tried again only after a time that grows with each failure.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::host;

/// The turns after which the arrangement is looked at.
const WINDOW: u32 = 64;
/// The longest that a window may take for its calls to count as fast. Where others compete for the processor, or calls
/// do work, it takes longer.
const FAST: Duration = Duration::from_micros(WINDOW as u64 * 6);
/// The first and the longest pause between attempts. One that fails costs some milliseconds, for which the other thread waits
/// for a busy processor.
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Times that the sentry may spin in vain in one window before the attempt is over.
const MAX_FAILURES: u32 = 2;
/// Windows apart after which an attempt counts as a success: a tenth of a second or so.
const SUCCESS: u32 = 2000;

/// Pairs that may spin at a time: each takes two processors for itself.
pub(super) struct Seats {
    free: AtomicU32,
}

impl Seats {
    /// Half as many as there are processors.
    const fn new(processors: u32) -> Self {
        Self { free: AtomicU32::new(processors / 2) }
    }

    /// Those of this machine.
    pub(super) fn of_machine() -> &'static Self {
        static SEATS: OnceLock<Seats> = OnceLock::new();
        SEATS.get_or_init(|| Self::new(host::cpu_count()))
    }

    fn take(&self) -> bool {
        let less = |free: u32| free.checked_sub(1);
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn put(&self) {
        self.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// How one guest thread is placed, and why.
pub(super) struct Placement<'a> {
    seats: &'a Seats,
    arrangement: Arrangement,
    turns: u32,
    failures: u32,
    since: Option<Instant>,
    pause: Duration,
    not_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrangement {
    Together,
    /// `together` is what the last window before took; `windows` counts those since.
    Apart {
        together: Duration,
        windows: u32,
    },
}

impl<'a> Placement<'a> {
    pub(super) fn new(seats: &'a Seats) -> Self {
        Self {
            seats,
            arrangement: Arrangement::Together,
            turns: 0,
            failures: 0,
            since: None,
            pause: MIN_PAUSE,
            not_before: None,
        }
    }

    /// Whether the two are to run on different processors.
    pub(super) fn is_apart(&self) -> bool {
        matches!(self.arrangement, Arrangement::Apart { .. })
    }

    /// Counts a turn; `now` is asked at the end of a window only. True when the arrangement has changed.
    pub(super) fn on_turn(&mut self, now: impl FnOnce() -> Instant) -> bool {
        self.turns += 1;
        if self.turns < WINDOW {
            return false;
        }
        (self.turns, self.failures) = (0, 0);
        let now = now();
        let Some(took) = self.since.replace(now).map(|since| now.duration_since(since)) else { return false };
        match self.arrangement {
            Arrangement::Together => self.try_apart(now, took),
            Arrangement::Apart { together, windows } if took < together / 4 * 3 => {
                if windows == SUCCESS {
                    self.pause = MIN_PAUSE;
                }
                let windows = windows.saturating_add(1);
                self.arrangement = Arrangement::Apart { together, windows };
                false
            }
            Arrangement::Apart { .. } => {
                self.reunite(now);
                true
            }
        }
    }

    /// The sentry has spun in vain: the guest computes, or waits for a processor.
    pub(super) fn on_failed_spin(&mut self, now: impl FnOnce() -> Instant) {
        self.failures += 1;
        if self.failures > MAX_FAILURES && self.is_apart() {
            self.reunite(now());
            (self.turns, self.failures, self.since) = (0, 0, None);
        }
    }

    /// The guest computes, or its thread is about to go: it needs no seat.
    pub(super) fn stop(&mut self) {
        if self.is_apart() {
            self.reunite(Instant::now());
        }
        (self.turns, self.since) = (0, None);
    }

    fn try_apart(&mut self, now: Instant, took: Duration) -> bool {
        let is_fast = took < FAST && self.not_before.is_none_or(|at| now >= at);
        if is_fast && self.seats.take() {
            self.arrangement = Arrangement::Apart { together: took, windows: 0 };
            return true;
        }
        false
    }

    fn reunite(&mut self, now: Instant) {
        self.arrangement = Arrangement::Together;
        self.seats.put();
        self.not_before = now.checked_add(self.pause);
        self.pause = (self.pause * 4).min(MAX_PAUSE);
    }
}

impl Drop for Placement<'_> {
    fn drop(&mut self) {
        if self.is_apart() {
            self.seats.put();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one window that takes `each` a turn.
    fn window(placement: &mut Placement<'_>, now: &mut Instant, each: Duration) -> bool {
        let mut changed = false;
        for _ in 0..WINDOW {
            *now += each;
            changed |= placement.on_turn(|| *now);
        }
        changed
    }

    const SLOW: Duration = Duration::from_micros(20);
    const QUICK: Duration = Duration::from_micros(3);
    const SPUN: Duration = Duration::from_nanos(600);

    #[test]
    fn fast_calls_are_tried_apart_and_stay_while_that_is_faster() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = Placement::new(&seats);
        assert!(!window(&mut placement, &mut now, QUICK), "the first window has no start");
        assert!(window(&mut placement, &mut now, QUICK));
        assert!(placement.is_apart());
        for _ in 0..10 {
            assert!(!window(&mut placement, &mut now, SPUN));
        }
        assert!(window(&mut placement, &mut now, QUICK));
        assert!(!placement.is_apart());
    }

    #[test]
    fn slow_calls_are_left_together() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = Placement::new(&seats);
        for _ in 0..10 {
            assert!(!window(&mut placement, &mut now, SLOW));
        }
    }

    #[test]
    fn pause_between_attempts_grows() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = Placement::new(&seats);
        let mut attempts = Vec::new();
        let start = now;
        while now < start + Duration::from_secs(1) {
            if window(&mut placement, &mut now, QUICK) && placement.is_apart() {
                attempts.push(now);
                // It fails at once.
                assert!(window(&mut placement, &mut now, SLOW));
            }
        }
        let pauses: Vec<_> = attempts.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(pauses.len() >= 3, "{pauses:?}");
        assert!(pauses.windows(2).all(|w| w[1] > w[0] * 3), "{pauses:?}");
    }

    #[test]
    fn spinning_in_vain_ends_an_attempt_at_once() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = Placement::new(&seats);
        window(&mut placement, &mut now, QUICK);
        assert!(window(&mut placement, &mut now, QUICK));
        (0..MAX_FAILURES).for_each(|_| placement.on_failed_spin(|| now));
        assert!(placement.is_apart());
        placement.on_failed_spin(|| now);
        assert!(!placement.is_apart());
        // Not before the pause is over.
        assert!(!window(&mut placement, &mut now, QUICK) && !window(&mut placement, &mut now, QUICK));
    }

    #[test]
    fn only_as_many_as_there_are_seats_spin() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut first = Placement::new(&seats);
        let mut second = Placement::new(&seats);
        for placement in [&mut first, &mut second] {
            window(placement, &mut now, QUICK);
            window(placement, &mut now, QUICK);
        }
        assert_eq!((first.is_apart(), second.is_apart()), (true, false));
        drop(first);
        assert!(window(&mut second, &mut now, QUICK));
        let mut none = Placement::new(&Seats { free: AtomicU32::new(0) }).is_apart();
        none |= Seats::new(1).take();
        assert!(!none);
    }
}
