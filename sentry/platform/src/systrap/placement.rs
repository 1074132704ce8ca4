//! Where a guest thread runs: on the processor of the sentry's thread, or on another one.
//!
//! Together, they take turns by yielding, which costs two changes of threads a call and works on any machine. Apart, both
//! spin for a while, which costs a tenth of that where calls come fast and both have a processor, and a lot more where
//! they have not. So it is tried only where calls come fast, and kept only while it saves time: what it saves is put on
//! an account that pays for the times when it does not, as when others get their time slices.
//!
//! An attempt begins with next to nothing on its account: a guest thread that does not get the processor at once is
//! fetched back. Now and then one may wait for a time slice, since on a busy machine what follows is worth it. Attempts
//! that fail make the next ones rarer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::host;

/// The turns after which the arrangement is looked at.
const WINDOW: u32 = 64;
/// The longest that a window together may take for its calls to count as fast. Apart, a processor spins while the other
/// works, so that slower calls would waste more of it than the changes of threads that they save.
const FAST: Duration = Duration::from_micros(WINDOW as u64 * 12);
/// What a window apart must save, of the 2 us a turn that may be had.
const GAIN: Duration = Duration::from_nanos(WINDOW as u64 * 700);
/// What an attempt may lose before it has saved anything: moving a thread to an idle processor takes some 50 us.
const CREDIT: Duration = Duration::from_micros(300);
/// The same for one that may wait for a time slice, and the most that savings count for. Time slices are some
/// milliseconds.
const MAX_CREDIT: Duration = Duration::from_millis(12);
/// What must be on the account for a guest thread without a processor not to be fetched back.
const PATIENCE: Duration = Duration::from_millis(2);
/// The first and the longest pause between attempts. One that fails costs some 50 us, and its place among those that wait
/// for the processor.
const PAUSE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_secs(1));
/// The same for attempts that may wait. One that fails costs some milliseconds.
const PATIENT_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(4));
/// Times that the sentry may spin in vain for a guest that computes in one window before the attempt is over.
const MAX_FAILURES: u32 = 2;
/// Windows apart after which an attempt counts as a success: some 10 ms.
const SUCCESS: u32 = 500;

/// What spinning has brought so far, in all contexts of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpinCounters {
    /// Times that a guest thread was put on another processor.
    pub attempts: u64,
    /// Turns taken while they ran on different processors.
    pub turns: u64,
    /// Of the attempts, how many ended because the guest thread did not get the processor.
    pub stalls: u64,
    /// Times that the sentry spun for its whole budget in vain.
    pub failures: u64,
}

static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
static TURNS: AtomicU64 = AtomicU64::new(0);
static STALLS: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);

impl SpinCounters {
    /// As of now.
    #[must_use]
    pub fn now() -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self { attempts: get(&ATTEMPTS), turns: get(&TURNS), stalls: get(&STALLS), failures: get(&FAILURES) }
    }
}

/// Pairs that may spin at a time: each takes two processors for itself.
pub(super) struct Seats {
    free: AtomicU32,
    luck: Mutex<Luck>,
}

/// When attempts may be made, by whether processors were free so far, which is the same for all contexts.
#[derive(Debug)]
struct Luck {
    impatient: Pause,
    patient: Pause,
}

/// A pause that grows with each failure.
#[derive(Debug, Clone, Copy)]
struct Pause {
    bounds: (Duration, Duration),
    next: Duration,
    until: Option<Instant>,
}

impl Pause {
    const fn new(bounds: (Duration, Duration)) -> Self {
        Self { bounds, next: bounds.0, until: None }
    }

    fn begin(&mut self, now: Instant) {
        self.until = now.checked_add(self.next);
        self.next = (self.next * 4).min(self.bounds.1);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// Forgets past failures. A pause that has begun goes on.
    fn reset(&mut self) {
        self.next = self.bounds.0;
    }
}

impl Seats {
    /// Half as many as there are processors.
    const fn new(processors: u32) -> Self {
        let luck = Luck { impatient: Pause::new(PAUSE), patient: Pause::new(PATIENT_PAUSE) };
        Self { free: AtomicU32::new(processors / 2), luck: Mutex::new(luck) }
    }

