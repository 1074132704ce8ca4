//! `mremap(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::Move;
use crate::syscall::Args;
use crate::task::CurrentTask;

const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;

/// `mremap(2)`.
pub(crate) fn sys_mremap(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (addr, old_len, new_len, flags) = (args.u64(0), args.u64(1), args.u64(2), args.u64(3));
    let fixed = flags & MREMAP_FIXED != 0;
    let may_move = flags & MREMAP_MAYMOVE != 0;
    let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    // DEVIATION: MREMAP_DONTUNMAP is refused as before Linux 5.7.
    if flags & !known != 0 || flags & MREMAP_DONTUNMAP != 0 || (fixed && !may_move) {
        return Err(Errno::EINVAL.into());
    }
    let how = match () {
        () if fixed => Move::To(args.u64(4)),
        () if may_move => Move::May,
        () => Move::Never,
    };
    Ok(task.mm().remap(addr, old_len, new_len, how)?)
}
