//! `memfd_create(2)`.

use crate::errno::{Errno, SysResult};
use crate::fs::registry::memory_file;
use crate::fs::tmpfs::{Seals, create_memfd};
use crate::syscall::Args;
use crate::syscall::file::context::PathContext;
use crate::task::{CurrentTask, Resource};
use crate::vfs::FdFlags;

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 16;
/// The longest name with its NUL: `NAME_MAX` less `memfd:` (`memfd_create(2)`).
const MAX_NAME: usize = 250;

/// `memfd_create(2)`. Huge pages are not offered.
pub(crate) fn sys_memfd_create(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(1);
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC) != 0
        || flags & (MFD_EXEC | MFD_NOEXEC_SEAL) == MFD_EXEC | MFD_NOEXEC_SEAL
    {
        return Err(Errno::EINVAL.into());
    }
    let name = task.mm().read_cstr(args.addr(0), MAX_NAME).map_err(|e| match e {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let no_exec = flags & MFD_NOEXEC_SEAL != 0;
    let mut seals = if flags & MFD_ALLOW_SEALING != 0 || no_exec { Seals::empty() } else { Seals::SEAL };
    seals.set(Seals::EXEC, no_exec);
    let mode = if no_exec { 0o666 } else { 0o777 };
    let context = PathContext::new(task);
    let memory = memory_file(task)?;
    let file = create_memfd(memory, &context.caller(), &name, mode, seals)?;
    let fd_flags = if flags & MFD_CLOEXEC != 0 { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let limit = task.rlimit(Resource::Nofile).soft;
    let fd = task.files().install(file, fd_flags, 0, limit)?;
    Ok(u64::from(fd.0.unsigned_abs()))
}
