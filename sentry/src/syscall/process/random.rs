//! `getrandom(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::CurrentTask;

const KNOWN: u32 = 1 | 2 | 4;
const GRND_RANDOM: u32 = 2;
const GRND_INSECURE: u32 = 4;

/// `getrandom(2)`.
pub(crate) fn sys_getrandom(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (addr, len, flags) = (args.addr(0), args.u64(1), args.u32(2));
    let contradicts = flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE;
    if flags & !KNOWN != 0 || contradicts {
        return Err(Errno::EINVAL.into());
    }
    // getrandom(2): at most 33554431 bytes at a time.
    let len = len.min(33_554_431);
    let mut buf = [0; 4096];
    let mut done = 0;
    while done < len {
        if done > 0 && task.is_interrupted() {
            break;
        }
        // At most 4096, so the conversion is exact.
        let piece = &mut buf[..(len - done).min(4096) as usize];
        sentry_hostio::random::fill(piece).map_err(|_| Errno::EIO)?;
        match task.mm().write_some(UserAddr(addr.0.wrapping_add(done)), piece) {
            Ok(n) => done += n as u64,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}
