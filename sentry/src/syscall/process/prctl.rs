//! `prctl(2)`, `arch_prctl(2)`.

use std::sync::Arc;

use sentry_abi::signal::Signal;

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::process::seccomp;
use crate::task::{Capabilities, Credentials, CurrentTask};

const PR_SET_PDEATHSIG: i32 = 1;
const PR_GET_PDEATHSIG: i32 = 2;
const PR_GET_DUMPABLE: i32 = 3;
const PR_SET_DUMPABLE: i32 = 4;
const PR_GET_KEEPCAPS: i32 = 7;
const PR_SET_KEEPCAPS: i32 = 8;
const PR_SET_NAME: i32 = 15;
const PR_GET_NAME: i32 = 16;
const PR_GET_SECCOMP: i32 = 21;
const PR_SET_SECCOMP: i32 = 22;
const PR_CAPBSET_READ: i32 = 23;
const PR_CAPBSET_DROP: i32 = 24;
const PR_GET_SECUREBITS: i32 = 27;
const PR_SET_SECUREBITS: i32 = 28;
const PR_SET_TIMERSLACK: i32 = 29;
const PR_GET_TIMERSLACK: i32 = 30;
const PR_SET_CHILD_SUBREAPER: i32 = 36;
const PR_GET_CHILD_SUBREAPER: i32 = 37;
const PR_SET_NO_NEW_PRIVS: i32 = 38;
const PR_GET_NO_NEW_PRIVS: i32 = 39;
const PR_SET_THP_DISABLE: i32 = 41;
const PR_GET_THP_DISABLE: i32 = 42;
const PR_CAP_AMBIENT: i32 = 47;
const PR_SET_VMA: i32 = 0x5356_4d41;

/// `SECBIT_KEEP_CAPS`.
const KEEP_CAPS: u32 = 1 << 4;
/// The default timer slack in nanoseconds.
const TIMER_SLACK_NS: u64 = 50_000;

