//! File systems by the name that `mount(2)` uses.

use std::sync::Arc;

use sentry_platform::MemoryFile;

use crate::errno::Errno;
use crate::fs::tmpfs::{SizeLimit, Tmpfs, TmpfsOptions};
use crate::kernel::{Kernel, PidNamespace, UserNamespace};
use crate::task::{Capabilities, CurrentTask};
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
/// `ENODEV` for a type that does not exist, `EINVAL` for bad options, `EPERM` for one that belongs to a user namespace in
/// which the task has no `CAP_SYS_ADMIN` (`mount_capable`): all of these types can be mounted in any.
pub fn create(task: &CurrentTask, kind: &str, data: &str) -> Result<Arc<Dentry>, Errno> {
    let creds = task.creds();
    let (initial, own) = (UserNamespace::initial(), &creds.user_ns);
    let user_ns = match kind {
        "mqueue" => task.ipc().base.owner().clone(),
        "proc" => task.pid_ns().base.owner().clone(),
        "sysfs" => task.net().map_or(initial, |net| net.base().owner().clone()),
        _ => own.clone(),
    };
    if !creds.has_in(&user_ns, Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let root = match kind {
        "mqueue" => task.ipc().queues().root().dentry,
        "tmpfs" | "ramfs" => {
            let mut options = TmpfsOptions::parse(data)?;
            // Without options the root belongs to the caller; ids are those of his namespace.
            let named = |name: &str| data.split(',').any(|part| part.starts_with(name));
            options.uid =
                if named("uid=") { own.uid(options.uid).ok_or(Errno::EINVAL)? } else { creds.fsuid }.0;
            options.gid =
                if named("gid=") { own.gid(options.gid).ok_or(Errno::EINVAL)? } else { creds.fsgid }.0;
            if kind == "ramfs" {
                options.size = SizeLimit::Unlimited;
            }
            Tmpfs::create(task.kernel().memory_file().clone(), &options)
        }
        "proc" => crate::fs::proc::create(task.kernel(), task.pid_ns()),
        "devpts" => crate::fs::tty::create(task.kernel(), data, own)?,
        "sysfs" => crate::fs::sysfs::create(task.net().as_ref()),
        _ => create_at_boot(task.kernel(), kind, data)?,
    };
    root.superblock().set_user_ns(user_ns);
    Ok(root)
}

/// As [`create`], for the first mounts, which no task makes.
///
/// # Errors
/// As [`create`].
pub(crate) fn create_at_boot(kernel: &Arc<Kernel>, kind: &str, data: &str) -> Result<Arc<Dentry>, Errno> {
    match kind {
        "tmpfs" | "ramfs" => Ok(Tmpfs::create(kernel.memory_file().clone(), &TmpfsOptions::parse(data)?)),
        "proc" => Ok(crate::fs::proc::create(kernel, &PidNamespace::initial())),
        "sysfs" => Ok(crate::fs::sysfs::create(kernel.net_namespace())),
        "devpts" => crate::fs::tty::create(kernel, data, &UserNamespace::initial()),
        _ => Err(Errno::ENODEV),
    }
}
