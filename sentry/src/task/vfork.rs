//! What a parent sleeps on until its `vfork(2)` child executes a program or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::task::{CurrentTask, TaskWaiter};

/// Released once.
#[derive(Debug)]
pub(crate) struct VforkLatch {
    released: AtomicBool,
    parent: Arc<TaskWaiter>,
}

impl VforkLatch {
    pub(crate) fn new(parent: Arc<TaskWaiter>) -> Arc<Self> {
        Arc::new(Self { released: AtomicBool::new(false), parent })
    }

    /// Lets the parent go on.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
        self.parent.wake();
    }
}

impl CurrentTask {
    /// Sleeps until the child is done with this memory. Only the end of this process cuts it short: other signals
    /// wait (`vfork(2)`).
    pub(crate) fn wait_for_vfork(&mut self, latch: &VforkLatch) {
        loop {
            self.waiter().clear();
            if latch.released.load(Ordering::SeqCst) || self.thread_group().signals.lock().must_leave(self) {
                return;
            }
            self.waiter().sleep(None);
        }
    }
}
