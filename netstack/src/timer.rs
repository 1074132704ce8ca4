//! The timer queue: one deadline per object, cheap to move.
//!
//! An object's [`TimerSlot`] remembers the earliest moment at which the queue will look at it. Moving a deadline later
//! costs nothing: the queue looks too early, finds nothing due, and is told the new deadline. Moving it earlier adds an
//! entry and makes the old one stale. An early look or a stale entry is harmless.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{BriefMutex, RwLock};

use crate::outbox::Outbox;
use crate::stack::Core;
use crate::time::Instant;

mod agenda;

use agenda::{Agenda, Entry};

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
    agenda: BriefMutex<Agenda<Weak<dyn TimerTarget>>>,
    /// The first deadline, so that asking costs one load.
    earliest: AtomicU64,
    /// How many entries there are, for those who ask often. Written under the lock.
    len: AtomicUsize,
    /// About how many entries are stale: those of targets that have ended, and those that an earlier one replaced.
    stale: AtomicUsize,
    waker: RwLock<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl TimerQueue {
    pub(crate) fn new() -> Self {
        Self {
            agenda: BriefMutex::default(),
            earliest: AtomicU64::new(NEVER),
            len: AtomicUsize::new(0),
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
            let mut agenda = self.agenda.lock();
            agenda.push(at, weak);
            self.len.store(agenda.len(), Ordering::Relaxed);
            // Under the lock, as all writes of it.
            let is_first = at < self.earliest.load(Ordering::Relaxed);
            if is_first {
                self.earliest.store(at, Ordering::Release);
            }
            is_first
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
        while self.earliest.load(Ordering::Acquire) <= now {
            // What the entry refers to is looked at, and perhaps dropped, without the lock.
            let Entry { at, item } = {
                let mut agenda = self.agenda.lock();
                let entry = agenda.pop_due(now)?;
                self.publish(&agenda);
                entry
            };
            let Some(target) = item.upgrade() else {
                self.forget_stale();
                continue;
            };
            // A different value: an earlier entry has replaced this one.
            let is_current =
                target.slot().0.compare_exchange(at, NEVER, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if is_current {
                return Some(target);
            }
            self.forget_stale();
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
        if stale < FEW || stale * 2 < self.len.load(Ordering::Relaxed) {
            return;
        }
        // Whatever turns out to be referenced by nobody else is dropped after the lock.
        let mut held = Vec::new();
        let mut agenda = self.agenda.lock();
        if stale * 2 < agenda.len() {
            return;
        }
        agenda.retain(|entry| {
            let Some(target) = entry.item.upgrade() else { return false };
            let is_current = target.slot().0.load(Ordering::Acquire) == entry.at;
            held.push(target);
            is_current
        });
        self.stale.store(0, Ordering::Relaxed);
        self.publish(&agenda);
        drop(agenda);
    }

    /// A stale entry has left the queue by itself.
    fn forget_stale(&self) {
        // Zero if it was counted before the last sweep.
        let _ = self.stale.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |stale| stale.checked_sub(1));
    }

    /// How many entries there are, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        *self.waker.write() = Some(waker);
    }

    /// Publishes the first deadline and the number of entries.
    fn publish(&self, agenda: &Agenda<Weak<dyn TimerTarget>>) {
        self.len.store(agenda.len(), Ordering::Relaxed);
        self.earliest.store(agenda.first().unwrap_or(NEVER), Ordering::Release);
    }
}

const NEVER: u64 = u64::MAX;
/// So few stale entries are not worth a sweep.
const FEW: usize = 64;
