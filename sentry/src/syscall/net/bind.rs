//! `bind(2)` and `listen(2)`.

use crate::errno::SysResult;
use crate::socket::SocketFile;
use crate::syscall::Args;
use crate::syscall::net::address;
use crate::task::CurrentTask;

/// `bind(fd, address, length)`.
pub(crate) fn sys_bind(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let socket = SocketFile::of(&file)?;
    let address = address::read(task, args.addr(1), args.i32(2))?;
    socket.bind(task, &address)?;
    Ok(0)
}

/// `listen(fd, backlog)`.
pub(crate) fn sys_listen(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let socket = SocketFile::from_file(&file)?;
    let most = socket.namespace().settings().somaxconn.get();
    let socket = socket.socket();
    // "if ((unsigned int)backlog > somaxconn) backlog = somaxconn": negative ones become the maximum.
    socket.listen(task, args.u32(1).min(most))?;
    Ok(0)
}
