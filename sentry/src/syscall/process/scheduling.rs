//! Scheduling (`sched(7)`): attributes are kept; the host decides.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::{Capabilities, CpuMask, CurrentTask, Task, Tid, cpu_count};

const SCHED_OTHER: i32 = 0;
const SCHED_FIFO: i32 = 1;
const SCHED_RR: i32 = 2;
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;
const SCHED_RESET_ON_FORK: i32 = 0x4000_0000;

fn target(task: &CurrentTask, tid: i32) -> Result<Arc<Task>, Errno> {
    match tid {
        0 => Ok(task.task().clone()),
        i32::MIN..0 => Err(Errno::EINVAL),
        _ => {
            let id = task.named(tid)?;
            task.kernel().tree().thread(id).cloned().ok_or(Errno::ESRCH)
        }
    }
}

/// The same for the affinity calls, for which a negative number is a thread that does not exist.
fn affinity_target(task: &CurrentTask, tid: i32) -> Result<Arc<Task>, Errno> {
    if tid < 0 { Err(Errno::ESRCH) } else { target(task, tid) }
}

fn check_owner(task: &CurrentTask, target: &Task) -> Result<(), Errno> {
    let (mine, theirs) = (task.creds(), target.creds());
    let same = mine.euid == theirs.euid || mine.euid == theirs.uid;
    if same || mine.has_in(&theirs.user_ns, Capabilities::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

/// `sched_yield(2)`.
pub(crate) fn sys_sched_yield(_: &mut CurrentTask, _: &Args) -> SysResult {
    std::thread::yield_now();
    Ok(0)
}

/// `sched_getaffinity(2)`: returns the bytes written.
pub(crate) fn sys_sched_getaffinity(task: &mut CurrentTask, args: &Args) -> SysResult {
    let len = u64::from(args.u32(1));
    let needed = (cpu_count() as u64).div_ceil(64) * 8;
    if len * 8 < cpu_count() as u64 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    let mask = affinity_target(task, args.i32(0))?.scheduling().cpus;
    let bytes: Vec<u8> = mask.0.iter().flat_map(|w| w.to_le_bytes()).collect();
    // At most 128 bytes.
    let n = len.min(needed) as usize;
    task.mm().write_bytes(args.addr(2), &bytes[..n])?;
    Ok(n as u64)
}

/// `sched_setaffinity(2)`.
pub(crate) fn sys_sched_setaffinity(task: &mut CurrentTask, args: &Args) -> SysResult {
    let mut bytes = [0; 128];
    let len = args.u32(1).min(128) as usize;
    task.mm().read_bytes(args.addr(2), &mut bytes[..len])?;
    let mut words = [0_u64; 16];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().rev().fold(0, |w, b| w << 8 | u64::from(*b));
    }
    let target = affinity_target(task, args.i32(0))?;
    check_owner(task, &target)?;
    let mask = CpuMask(words).intersection(CpuMask::first(cpu_count()));
    if mask.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    target.scheduling.lock().cpus = mask;
    Ok(0)
}

fn check_policy(policy: i32, priority: i32) -> Result<(), Errno> {
    let valid = match policy {
        SCHED_FIFO | SCHED_RR => (1..=99).contains(&priority),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE => priority == 0,
        _ => false,
    };
    if valid { Ok(()) } else { Err(Errno::EINVAL) }
}

fn set_policy(task: &CurrentTask, tid: i32, policy: Option<i32>, priority: i32) -> SysResult {
    let target = target(task, tid)?;
    let old = target.scheduling();
    let reset = policy.is_some_and(|p| p & SCHED_RESET_ON_FORK != 0);
    let policy = policy.map_or(old.policy, |p| p & !SCHED_RESET_ON_FORK);
    check_policy(policy, priority)?;
    check_owner(task, &target)?;
    let is_realtime = matches!(policy, SCHED_FIFO | SCHED_RR);
    let limit = task.rlimit(crate::task::Resource::Rtprio).soft;
    let allowed = u64::from(priority.unsigned_abs()) <= limit || task.creds().has(Capabilities::SYS_NICE);
    if is_realtime && !allowed {
        return Err(Errno::EPERM.into());
    }
    let mut scheduling = target.scheduling.lock();
    scheduling.policy = policy;
    scheduling.priority = priority;
    scheduling.reset_on_fork |= reset;
    Ok(0)
}

/// `sched_setscheduler(2)`.
pub(crate) fn sys_sched_setscheduler(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.i32(1) < 0 || args.addr(2).is_null() {
        return Err(Errno::EINVAL.into());
    }
    let priority: i32 = task.mm().read_obj(args.addr(2))?;
    set_policy(task, args.i32(0), Some(args.i32(1)), priority)
}

/// `sched_setparam(2)`.
pub(crate) fn sys_sched_setparam(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.addr(1).is_null() {
        return Err(Errno::EINVAL.into());
    }
    let priority: i32 = task.mm().read_obj(args.addr(1))?;
    set_policy(task, args.i32(0), None, priority)
}

/// `sched_getscheduler(2)`.
pub(crate) fn sys_sched_getscheduler(task: &mut CurrentTask, args: &Args) -> SysResult {
    let scheduling = target(task, args.i32(0))?.scheduling();
    let reset = if scheduling.reset_on_fork { SCHED_RESET_ON_FORK } else { 0 };
    Ok(u64::from((scheduling.policy | reset).unsigned_abs()))
}

/// `sched_getparam(2)`.
pub(crate) fn sys_sched_getparam(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.addr(1).is_null() {
        return Err(Errno::EINVAL.into());
    }
    let priority = target(task, args.i32(0))?.scheduling().priority;
    task.mm().write_obj(args.addr(1), &priority)?;
    Ok(0)
}

/// The size of the first version of `struct sched_attr`.
const SCHED_ATTR_SIZE: u32 = 48;

/// `sched_getattr(2)`.
pub(crate) fn sys_sched_getattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (size, flags) = (args.u32(2), args.u32(3));
    if !(SCHED_ATTR_SIZE..=4096).contains(&size) || flags != 0 || args.addr(1).is_null() {
        return Err(Errno::EINVAL.into());
    }
    let s = target(task, args.i32(0))?.scheduling();
    let mut attr = [0_u32; 12];
    attr[0] = SCHED_ATTR_SIZE;
    attr[1] = s.policy.unsigned_abs();
    attr[2] = u32::from(s.reset_on_fork);
    attr[4] = s.nice.cast_unsigned();
    attr[5] = s.priority.unsigned_abs();
    task.mm().write_obj(args.addr(1), &attr)?;
    Ok(0)
}