    /// Those of this machine.
    pub(super) fn of_machine() -> &'static Self {
        static SEATS: OnceLock<Seats> = OnceLock::new();
        SEATS.get_or_init(|| Self::new(host::cpu_count()))
    }

    /// Takes a seat if an attempt may be made; what it may lose.
    fn take(&self, now: Instant) -> Option<Duration> {
        let mut luck = self.luck.lock();
        let credit = if luck.patient.until.is_some() && luck.patient.is_over(now) {
            luck.patient.begin(now);
            MAX_CREDIT
        } else if luck.impatient.is_over(now) {
            CREDIT
        } else {
            return None;
        };
        drop(luck);
        let less = |free: u32| free.checked_sub(1);
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok().then_some(credit)
    }

    fn put(&self) {
        self.free.fetch_add(1, Ordering::Relaxed);
    }

    /// No processor was free.
    fn on_stall(&self, now: Instant) {
        let mut luck = self.luck.lock();
        luck.impatient.begin(now);
        if luck.patient.until.is_none() {
            luck.patient.begin(now);
        }
    }

    fn on_success(&self) {
        let mut luck = self.luck.lock();
        luck.impatient.reset();
        luck.patient.reset();
    }
}

/// How one guest thread is placed, and why.
pub(super) struct Placement<'a> {
    seats: &'a Seats,
    arrangement: Arrangement,
    turns: u32,
    failures: u32,
    since: Option<Instant>,
    pause: Pause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrangement {
    Together,
    Apart(Attempt),
}

/// A time apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt {
    /// What the last window before took.
    together: Duration,
    /// What may yet be lost.
    credit: Duration,
    windows: u32,
}

impl Attempt {
    /// The attempt after a window that took so long; `None` when it has to end.
    fn after_window(self, took: Duration) -> Option<Self> {
        let Self { together, credit, windows } = self;
        let saved = together.saturating_sub(took).saturating_sub(GAIN);
        let lost = (took + GAIN).saturating_sub(together);
        let credit = (credit + saved).min(MAX_CREDIT).checked_sub(lost)?;
        Some(Self { together, credit, windows: windows.saturating_add(1) })
    }
}

impl<'a> Placement<'a> {
    pub(super) fn new(seats: &'a Seats) -> Self {
        Self {
            seats,
            arrangement: Arrangement::Together,
            turns: 0,
            failures: 0,
            since: None,
            pause: Pause::new(PAUSE),
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
            Arrangement::Apart(attempt) => {
                TURNS.fetch_add(u64::from(WINDOW), Ordering::Relaxed);
                let Some(attempt) = attempt.after_window(took) else {
                    self.fail(now);
                    return true;
                };
                if attempt.windows == SUCCESS {
                    self.pause.reset();
                    self.seats.on_success();
                }
                self.arrangement = Arrangement::Apart(attempt);
                false
            }
        }
    }

    /// The sentry has spun in vain, for a guest that runs.
    pub(super) fn on_failed_spin(&mut self, now: impl FnOnce() -> Instant) {
        FAILURES.fetch_add(1, Ordering::Relaxed);
        self.failures += 1;
        if self.failures > MAX_FAILURES && self.is_apart() {
            self.fail(now());
        }
    }

    /// The guest thread has not noticed for the whole of a spin that it is its turn: it waits for the processor. Whether it
    /// is to be fetched back.
    pub(super) fn on_stall(&mut self, now: Instant) -> bool {
        FAILURES.fetch_add(1, Ordering::Relaxed);
        match self.arrangement {
            Arrangement::Apart(attempt) if attempt.credit < PATIENCE => {
                self.give_up_for_want_of_a_processor(now);
                true
            }
            Arrangement::Apart(_) => false,
            Arrangement::Together => true,
        }
    }

    /// The guest thread has not got the processor for longer than a time slice.
    pub(super) fn give_up_for_want_of_a_processor(&mut self, now: Instant) {
        if self.is_apart() {
            STALLS.fetch_add(1, Ordering::Relaxed);
            self.seats.on_stall(now);
            self.reunite();
        }
    }

