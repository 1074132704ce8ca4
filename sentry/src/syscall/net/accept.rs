//! `accept(2)` and `accept4(2)`.

use crate::errno::{Errno, SysResult};
use crate::socket::SocketFile;
use crate::syscall::Args;
use crate::syscall::net::address;
use crate::syscall::net::socket::{decode_flags, install};
use crate::syscall::net::wait::Patience;
use crate::task::{CurrentTask, Resource};
use crate::wait::Readiness;

/// `accept(fd, address, length)`.
pub(crate) fn sys_accept(task: &mut CurrentTask, args: &Args) -> SysResult {
    accept(task, args, 0)
}

/// `accept4(fd, address, length, flags)`.
pub(crate) fn sys_accept4(task: &mut CurrentTask, args: &Args) -> SysResult {
    accept(task, args, args.u32(3))
}

fn accept(task: &mut CurrentTask, args: &Args, flags: u32) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let flags = decode_flags(flags)?;
    let listener = SocketFile::from_file(&file)?;
    let socket = listener.socket();
    // Before the wait, as Linux does (do_accept reserves the descriptor first): a connection that cannot be given one
    // stays in the queue. Only another thread that takes the last one meanwhile still makes it lost.
    task.files().check_room(task.rlimit(Resource::Nofile).soft)?;
    let patience = Patience::new(task, &file, socket.base().recv_timeout(), false);
    let accepted = patience.wait(task, &file, Readiness::IN, |_| socket.try_accept())?;
    let fd = install(task, listener.namespace(), accepted.socket, flags)?;
    if !args.addr(1).is_null()
        && let Err(e) = address::write(task, &accepted.peer, args.addr(1), args.addr(2))
    {
        // The connection is lost, as on Linux.
        let file = task.files().remove(fd);
        drop(file);
        return Err(e.into());
    }
    u64::try_from(fd.0).map_err(|_| Errno::EMFILE.into())
}
