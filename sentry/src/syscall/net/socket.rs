//! `socket(2)` and `socketpair(2)`.

use std::sync::Arc;

use sentry_abi::socket::{AF_MAX, AF_UNIX, SOCK_CLOEXEC, SOCK_MAX, SOCK_NONBLOCK, SOCK_TYPE_MASK};

use crate::errno::{Errno, SysResult};
use crate::socket::unix::UnixSocket;
use crate::socket::{self, NetNamespace, Socket, SocketFile, credentials_of, owner};
use crate::syscall::Args;
use crate::task::{CurrentTask, Resource};
use crate::vfs::{Fd, FdFlags, OpenFlags};

/// `socket(family, type, protocol)`.
pub(crate) fn sys_socket(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (kind, flags) = split_type(args.u32(1))?;
    let namespace = NetNamespace::of(task)?;
    let socket = socket::create(task, &namespace, args.i32(0), kind, args.i32(2))?;
    let fd = install(task, &namespace, socket, flags)?;
    Ok(u64::from(fd.0.cast_unsigned()))
}

/// `socketpair(family, type, protocol, fds)`.
pub(crate) fn sys_socketpair(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (kind, flags) = split_type(args.u32(1))?;
    let namespace = NetNamespace::of(task)?;
    match u16::try_from(args.i32(0)) {
        Ok(AF_UNIX) => {}
        // The other families that can be made have no pairs.
        Ok(family) if family < AF_MAX => {
            socket::create(task, &namespace, family.into(), kind, args.i32(2))?;
            return Err(Errno::EOPNOTSUPP.into());
        }
        _ => return Err(Errno::EAFNOSUPPORT.into()),
    }
    if kind >= SOCK_MAX {
        return Err(Errno::EINVAL.into());
    }
    let kind = socket::unix_type(kind, args.i32(2))?;
    let (first, second) = UnixSocket::pair(&namespace, kind, credentials_of(task));
    let first = install(task, &namespace, first, flags)?;
    let second = match install(task, &namespace, second, flags) {
        Ok(fd) => fd,
        Err(e) => {
            close(task, first);
            return Err(e.into());
        }
    };
    if let Err(e) = task.mm().write_obj(args.addr(3), &[first.0, second.0]) {
        close(task, first);
        close(task, second);
        return Err(e.into());
    }
    Ok(0)
}

/// Takes back a descriptor that was made in vain.
fn close(task: &CurrentTask, fd: Fd) {
    let file = task.files().remove(fd);
    drop(file);
}

/// Descriptor and status flags of a new socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewFlags {
    fd: FdFlags,
    status: OpenFlags,
}

/// Splits the type argument into type and flags.
///
/// # Errors
/// `EINVAL` for unknown flags.
fn split_type(kind: u32) -> Result<(u32, NewFlags), Errno> {
    Ok((kind & SOCK_TYPE_MASK, decode_flags(kind & !SOCK_TYPE_MASK)?))
}

/// Decodes `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
///
/// # Errors
/// `EINVAL` for other bits.
pub(super) fn decode_flags(flags: u32) -> Result<NewFlags, Errno> {
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let fd = if flags & SOCK_CLOEXEC != 0 { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let status = if flags & SOCK_NONBLOCK != 0 { OpenFlags::NONBLOCK } else { OpenFlags::empty() };
    Ok(NewFlags { fd, status })
}

/// Gives `socket` a file and a descriptor.
///
/// # Errors
/// `EMFILE`; the socket is closed then.
pub(super) fn install(
    task: &CurrentTask,
    namespace: &Arc<NetNamespace>,
    socket: Arc<dyn Socket>,
    flags: NewFlags,
) -> Result<Fd, Errno> {
    let is_recorded = namespace.departed().is_kept();
    let opener = is_recorded.then(|| owner::name_of(task.pid().0, &task.comm()).into_boxed_str());
    let file = SocketFile::open_for(opener, socket, namespace, flags.status);
    task.files().install(file, flags.fd, 0, task.rlimit(Resource::Nofile).soft)
}
