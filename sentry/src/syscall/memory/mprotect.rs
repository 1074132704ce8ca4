//! `mprotect(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::Prot;
use crate::syscall::Args;
use crate::task::CurrentTask;

const PROT_SEM: u32 = 8;
const PROT_GROWSDOWN: u32 = 0x0100_0000;
const PROT_GROWSUP: u32 = 0x0200_0000;

/// `mprotect(2)`.
pub(crate) fn sys_mprotect(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (mut addr, mut len, bits) = (args.u64(0), args.u64(1), args.u32(2));
    let grows = bits & (PROT_GROWSDOWN | PROT_GROWSUP);
    if grows == PROT_GROWSDOWN | PROT_GROWSUP {
        return Err(Errno::EINVAL.into());
    }
    let bits = bits & !grows;
    if bits & !(PROT_SEM | Prot::all().bits()) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if grows == PROT_GROWSDOWN {
        // The change reaches down to the start of the growing area.
        let start = task.mm().growing_area_start(addr).ok_or(Errno::EINVAL)?;
        len = len.checked_add(addr - start).ok_or(Errno::ENOMEM)?;
        addr = start;
    } else if grows == PROT_GROWSUP {
        return Err(Errno::EINVAL.into());
    }
    task.mm().protect(addr, len, Prot::from_bits_truncate(bits))?;
    Ok(0)
}
