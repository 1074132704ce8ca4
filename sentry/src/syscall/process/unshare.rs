//! `unshare(2)`.

use sentry_abi::sched::CloneFlags;

use crate::errno::{Errno, SysResult};
use crate::ipc::IpcNamespace;
use crate::syscall::Args;
use crate::task::{Capabilities, CurrentTask};

/// `unshare(2)`.
pub(crate) fn sys_unshare(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = CloneFlags::from_bits(args.u64(0)).ok_or(Errno::EINVAL)?;
    let supported = CloneFlags::FILES
        | CloneFlags::FS
        | CloneFlags::NEWNS
        | CloneFlags::NEWUTS
        | CloneFlags::NEWIPC
        | CloneFlags::SYSVSEM
        | CloneFlags::THREAD
        | CloneFlags::SIGHAND
        | CloneFlags::VM;
    if !supported.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    // Threads, handlers and memory can only be "unshared" where nobody shares them.
    let single = CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM;
    if flags.intersects(single) && task.thread_group().threads().len() > 1 {
        return Err(Errno::EINVAL.into());
    }
    let namespaces = CloneFlags::NEWNS | CloneFlags::NEWUTS | CloneFlags::NEWIPC;
    if flags.intersects(namespaces) && !task.creds().has(Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    if flags.contains(CloneFlags::FILES) {
        task.set_files(task.files().fork());
    }
    if flags.contains(CloneFlags::NEWNS) {
        task.set_fs(task.fs().fork_namespace());
    } else if flags.contains(CloneFlags::FS) {
        task.set_fs(task.fs().fork());
    }
    if flags.contains(CloneFlags::NEWUTS) {
        let uts = task.uts().fork();
        task.update_shared(|s| s.uts = uts);
    }
    if flags.contains(CloneFlags::NEWIPC) {
        task.update_shared(|s| s.ipc = IpcNamespace::new());
    }
    if flags.intersects(CloneFlags::NEWIPC | CloneFlags::SYSVSEM) {
        // unshare(2): what was to be undone by the process is undone now, if nobody shares it.
        task.set_semaphore_undo(None);
    }
    Ok(0)
}
