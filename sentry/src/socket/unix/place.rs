//! Sockets in the file system: the file that `bind(2)` makes, and the socket behind a file.

use std::sync::{Arc, Weak};

use crate::errno::Errno;
use crate::socket::unix::UnixSocket;
use crate::task::CurrentTask;
use crate::vfs::permission::check_access;
use crate::vfs::walk::walk;
use crate::vfs::{Access, Caller, FileType, Last, NewKind, Resolve, VfsPath, WalkRoot, change};

/// What is attached to the inode of a socket file.
struct Bound(Weak<UnixSocket>);

/// The mode of new socket files before the umask (`unix_bind_bsd`).
const SOCKET_MODE: u32 = 0o777;

/// Makes the socket file `path` for `socket`.
///
/// # Errors
/// `EADDRINUSE` when the path exists; as `mknod(2)`.
pub(super) fn create(
    task: &mut CurrentTask,
    path: &[u8],
    socket: &Arc<UnixSocket>,
) -> Result<VfsPath, Errno> {
    let creds = task.creds();
    let caller = Caller::task(task.task(), &creds);
    let fs = task.fs();
    let at = walk(&caller, &root_of(task), path, Last::Parent, Resolve::empty())?;
    let made = change::create(&caller, &at, NewKind::Socket, SOCKET_MODE, fs.umask());
    let place = made.map_err(|e| if e == Errno::EEXIST { Errno::EADDRINUSE } else { e })?;
    place.inode().attach(Arc::new(Bound(Arc::downgrade(socket))));
    Ok(place)
}

/// The socket bound to `path`.
///
/// # Errors
/// `ECONNREFUSED` when the file is no socket or nobody is bound to it; as `open(2)` for writing.
pub(super) fn find(task: &mut CurrentTask, path: &[u8]) -> Result<Arc<UnixSocket>, Errno> {
    let creds = task.creds();
    let caller = Caller::task(task.task(), &creds);
    let place = walk(&caller, &root_of(task), path, Last::Follow, Resolve::empty())?.existing()?;
    let inode = place.inode();
    check_access(&caller, inode, Access::WRITE)?;
    if inode.kind() != FileType::Socket {
        return Err(Errno::ECONNREFUSED);
    }
    inode.attachment::<Bound>().and_then(|bound| bound.0.upgrade()).ok_or(Errno::ECONNREFUSED)
}

fn root_of(task: &CurrentTask) -> WalkRoot {
    let fs = task.fs();
    WalkRoot { namespace: fs.namespace(), root: fs.root(), start: fs.cwd() }
}
