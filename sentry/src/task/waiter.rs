//! Where a task sleeps.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Instant;

use crate::wait::{Observer, Readiness};

/// One task's alarm clock: registered with any number of wait queues, reused for every block.
#[derive(Debug, Default)]
pub struct TaskWaiter {
    woken: AtomicBool,
    /// The task's thread, known once it runs.
    thread: OnceLock<Thread>,
}

impl TaskWaiter {
    /// Names the thread that sleeps here. Called once, by that thread.
    pub fn attach(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// Wakes the sleeper, or makes its next sleep return at once.
    pub fn wake(&self) {
        self.wake_first();
    }

    /// The same; false where it had been woken already.
    fn wake_first(&self) -> bool {
        // SeqCst: the sleeper clears the flag and then checks its condition; the waker changes the condition and
        // then sets the flag.
        let is_first = !self.woken.swap(true, Ordering::SeqCst);
        if is_first && let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        is_first
    }

    /// Forgets earlier wake-ups; to be followed by a check of what is waited for.
    pub fn clear(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }

    /// Sleeps until [`TaskWaiter::wake`] was called since the last [`TaskWaiter::clear`], or until `deadline`.
    pub fn sleep(&self, deadline: Option<Instant>) {
        while !self.woken.load(Ordering::SeqCst) {
            match deadline {
                None => std::thread::park(),
                Some(at) => match at.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                    _ => return,
                },
            }
        }
    }
}

impl Observer for TaskWaiter {
    fn notify(&self, _ready: Readiness) {
        self.wake();
    }

    fn notify_in_turn(&self, _ready: Readiness) -> bool {
        self.wake_first()
    }
}
