//! Which thread hears of a timer on the CPU time of its process: the one that used the time.
//!
//! Linux sends such a signal from a tick of the clock, to the thread that the tick interrupts, and profilers rely on it: what the
//! thread was doing is what took the time. Here nobody is interrupted, so threads are told in proportion to what they have used.

use std::sync::{Arc, Weak};

use crate::task::{Task, ThreadGroup};

/// What the threads of a process have used since a timer was set, less what they were told of.
#[derive(Debug, Default)]
pub(super) struct CpuShares {
    threads: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    task: Weak<Task>,
    /// The CPU time of the thread when it was last looked at.
    used_ns: u64,
    /// May be negative: a signal stands for all the time since the one before, whoever used it.
    owed_ns: i64,
}

impl CpuShares {
    /// Begins anew, with what is used from now on.
    pub(super) fn begin(&mut self, group: &ThreadGroup) {
        self.threads.clear();
        self.look(group);
        self.threads.iter_mut().for_each(|share| share.owed_ns = 0);
    }

    /// The thread to be told next; `None` in a process without others.
    pub(super) fn next(&mut self, group: &ThreadGroup) -> Option<Arc<Task>> {
        let passed = self.look(group);
        if self.threads.len() < 2 {
            return None;
        }
        let most = self.threads.iter_mut().max_by_key(|share| share.owed_ns)?;
        most.owed_ns = most.owed_ns.saturating_sub(passed);
        most.task.upgrade()
    }

    /// Counts what was used since the last time, and returns the sum.
    fn look(&mut self, group: &ThreadGroup) -> i64 {
        let known = std::mem::take(&mut self.threads);
        let mut sum = 0_i64;
        for task in group.threads() {
            let before = known.iter().find(|share| std::ptr::eq(share.task.as_ptr(), Arc::as_ptr(&task)));
            let (used_before, owed) = before.map_or((0, 0), |share| (share.used_ns, share.owed_ns));
            let (user, system) = task.cpu_times();
            let used_ns = user.saturating_add(system);
            let used = i64::try_from(used_ns.saturating_sub(used_before)).unwrap_or(i64::MAX);
            sum = used.saturating_add(sum);
            self.threads.push(Share {
                task: Arc::downgrade(&task),
                used_ns,
                owed_ns: owed.saturating_add(used),
            });
        }
        sum
    }
}
