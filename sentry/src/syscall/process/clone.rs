//! `fork(2)`, `vfork(2)`, `clone(2)`, `clone3(2)`, `set_tid_address(2)`.

use sentry_abi::sched::{CloneArgs, CloneFlags};
use sentry_abi::signal::Signal;
use zerocopy::{FromZeros, IntoBytes};

use crate::errno::{Errno, SysResult};
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::syscall::Args;
use crate::task::{CloneRequest, CurrentTask};

/// The exit signal in the low byte of `clone(2)`'s flags.
const CSIGNAL: u64 = 0xff;
/// The first published size of `struct clone_args`.
const CLONE_ARGS_SIZE_VER0: u64 = 64;
/// How many numbers a thread can have (`pid_namespaces(7)`).
const MAX_PID_NS_LEVEL: u64 = 32;

fn simple(flags: CloneFlags) -> CloneRequest {
    CloneRequest {
        flags,
        exit_signal: Signal::SIGCHLD.number(),
        stack: 0,
        parent_tid: UserAddr::NULL,
        child_tid: UserAddr::NULL,
        pidfd: UserAddr::NULL,
        tls: 0,
        set_tid: Vec::new(),
    }
}

/// `fork(2)`.
pub(crate) fn sys_fork(task: &mut CurrentTask, _: &Args) -> SysResult {
    task.clone_task(&simple(CloneFlags::empty()))
}

/// `vfork(2)`.
pub(crate) fn sys_vfork(task: &mut CurrentTask, _: &Args) -> SysResult {
    task.clone_task(&simple(CloneFlags::VFORK | CloneFlags::VM))
}

/// `clone(2)`. Unknown flags are ignored, as Linux does here.
pub(crate) fn sys_clone(task: &mut CurrentTask, args: &Args) -> SysResult {
    let raw = args.u64(0) & 0xffff_ffff;
    let flags = CloneFlags::from_bits_truncate(raw & !CSIGNAL);
    // The old interface returns the pidfd where the parent's tid would go.
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        return Err(Errno::EINVAL.into());
    }
    let signal = i32::try_from(raw & CSIGNAL).unwrap_or(0);
    if signal > 64 {
        return Err(Errno::EINVAL.into());
    }
    task.clone_task(&CloneRequest {
        flags,
        exit_signal: signal,
        stack: args.u64(1),
        parent_tid: args.addr(2),
        child_tid: args.addr(3),
        pidfd: args.addr(2),
        tls: args.u64(4),
        set_tid: Vec::new(),
    })
}

/// `clone3(2)`.
pub(crate) fn sys_clone3(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (at, size) = (args.addr(0), args.u64(1));
    let known = size_of::<CloneArgs>() as u64;
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG.into());
    }
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL.into());
    }
    let mut new = CloneArgs::new_zeroed();
    // At most a page, so the conversion is exact.
    let len = size.min(known) as usize;
    task.mm().read_bytes(at, &mut new.as_mut_bytes()[..len])?;
    // Fields from the future must be zero (clone3(2), copy_struct_from_user).
    let mut rest = vec![0; (size - len as u64) as usize];
    task.mm().read_bytes(at.checked_add(len as u64)?, &mut rest)?;
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG.into());
    }
    // `copy_clone_args_from_user`.
    if new.set_tid_size > MAX_PID_NS_LEVEL || (new.set_tid == 0) != (new.set_tid_size == 0) {
        return Err(Errno::EINVAL.into());
    }
    let flags = CloneFlags::from_bits(new.flags).ok_or(Errno::EINVAL)?;
    let is_child_of_parent = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    let bad_stack = (new.stack == 0) != (new.stack_size == 0);
    if new.exit_signal > 64
        || (is_child_of_parent && new.exit_signal != 0)
        || bad_stack
        || flags.contains(CloneFlags::DETACHED)
    {
        return Err(Errno::EINVAL.into());
    }
    // At most 32.
    let mut set_tid = vec![0_i32; new.set_tid_size as usize];
    task.mm().read_bytes(UserAddr(new.set_tid), set_tid.as_mut_bytes())?;
    task.clone_task(&CloneRequest {
        flags,
        exit_signal: i32::try_from(new.exit_signal).unwrap_or(0),
        stack: new.stack.wrapping_add(new.stack_size),
        parent_tid: UserAddr(new.parent_tid),
        child_tid: UserAddr(new.child_tid),
        pidfd: UserAddr(new.pidfd),
        tls: new.tls,
        set_tid,
    })
}

/// `set_tid_address(2)`.
pub(crate) fn sys_set_tid_address(task: &mut CurrentTask, args: &Args) -> SysResult {
    task.clear_child_tid = args.addr(0);
    Ok(task.number_value(task.tid()))
}
