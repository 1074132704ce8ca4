//! `getsockname(2)` and `getpeername(2)`.

use crate::errno::SysResult;
use crate::socket::SocketFile;
use crate::syscall::Args;
use crate::syscall::net::address;
use crate::task::CurrentTask;

/// `getsockname(fd, address, length)`.
pub(crate) fn sys_getsockname(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let local = SocketFile::of(&file)?.local_address()?;
    address::write(task, &local, args.addr(1), args.addr(2))?;
    Ok(0)
}

/// `getpeername(fd, address, length)`.
pub(crate) fn sys_getpeername(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let peer = SocketFile::of(&file)?.peer_address()?;
    address::write(task, &peer, args.addr(1), args.addr(2))?;
    Ok(0)
}
