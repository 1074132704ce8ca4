//! Waiting for readiness: the one mechanism under blocking calls, epoll and the network stack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

bitflags::bitflags! {
    /// What can be ready, with the bit values of `poll(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[allow(missing_docs, reason = "the names are those of poll(2)")]
    pub struct Readiness: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const RDHUP = 0x2000;
    }
}

/// Told when something may have become ready. Called with no lock of the notifier held; must not block.
pub trait Observer: Send + Sync {
    /// Some of `ready` may be true now.
    fn notify(&self, ready: Readiness);
}

/// Names a registration in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaitId(u64);

/// Those who wait for one object. Register, then check again, then sleep.
#[derive(Default)]
pub struct WaitQueue {
    len: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    waiters: Vec<(WaitId, Readiness, Arc<dyn Observer>)>,
}

impl WaitQueue {
    /// Adds `observer` for `interest` (`ERR` and `HUP` are always included, as in `poll(2)`).
    pub fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> WaitId {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let id = WaitId(inner.next);
        inner.waiters.push((id, interest | Readiness::ERR | Readiness::HUP, observer));
        self.len.store(inner.waiters.len(), Ordering::SeqCst);
        id
    }

    /// Ends a registration; unknown ids are ignored.
    pub fn unregister(&self, id: WaitId) {
        let mut inner = self.inner.lock();
        inner.waiters.retain(|(i, _, _)| *i != id);
        self.len.store(inner.waiters.len(), Ordering::SeqCst);
    }

    /// Tells everyone interested in any of `ready`. Cheap when nobody waits.
    pub fn notify(&self, ready: Readiness) {
        // SeqCst pairs with the store in `register`: a waiter that registers and then re-checks the state either
        // sees the state changed before this call or is seen here.
        if self.len.load(Ordering::SeqCst) == 0 {
            return;
        }
        let told: Vec<Arc<dyn Observer>> = {
            let inner = self.inner.lock();
            let interested = inner.waiters.iter().filter(|(_, want, _)| want.intersects(ready));
            interested.map(|(_, _, observer)| observer.clone()).collect()
        };
        for observer in told {
            observer.notify(ready);
        }
    }
}

impl std::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitQueue").field("len", &self.len).finish_non_exhaustive()
    }
}
