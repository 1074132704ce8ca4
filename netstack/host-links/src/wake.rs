//! Waking a thread that waits in a pump.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys;

/// Ends the wait of a [`Pump`](crate::Pump) from another thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wake {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    /// Set before the pump looks at its deadline for the last time before it sleeps, so that a waker either sees it or
    /// has its change seen.
    is_asleep: AtomicBool,
    /// Somebody wanted whoever turns the pump to look around while it was awake; it does not sleep without that.
    is_due: AtomicBool,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        let (is_asleep, is_due) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Shared { eventfd: sys::eventfd()?, is_asleep, is_due };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Ends the current or else the next wait.
    pub fn wake(&self) {
        // A full counter (2^64 - 1 wakes) wakes as well.
        let _ = sys::write(self.shared.eventfd.as_fd(), &1u64.to_ne_bytes());
    }

    /// Ends the current or else the next wait, as [`wake`](Self::wake), without a system call while the pump is busy.
    pub fn wake_soon(&self) {
        self.shared.is_due.store(true, Ordering::SeqCst);
        self.wake_if_asleep();
    }

    /// Tells whether [`wake_soon`](Self::wake_soon) was called since the last time.
    pub(crate) fn take_due(&self) -> bool {
        // Most waits find nothing, and a load is cheaper.
        self.shared.is_due.load(Ordering::SeqCst) && self.shared.is_due.swap(false, Ordering::SeqCst)
    }

    /// Ends the current wait; does nothing, and costs nothing, while the pump is busy.
    pub(crate) fn wake_if_asleep(&self) {
        if self.shared.is_asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    pub(crate) fn set_asleep(&self, is_asleep: bool) {
        self.shared.is_asleep.store(is_asleep, Ordering::SeqCst);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.eventfd.as_fd()
    }
}
