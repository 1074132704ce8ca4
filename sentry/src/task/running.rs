//! Which task a thread of the sentry works for (Linux's `current`).
//!
//! Almost everything is handed its caller. This is for the few files that ask who writes to them, not only who opened
//! them: to hand that through every write would cost all others something.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::task::Task;

thread_local! {
    static CURRENT: RefCell<Weak<Task>> = const { RefCell::new(Weak::new()) };
}

/// As long as this exists, its thread works for a task.
pub(super) struct Running(());

impl Running {
    pub(super) fn for_task(task: &Arc<Task>) -> Self {
        CURRENT.set(Arc::downgrade(task));
        Self(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(Weak::new());
    }
}

/// The task that this thread works for, if it does for one.
pub(crate) fn current() -> Option<Arc<Task>> {
    CURRENT.with_borrow(Weak::upgrade)
}
