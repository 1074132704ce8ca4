//! A mutex for sections of a few hundred instructions that never wait: those around one endpoint, one table, one queue.
//!
//! A lock whose release may have to wake somebody gives itself back by an atomic exchange, which on x86-64 costs as much as
//! taking it did (some 5 ns, and what comes behind it waits). This one gives itself back with a plain store: whoever finds it
//! taken looks again, first at once, then after others had the processor, then after sleeps that are short against anything
//! that a network does. So the usual case costs one atomic operation instead of two, and the rare one is paid by who waits.
//!
//! Waiters sleep rather than spin on, so a holder that has lost its processor gets one even if a waiter runs with real-time
//! priority. There is no order among them: where many threads want the same for long, [`Mutex`](super::Mutex) is right.

use std::time::Duration;

use spin::mutex::{SpinMutex, SpinMutexGuard};

/// The lock, with the data that it protects.
#[derive(Default)]
pub(crate) struct BriefMutex<T>(SpinMutex<T>);

/// The right to the data; gives the lock back when it is dropped.
pub(crate) type BriefGuard<'a, T> = SpinMutexGuard<'a, T>;

impl<T> BriefMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Takes the lock, however long that takes.
    #[inline]
    pub(crate) fn lock(&self) -> BriefGuard<'_, T> {
        match self.try_lock() {
            Some(guard) => guard,
            None => self.wait(),
        }
    }

    /// Takes the lock if nobody has it.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<BriefGuard<'_, T>> {
        #[cfg(test)]
        super::trace::note(self, std::any::type_name::<T>(), super::trace::Mode::Exclusive);
        self.0.try_lock()
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) -> BriefGuard<'_, T> {
        #[cfg(test)]
        super::trace::note_wait();
        let mut looks = 0_u32;
        loop {
            // A look by itself does not take the cache line from the holder.
            if !self.0.is_locked()
                && let Some(guard) = self.0.try_lock()
            {
                return guard;
            }
            match looks {
                ..SPINS => std::hint::spin_loop(),
                SPINS..SLEEPS_FROM => std::thread::yield_now(),
                SLEEPS_FROM.. => std::thread::sleep(NAP),
            }
            looks = looks.saturating_add(1);
        }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for BriefMutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Looks in a row: one to five microseconds, longer than a section takes whose holder is running.
const SPINS: u32 = 100;
/// Then so many that let others run first, before the waiter sleeps.
const SLEEPS_FROM: u32 = SPINS + 10;
/// What the timer of a thread makes of it is some 100 microseconds.
const NAP: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn threads_exclude_each_other() {
        let counter = Arc::new(BriefMutex::new((0_u64, 0_u64)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let mut both = counter.lock();
                        assert_eq!(both.0, both.1);
                        both.0 += 1;
                        std::hint::black_box(&mut *both);
                        both.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*counter.lock(), (80_000, 80_000));
    }

    #[test]
    fn waiter_outlasts_a_holder_that_sleeps() {
        let lock = BriefMutex::new(0);
        let mut guard = lock.lock();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| *lock.lock());
            std::thread::sleep(Duration::from_millis(5));
            assert!(lock.try_lock().is_none());
            *guard = 7;
            drop(guard);
            assert_eq!(waiter.join().unwrap(), 7);
        });
    }
}
