//! Futex wait queues (`futex(2)`).
//!
//! A waiter is in at most one queue. The word in guest memory is compared under the lock of its queue, so a waker that
//! changed the word before cannot be missed. Lock order: bucket (two in address order), then the layout of an address
//! space (only to look at pages that are present or faulted in by the copy itself).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::mm::FutexKey;
use crate::task::TaskWaiter;

/// One task in a queue. A new one for each wait: a late waker may still hold the old one.
#[derive(Debug)]
pub(crate) struct FutexWaiter {
    woken: AtomicBool,
    pub(crate) task: Arc<TaskWaiter>,
    pub(crate) bitset: u32,
    /// Where it is queued now; changes by requeueing, under the locks of both buckets.
    pub(crate) key: Mutex<FutexKey>,
    /// For PI futexes: the thread id to hand the lock to.
    pub(crate) tid: u32,
}

impl FutexWaiter {
    pub(crate) fn new(task: Arc<TaskWaiter>, key: FutexKey, bitset: u32, tid: u32) -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(false), task, bitset, key: Mutex::new(key), tid })
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    key: FutexKey,
    pub(crate) waiter: Arc<FutexWaiter>,
}

/// The waiters of the keys that hash to one bucket, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    queue: VecDeque<Entry>,
}

impl Bucket {
    pub(crate) fn push(&mut self, key: FutexKey, waiter: Arc<FutexWaiter>) {
        self.queue.push_back(Entry { key, waiter });
    }

    /// Takes up to `max` waiters of `key` whose bitset meets `bitset`.
    pub(crate) fn take(&mut self, key: FutexKey, max: usize, bitset: u32) -> Vec<Arc<FutexWaiter>> {
        let mut taken = Vec::new();
        let mut at = 0;
        while taken.len() < max && at < self.queue.len() {
            let entry = &self.queue[at];
            if entry.key == key && entry.waiter.bitset & bitset != 0 {
                taken.extend(self.queue.remove(at).map(|e| e.waiter));
            } else {
                at += 1;
            }
        }
        taken
    }

    /// True where somebody waits for `key`.
    pub(crate) fn has_waiters(&self, key: FutexKey) -> bool {
        self.queue.iter().any(|e| e.key == key)
    }

    fn remove(&mut self, waiter: &Arc<FutexWaiter>) {
        self.queue.retain(|e| !Arc::ptr_eq(&e.waiter, waiter));
    }
}

const BUCKETS: usize = 256;

/// All queues.
#[derive(Debug)]
pub(crate) struct Futexes {
    buckets: Vec<Mutex<Bucket>>,
}

impl Default for Futexes {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Mutex::default()).collect() }
    }
}

impl Futexes {
    /// The bucket of `key`.
    pub(crate) fn lock(&self, key: FutexKey) -> MutexGuard<'_, Bucket> {
        self.buckets[index(key)].lock()
    }

    /// The buckets of two keys; the second is `None` when both are in one bucket.
    pub(crate) fn lock_two(
        &self,
        a: FutexKey,
        b: FutexKey,
    ) -> (MutexGuard<'_, Bucket>, Option<MutexGuard<'_, Bucket>>) {
        let (i, j) = (index(a), index(b));
        if i == j {
            return (self.buckets[i].lock(), None);
        }
        // In index order, whichever is which.
        if i < j {
            let first = self.buckets[i].lock();
            (first, Some(self.buckets[j].lock()))
        } else {
            let second = self.buckets[j].lock();
            (self.buckets[i].lock(), Some(second))
        }
    }

    /// Takes a waiter out, wherever it was requeued to. False when somebody woke it first.
    pub(crate) fn cancel(&self, waiter: &Arc<FutexWaiter>) -> bool {
        loop {
            let key = *waiter.key.lock();
            let mut bucket = self.lock(key);
            if *waiter.key.lock() == key {
                bucket.remove(waiter);
                return !waiter.is_woken();
            }
        }
    }
}

fn index(key: FutexKey) -> usize {
    let word = match key {
        FutexKey::Private { mm, addr } => addr ^ mm.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        FutexKey::Shared(at) => at,
    };
    // Fibonacci hashing; the top 8 bits index 256 buckets.
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(key: FutexKey, bitset: u32) -> Arc<FutexWaiter> {
        FutexWaiter::new(Arc::default(), key, bitset, 0)
    }

    #[test]
    fn wakes_in_order_of_arrival_and_only_matching_bits() {
        let futexes = Futexes::default();
        let key = FutexKey::Shared(4096);
        let (a, b, c) = (waiter(key, 1), waiter(key, 2), waiter(key, 1));
        let mut bucket = futexes.lock(key);
        for w in [&a, &b, &c] {
            bucket.push(key, w.clone());
        }
        let woken = bucket.take(key, 1, 1);
        assert!(Arc::ptr_eq(&woken[0], &a));
        let woken = bucket.take(key, usize::MAX, u32::MAX);
        assert_eq!(woken.len(), 2);
        assert!(Arc::ptr_eq(&woken[0], &b) && Arc::ptr_eq(&woken[1], &c));
        assert!(!bucket.has_waiters(key));
    }

    #[test]
    fn cancelled_waiters_are_gone_and_woken_ones_are_reported() {
        let futexes = Futexes::default();
        let key = FutexKey::Private { mm: 1, addr: 64 };
        let (a, b) = (waiter(key, 1), waiter(key, 1));
        futexes.lock(key).push(key, a.clone());
        assert!(futexes.cancel(&a));
        assert!(!futexes.lock(key).has_waiters(key));
        b.wake();
        assert!(!futexes.cancel(&b));
    }
}
