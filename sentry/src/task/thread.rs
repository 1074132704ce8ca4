//! A guest thread as others see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::task::{Credentials, Limit, Limits, Resource, TaskWaiter};
use crate::vfs::{FdTable, FsContext};

/// A thread or process id as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub i32);

/// The threads of one process.
#[derive(Debug)]
pub struct ThreadGroup {
    pid: Tid,
    limits: RwLock<Limits>,
}

impl ThreadGroup {
    /// The process id: the thread id of its leader.
    #[must_use]
    pub fn pid(&self) -> Tid {
        self.pid
    }

    /// A copy of the limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        *self.limits.read()
    }
}

/// A guest thread, shared.
#[derive(Debug)]
pub struct Task {
    tid: Tid,
    group: Arc<ThreadGroup>,
    kernel: Arc<Kernel>,
    waiter: Arc<TaskWaiter>,
    /// Something waits for the task's attention: a signal, a stop, its end.
    attention: AtomicBool,
    shared: RwLock<Shared>,
}

/// What `clone(2)` shares or copies. The objects are replaced, not changed, by `unshare`, `execve` and `set*id`.
#[derive(Debug)]
struct Shared {
    mm: Option<Arc<MemoryManager>>,
    files: Arc<FdTable>,
    fs: Arc<FsContext>,
    creds: Arc<Credentials>,
}

impl Task {
    /// The thread id.
    #[must_use]
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Tid {
        self.group.pid
    }

    /// The process.
    #[must_use]
    pub fn thread_group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// The address space; `None` once the task has exited.
    #[must_use]
    pub fn mm(&self) -> Option<Arc<MemoryManager>> {
        self.shared.read().mm.clone()
    }

    /// The descriptor table; an empty one once the task has exited.
    #[must_use]
    pub fn files(&self) -> Arc<FdTable> {
        self.shared.read().files.clone()
    }

    /// Root directory, working directory and umask.
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        self.shared.read().fs.clone()
    }

    /// Identity and capabilities.
    #[must_use]
    pub fn creds(&self) -> Arc<Credentials> {
        self.shared.read().creds.clone()
    }

    /// The limit of `resource`.
    #[must_use]
    pub fn rlimit(&self, resource: Resource) -> Limit {
        self.group.limits.read().get(resource)
    }

    /// Where the task sleeps; register it with wait queues.
    #[must_use]
    pub fn waiter(&self) -> &Arc<TaskWaiter> {
        &self.waiter
    }

    /// True where a blocked call has to end: a signal to handle, a stop, the end of the process.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// Makes the task look at its pending work: ends its sleep, or takes it out of guest code.
    pub fn interrupt(&self) {
        self.attention.store(true, Ordering::SeqCst);
        self.waiter.wake();
    }

    /// Sends `signo` as `kill(2)` by the kernel does (`SI_KERNEL`), to this thread.
    ///
    /// # Errors
    /// `EINVAL` for a number that is not a signal.
    pub fn send_signal(&self, signo: i32) -> Result<(), Errno> {
        if (1..=64).contains(&signo) { Ok(()) } else { Err(Errno::EINVAL) }
    }
}
