//! Wait queues: how a thread, a task or an epoll set learns that an object may have become ready.
//!
//! Readiness is always *computed* from the object's state; a wait queue stores who wants to hear about changes and
//! nothing else. A waiter therefore always does three things in this order:
//!
//! 1. try the operation; stop if it succeeded;
//! 2. [`register`](WaitQueue::register) an observer;
//! 3. try again, and only then sleep until the observer was notified.
//!
//! The object does the mirror image: change the state under its lock, unlock, then [`notify`](WaitQueue::notify).
//! With these orders no wake-up is lost, and `notify` on a queue without waiters is one fence and one load.
//!
//! Where many wait for what only one of them can have (a connection to accept, the bytes of a pipe), they register with
//! [`register_in_turn`](WaitQueue::register_in_turn), and the object calls [`notify_next`](WaitQueue::notify_next): one of them
//! is told, in the order of their registrations, instead of all. Whoever has waited so looks at the object once more after
//! unregistering, and passes on what it has left.
//!
//! The type knows nothing about sockets: anything with readiness (a pipe, a timer, a terminal) can own one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::sync::BriefMutex;
use smallvec::SmallVec;

mod sleeper;

pub use sleeper::{Sleeper, block_until};

bitflags::bitflags! {
    /// What can be done with an object right now. The values are those of Linux's `poll(2)`, so that an embedder that
    /// speaks to programs in those terms need not translate.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Readiness: u32 {
        /// There is data to read, a connection to accept, or the end of the stream to see.
        const IN = 0x001;
        /// There is urgent or exceptional data.
        const PRI = 0x002;
        /// Writing would make progress.
        const OUT = 0x004;
        /// An error is pending.
        const ERR = 0x008;
        /// Both directions are closed.
        const HUP = 0x010;
        /// The peer closed its direction (or ours for reading was shut down).
        const RDHUP = 0x2000;
    }
}

impl Readiness {
    /// The conditions that are always reported, whether a waiter asked for them or not.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP);
}

/// Somebody who wants to hear that an object's readiness may have changed.
///
/// A notification is a hint: it may be late, repeated or spurious, never missing. It is delivered without any lock of
/// the queue or the object held, on whichever thread changed the state, so it must be short and must not block.
pub trait Observer: Send + Sync {
    /// Tells that the conditions in `ready` may have become true.
    fn notify(&self, ready: Readiness);

    /// The same for one who waits in turn; false where somebody else should be told instead, because this one has already
    /// been woken, or has nobody to wake.
    fn notify_in_turn(&self, ready: Readiness) -> bool {
        self.notify(ready);
        true
    }
}

impl<F: Fn(Readiness) + Send + Sync> Observer for F {
    fn notify(&self, ready: Readiness) {
        self(ready);
    }
}

/// Names one registration in one [`WaitQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaitId(u64);

/// The observers of one object.
pub struct WaitQueue {
    /// The union of all interests; zero while nobody waits. Lets `notify` return without the lock.
    interest: AtomicU32,
    /// Allocated by the first who waits: most of a hundred thousand idle sockets have had nobody.
    waiters: BriefMutex<Option<Box<Waiters>>>,
}

#[derive(Default)]
struct Waiters {
    next_id: u64,
    entries: SmallVec<[Waiter; 1]>,
}

struct Waiter {
    id: WaitId,
    interest: Readiness,
    wake: Wake,
    observer: Arc<dyn Observer>,
}

/// Who is told when something happens that not all can make use of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    /// This one in any case.
    Always,
    /// One of those.
    InTurn,
}

impl WaitQueue {
    /// Makes a queue without observers.
    pub fn new() -> Self {
        Self { interest: AtomicU32::new(0), waiters: BriefMutex::new(None) }
    }

    /// Adds an observer for the conditions in `interest`; [`Readiness::ALWAYS`] is added to them.
    ///
    /// What became true before this call is not reported: look at the object again after registering.
    pub fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> WaitId {
        self.add(interest, Wake::Always, observer)
    }

    /// The same for an observer of which one is enough to make use of what [`notify_next`](Self::notify_next) tells.
    ///
    /// After [`unregister`](Self::unregister) look at the object again, and call `notify_next` if there is still something:
    /// it may have been announced to this observer only.
    pub fn register_in_turn(&self, interest: Readiness, observer: Arc<dyn Observer>) -> WaitId {
        self.add(interest, Wake::InTurn, observer)
    }

    fn add(&self, interest: Readiness, wake: Wake, observer: Arc<dyn Observer>) -> WaitId {
        let interest = interest | Readiness::ALWAYS;
        let id = {
            let mut guard = self.waiters.lock();
            let waiters = guard.get_or_insert_default();
            let id = WaitId(waiters.next_id);
            waiters.next_id += 1;
            waiters.entries.push(Waiter { id, interest, wake, observer });
            self.publish(waiters);
            id
        };
        // Pairs with the fence in `notify`: either the notifier sees our interest, or we (looking at the object after
        // this) see its new state.
        fence(Ordering::SeqCst);
        id
    }

