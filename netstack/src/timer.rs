//! The timer queue: one deadline per object, cheap to move.
//!
//! An object's [`TimerSlot`] remembers the earliest moment at which the queue will look at it. Moving a deadline later
//! costs nothing: the queue looks too early, finds nothing due, and is told the new deadline. Moving it earlier adds an
//! entry and makes the old one stale. An early look or a stale entry is harmless.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, MutexGuard, RwLock};

use crate::outbox::Outbox;
use crate::stack::Core;
use crate::time::Instant;

/// Something with deadlines.
pub(crate) trait TimerTarget: Send + Sync {
    /// The object's place in the queue.
    fn slot(&self) -> &TimerSlot;

    /// Runs what is due at `now`, perhaps nothing, and arms the slot again.
    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox);
}

/// An object's place in the queue: the earliest valid entry in nanoseconds, `u64::MAX` if there is none.
#[derive(Debug)]
pub(crate) struct TimerSlot(AtomicU64);

impl Default for TimerSlot {
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

impl TimerSlot {
    /// Whether the queue looks at the target by then anyway. Each segment asks, and hardly any has an earlier deadline. If the
    /// queue looks right now, the target arms itself again afterwards, with what it knows by then.
    #[inline]
    pub(crate) fn covers(&self, deadline: Instant) -> bool {
        self.0.load(Ordering::Acquire) <= deadline.as_nanos()
    }
}

/// The deadlines of a stack.
pub(crate) struct TimerQueue {
    heap: Mutex<BinaryHeap<Entry>>,
    /// The heap's first deadline, so that asking costs one load.
    earliest: AtomicU64,
    /// About how many entries are stale: those of targets that have ended, and those that an earlier one replaced.
    stale: AtomicUsize,
    waker: RwLock<Option<Arc<dyn Fn() + Send + Sync>>>,
}

struct Entry {
    at: u64,
    target: Weak<dyn TimerTarget>,
}

impl TimerQueue {
    pub(crate) fn new() -> Self {
        Self {
            heap: Mutex::default(),
            earliest: AtomicU64::new(NEVER),
            stale: AtomicUsize::new(0),
            waker: RwLock::default(),
        }
    }

    /// Makes sure that `target` is looked at when `deadline` has come.
    pub(crate) fn arm<T: TimerTarget + 'static>(&self, target: &Arc<T>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        let at = deadline.as_nanos();
        if target.slot().covers(deadline) {
            return;
        }
        let previous = target.slot().0.fetch_min(at, Ordering::AcqRel);
        if previous <= at {
            return;
        }
        if previous != NEVER {
            self.note_stale();
        }
        let weak: Weak<T> = Arc::downgrade(target);
        let is_first = {
            let mut heap = self.heap.lock();
            heap.push(Entry { at, target: weak });
            self.publish(&heap) > at
        };
        if is_first {
            let waker = self.waker.read().clone();
            if let Some(waker) = waker {
                waker();
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.earliest.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(Instant::from_nanos(at)),
        }
    }

    /// Takes one object that is due; call until there is none.
    pub(crate) fn pop_due(&self, now: Instant) -> Option<Arc<dyn TimerTarget>> {
        let now = now.as_nanos();
        if self.earliest.load(Ordering::Acquire) > now {
            return None;
        }
        let mut heap = self.heap.lock();
        while heap.peek().is_some_and(|entry| entry.at <= now) {
            let Some(entry) = heap.pop() else { break };
            self.publish(&heap);
            // What a burst of connections left: their handshakes' timers.
            if heap.capacity() > SPARE && heap.len() < heap.capacity() / 8 {
                let len = heap.len();
                heap.shrink_to(len * 2);
            }
            let Some(target) = entry.target.upgrade() else {
                self.forget_stale();
                continue;
            };
            // A different value: an earlier entry has replaced this one.
            let is_current = target
                .slot()
                .0
                .compare_exchange(entry.at, NEVER, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
            if is_current {
                return Some(target);
            }
            self.forget_stale();
            // This may be the last reference; its drop must not run under the lock.
            MutexGuard::unlocked(&mut heap, || drop(target));
        }
        None
    }

    /// Forgets the deadline of a target that has ended. Its entry would keep the target's memory until the deadline, which
    /// for a keepalive is two hours away.
    pub(crate) fn disarm(&self, slot: &TimerSlot) {
        if slot.0.swap(NEVER, Ordering::AcqRel) != NEVER {
            self.note_stale();
        }
    }

    /// Counts a stale entry, and removes all of them once they are half of the queue: a constant cost for each.
    fn note_stale(&self) {
        let stale = self.stale.fetch_add(1, Ordering::Relaxed) + 1;
        if stale < FEW {
            return;
        }
        // Whatever turns out to be referenced by nobody else is dropped after the lock.
        let mut held = Vec::new();
        let mut heap = self.heap.lock();
        if stale * 2 < heap.len() {
            return;
        }
        heap.retain(|entry| {
            let Some(target) = entry.target.upgrade() else { return false };
            let is_current = target.slot().0.load(Ordering::Acquire) == entry.at;
            held.push(target);
            is_current
        });
        self.stale.store(0, Ordering::Relaxed);
        self.publish(&heap);
        drop(heap);
    }

    /// A stale entry has left the queue by itself.
    fn forget_stale(&self) {
        // Zero if it was counted before the last sweep.
        let _ = self.stale.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |stale| stale.checked_sub(1));
    }

    /// How many entries there are, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.lock().len()
    }

    pub(crate) fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        *self.waker.write() = Some(waker);
    }

    /// Publishes the first deadline and returns the one published before.
    fn publish(&self, heap: &BinaryHeap<Entry>) -> u64 {
        let first = heap.peek().map_or(NEVER, |entry| entry.at);
        self.earliest.swap(first, Ordering::AcqRel)
    }
}

/// The order of a max-heap, turned round: the earliest deadline is the greatest entry.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Order {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

const NEVER: u64 = u64::MAX;
/// So much room is kept in any case.
const SPARE: usize = 1024;
/// So few stale entries are not worth a sweep.
const FEW: usize = 64;
