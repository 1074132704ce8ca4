//! How a thread sleeps until wait queues notify it.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

use super::{Observer, Readiness, WaitId, WaitQueue};

/// An observer that wakes one thread. Each thread has one and keeps it, so that waiting allocates nothing.
///
/// It may be registered with any number of queues at a time. Notifications are not counted: one sleep ends for all that
/// came since the last one.
pub struct Sleeper {
    thread: Thread,
    is_notified: AtomicBool,
}

impl Sleeper {
    /// The calling thread's sleeper.
    pub fn of_this_thread() -> Arc<Self> {
        thread_local! {
            static SLEEPER: OnceCell<Arc<Sleeper>> = const { OnceCell::new() };
        }
        SLEEPER.with(|sleeper| {
            let make = || Arc::new(Self { thread: thread::current(), is_notified: AtomicBool::new(false) });
            Arc::clone(sleeper.get_or_init(make))
        })
    }

    /// Sleeps until a notification has come since the last sleep; false if `end` comes first. Only the thread that it
    /// belongs to may call this.
    pub fn sleep_until(&self, end: Option<Instant>) -> bool {
        while !self.is_notified.swap(false, Ordering::Acquire) {
            match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(left) if left.is_zero() => return false,
                Some(left) => thread::park_timeout(left),
            }
        }
        true
    }
}

impl Observer for Sleeper {
    fn notify(&self, _ready: Readiness) {
        // Release: what was changed before the notification is seen by the thread that it wakes.
        self.is_notified.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleeper").field("thread", &self.thread.id()).finish_non_exhaustive()
    }
}

/// Sleeps until `attempt` has a result; `None` when `end` comes first. It is made at once, and again whenever the queue
/// notified about `interest`.
pub fn block_until<T>(
    queue: &WaitQueue,
    interest: Readiness,
    end: Option<Instant>,
    mut attempt: impl FnMut() -> Option<T>,
) -> Option<T> {
    if let Some(result) = attempt() {
        return Some(result);
    }
    let sleeper = Sleeper::of_this_thread();
    let _registration = Registration { queue, id: queue.register(interest, Arc::clone(&sleeper) as _) };
    loop {
        if let Some(result) = attempt() {
            return Some(result);
        }
        if !sleeper.sleep_until(end) {
            return None;
        }
    }
}

/// Ends a registration, also when the attempt panics.
struct Registration<'a> {
    queue: &'a WaitQueue,
    id: WaitId,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.queue.unregister(self.id);
    }
}
