//! The task as its own thread sees it.

use std::ops::Deref;
use std::sync::Arc;

use crate::mm::{MemoryManager, UserAddr, UserIo};
use crate::task::Task;
use crate::vfs::FdTable;

/// A task on its own sentry thread: the only holder of its registers and its platform context.
///
/// `mm()` and `files()` are cached here, so that system calls take no lock for them.
#[derive(Debug)]
pub struct CurrentTask {
    task: Arc<Task>,
    mm: Arc<MemoryManager>,
    files: Arc<FdTable>,
}

impl Deref for CurrentTask {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.task
    }
}

impl CurrentTask {
    /// The task, shared.
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// The address space.
    #[must_use]
    pub fn mm(&self) -> &Arc<MemoryManager> {
        &self.mm
    }

    /// The descriptor table.
    #[must_use]
    pub fn files(&self) -> &Arc<FdTable> {
        &self.files
    }

    /// The guest buffer `[base, base + len)` for file I/O.
    #[must_use]
    pub fn user_io(&self, base: UserAddr, len: u64) -> UserIo {
        UserIo::new(self.mm.clone(), base, len)
    }
}
