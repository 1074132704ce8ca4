//! `connect(2)`.

use crate::errno::{Errno, SysError, SysResult};
use crate::socket::SocketFile;
use crate::syscall::Args;
use crate::syscall::net::address;
use crate::syscall::net::wait::{Patience, without_port};
use crate::task::CurrentTask;
use crate::wait::Readiness;

/// `connect(fd, address, length)`.
pub(crate) fn sys_connect(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let socket = SocketFile::of(&file)?;
    let address = address::read(task, args.addr(1), args.i32(2))?;
    let patience = Patience::new(task, &file, socket.base().send_timeout(), false);
    let begun = patience
        .wait(task, &file, Readiness::OUT, |task| without_port(&**socket, socket.connect(task, &address)));
    match begun {
        Ok(outcome) => Ok(outcome.map(|()| 0)?),
        Err(SysError::Errno(e @ (Errno::EINPROGRESS | Errno::EALREADY))) => {
            if !patience.waits() {
                return Err(e.into());
            }
            match patience.wait(task, &file, Readiness::OUT, |_| socket.connect_result()) {
                Ok(()) => Ok(0),
                // socket(7): with SO_SNDTIMEO connect fails with EINPROGRESS, and the attempt goes on.
                Err(SysError::Errno(Errno::EAGAIN)) => Err(Errno::EINPROGRESS.into()),
                Err(e) => Err(e),
            }
        }
        Err(e) => Err(e),
    }
}
