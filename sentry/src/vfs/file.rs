//! Open file descriptions: what a descriptor refers to.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::kernel::Kernel;
use crate::task::{CurrentTask, Tid};
use crate::vfs::FdTableId;
use crate::vfs::anon::{self, AnonKind};
use crate::vfs::lock::LockOwner;
use crate::vfs::notify::{self, Event};
use crate::vfs::{Caller, DirEntry, Fd, Inode, Mappable, OwnerName, SignalDriven, Stat, VfsPath};
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

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
    /// `O_ACCMODE`: 0, 1, 2, or 3, with which a file is checked for both and opened for neither (`open(2)`, NOTES).
    #[must_use]
    pub(crate) fn access_mode(self) -> u32 {
        self.bits() & 3
    }

    /// True where the access mode allows reading.
    #[must_use]
    pub fn is_readable(self) -> bool {
        matches!(self.access_mode(), 0 | 2) && !self.contains(Self::PATH)
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

impl Seek {
    /// The new position in a file that is made while it is read, and has no end to count from.
    pub(crate) fn without_end(self, pos: u64) -> Result<u64, Errno> {
        let target = match self {
            Self::Set(at) => Some(at),
            Self::Current(by) => i64::try_from(pos).ok().and_then(|p| p.checked_add(by)),
            Self::End(_) | Self::Data(_) | Self::Hole(_) => None,
        };
        target.and_then(|at| u64::try_from(at).ok()).ok_or(Errno::EINVAL)
    }
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

    /// Reads at the file's own position, which is locked, and advances it.
    ///
    /// # Errors
    /// As [`FileOps::read`].
    fn read_on(&self, file: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        self.read(file, dst, pos)
    }

    /// Writes at the file's own position, which is locked, and advances it.
    ///
    /// # Errors
    /// As [`FileOps::write`].
    fn write_on(&self, file: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        self.write(file, src, pos)
    }

    /// The position, where programs outside share it and may have moved it.
    fn shared_position(&self) -> Option<u64> {
        None
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

    /// The queue of an object whose waiters are told one at a time ([`WaitQueue::notify_next`]), so that calls that block on it
    /// wait in turn.
    fn turns(&self) -> Option<&WaitQueue> {
        None
    }

    /// How long a call that waits for `interest` may do so (`SO_RCVTIMEO`, `SO_SNDTIMEO`); `None` is for ever.
    fn patience(&self, interest: Readiness) -> Option<std::time::Duration> {
        let _ = interest;
        None
    }

    /// True for terminals, whose signals (`O_ASYNC`) have an owner by themselves.
    fn is_terminal(&self) -> bool {
        false
    }

    /// The process group in the foreground of a terminal.
    fn foreground(&self) -> Option<Tid> {
        None
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

    /// Finishes an open that may have to wait (a FIFO for its other end).
    ///
    /// # Errors
    /// `EAGAIN` while it has to wait, also with `O_NONBLOCK` never.
    fn finish_open(&self, file: &File) -> Result<(), Errno> {
        let _ = file;
        Ok(())
    }

    /// Gives the directory entries from `*pos` on to `emit`, advancing `*pos` past each that it took, until it
    /// returns false. The second argument of `emit` is the position after the entry (`d_off`).
    ///
    /// # Errors
    /// `ENOTDIR`; as `getdents(2)`.
    fn read_dir(
        &self,
        file: &File,
        caller: &Caller<'_>,
        pos: &mut u64,
        emit: &mut dyn FnMut(&DirEntry, u64) -> bool,
    ) -> Result<(), Errno> {
        let _ = (file, caller, pos, emit);
        Err(Errno::ENOTDIR)
    }

    /// Writes data and attributes back to storage.
    ///
    /// # Errors
    /// As `fsync(2)`: `EINVAL` for what has no storage.
    fn sync(&self, file: &File) -> Result<(), Errno> {
        let _ = file;
        Err(Errno::EINVAL)
    }

    /// Sets the length (`ftruncate(2)`); regular files change their inode.
    ///
    /// # Errors
    /// `EINVAL` for what has no length.
    fn truncate(&self, file: &File, size: u64) -> Result<(), Errno> {
        let _ = (file, size);
        Err(Errno::EINVAL)
    }

    /// Allocates or frees a range (`fallocate(2)`).
    ///
    /// # Errors
    /// `ENODEV` for what is not a regular file, `EOPNOTSUPP` for modes that the file system does not have.
    fn allocate(&self, file: &File, mode: Allocate, offset: u64, len: u64) -> Result<(), Errno> {
        let _ = (file, mode, offset, len);
        Err(Errno::ENODEV)
    }

    /// How this description appears in `/proc/PID/fdinfo`, beyond the common lines.
    fn fdinfo(&self, file: &File) -> String {
        let _ = file;
        String::new()
    }
}

/// What `fallocate(2)` does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Allocates, extending the file.
    Extend,
    /// Allocates without extending the file (`FALLOC_FL_KEEP_SIZE`).
    KeepSize,
    /// Frees the range, which reads as zeros (`FALLOC_FL_PUNCH_HOLE`).
    PunchHole,
    /// Zeroes the range, extending the file.
    Zero,
    /// Zeroes the range without extending the file.
    ZeroKeepSize,
}

/// An open file description (`open(2)`): the file operations, status flags and position shared by duplicated
/// descriptors. Dropping the last reference closes it.
pub struct File {
    ops: Box<dyn FileOps>,
    flags: AtomicU32,
    pos: Mutex<u64>,
    path: VfsPath,
    /// Told when the description is closed.
    watchers: Mutex<Vec<Weak<dyn FileWatcher>>>,
    /// Who gets `SIGIO` and `SIGURG`, once somebody was named.
    signal_driven: OnceLock<Arc<SignalDriven>>,
}

impl File {
    /// A description over `ops`, opened with `flags`, of an anonymous file (`anon_inode:[..]`). Sockets and pipes
    /// use [`File::anonymous`] with their kind.
    #[must_use]
    pub fn new(ops: Box<dyn FileOps>, flags: OpenFlags) -> Arc<Self> {
        Self::anonymous(ops, flags, AnonKind::Other("file"))
    }

    /// A description of a file without a name.
    #[must_use]
    pub fn anonymous(ops: Box<dyn FileOps>, flags: OpenFlags, kind: AnonKind) -> Arc<Self> {
        Self::at(ops, flags, anon::path(kind))
    }

    /// A description of the file at `path`.
    #[must_use]
    pub fn at(ops: Box<dyn FileOps>, flags: OpenFlags, path: VfsPath) -> Arc<Self> {
        let flags = AtomicU32::new(flags.bits());
        path.inode().note_opened();
        Arc::new(Self {
            ops,
            flags,
            pos: Mutex::new(0),
            path,
            watchers: Mutex::default(),
            signal_driven: OnceLock::new(),
        })
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

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &VfsPath {
        &self.path
    }

    /// The inode.
    #[must_use]
    pub fn inode(&self) -> &Arc<Inode> {
        self.path.inode()
    }

    /// The attributes (`fstat(2)`).
    ///
    /// # Errors
    /// As the file system's.
    pub fn stat(&self) -> Result<Stat, Errno> {
        self.path.stat()
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

    /// Its signals (`F_SETOWN`, `O_ASYNC`), if it was ever to have any.
    #[must_use]
    pub fn signal_driven(&self) -> Option<&Arc<SignalDriven>> {
        self.signal_driven.get()
    }

    /// Its signals, to be set up.
    pub fn make_signal_driven(self: &Arc<Self>, kernel: &Arc<Kernel>) -> &Arc<SignalDriven> {
        self.signal_driven.get_or_init(|| SignalDriven::new(kernel, self))
    }

    /// Replaces the status flags by way of a descriptor, and begins or ends the signals that `O_ASYNC` asks for.
    pub fn change_status_flags(self: &Arc<Self>, task: &CurrentTask, flags: OpenFlags, fd: Fd) {
        let is_async = flags.contains(OpenFlags::ASYNC);
        let was_async = self.flags().contains(OpenFlags::ASYNC);
        self.set_status_flags(flags);
        if is_async == was_async {
            return;
        }
        let signals = self.make_signal_driven(task.kernel());
        if is_async && self.ops.is_terminal() && !signals.has_owner() {
            // tty_fasync: who is in the foreground, or the caller.
            let group = self.ops.foreground().map(|Tid(group)| OwnerName::Group(group));
            let owner = group.unwrap_or(OwnerName::Process(task.pid().0));
            // A group that has just ended hears nothing.
            let _ = signals.set_owner(owner, &task.creds());
        }
        signals.set_async(is_async, fd);
    }

    /// Something has to wait until there is room: see [`SignalDriven::note_full`].
    pub fn note_full(&self) {
        if let Some(signals) = self.signal_driven() {
            signals.note_full();
        }
    }

    /// The locked position, held over a read or write as Linux does (`read(2)` BUGS).
    pub fn position(&self) -> parking_lot::MutexGuard<'_, u64> {
        let mut pos = self.pos.lock();
        if let Some(shared) = self.ops.shared_position() {
            *pos = shared;
        }
        pos
    }

    /// Reads at the file's position.
    ///
    /// # Errors
    /// `EBADF` where it is not open for reading; as [`FileOps::read`].
    pub fn read(&self, dst: &mut dyn IoDst) -> Result<usize, Errno> {
        if !self.flags().is_readable() {
            return Err(Errno::EBADF);
        }
        let n = if self.ops.is_seekable() {
            let mut pos = self.pos.lock();
            self.ops.read_on(self, dst, &mut pos)?
        } else {
            self.ops.read(self, dst, &mut 0)?
        };
        self.tell(n, Event::ACCESS);
        Ok(n)
    }

    /// Writes at the file's position.
    ///
    /// # Errors
    /// `EBADF` where it is not open for writing; as [`FileOps::write`].
    pub fn write(&self, src: &mut dyn IoSrc) -> Result<usize, Errno> {
        if !self.flags().is_writable() {
            return Err(Errno::EBADF);
        }
        let n = if self.ops.is_seekable() {
            let mut pos = self.pos.lock();
            self.ops.write_on(self, src, &mut pos)?
        } else {
            let written = self.ops.write(self, src, &mut 0);
            if written == Err(Errno::EAGAIN) {
                self.note_full();
            }
            written?
        };
        self.tell(n, Event::MODIFY);
        Ok(n)
    }

    /// Reads at `offset` (`pread(2)`).
    ///
    /// # Errors
    /// `EBADF`, `ESPIPE` without a position; as [`FileOps::read`].
    pub fn read_at(&self, dst: &mut dyn IoDst, offset: u64) -> Result<usize, Errno> {
        // Linux looks at FMODE_PREAD and FMODE_PWRITE first.
        if !self.ops.is_seekable() {
            return Err(Errno::ESPIPE);
        }
        if !self.flags().is_readable() {
            return Err(Errno::EBADF);
        }
        let mut pos = offset;
        let n = self.ops.read(self, dst, &mut pos)?;
        self.tell(n, Event::ACCESS);
        Ok(n)
    }

    /// Writes at `offset` (`pwrite(2)`).
    ///
    /// # Errors
    /// `EBADF`, `ESPIPE` without a position; as [`FileOps::write`].
    pub fn write_at(&self, src: &mut dyn IoSrc, offset: u64) -> Result<usize, Errno> {
        // Linux looks at FMODE_PREAD and FMODE_PWRITE first.
        if !self.ops.is_seekable() {
            return Err(Errno::ESPIPE);
        }
        if !self.flags().is_writable() {
            return Err(Errno::EBADF);
        }
        let mut pos = offset;
        let n = self.ops.write(self, src, &mut pos)?;
        self.tell(n, Event::MODIFY);
        Ok(n)
    }

    /// Tells `watcher` when the description is closed.
    pub fn watch_close(&self, watcher: Weak<dyn FileWatcher>) {
        self.watchers.lock().push(watcher);
    }

    /// Ends [`File::watch_close`].
    pub fn unwatch_close<T: FileWatcher>(&self, watcher: &Arc<T>) {
        let at = Arc::as_ptr(watcher).addr();
        self.watchers.lock().retain(|w| w.strong_count() > 0 && w.as_ptr().addr() != at);
    }

    /// Who holds the `flock(2)` and open file description locks taken through this description.
    #[must_use]
    pub fn lock_owner(&self) -> LockOwner {
        LockOwner::Description(std::ptr::from_ref(self).addr())
    }

    /// A descriptor for it in `table` was closed: the table's record locks on the file are dropped, whichever descriptor they were
    /// taken by (`fcntl_locking(2)`), and it hears no more of the directory (`F_NOTIFY`).
    pub fn descriptor_closed(&self, table: FdTableId) {
        if let Some(shared) = self.inode().shared_if_used() {
            shared.locks.release(LockOwner::Process { files: table, pid: 0 });
        }
        if let Some(signals) = self.signal_driven() {
            signals.unwatch_directory(table);
        }
    }

    fn tell(&self, n: usize, event: Event) {
        if n > 0 {
            notify::notify_dentry(&self.path.dentry, event);
        }
    }
}

/// Wants to know when a description is closed (an epoll instance that watches it).
pub trait FileWatcher: Any + Send + Sync {
    /// The last reference to `file` is gone.
    fn closed(&self, file: &File);
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(signals) = self.signal_driven() {
            signals.close(self);
        }
        for watcher in std::mem::take(self.watchers.get_mut()) {
            if let Some(watcher) = watcher.upgrade() {
                watcher.closed(self);
            }
        }
        let inode = self.inode();
        if let Some(shared) = inode.shared_if_used() {
            shared.locks.release(self.lock_owner());
        }
        if !self.flags().contains(OpenFlags::PATH) {
            let wrote = self.flags().is_writable();
            let event = if wrote { Event::CLOSE_WRITE } else { Event::CLOSE_NOWRITE };
            notify::notify_dentry(&self.path.dentry, event);
        }
        inode.note_closed();
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("flags", &self.flags()).finish_non_exhaustive()
    }
}
