//! File systems by the name that `mount(2)` uses.

use std::sync::Arc;

use sentry_platform::MemoryFile;

use crate::errno::Errno;
use crate::fs::tmpfs::{Tmpfs, TmpfsOptions};
use crate::kernel::Kernel;
use crate::task::CurrentTask;
use crate::vfs::Dentry;

/// The types in `/proc/filesystems`, all without a device.
pub const TYPES: &[&str] = &["sysfs", "tmpfs", "proc", "devpts", "mqueue", "overlay"];

/// The memory behind tmpfs files.
///
/// # Errors
/// `ENODEV` where the sandbox has none.
pub(crate) fn memory_file(task: &CurrentTask) -> Result<Arc<MemoryFile>, Errno> {
    Ok(task.kernel().memory_file().clone())
}

/// A new file system of type `kind` with the data of `mount(2)`.
///
/// # Errors
/// `ENODEV` for a type that does not exist, `EINVAL` for bad options.
pub fn create(task: &CurrentTask, kind: &str, data: &str) -> Result<Arc<Dentry>, Errno> {
    if kind == "mqueue" {
        return Ok(task.ipc().queues().root().dentry);
    }
    create_at_boot(task.kernel(), kind, data)
}

/// As [`create`], for the first mounts, which no task makes.
///
/// # Errors
/// As [`create`].
pub(crate) fn create_at_boot(kernel: &Arc<Kernel>, kind: &str, data: &str) -> Result<Arc<Dentry>, Errno> {
    match kind {
        "tmpfs" | "ramfs" => Ok(Tmpfs::create(kernel.memory_file().clone(), &TmpfsOptions::parse(data)?)),
        "proc" => Ok(crate::fs::proc::create(kernel)),
        "sysfs" => Ok(crate::fs::sysfs::create()),
        "devpts" => crate::fs::tty::create(kernel, data),
        _ => Err(Errno::ENODEV),
    }
}
