//! Paths as system calls give them: a string in guest memory and a directory descriptor.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::task::{Credentials, CurrentTask, Resource, Task};
use crate::vfs::walk::{PATH_MAX, walk};
use crate::vfs::{Caller, Fd, FdFlags, File, FsContext, Last, OpenFlags, Resolve, VfsPath, WalkRoot, Walked};

/// The working directory in place of a directory descriptor.
pub(crate) const AT_FDCWD: i32 = -100;
/// Don't follow a symbolic link at the end.
pub(crate) const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// Follow a symbolic link at the end (`linkat(2)`).
pub(crate) const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// An empty path means the directory descriptor itself.
pub(crate) const AT_EMPTY_PATH: u32 = 0x1000;
/// Accepted and without effect: there are no automounts.
pub(crate) const AT_NO_AUTOMOUNT: u32 = 0x800;

/// What a path call needs of the task, taken once.
pub(crate) struct PathContext {
    task: Arc<Task>,
    creds: Arc<Credentials>,
    fs: Arc<FsContext>,
}

impl PathContext {
    /// The context of `task`.
    pub(crate) fn new(task: &CurrentTask) -> Self {
        Self { task: task.task().clone(), creds: task.creds(), fs: task.fs() }
    }

    /// With other credentials (`access(2)`: the real ids).
    pub(crate) fn with_creds(self, creds: Arc<Credentials>) -> Self {
        Self { creds, ..self }
    }

    /// On whose behalf.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller::task(&self.task, &self.creds)
    }

    /// Root and working directory.
    pub(crate) fn fs(&self) -> &FsContext {
        &self.fs
    }

    /// Where to start walking `path` relative to `dirfd`.
    ///
    /// # Errors
    /// `EBADF`.
    pub(crate) fn root_for(&self, task: &CurrentTask, dirfd: Fd, path: &[u8]) -> Result<WalkRoot, Errno> {
        let start = if dirfd.0 == AT_FDCWD || path.first() == Some(&b'/') {
            self.fs.cwd()
        } else {
            task.files().get(dirfd)?.path().clone()
        };
        Ok(WalkRoot { namespace: self.fs.namespace(), root: self.fs.root(), start })
    }

    /// Walks `path` relative to `dirfd`.
    ///
    /// # Errors
    /// As `path_resolution(7)`; `EBADF`.
    pub(crate) fn walk(
        &self,
        task: &CurrentTask,
        dirfd: Fd,
        path: &[u8],
        last: Last,
    ) -> Result<Walked, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let from = self.root_for(task, dirfd, path)?;
        walk(&self.caller(), &from, path, last, Resolve::empty())
    }

    /// The place of `path` relative to `dirfd`; with `AT_EMPTY_PATH` in `flags` and an empty path that of `dirfd`.
    ///
    /// # Errors
    /// As [`PathContext::walk`].
    pub(crate) fn place(
        &self,
        task: &CurrentTask,
        dirfd: Fd,
        path: &[u8],
        flags: u32,
    ) -> Result<VfsPath, Errno> {
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            if dirfd.0 == AT_FDCWD {
                return Ok(self.fs.cwd());
            }
            return Ok(task.files().get(dirfd)?.path().clone());
        }
        let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { Last::NoFollow } else { Last::Follow };
        self.walk(task, dirfd, path, last)?.existing()
    }
}

/// Reads a path from guest memory.
///
/// # Errors
/// `EFAULT`, `ENAMETOOLONG`.
pub(crate) fn read_path(task: &CurrentTask, addr: UserAddr) -> Result<Vec<u8>, Errno> {
    task.mm().read_cstr(addr, PATH_MAX)
}

/// Reads a path that may be null where the call then means the descriptor itself.
///
/// # Errors
/// As [`read_path`].
pub(crate) fn read_optional_path(task: &CurrentTask, addr: UserAddr) -> Result<Vec<u8>, Errno> {
    if addr.is_null() { Ok(Vec::new()) } else { read_path(task, addr) }
}

/// The open file behind `fd`, which is not an `O_PATH` one.
///
/// # Errors
/// `EBADF`.
pub(crate) fn real_file(task: &CurrentTask, fd: Fd) -> Result<Arc<File>, Errno> {
    let file = task.files().get(fd)?;
    if file.flags().contains(OpenFlags::PATH) { Err(Errno::EBADF) } else { Ok(file) }
}

/// Sends the calling thread a signal of the kernel's (`SIGPIPE`, `SIGXFSZ`).
pub(crate) fn raise(task: &CurrentTask, signal: i32) {
    if let Some(signal) = sentry_abi::signal::Signal::new(signal) {
        task.raise(signal);
    }
}

/// Installs a new file at the lowest free descriptor, close-on-exec where `flags` say so.
///
/// # Errors
/// `EMFILE`.
pub(crate) fn install(task: &CurrentTask, file: Arc<File>, flags: OpenFlags) -> SysResult {
    let fd_flags = if flags.contains(OpenFlags::CLOEXEC) { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let limit = task.rlimit(Resource::Nofile).soft;
    let fd = task.files().install(file, fd_flags, 0, limit)?;
    Ok(u64::from(fd.0.unsigned_abs()))
}
