//! `capget(2)`, `capset(2)`.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::{Capabilities, Credentials, CurrentTask};

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// Reads the header and returns the pid and how many 32-bit words each set has. An unknown version is answered with
/// the preferred one.
fn read_header(task: &CurrentTask, at: UserAddr) -> Result<Option<(i32, usize)>, Errno> {
    let [version, pid] = task.mm().read_obj::<[u32; 2]>(at)?;
    let words = match version {
        VERSION_1 => 1,
        VERSION_2 | VERSION_3 => 2,
        _ => {
            task.mm().write_obj(at, &VERSION_3)?;
            return Ok(None);
        }
    };
    Ok(Some((pid.cast_signed(), words)))
}

/// `capget(2)`.
pub(crate) fn sys_capget(task: &mut CurrentTask, args: &Args) -> SysResult {
    let data_at = args.addr(1);
    let Some((pid, words)) = read_header(task, args.addr(0))? else {
        // Only asking for the version is fine.
        return if data_at.is_null() { Ok(0) } else { Err(Errno::EINVAL.into()) };
    };
    if pid < 0 {
        return Err(Errno::EINVAL.into());
    }
    let creds = if pid == 0 {
        task.creds()
    } else {
        let id = task.named(pid)?;
        task.kernel().tree().thread(id).map(|t| t.creds()).ok_or(Errno::ESRCH)?
    };
    if data_at.is_null() {
        return Ok(0);
    }
    let sets = [creds.effective.bits(), creds.permitted.bits(), creds.inheritable.bits()];
    let mut bytes = Vec::with_capacity(24);
    for word in 0..words {
        for set in sets {
            bytes.extend_from_slice(&set.to_le_bytes()[word * 4..word * 4 + 4]);
        }
    }
    task.mm().write_bytes(data_at, &bytes)?;
    Ok(0)
}

/// `capset(2)`.
pub(crate) fn sys_capset(task: &mut CurrentTask, args: &Args) -> SysResult {
    let Some((pid, words)) = read_header(task, args.addr(0))? else { return Err(Errno::EINVAL.into()) };
    if pid != 0 && pid != task.number(task.tid()) {
        return Err(Errno::EPERM.into());
    }
    let data: Vec<[u32; 3]> = task.mm().read_array(args.addr(1), words)?;
    let set = |n: usize| {
        let low = u64::from(data[0][n]);
        let high = data.get(1).map_or(0, |d| u64::from(d[n]));
        Capabilities::from_bits_truncate(low | high << 32)
    };
    let (effective, permitted, inheritable) = (set(0), set(1), set(2));
    let old = task.creds();
    let may_inherit = if old.has_in_own(Capabilities::SETPCAP) {
        old.inheritable | old.bounding
    } else {
        old.inheritable | old.permitted
    };
    let limit =
        (old.inheritable | old.bounding) & may_inherit | old.inheritable | old.permitted & old.bounding;
    if !limit.contains(inheritable) || !old.permitted.contains(permitted) || !permitted.contains(effective) {
        return Err(Errno::EPERM.into());
    }
    let ambient = old.ambient & permitted & inheritable;
    let new = Credentials { effective, permitted, inheritable, ambient, ..Credentials::clone(&old) };
    task.set_creds(Arc::new(new));
    Ok(0)
}
