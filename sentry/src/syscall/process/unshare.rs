//! `unshare(2)`.

use std::sync::Arc;

use sentry_abi::sched::CloneFlags;

use crate::errno::{Errno, SysResult};
use crate::kernel::Namespaces;
use crate::kernel::UserNamespace;
use crate::syscall::Args;
use crate::task::{Capabilities, CurrentTask};

/// `unshare(2)`. Everything is made first, so that a call that fails has changed nothing.
pub(crate) fn sys_unshare(task: &mut CurrentTask, args: &Args) -> SysResult {
    let mut flags = CloneFlags::from_bits(args.u64(0)).ok_or(Errno::EINVAL)?;
    let supported = CloneFlags::FILES
        | CloneFlags::FS
        | CloneFlags::NEWNS
        | CloneFlags::NEWUSER
        | Namespaces::KINDS
        | CloneFlags::SYSVSEM
        | CloneFlags::THREAD
        | CloneFlags::SIGHAND
        | CloneFlags::VM;
    if !supported.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(CloneFlags::NEWUSER) {
        flags |= CloneFlags::THREAD | CloneFlags::FS;
    }
    // Threads, handlers and memory can only be "unshared" where nobody shares them.
    let single = CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM;
    if flags.intersects(single) && task.thread_group().threads().len() > 1 {
        return Err(Errno::EINVAL.into());
    }
    let mut creds = task.creds();
    if flags.contains(CloneFlags::NEWUSER) {
        task.check_root_for_user_namespace()?;
        creds = Arc::new(UserNamespace::create(&creds)?);
    }
    let namespaces = CloneFlags::NEWNS | Namespaces::KINDS;
    if flags.intersects(namespaces) && !creds.has_in_own(Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let fs = match task.fs() {
        fs if flags.contains(CloneFlags::NEWNS) => Some(fs.fork_namespace(&creds)?),
        fs => flags.contains(CloneFlags::FS).then(|| fs.fork()),
    };
    let others = task.namespaces().fork(flags, &creds, task.pid_ns(), task.kernel())?;
    if flags.contains(CloneFlags::FILES) {
        task.own_files();
    }
    if let Some(fs) = fs {
        task.set_fs(fs);
    }
    let old = task.update_shared(|shared| std::mem::replace(&mut shared.namespaces, others));
    drop(old);
    if flags.contains(CloneFlags::NEWUSER) {
        task.set_creds(creds);
    }
    if flags.intersects(CloneFlags::NEWIPC | CloneFlags::SYSVSEM) {
        // unshare(2): what was to be undone by the process is undone now, if nobody shares it.
        task.set_semaphore_undo(None);
    }
    Ok(0)
}
