//! About the machine: `uname(2)`, `sysinfo(2)`, `sethostname(2)`, `personality(2)`.

use sentry_abi::resource::{Sysinfo, UTS_LEN};

use crate::errno::{Errno, SysResult};
use crate::kernel::{RELEASE, VERSION};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::{Capabilities, CurrentTask};

/// `uname(2)`.
pub(crate) fn sys_uname(task: &mut CurrentTask, args: &Args) -> SysResult {
    let uts = task.uts();
    let (host, domain) = (uts.hostname(), uts.domainname());
    let fields: [&[u8]; 6] = [b"Linux", &host, RELEASE.as_bytes(), VERSION.as_bytes(), b"x86_64", &domain];
    let mut bytes = [0; 6 * UTS_LEN];
    for (slot, field) in bytes.chunks_exact_mut(UTS_LEN).zip(fields) {
        let len = field.len().min(UTS_LEN - 1);
        slot[..len].copy_from_slice(&field[..len]);
    }
    task.mm().write_bytes(args.addr(0), &bytes)?;
    Ok(0)
}

/// `sysinfo(2)`.
pub(crate) fn sys_sysinfo(task: &mut CurrentTask, args: &Args) -> SysResult {
    let kernel = task.kernel();
    let (limit, used) = (kernel.memory_file().limit(), kernel.memory_file().in_use());
    let threads = kernel.tree().thread_count();
    let info = Sysinfo {
        uptime: (kernel.clocks().monotonic().0 / 1_000_000_000).cast_signed(),
        totalram: limit,
        freeram: limit.saturating_sub(used),
        procs: u16::try_from(threads).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    task.mm().write_obj(args.addr(0), &info)?;
    Ok(0)
}

fn read_name(task: &CurrentTask, at: UserAddr, len: i32) -> Result<Vec<u8>, Errno> {
    if !task.creds().has_in(task.uts().base.owner(), Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).ok().filter(|n| *n < UTS_LEN).ok_or(Errno::EINVAL)?;
    let mut name = vec![0; len];
    task.mm().read_bytes(at, &mut name)?;
    Ok(name)
}

/// `sethostname(2)`.
pub(crate) fn sys_sethostname(task: &mut CurrentTask, args: &Args) -> SysResult {
    let name = read_name(task, args.addr(0), args.i32(1))?;
    task.uts().set_hostname(name);
    Ok(0)
}

/// `setdomainname(2)`.
pub(crate) fn sys_setdomainname(task: &mut CurrentTask, args: &Args) -> SysResult {
    let name = read_name(task, args.addr(0), args.i32(1))?;
    task.uts().set_domainname(name);
    Ok(0)
}

/// `personality(2)`: only plain Linux is there. Of its flags `ADDR_NO_RANDOMIZE` means something, the others are kept.
pub(crate) fn sys_personality(task: &mut CurrentTask, args: &Args) -> SysResult {
    const QUERY: u32 = u32::MAX;
    const PER_MASK: u32 = 0xff;
    let persona = args.u32(0);
    if persona == QUERY {
        return Ok(task.personality().into());
    }
    if persona & PER_MASK != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(task.set_personality(persona).into())
}
