//! What a thread's system calls have to pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::RwLock;
use sentry_abi::seccomp::mode;

use crate::task::seccomp::Filter;
use crate::task::thread::CallWork;
use crate::task::{CurrentTask, Task, Tid};

/// The mode and the filters of a thread. Others change them only for `SECCOMP_FILTER_FLAG_TSYNC`.
#[derive(Debug, Default)]
pub(crate) struct Seccomp {
    /// Release: whoever sees a mode sees its filter.
    mode: AtomicU8,
    filter: RwLock<Option<Arc<Filter>>>,
}

impl Seccomp {
    /// A copy, for `clone(2)`.
    pub(crate) fn inherit(&self, from: &Self) {
        *self.filter.write() = from.filter.read().clone();
        self.mode.store(from.mode(), Ordering::Release);
    }

    /// `SECCOMP_MODE_*`.
    pub(crate) fn mode(&self) -> u8 {
        self.mode.load(Ordering::Acquire)
    }

    /// The newest filter.
    pub(crate) fn filter(&self) -> Option<Arc<Filter>> {
        self.filter.read().clone()
    }

    /// How many filters there are (`Seccomp_filters` of `proc_pid_status(5)`).
    pub(crate) fn filter_count(&self) -> usize {
        self.filter.read().as_ref().map_or(0, Filter::count)
    }

    /// Whether a call passes that is not looked at any closer: there is no filter, or all of them always allow it.
    pub(crate) fn always_allows(&self, number: u64) -> bool {
        match self.mode() {
            mode::DISABLED => true,
            mode::FILTER => self.filter.read().as_ref().is_none_or(|filter| filter.always_allows(number)),
            _ => false,
        }
    }

    /// Allows reading, writing, returning from signals and leaving only.
    pub(crate) fn set_strict(&self) {
        self.mode.store(mode::STRICT, Ordering::Release);
    }

    /// Lets go of the filters of a thread that has ended.
    pub(crate) fn release(&self) {
        let filter = self.filter.write().take();
        drop(filter);
    }

    /// Replaces the filters by one that is on top of them.
    pub(crate) fn set_filter(&self, filter: Arc<Filter>) {
        *self.filter.write() = Some(filter);
        self.mode.store(mode::FILTER, Ordering::Release);
    }
}

/// A thread that cannot have the caller's filters, since it has others (`SECCOMP_FILTER_FLAG_TSYNC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("thread {} has other filters", .0.0)]
pub(crate) struct SyncError(pub(crate) Tid);

impl Task {
    /// Gives a process its first filter before it runs.
    pub(crate) fn start_with_filter(&self, filter: Arc<Filter>) {
        self.seccomp().set_filter(filter);
        self.add_call_work(CallWork::SECCOMP);
    }
}

impl CurrentTask {
    /// Allows reading, writing, returning from signals and leaving only.
    pub(crate) fn enter_strict_mode(&mut self) {
        self.seccomp().set_strict();
        self.add_call_work(CallWork::SECCOMP);
        self.publish_identity();
    }

    /// Installs a filter on top of the caller's own.
    pub(crate) fn install_filter(&mut self, filter: Arc<Filter>) {
        self.seccomp().set_filter(filter);
        self.add_call_work(CallWork::SECCOMP);
        self.publish_identity();
    }

    /// Gives the caller's filters with a new one on top to all threads of the process.
    ///
    /// # Errors
    /// The first thread whose filters are not the caller's or below them; nothing has changed then.
    pub(crate) fn install_filter_everywhere(&mut self, filter: Arc<Filter>) -> Result<(), SyncError> {
        let own = self.seccomp().filter();
        let others: Vec<Arc<Task>> = {
            // No thread begins or ends, nor does another one do the same, with this lock held.
            let group = self.thread_group().signals.lock();
            let others = || group.threads.iter().filter(|t| !Arc::ptr_eq(t, self.task()));
            for thread in others() {
                let theirs = thread.seccomp();
                let is_ancestor = match theirs.mode() {
                    mode::DISABLED => true,
                    mode::FILTER => Filter::is_on_top_of(own.as_ref(), theirs.filter().as_ref()),
                    _ => false,
                };
                if !is_ancestor {
                    return Err(SyncError(thread.tid()));
                }
            }
            for thread in others() {
                thread.seccomp().set_filter(filter.clone());
                thread.add_call_work(CallWork::SECCOMP);
            }
            self.seccomp().set_filter(filter);
            others().cloned().collect()
        };
        self.add_call_work(CallWork::SECCOMP);
        self.publish_identity();
        if self.creds().no_new_privs {
            for thread in &others {
                thread.set_no_new_privs();
            }
        }
        // What the platform answers by itself it answers in guest code only: a thread that comes back there has
        // looked at its filters.
        for thread in &others {
            thread.withdraw_answers();
        }
        Ok(())
    }
}
