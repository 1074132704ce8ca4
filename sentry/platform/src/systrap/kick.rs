//! Interrupting a guest thread from any thread.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::contract::Interrupter;
use crate::host;
use crate::stub::INTERRUPT_SIGNAL;

/// The interrupt of one context.
pub(super) struct Kick {
    pid: i32,
    tid: i32,
    wanted: AtomicBool,
    in_guest: AtomicBool,
}

impl Kick {
    pub(super) fn new(pid: i32, tid: i32) -> Self {
        Self { pid, tid, wanted: AtomicBool::new(false), in_guest: AtomicBool::new(false) }
    }

    /// Says that the guest is about to run. False if it must not, because it is to be interrupted: that is then done.
    pub(super) fn enter(&self) -> bool {
        // SeqCst: either this sees `wanted`, or `interrupt` sees `in_guest`.
        self.in_guest.store(true, Ordering::SeqCst);
        if self.take() {
            self.leave();
            return false;
        }
        true
    }

    /// Says that the guest has stopped.
    pub(super) fn leave(&self) {
        self.in_guest.store(false, Ordering::SeqCst);
    }

    /// Whether an interrupt is due; it is no longer afterwards.
    pub(super) fn take(&self) -> bool {
        self.wanted.swap(false, Ordering::SeqCst)
    }

    /// Whether an interrupt is due. Sends its signal again: a guest can block it for itself.
    pub(super) fn is_overdue(&self) -> bool {
        let wanted = self.wanted.load(Ordering::SeqCst);
        if wanted {
            self.send();
        }
        wanted
    }

    fn send(&self) {
        // A thread that is gone is fine, and one of another process cannot be hit.
        host::tgkill(self.pid, self.tid, INTERRUPT_SIGNAL);
    }
}

impl Interrupter for Kick {
    fn interrupt(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        if self.in_guest.load(Ordering::SeqCst) {
            self.send();
        }
    }
}
