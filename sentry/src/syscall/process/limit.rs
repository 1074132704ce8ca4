//! `getrlimit(2)`, `prlimit(2)`, `getrusage(2)`.

use std::sync::Arc;

use sentry_abi::resource::{Rlimit, Rusage};
use sentry_abi::time::Timeval;

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::{Capabilities, CurrentTask, Limit, Resource, ThreadGroup};

/// `fs.nr_open`.
const NR_OPEN: u64 = 1 << 20;

fn set_limit(
    task: &CurrentTask,
    group: &Arc<ThreadGroup>,
    resource: Resource,
    new: Rlimit,
) -> Result<Limit, Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    if resource == Resource::Nofile && new.hard > NR_OPEN {
        return Err(Errno::EPERM);
    }
    let mut limits = group.limits.write();
    let old = limits.get(resource);
    if new.hard > old.hard && !task.creds().has(Capabilities::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    limits.set(resource, Limit { soft: new.soft, hard: new.hard });
    let after = *limits;
    drop(limits);
    if resource == Resource::Cpu {
        group.watch_cpu_limit();
    }
    if let Some(mm) = group.threads().first().and_then(|t| t.mm()) {
        let soft = |r| after.get(r).soft;
        mm.set_limits(soft(Resource::Stack), soft(Resource::As), soft(Resource::Data));
    }
    Ok(old)
}

fn as_rlimit(limit: Limit) -> Rlimit {
    Rlimit { soft: limit.soft, hard: limit.hard }
}

/// `getrlimit(2)`.
pub(crate) fn sys_getrlimit(task: &mut CurrentTask, args: &Args) -> SysResult {
    let resource = Resource::from_number(args.u32(0))?;
    task.mm().write_obj(args.addr(1), &as_rlimit(task.rlimit(resource)))?;
    Ok(0)
}

/// `setrlimit(2)`.
pub(crate) fn sys_setrlimit(task: &mut CurrentTask, args: &Args) -> SysResult {
    let new: Rlimit = task.mm().read_obj(args.addr(1))?;
    let resource = Resource::from_number(args.u32(0))?;
    set_limit(task, task.thread_group(), resource, new)?;
    Ok(0)
}

/// `prlimit(2)`.
pub(crate) fn sys_prlimit64(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (pid, new_at, old_at) = (args.i32(0), args.addr(2), args.addr(3));
    let resource = Resource::from_number(args.u32(1))?;
    let new: Option<Rlimit> = if new_at.is_null() { None } else { Some(task.mm().read_obj(new_at)?) };
    let group = if pid == 0 {
        task.thread_group().clone()
    } else {
        let id = task.named(pid)?;
        let target = task.kernel().tree().thread(id).cloned().ok_or(Errno::ESRCH)?;
        let (mine, theirs) = (task.creds(), target.creds());
        let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|u| *u == mine.uid)
            && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|g| *g == mine.gid);
        if !same && !mine.has_in(&theirs.user_ns, Capabilities::SYS_RESOURCE) {
            return Err(Errno::EPERM.into());
        }
        target.thread_group().clone()
    };
    let old = match new {
        Some(new) => set_limit(task, &group, resource, new)?,
        None => group.limits().get(resource),
    };
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &as_rlimit(old))?;
    }
    Ok(0)
}

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;

/// `getrusage(2)`.
pub(crate) fn sys_getrusage(task: &mut CurrentTask, args: &Args) -> SysResult {
    let group: &Arc<ThreadGroup> = task.thread_group();
    let (utime, stime) = match args.i32(0) {
        RUSAGE_SELF => group.cpu_times(),
        RUSAGE_CHILDREN => group.children_cpu_times(),
        RUSAGE_THREAD => task.cpu_times(),
        _ => return Err(Errno::EINVAL.into()),
    };
    let resident = task.mm().usage().resident;
    let usage = Rusage {
        utime: Timeval::from_ns(utime),
        stime: Timeval::from_ns(stime),
        maxrss: if args.i32(0) == RUSAGE_CHILDREN { 0 } else { (resident / 1024).cast_signed() },
        ..Rusage::default()
    };
    task.mm().write_obj(args.addr(1), &usage)?;
    Ok(0)
}