    /// Changes what a registered observer wants to hear about. Returns false if `id` is not registered.
    pub fn update(&self, id: WaitId, interest: Readiness) -> bool {
        let found = {
            let mut guard = self.waiters.lock();
            let Some(waiters) = &mut *guard else { return false };
            let found = waiters.entries.iter_mut().find(|waiter| waiter.id == id);
            let changed = found.map(|waiter| waiter.interest = interest | Readiness::ALWAYS).is_some();
            self.publish(waiters);
            changed
        };
        fence(Ordering::SeqCst);
        found
    }

    /// Removes an observer. Returns false if `id` is not registered.
    ///
    /// A notification that another thread has begun may still arrive after this returns.
    pub fn unregister(&self, id: WaitId) -> bool {
        let removed = {
            let mut guard = self.waiters.lock();
            let Some(waiters) = &mut *guard else { return false };
            let found = waiters.entries.iter().position(|waiter| waiter.id == id);
            let removed = found.map(|index| waiters.entries.remove(index));
            self.publish(waiters);
            removed
        };
        // The observer is dropped here, outside the lock: its drop may run code of the embedder.
        removed.is_some()
    }

    /// Tells the observers interested in `ready` that it may have become true.
    ///
    /// Call it after the state was changed and the object's lock was released.
    pub fn notify(&self, ready: Readiness) {
        fence(Ordering::SeqCst);
        self.notify_synchronised(ready);
    }

    /// The same without the fence, for an object that changes its state under a lock and whose waiters look at the state
    /// under that lock.
    ///
    /// The lock does the fence's work. If the waiter looks first, its registration, which came before, is seen by
    /// whoever locks after it, and so by the load here. If it looks later, it sees the new state.
    #[inline]
    pub(crate) fn notify_synchronised(&self, ready: Readiness) {
        if self.interest.load(Ordering::Relaxed) & ready.bits() == 0 {
            return;
        }
        self.notify_interested(ready);
    }

    #[cold]
    fn notify_interested(&self, ready: Readiness) {
        let targets: SmallVec<[Arc<dyn Observer>; 4]> = {
            let guard = self.waiters.lock();
            let entries = guard.as_ref().map_or(&[][..], |waiters| &waiters.entries);
            let interested = entries.iter().filter(|waiter| waiter.interest.intersects(ready));
            interested.map(|waiter| Arc::clone(&waiter.observer)).collect()
        };
        for target in targets {
            target.notify(ready);
        }
    }

    /// Tells that `ready` may have become true for one: all observers that are told always, and of those that wait in turn the
    /// first that has not been woken yet.
    ///
    /// What concerns all ([`Readiness::ALWAYS`], an end of stream) is for [`notify`](Self::notify).
    pub fn notify_next(&self, ready: Readiness) {
        fence(Ordering::SeqCst);
        self.notify_next_synchronised(ready);
    }

    /// The same without the fence, as [`notify_synchronised`](Self::notify_synchronised).
    #[inline]
    pub(crate) fn notify_next_synchronised(&self, ready: Readiness) {
        if self.interest.load(Ordering::Relaxed) & ready.bits() == 0 {
            return;
        }
        self.notify_some(ready);
    }

    #[cold]
    fn notify_some(&self, ready: Readiness) {
        let (targets, mut next) = {
            let guard = self.waiters.lock();
            let entries = guard.as_ref().map_or(&[][..], |waiters| &waiters.entries);
            let always = entries.iter().filter(|w| w.wake == Wake::Always && w.interest.intersects(ready));
            let targets: SmallVec<[Arc<dyn Observer>; 4]> = always.map(|w| Arc::clone(&w.observer)).collect();
            (targets, next_in_turn(entries, ready, None))
        };
        for target in targets {
            target.notify(ready);
        }
        // Without the lock, as all notifications; ids grow along the list, so the search goes on where it was.
        while let Some((id, observer)) = next {
            if observer.notify_in_turn(ready) {
                return;
            }
            let guard = self.waiters.lock();
            let entries = guard.as_ref().map_or(&[][..], |waiters| &waiters.entries);
            next = next_in_turn(entries, ready, Some(id));
        }
    }

    /// Tells whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.interest.load(Ordering::Relaxed) == 0
    }

    fn publish(&self, waiters: &Waiters) {
        let union = waiters.entries.iter().fold(Readiness::empty(), |union, waiter| union | waiter.interest);
        self.interest.store(union.bits(), Ordering::Relaxed);
    }
}

/// The first after `last` that waits in turn for `ready`.
fn next_in_turn(
    entries: &[Waiter],
    ready: Readiness,
    last: Option<WaitId>,
) -> Option<(WaitId, Arc<dyn Observer>)> {
    let start = last.map_or(0, |last| entries.partition_point(|waiter| waiter.id.0 <= last.0));
    let mut rest = entries[start..].iter();
    let found = rest.find(|waiter| waiter.wake == Wake::InTurn && waiter.interest.intersects(ready))?;
    Some((found.id, Arc::clone(&found.observer)))
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interest = Readiness::from_bits_truncate(self.interest.load(Ordering::Relaxed));
        f.debug_struct("WaitQueue").field("interest", &interest).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
