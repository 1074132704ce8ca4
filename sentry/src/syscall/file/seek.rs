//! `lseek(2)`.

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::file::context::real_file;
use crate::task::CurrentTask;
use crate::vfs::Seek;

/// `lseek(2)`.
pub(crate) fn sys_lseek(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let by = args.i64(1);
    let to = match args.u32(2) {
        0 => Seek::Set(by),
        1 => Seek::Current(by),
        2 => Seek::End(by),
        3 => Seek::Data(by),
        4 => Seek::Hole(by),
        _ => return Err(Errno::EINVAL.into()),
    };
    if !file.ops().is_seekable() {
        return Err(Errno::ESPIPE.into());
    }
    let mut pos = file.position();
    *pos = file.ops().seek(&file, *pos, to)?;
    Ok(*pos)
}
