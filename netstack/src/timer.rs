//! The timer queue: one deadline per object, cheap to move.
//!
//! An object's [`TimerSlot`] remembers the earliest moment at which the queue will look at it. Moving a deadline later
//! costs nothing: the queue looks too early, finds nothing due, and is told the new deadline. Moving it earlier adds an
//! entry and makes the old one stale. An early look or a stale entry is harmless.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{BriefGuard, BriefMutex, RwLock};

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

/// An object's place in the queue: the earliest valid entry in nanoseconds, `u64::MAX` if there is none. Changed with the queue
/// locked, read by anybody.
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
    entries: BriefMutex<Entries>,
    /// The first deadline, so that asking costs one load.
    earliest: AtomicU64,
    /// How many entries there are, for those who ask often. Written under the lock.
    len: AtomicUsize,
    waker: RwLock<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// There is one, or was.
    has_waker: AtomicBool,
}

/// What the lock protects.
#[derive(Default)]
struct Entries {
    agenda: Agenda<Weak<dyn TimerTarget>>,
    /// About how many are stale: those of targets that have ended, and those that an earlier one replaced.
    stale: usize,
}

impl TimerQueue {
    pub(crate) fn new() -> Self {
        Self {
            entries: BriefMutex::default(),
            earliest: AtomicU64::new(NEVER),
            len: AtomicUsize::new(0),
            waker: RwLock::default(),
            has_waker: AtomicBool::new(false),
        }
    }

    /// Makes sure that `target` is looked at when `deadline` has come.
    #[inline]
    pub(crate) fn arm<T: TimerTarget + 'static>(&self, target: &Arc<T>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if !target.slot().covers(deadline) {
            self.enter(target, deadline.as_nanos());
        }
    }

    #[inline(never)]
    fn enter<T: TimerTarget + 'static>(&self, target: &Arc<T>, at: u64) {
        let mut entries = self.entries.lock();
        let slot = &target.slot().0;
        let previous = slot.load(Ordering::Relaxed);
        if previous <= at {
            return;
        }
        slot.store(at, Ordering::Release);
        let weak: Weak<T> = Arc::downgrade(target);
        entries.agenda.push(at, weak);
        self.len.store(entries.agenda.len(), Ordering::Relaxed);
        let is_first = at < self.earliest.load(Ordering::Relaxed);
        if is_first {
            self.earliest.store(at, Ordering::Release);
        }
        if previous == NEVER {
            drop(entries);
        } else {
            self.note_stale(entries);
        }
        if is_first && self.has_waker.load(Ordering::Acquire) {
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
            let mut entries = self.entries.lock();
            let Entry { at, item } = entries.agenda.pop_due(now)?;
            self.publish(&entries.agenda);
            let target = item.upgrade();
            // A different value: an earlier entry has replaced this one.
            let slot = target.as_ref().map(|target| &target.slot().0);
            match slot.filter(|slot| slot.load(Ordering::Relaxed) == at) {
                Some(slot) => slot.store(NEVER, Ordering::Release),
                None => {
                    // Zero if it was counted before the last sweep.
                    entries.stale = entries.stale.saturating_sub(1);
                    // What it refers to may go with this reference, without the lock.
                    drop(entries);
                    continue;
                }
            }
            drop(entries);
            return target;
        }
        None
    }

    /// Forgets the deadline of a target that has ended. Its entry would keep the target's memory until the deadline, which
    /// for a keepalive is two hours away.
    pub(crate) fn disarm(&self, slot: &TimerSlot) {
        if slot.0.load(Ordering::Acquire) == NEVER {
            return;
        }
        let entries = self.entries.lock();
        if slot.0.load(Ordering::Relaxed) != NEVER {
            slot.0.store(NEVER, Ordering::Release);
            self.note_stale(entries);
        }
    }

    /// Counts a stale entry, and removes all of them once they are half of the queue: a constant cost for each.
    fn note_stale(&self, mut entries: BriefGuard<'_, Entries>) {
        entries.stale += 1;
        if entries.stale < FEW || entries.stale * 2 < entries.agenda.len() {
            return;
        }
        // Whatever turns out to be referenced by nobody else is dropped after the lock.
        let mut held = Vec::new();
        entries.agenda.retain(|entry| {
            let Some(target) = entry.item.upgrade() else { return false };
            let is_current = target.slot().0.load(Ordering::Relaxed) == entry.at;
            held.push(target);
            is_current
        });
        entries.stale = 0;
        self.publish(&entries.agenda);
        drop(entries);
    }

    /// How many entries there are, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        *self.waker.write() = Some(waker);
        self.has_waker.store(true, Ordering::Release);
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
