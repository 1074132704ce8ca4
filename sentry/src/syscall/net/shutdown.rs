//! `shutdown(2)`.

use crate::errno::{Errno, SysResult};
use crate::socket::{ShutdownHow, SocketFile};
use crate::syscall::Args;
use crate::task::CurrentTask;

/// `shutdown(fd, how)`.
pub(crate) fn sys_shutdown(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let socket = SocketFile::of(&file)?;
    let how = match args.i32(1) {
        0 => ShutdownHow::Read,
        1 => ShutdownHow::Write,
        2 => ShutdownHow::Both,
        _ => return Err(Errno::EINVAL.into()),
    };
    socket.shutdown(how)?;
    Ok(0)
}
