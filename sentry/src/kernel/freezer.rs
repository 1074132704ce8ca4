//! Holding guest code back without its notice (`runsc pause`), as the freezer of cgroups does.
//!
//! A stop signal would be the wrong tool: the guest could see it (`waitpid(2)` with `WUNTRACED`), a continue signal would
//! continue what the guest itself had stopped, and the end of a process beside stopped ones raises SIGHUP
//! (`setpgid(2)`: orphaned process groups).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::kernel::{ContainerId, Kernel};
use crate::task::Task;

/// How long guest code gets to be out of the way; taking it out of a processor takes some microseconds.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// Whose guest code may not run.
#[derive(Debug, Default)]
pub(crate) struct Freezer {
    /// Whether it is anybody's.
    is_any: AtomicBool,
    frozen: Mutex<HashSet<ContainerId>>,
}

impl Freezer {
    /// True while no thread of the container may enter guest code.
    pub(crate) fn is_frozen(&self, container: ContainerId) -> bool {
        // SeqCst pairs with `Task::is_in_guest`: a thread says that it enters and then looks here, `Kernel::freeze`
        // forbids it and then looks who is inside.
        self.is_any.load(Ordering::SeqCst) && self.frozen.lock().contains(&container)
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<ContainerId>)) {
        let mut frozen = self.frozen.lock();
        change(&mut frozen);
        self.is_any.store(!frozen.is_empty(), Ordering::SeqCst);
    }
}

/// A thread did not leave guest code in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("thread {tid} of the guest did not stop within {} s", FREEZE_LIMIT.as_secs())]
pub(crate) struct FreezeError {
    tid: i32,
}

impl Kernel {
    /// Keeps guest code of a container from running until [`Kernel::thaw`], and returns when none runs any more.
    ///
    /// System calls that sleep go on sleeping, and what they wait for may happen; their threads are held on their way
    /// back. Packets and timers go on. A process that is killed ends.
    ///
    /// # Errors
    /// A thread that does not stop; everything runs again then.
    pub(crate) fn freeze(&self, container: ContainerId) -> Result<(), FreezeError> {
        self.freezer.change(|frozen| {
            frozen.insert(container);
        });
        let deadline = Instant::now() + FREEZE_LIMIT;
        for task in self.tasks_of(container) {
            task.interrupt_guest();
            while task.is_in_guest() {
                if Instant::now() > deadline {
                    self.thaw(container);
                    return Err(FreezeError { tid: task.tid().0 });
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Lets guest code of a container run again.
    pub(crate) fn thaw(&self, container: ContainerId) {
        self.freezer.change(|frozen| {
            frozen.remove(&container);
        });
        for task in self.tasks_of(container) {
            task.waiter().wake();
        }
    }

    fn tasks_of(&self, container: ContainerId) -> Vec<Arc<Task>> {
        let tree = self.tree();
        let own = tree.processes().filter(|process| process.group.container() == container);
        own.flat_map(|process| process.group.threads()).collect()
    }
}
