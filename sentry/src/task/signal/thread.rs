//! The signal state of one thread.

use sentry_abi::signal::{SigSet, StackT};

use crate::task::signal::Pending;

/// Signals directed at one thread, and what it blocks.
#[derive(Debug)]
pub struct TaskSignals {
    /// Sent to this thread (`tgkill(2)`, faults).
    pub pending: Pending,
    /// Blocked signals.
    pub mask: SigSet,
    /// Waited for by `sigtimedwait(2)`: these wake the thread although blocked.
    pub waiting_for: SigSet,
    /// The alternate stack.
    pub alt_stack: StackT,
    /// The thread counts as stopped in the current group stop.
    pub stopped: bool,
}

impl TaskSignals {
    /// Nothing pending, `mask` blocked.
    #[must_use]
    pub fn new(mask: SigSet) -> Self {
        Self {
            pending: Pending::default(),
            mask,
            waiting_for: SigSet::EMPTY,
            alt_stack: StackT::DISABLED,
            stopped: false,
        }
    }
}