/// `sched_setattr(2)`.
pub(crate) fn sys_sched_setattr(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.u32(2) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let size: u32 = task.mm().read_obj(args.addr(1))?;
    if size != 0 && size < SCHED_ATTR_SIZE {
        return Err(Errno::E2BIG.into());
    }
    let attr: [u32; 12] = task.mm().read_obj(args.addr(1))?;
    let (policy, nice, priority) = (attr[1].cast_signed(), attr[4].cast_signed(), attr[5].cast_signed());
    set_policy(task, args.i32(0), Some(policy), priority)?;
    if policy == SCHED_OTHER || policy == SCHED_BATCH {
        set_nice(task, &*target(task, args.i32(0))?, nice)?;
    }
    Ok(0)
}

/// `sched_get_priority_max(2)`.
pub(crate) fn sys_sched_get_priority_max(_: &mut CurrentTask, args: &Args) -> SysResult {
    match args.i32(0) {
        SCHED_FIFO | SCHED_RR => Ok(99),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | 6 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `sched_get_priority_min(2)`.
pub(crate) fn sys_sched_get_priority_min(_: &mut CurrentTask, args: &Args) -> SysResult {
    match args.i32(0) {
        SCHED_FIFO | SCHED_RR => Ok(1),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | 6 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `sched_rr_get_interval(2)`: 100 ms for `SCHED_RR`, else the host's slice of 4 ms.
pub(crate) fn sys_sched_rr_get_interval(task: &mut CurrentTask, args: &Args) -> SysResult {
    let scheduling = target(task, args.i32(0))?.scheduling();
    let ns = match scheduling.policy {
        SCHED_FIFO => 0,
        SCHED_RR => 100_000_000,
        _ => 4_000_000,
    };
    task.mm().write_obj(args.addr(1), &sentry_abi::time::Timespec::from_ns(ns))?;
    Ok(0)
}

/// `getcpu(2)`. Which CPU the guest thread last ran on is the host's business: the lowest one of its mask is a valid
/// answer at any time.
pub(crate) fn sys_getcpu(task: &mut CurrentTask, args: &Args) -> SysResult {
    let cpus = task.scheduling().cpus;
    let first = cpus.0.iter().enumerate().find(|(_, w)| **w != 0);
    let cpu = first.map_or(0, |(n, w)| u32::try_from(n * 64).unwrap_or(0) + w.trailing_zeros());
    if !args.addr(0).is_null() {
        task.mm().write_obj(args.addr(0), &cpu)?;
    }
    if !args.addr(1).is_null() {
        task.mm().write_obj(args.addr(1), &0_u32)?;
    }
    Ok(0)
}

const PRIO_PROCESS: i32 = 0;
const PRIO_PGRP: i32 = 1;
const PRIO_USER: i32 = 2;

/// The threads that `getpriority(2)` and `ioprio_get(2)` name.
fn priority_targets(task: &CurrentTask, which: i32, who: i32) -> Result<Vec<Arc<Task>>, Errno> {
    let tree = task.kernel().tree();
    let groups: Vec<_> = match which {
        PRIO_PROCESS if who == 0 => return Ok(vec![task.task().clone()]),
        PRIO_PROCESS => return Ok(tree.thread(task.named(who)?).cloned().into_iter().collect()),
        PRIO_PGRP => {
            let own = tree.process(task.pid()).map_or(Tid(0), |p| p.pgid);
            let pgid = if who == 0 { own } else { task.named(who)? };
            tree.group_members(pgid).map(|p| p.group.clone()).collect()
        }
        PRIO_USER => {
            let creds = task.creds();
            let named = || creds.user_ns.uid(who.cast_unsigned()).ok_or(Errno::ESRCH);
            let uid = if who == 0 { creds.uid } else { named()? };
            let theirs = tree.processes().filter(|p| p.leader.creds().uid == uid);
            theirs.map(|p| p.group.clone()).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    drop(tree);
    Ok(groups.iter().flat_map(|g| g.threads()).collect())
}

/// `getpriority(2)`: the raw call returns 20 minus the nice value.
pub(crate) fn sys_getpriority(task: &mut CurrentTask, args: &Args) -> SysResult {
    let targets = priority_targets(task, args.i32(0), args.i32(1))?;
    let best = targets.iter().map(|t| 20 - t.scheduling().nice).max().ok_or(Errno::ESRCH)?;
    Ok(u64::from(best.unsigned_abs()))
}

fn set_nice(task: &CurrentTask, target: &Task, nice: i32) -> Result<(), Errno> {
    let nice = nice.clamp(-20, 19);
    check_owner(task, target)?;
    let old = target.scheduling().nice;
    let floor = 20 - i32::try_from(task.rlimit(crate::task::Resource::Nice).soft.min(40)).unwrap_or(0);
    if nice < old && nice < floor && !task.creds().has(Capabilities::SYS_NICE) {
        return Err(Errno::EACCES);
    }
    target.scheduling.lock().nice = nice;
    Ok(())
}

/// `setpriority(2)`.
pub(crate) fn sys_setpriority(task: &mut CurrentTask, args: &Args) -> SysResult {
    let targets = priority_targets(task, args.i32(0), args.i32(1))?;
    if targets.is_empty() {
        return Err(Errno::ESRCH.into());
    }
    for target in targets {
        set_nice(task, &target, args.i32(2))?;
    }
    Ok(0)
}

/// `ioprio_get(2)`: the class "none", which follows the nice value.
pub(crate) fn sys_ioprio_get(task: &mut CurrentTask, args: &Args) -> SysResult {
    // IOPRIO_WHO_* are one more than PRIO_*.
    let targets = priority_targets(task, args.i32(0).wrapping_sub(1), args.i32(1))?;
    if targets.is_empty() { Err(Errno::ESRCH.into()) } else { Ok(0) }
}

/// `ioprio_set(2)`: checked and forgotten; the host's devices are not the guest's to order.
pub(crate) fn sys_ioprio_set(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (class, level) = (args.i32(2) >> 13, args.i32(2) & 7);
    match class {
        0 if level == 0 => {}
        1 if !task.creds().has(Capabilities::SYS_ADMIN) => return Err(Errno::EPERM.into()),
        1..=3 => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    sys_ioprio_get(task, args)
}
