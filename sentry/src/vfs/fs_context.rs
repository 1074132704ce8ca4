//! The file system context of a task: root, working directory, umask (`clone(2)` `CLONE_FS`).

use std::sync::Arc;

/// Root directory, working directory and umask. Shared by threads through `Arc`.
#[derive(Debug, Default)]
pub struct FsContext {}

impl FsContext {
    /// A copy (`clone(2)` without `CLONE_FS`).
    #[must_use]
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self {})
    }
}
