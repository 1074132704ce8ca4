//! Counters that threads do not share: each thread adds in a lane of its own, and a reader adds the lanes up.
//!
//! A packet touches about ten counters. As atomic additions they would cost more than the rest of its way through IP: a
//! thread that is a lane's only writer needs no atomic addition, just a load and a store.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Counter;

/// One value for each thread that counts, and one for all those beyond.
#[derive(Debug, Default)]
pub(crate) struct PerThread<T> {
    lanes: Box<[Padded<T>; LANES]>,
}

/// Keeps the lanes of two threads out of each other's cache lines (and the line that the prefetcher fetches with one).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> PerThread<T> {
    /// The values of all threads.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().map(|lane| &lane.0)
    }
}

/// The calling thread's value, found once for several counters of it.
#[derive(Debug)]
pub(crate) struct Lane<'a, T> {
    value: &'a T,
    is_exclusive: bool,
    /// It does not leave its thread.
    _thread: PhantomData<*const ()>,
}

impl<T> PerThread<T> {
    #[inline]
    pub(crate) fn lane(&self) -> Lane<'_, T> {
        let lane = own_lane();
        // As in `deref`.
        Lane { value: &self.lanes[lane % LANES].0, is_exclusive: lane != SHARED, _thread: PhantomData }
    }
}

impl<T> Lane<'_, T> {
    /// Adds to one of its counters.
    #[inline]
    pub(crate) fn add(&self, counter: impl FnOnce(&T) -> &Counter, count: u64) {
        counter(self.value).add_as(self.is_exclusive, count);
    }
}

/// The calling thread's value.
impl<T> Deref for PerThread<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // The index is below LANES; the remainder tells the compiler.
        &self.lanes[own_lane() % LANES].0
    }
}

/// Whether the calling thread is the only one that writes to its lane.
#[inline]
pub(super) fn is_exclusive() -> bool {
    own_lane() != SHARED
}

#[inline]
fn own_lane() -> usize {
    match LANE.get() {
        UNCLAIMED => claim(),
        lane => lane,
    }
}

/// Takes a free lane for this thread until it ends, or the shared one if all are taken.
#[cold]
#[inline(never)]
fn claim() -> usize {
    // Fails while the thread ends: what it still counts goes to the shared lane.
    let lane = CLAIM.try_with(|claim| claim.0).unwrap_or(SHARED);
    LANE.set(lane);
    lane
}

/// A thread's right to a lane.
struct Claim(usize);

impl Claim {
    fn new() -> Self {
        // Acquire: what the lane's last owner stored is seen before this one adds to it.
        let taken = TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            let free = taken.trailing_ones();
            // At most LANES bits.
            ((free as usize) < LANES).then(|| taken | 1 << free)
        });
        Self(taken.map_or(SHARED, |taken| taken.trailing_ones() as usize))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        LANE.set(SHARED);
        if self.0 != SHARED {
            TAKEN.fetch_and(!(1 << self.0), Ordering::AcqRel);
        }
    }
}

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(UNCLAIMED) };
    static CLAIM: Claim = Claim::new();
}

/// The lanes that have an owner, and the shared one, as bits.
static TAKEN: AtomicU32 = AtomicU32::new(1 << SHARED);

/// Seven threads that carry packets, and the rest together.
const LANES: usize = 8;
/// The lane of those that got none.
const SHARED: usize = 0;
const UNCLAIMED: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Four times as many threads as lanes, each of which comes and goes: nothing that one of them counted gets lost.
    #[test]
    fn sum_is_exact_whoever_counts() {
        let counters = PerThread::<Counter>::default();
        for _ in 0..4 {
            std::thread::scope(|scope| {
                for _ in 0..4 * LANES {
                    scope.spawn(|| (0..1000).for_each(|_| counters.increment()));
                }
            });
        }
        let total: u64 = counters.lanes().map(Counter::get).sum();
        assert_eq!(total, 4 * 4 * LANES as u64 * 1000);
    }

    #[test]
    fn threads_that_live_at_once_have_lanes_of_their_own() {
        let barrier = std::sync::Barrier::new(3);
        let lane = || {
            let lane = own_lane();
            barrier.wait();
            lane
        };
        let lanes: Vec<usize> = std::thread::scope(|scope| {
            let threads = [scope.spawn(lane), scope.spawn(lane), scope.spawn(lane)];
            threads.map(|thread| thread.join().unwrap()).into()
        });
        // The test runner's other threads may have taken them all.
        let mut own: Vec<_> = lanes.into_iter().filter(|lane| *lane != SHARED).collect();
        let count = own.len();
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), count);
    }
}
