//! Open file descriptions: what a descriptor refers to.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::task::CurrentTask;
use crate::vfs::Mappable;
use crate::wait::{Observer, Readiness, WaitId};

bitflags::bitflags! {
    /// The flags of `open(2)`, with the values of x86-64 Linux.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[allow(missing_docs, reason = "the names are those of open(2)")]
    pub struct OpenFlags: u32 {
        const WRONLY = 0o1;
        const RDWR = 0o2;
        const CREAT = 0o100;
        const EXCL = 0o200;
        const NOCTTY = 0o400;
        const TRUNC = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DSYNC = 0o10000;
        const ASYNC = 0o20000;
        const DIRECT = 0o40000;
        const LARGEFILE = 0o100000;
        const DIRECTORY = 0o200000;
        const NOFOLLOW = 0o400000;
        const NOATIME = 0o1000000;
        const CLOEXEC = 0o2000000;
        const SYNC = 0o4010000;
        const PATH = 0o10000000;
        const TMPFILE = 0o20200000;
    }
}

impl OpenFlags {
    /// True where the access mode allows reading.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.bits() & 3 != 1 && !self.contains(Self::PATH)
    }

    /// True where the access mode allows writing.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self.bits() & 3, 1 | 2) && !self.contains(Self::PATH)
    }
}

/// `whence` of `lseek(2)` with its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_SET`.
    Set(i64),
    /// `SEEK_CUR`.
    Current(i64),
    /// `SEEK_END`.
    End(i64),
    /// `SEEK_DATA`.
    Data(i64),
    /// `SEEK_HOLE`.
    Hole(i64),
}

/// What a kind of file does. One implementation per kind: regular file, pipe end, socket, eventfd, ...
///
/// No method blocks on guest-visible conditions: an operation that cannot go on returns `EAGAIN` and the system
/// call layer waits (`CurrentTask::block_on_file`). Readiness is computed from state.
pub trait FileOps: Any + Send + Sync {
    /// Reads at `*pos` and advances it; streams ignore `pos`. `Ok(0)` is end of file.
    ///
    /// # Errors
    /// As `read(2)`; `EAGAIN` when nothing is there yet.
    fn read(&self, file: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let _ = (file, dst, pos);
        Err(Errno::EINVAL)
    }

    /// Writes at `*pos` (with `O_APPEND` at the end) and advances it; streams ignore `pos`.
    ///
    /// # Errors
    /// As `write(2)`; `EAGAIN` when there is no room. `EPIPE` makes the system call layer raise `SIGPIPE`.
    fn write(&self, file: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let _ = (file, src, pos);
        Err(Errno::EINVAL)
    }

    /// True where the file has a position (`lseek`, `pread`, `pwrite`).
    fn is_seekable(&self) -> bool {
        false
    }

    /// Moves the position; called with the position locked.
    ///
    /// # Errors
    /// As `lseek(2)`.
    fn seek(&self, file: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        let _ = (file, pos, to);
        Err(Errno::ESPIPE)
    }

    /// `ioctl(2)` of this kind of file.
    ///
    /// # Errors
    /// `ENOTTY` for unknown requests.
    fn ioctl(&self, task: &mut CurrentTask, file: &File, request: u32, arg: u64) -> SysResult {
        let _ = (task, file, request, arg);
        Err(Errno::ENOTTY.into())
    }

    /// The pages for `mmap(2)`.
    ///
    /// # Errors
    /// `ENODEV` for kinds that cannot be mapped.
    fn mappable(&self, file: &File) -> Result<Arc<dyn Mappable>, Errno> {
        let _ = file;
        Err(Errno::ENODEV)
    }

    /// What `poll(2)` would report now.
    fn readiness(&self, file: &File) -> Readiness {
        let _ = file;
        Readiness::IN | Readiness::OUT
    }

    /// Asks to be told when any of `interest` may have become true; `None` where readiness never changes.
    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        let _ = (interest, observer);
        None
    }

    /// Ends a registration.
    fn unregister(&self, id: WaitId) {
        let _ = id;
    }

    /// Called when `fcntl(F_SETFL)` changed the status flags.
    ///
    /// # Errors
    /// As `fcntl(2)`.
    fn set_flags(&self, file: &File, flags: OpenFlags) -> Result<(), Errno> {
        let _ = (file, flags);
        Ok(())
    }

    /// Called on each `close(2)` of a descriptor (not only the last).
    ///
    /// # Errors
    /// As `close(2)`.
    fn flush(&self, file: &File) -> Result<(), Errno> {
        let _ = file;
        Ok(())
    }
}

/// An open file description (`open(2)`): the file operations, status flags and position shared by duplicated
/// descriptors. Dropping the last reference closes it.
pub struct File {
    ops: Box<dyn FileOps>,
    flags: AtomicU32,
    pos: Mutex<u64>,
}

impl File {
    /// A description over `ops`, opened with `flags`.
    #[must_use]
    pub fn new(ops: Box<dyn FileOps>, flags: OpenFlags) -> Arc<Self> {
        Arc::new(Self { ops, flags: AtomicU32::new(flags.bits()), pos: Mutex::new(0) })
    }

    /// The operations, for dispatch.
    #[must_use]
    pub fn ops(&self) -> &dyn FileOps {
        &*self.ops
    }

    /// The operations as their concrete type, where they are of that type.
    #[must_use]
    pub fn downcast<T: FileOps>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.ops;
        any.downcast_ref()
    }

    /// Access mode and status flags.
    #[must_use]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// True with `O_NONBLOCK`.
    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// Replaces the status flags (`fcntl(F_SETFL)`).
    pub fn set_status_flags(&self, flags: OpenFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// The locked position, held over a read or write as Linux does (`read(2)` BUGS).
    pub fn position(&self) -> parking_lot::MutexGuard<'_, u64> {
        self.pos.lock()
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("flags", &self.flags()).finish_non_exhaustive()
    }
}