/// `prctl(2)`.
pub(crate) fn sys_prctl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (option, value) = (args.i32(0), args.u64(1));
    match option {
        PR_SET_PDEATHSIG => set_pdeathsig(task, value),
        PR_GET_PDEATHSIG => {
            let signal = task.parent_death_signal();
            task.mm().write_obj(args.addr(1), &signal)?;
            Ok(0)
        }
        PR_GET_DUMPABLE => Ok(u64::from(task.mm().is_dumpable())),
        PR_SET_DUMPABLE if value <= 1 => {
            task.mm().set_dumpable(value == 1);
            Ok(0)
        }
        PR_GET_KEEPCAPS => Ok(u64::from(task.creds().securebits & KEEP_CAPS != 0)),
        PR_SET_KEEPCAPS if value <= 1 => change_securebits(task, KEEP_CAPS, value == 1),
        PR_SET_NAME => {
            let mut name = [0; 16];
            let n = task.mm().read_some(args.addr(1), &mut name)?;
            let end = name[..n].iter().position(|b| *b == 0).unwrap_or(n);
            task.set_comm(&name[..end]);
            Ok(0)
        }
        PR_GET_NAME => {
            task.mm().write_obj(args.addr(1), &task.comm_field())?;
            Ok(0)
        }
        PR_GET_SECCOMP => Ok(task.seccomp().mode().into()),
        PR_SET_SECCOMP => seccomp::set_mode(task, value, args.addr(2)),
        PR_CAPBSET_READ => {
            let cap = capability(value)?;
            Ok(u64::from(task.creds().bounding.contains(cap)))
        }
        PR_CAPBSET_DROP => {
            let (cap, old) = (capability(value)?, task.creds());
            if !old.has_in_own(Capabilities::SETPCAP) {
                return Err(Errno::EPERM.into());
            }
            let bounding = old.bounding.difference(cap);
            task.set_creds(Arc::new(Credentials { bounding, ..Credentials::clone(&old) }));
            Ok(0)
        }
        PR_GET_SECUREBITS => Ok(u64::from(task.creds().securebits)),
        PR_SET_SECUREBITS => set_securebits(task, value),
        // The sandbox's timers have no slack to trade.
        PR_SET_TIMERSLACK => Ok(0),
        PR_GET_TIMERSLACK => Ok(TIMER_SLACK_NS),
        PR_SET_CHILD_SUBREAPER => {
            if let Some(process) = task.kernel().tree().process_mut(task.pid()) {
                process.is_subreaper = value != 0;
            }
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            let set = task.kernel().tree().process(task.pid()).is_some_and(|p| p.is_subreaper);
            task.mm().write_obj(args.addr(1), &i32::from(set))?;
            Ok(0)
        }
        PR_SET_NO_NEW_PRIVS if value == 1 && args.u64(2) == 0 => {
            let old = task.creds();
            task.set_creds(Arc::new(Credentials { no_new_privs: true, ..Credentials::clone(&old) }));
            Ok(0)
        }
        PR_GET_NO_NEW_PRIVS => Ok(u64::from(task.creds().no_new_privs)),
        PR_SET_THP_DISABLE | PR_GET_THP_DISABLE => Ok(0),
        PR_CAP_AMBIENT => ambient(task, value, args.u64(2)),
        // Names of anonymous areas: as a kernel without CONFIG_ANON_VMA_NAME.
        PR_SET_VMA => Err(Errno::EINVAL.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn set_pdeathsig(task: &CurrentTask, value: u64) -> SysResult {
    let number = i32::try_from(value).map_err(|_| Errno::EINVAL)?;
    if number != 0 && Signal::new(number).is_none() {
        return Err(Errno::EINVAL.into());
    }
    task.set_parent_death_signal(number);
    Ok(0)
}

fn capability(number: u64) -> Result<Capabilities, Errno> {
    let bit = u32::try_from(number).ok().and_then(|n| 1_u64.checked_shl(n)).ok_or(Errno::EINVAL)?;
    Capabilities::from_bits(bit).ok_or(Errno::EINVAL)
}

fn change_securebits(task: &mut CurrentTask, bits: u32, on: bool) -> SysResult {
    let old = task.creds();
    let securebits = if on { old.securebits | bits } else { old.securebits & !bits };
    task.set_creds(Arc::new(Credentials { securebits, ..Credentials::clone(&old) }));
    Ok(0)
}

/// `PR_SET_SECUREBITS`: bit n + 1 locks bit n.
fn set_securebits(task: &mut CurrentTask, value: u64) -> SysResult {
    const ALL: u32 = 0xff;
    const LOCKS: u32 = 0xaa;
    let new = u32::try_from(value).ok().filter(|v| v & !ALL == 0).ok_or(Errno::EPERM)?;
    let old = task.creds();
    let locks = old.securebits & LOCKS;
    let frozen = locks | locks >> 1;
    if !old.has_in_own(Capabilities::SETPCAP) || (old.securebits ^ new) & frozen != 0 {
        return Err(Errno::EPERM.into());
    }
    task.set_creds(Arc::new(Credentials { securebits: new, ..Credentials::clone(&old) }));
    Ok(0)
}

fn ambient(task: &mut CurrentTask, operation: u64, number: u64) -> SysResult {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    let old = task.creds();
    let ambient = match operation {
        IS_SET => return Ok(u64::from(old.ambient.contains(capability(number)?))),
        RAISE => {
            let cap = capability(number)?;
            let may = old.permitted.contains(cap) && old.inheritable.contains(cap);
            if !may || old.securebits & NO_CAP_AMBIENT_RAISE != 0 {
                return Err(Errno::EPERM.into());
            }
            old.ambient | cap
        }
        LOWER => old.ambient.difference(capability(number)?),
        CLEAR_ALL if number == 0 => Capabilities::empty(),
        _ => return Err(Errno::EINVAL.into()),
    };
    task.set_creds(Arc::new(Credentials { ambient, ..Credentials::clone(&old) }));
    Ok(0)
}

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;
const ARCH_GET_CPUID: i32 = 0x1011;
/// Where user addresses end.
const TASK_SIZE_MAX: u64 = (1 << 47) - 4096;

/// `arch_prctl(2)`.
pub(crate) fn sys_arch_prctl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (code, value) = (args.i32(0), args.u64(1));
    match code {
        ARCH_SET_FS | ARCH_SET_GS if value >= TASK_SIZE_MAX => return Err(Errno::EPERM.into()),
        ARCH_SET_FS => task.regs_mut().fs_base = value,
        ARCH_SET_GS => task.regs_mut().gs_base = value,
        ARCH_GET_FS => task.mm().write_obj(args.addr(1), &task.regs().fs_base)?,
        ARCH_GET_GS => task.mm().write_obj(args.addr(1), &task.regs().gs_base)?,
        ARCH_GET_CPUID => return Ok(1),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}