    /// The guest computes, or its thread is about to go: it needs no seat.
    pub(super) fn stop(&mut self) {
        if self.is_apart() {
            self.reunite();
        }
        (self.turns, self.since) = (0, None);
    }

    fn try_apart(&mut self, now: Instant, took: Duration) -> bool {
        if took >= FAST || !self.pause.is_over(now) {
            return false;
        }
        let Some(credit) = self.seats.take(now) else { return false };
        ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        self.arrangement = Arrangement::Apart(Attempt { together: took, credit, windows: 0 });
        true
    }

    /// Apart is no faster for what this thread does.
    fn fail(&mut self, now: Instant) {
        self.pause.begin(now);
        self.reunite();
    }

    fn reunite(&mut self) {
        self.arrangement = Arrangement::Together;
        self.seats.put();
        (self.turns, self.failures, self.since) = (0, 0, None);
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

    /// A placement that has just been put apart.
    fn apart<'a>(seats: &'a Seats, now: &mut Instant) -> Placement<'a> {
        let mut placement = Placement::new(seats);
        assert!(!window(&mut placement, now, QUICK), "the first window has no start");
        assert!(window(&mut placement, now, QUICK));
        assert!(placement.is_apart());
        placement
    }

    const SLOW: Duration = Duration::from_micros(20);
    const QUICK: Duration = Duration::from_micros(3);
    const SPUN: Duration = Duration::from_nanos(600);
    /// A time slice of somebody else.
    const SLICE: Duration = Duration::from_millis(3);

    #[test]
    fn fast_calls_are_tried_apart_and_stay_while_that_saves_time() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = apart(&seats, &mut now);
        for _ in 0..10 {
            assert!(!window(&mut placement, &mut now, SPUN));
        }
        let mut windows = 0;
        while placement.is_apart() {
            window(&mut placement, &mut now, QUICK);
            windows += 1;
        }
        assert!((10..100).contains(&windows), "what was saved is used up: {windows}");
    }

    #[test]
    fn attempt_without_gain_ends_soon() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = apart(&seats, &mut now);
        assert!(window(&mut placement, &mut now, SLOW));
        assert!(!placement.is_apart());
    }

    #[test]
    fn savings_pay_for_somebody_elses_time_slice() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = apart(&seats, &mut now);
        (0..100).for_each(|_| assert!(!window(&mut placement, &mut now, SPUN)));
        now += SLICE;
        assert!(!placement.on_stall(now), "it may wait");
        assert!(!window(&mut placement, &mut now, SPUN));
        let mut slices = 0;
        while placement.is_apart() {
            now += SLICE;
            window(&mut placement, &mut now, SPUN);
            slices += 1;
        }
        assert!((2..6).contains(&slices), "but not for ever: {slices}");
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
    fn attempts_without_a_processor_become_rare() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = Placement::new(&seats);
        let (mut quick, mut patient) = (0, 0);
        let start = now;
        while now < start + Duration::from_secs(10) {
            if window(&mut placement, &mut now, QUICK) && placement.is_apart() {
                if placement.on_stall(now) {
                    quick += 1;
                } else {
                    now += SLICE;
                    placement.give_up_for_want_of_a_processor(now);
                    patient += 1;
                }
            }
        }
        assert!((10..16).contains(&quick), "{quick}");
        assert!((3..6).contains(&patient), "{patient}");
    }

    #[test]
    fn guest_without_a_processor_ends_an_attempt_at_once() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = apart(&seats, &mut now);
        let before = SpinCounters::now();
        assert!(placement.on_stall(now));
        assert!(!placement.is_apart());
        let SpinCounters { stalls, failures, .. } = SpinCounters::now();
        assert!(stalls > before.stalls && failures > before.failures);
    }

    #[test]
    fn spinning_in_vain_ends_an_attempt() {
        let (seats, mut now) = (Seats::new(2), Instant::now());
        let mut placement = apart(&seats, &mut now);
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
        assert!(Seats::new(1).take(now).is_none());
    }
}
