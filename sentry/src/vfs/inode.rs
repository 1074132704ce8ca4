//! Inodes: the objects that names refer to.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::vfs::acl::{Acl, AclKind};
use crate::vfs::lock::FileLocks;
use crate::vfs::many_faced::{Entry, FileIdentity, ManyFaced};
use crate::vfs::notify::{self, Watches};
use crate::vfs::{
    Caller, Dentry, DeviceId, FileOps, FileType, OpenFlags, RenameMode, SetAttr, Stat, VfsPath, XattrMode,
};

/// An object of a file system. The file system does what depends on storage ([`InodeOps`]); what is the same for all
/// of them (locks, watches, a FIFO's pipe, a bound socket) is kept here.
pub struct Inode {
    ops: Box<dyn InodeOps>,
    kind: FileType,
    /// Serialises changes of a directory and slow lookups in it (Linux's `i_rwsem`). Taken parent before child; two
    /// unrelated directories in address order, under the superblock's rename lock.
    pub(crate) dir_lock: Mutex<()>,
    shared: OnceLock<Arc<Shared>>,
    life: Life,
    /// The name of a directory, of which it has one at a time, for who changes the directory behind the VFS's back.
    name: Mutex<Weak<Dentry>>,
}

/// What keeps an inode that has lost its last name.
#[derive(Default)]
struct Life {
    /// Open file descriptions.
    opens: AtomicU32,
    is_unlinked: AtomicBool,
}

/// State that few inodes need. All inodes of one file have the same.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) locks: FileLocks,
    pub(crate) watches: Watches,
    /// Whatever gives an inode meaning beyond its file system: the pipe of a FIFO, the endpoint bound to a socket.
    attachment: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
    /// Where the file's other inodes find it.
    _entry: Option<Entry>,
}

impl Shared {
    /// Of a file with several inodes, which find it by `entry`.
    pub(super) fn found_by(entry: Entry) -> Self {
        Self { _entry: Some(entry), ..Self::default() }
    }
}

impl Inode {
    /// An inode of type `kind` over `ops`.
    #[must_use]
    pub fn new(kind: FileType, ops: Box<dyn InodeOps>) -> Arc<Self> {
        Arc::new(Self {
            ops,
            kind,
            dir_lock: Mutex::new(()),
            shared: OnceLock::new(),
            life: Life::default(),
            name: Mutex::default(),
        })
    }

    /// The type, which never changes.
    #[must_use]
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The operations, for dispatch.
    #[must_use]
    pub fn ops(&self) -> &dyn InodeOps {
        &*self.ops
    }

    /// The operations as their concrete type, where they are of that type.
    #[must_use]
    pub fn downcast<T: InodeOps>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.ops;
        any.downcast_ref()
    }

    /// Finds a name in this directory.
    ///
    /// # Errors
    /// As [`InodeOps::lookup`].
    pub fn lookup(self: &Arc<Self>, caller: &Caller<'_>, name: &[u8]) -> Result<Arc<Self>, Errno> {
        self.ops.lookup(self, caller, name)
    }

    /// Makes a file in this directory.
    ///
    /// # Errors
    /// As [`InodeOps::create`].
    pub fn create(self: &Arc<Self>, name: &[u8], new: &NewInode) -> Result<Arc<Self>, Errno> {
        self.ops.create(self, name, new)
    }

    /// Makes a file without a name in this directory's file system.
    ///
    /// # Errors
    /// As [`InodeOps::create_unnamed`].
    pub fn create_unnamed(self: &Arc<Self>, new: &NewInode) -> Result<Arc<Self>, Errno> {
        self.ops.create_unnamed(self, new)
    }

    /// What is attached to the inode, made by `make` when there is nothing yet. Used for the pipe behind a FIFO.
    pub fn attachment_or<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Arc<T>) -> Option<Arc<T>> {
        let mut slot = self.shared().attachment.lock();
        let any = slot.get_or_insert_with(|| make()).clone();
        any.downcast().ok()
    }

    /// Attaches an object (the endpoint bound to a socket file) and returns what was there.
    pub fn attach(&self, object: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn Any + Send + Sync>> {
        self.shared().attachment.lock().replace(object)
    }

    /// What is attached, where it is a `T`.
    #[must_use]
    pub fn attachment<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.shared_if_used()?.attachment.lock().clone()?.downcast().ok()
    }

    /// Notes that a directory is known by this name.
    pub(super) fn note_name(&self, dentry: &Arc<Dentry>) {
        *self.name.lock() = Arc::downgrade(dentry);
    }

    /// Finds a name in this directory, for another file system that uses this one: what the VFS knows by it, and as long as the
    /// dentry is kept goes on to know, if it knows the directory.
    ///
    /// # Errors
    /// As [`InodeOps::lookup`].
    pub(crate) fn lookup_shared(
        self: &Arc<Self>,
        caller: &Caller<'_>,
        name: &[u8],
    ) -> Result<(Arc<Self>, Option<Arc<Dentry>>), Errno> {
        let known = self.name.lock().upgrade();
        match known {
            Some(dir) => dir.lookup(caller, name).map(|found| (found.inode().clone(), Some(found))),
            None => self.lookup(caller, name).map(|found| (found, None)),
        }
    }

    /// Has the VFS look for `name` in this directory again: another file system that uses this one changed it. Returns what was
    /// known by that name.
    pub(crate) fn forget_name(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        let dir = self.name.lock().upgrade()?;
        dir.forget(name)
    }

    /// Notes an open file description.
    pub(crate) fn note_opened(&self) {
        self.life.opens.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that one was closed.
    pub(crate) fn note_closed(&self) {
        // Ordered with `note_unlinked`, so that one of the two finds that it was the last.
        if self.life.opens.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.tell_if_gone();
        }
    }

    /// Notes that the last name was removed: watches end when nobody has it open any more (`dentry_unlink_inode`).
    pub(crate) fn note_unlinked(&self) {
        self.life.is_unlinked.store(true, Ordering::SeqCst);
        self.tell_if_gone();
    }

    fn tell_if_gone(&self) {
        let Life { opens, is_unlinked } = &self.life;
        if is_unlinked.load(Ordering::SeqCst)
            && opens.load(Ordering::SeqCst) == 0
            && is_unlinked.swap(false, Ordering::SeqCst)
        {
            notify::notify_deleted(self);
        }
    }

    /// The lazily made part.
    pub(crate) fn shared(&self) -> &Shared {
        self.shared.get_or_init(|| match self.ops.identity() {
            Some((files, identity)) => files.state_of(identity),
            None => Arc::default(),
        })
    }

    /// The lazily made part where something used it before.
    pub(crate) fn shared_if_used(&self) -> Option<&Shared> {
        if let Some(shared) = self.shared.get() {
            return Some(shared);
        }
        let (files, identity) = self.ops.identity()?;
        let found = files.find(identity)?;
        Some(self.shared.get_or_init(|| found))
    }
}

impl std::fmt::Debug for Inode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inode").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A file to make, with its final owner and mode (umask and set-group-ID inheritance already applied).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInode {
    /// What to make.
    pub kind: NewKind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The kinds of files that can be made, with what belongs to each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKind {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to a path.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket file.
    Socket,
    /// A character device.
    CharDevice(DeviceId),
    /// A block device.
    BlockDevice(DeviceId),
}

impl NewKind {
    /// The type of the new file.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        match self {
            Self::Regular => FileType::Regular,
            Self::Directory => FileType::Directory,
            Self::Symlink(_) => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::CharDevice(_) => FileType::CharDevice,
            Self::BlockDevice(_) => FileType::BlockDevice,
        }
    }
}

/// An entry of a directory listing, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode number.
    pub ino: u64,
    /// The type.
    pub kind: FileType,
}

/// What a symbolic link leads to.
#[derive(Debug, Clone)]
pub enum LinkTarget {
    /// A path, walked from the link's directory or from the root.
    Path(Vec<u8>),
    /// An object named by other means than a path (`/proc/PID/fd/N`, `/proc/PID/exe`).
    Object(VfsPath),
}

/// What a file system does for one of its inodes.
///
/// `this` is the inode over the operations. Names are single components (no `/`, not `.` or `..`, at most 255 bytes). The VFS checked permissions, the mount's
/// flags, and for changes that the names exist or not, and holds `dir_lock` of the directories concerned.
#[allow(unused_variables, reason = "defaults ignore their arguments")]
pub trait InodeOps: Any + Send + Sync {
    /// The attributes, except `dev`.
    ///
    /// # Errors
    /// `EIO`, `ESTALE`, `ESRCH` where the object behind is gone.
    fn stat(&self) -> Result<Stat, Errno>;

    /// The attributes as they were known last, for what happens too often to ask somebody else each time.
    ///
    /// # Errors
    /// As [`InodeOps::stat`].
    fn known_stat(&self) -> Result<Stat, Errno> {
        self.stat()
    }

    /// Which file it is, where there can be another inode of it.
    fn identity(&self) -> Option<(&Arc<ManyFaced>, FileIdentity)> {
        None
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// As `chmod(2)`, `chown(2)`, `truncate(2)`, `utimensat(2)`.
    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Finds a name in a directory.
    ///
    /// # Errors
    /// `ENOENT`.
    fn lookup(&self, this: &Arc<Inode>, caller: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Says that `names`, one below the other, will be looked up next: a remote file system fetches them in one
    /// round trip.
    fn prefetch(&self, names: &[&[u8]]) {}

    /// True where `name` still refers to `child`; asked only of file systems that
    /// [revalidate](crate::vfs::FileSystem::revalidates).
    fn still_there(&self, name: &[u8], child: &Arc<Inode>) -> bool {
        true
    }

    /// Makes a file.
    ///
    /// # Errors
    /// As `open(2)`, `mkdir(2)`, `mknod(2)`, `symlink(2)`.
    fn create(&self, this: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>, Errno> {
        Err(Errno::EPERM)
    }

    /// Makes a regular file without a name (`O_TMPFILE`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system has none.
    fn create_unnamed(&self, this: &Arc<Inode>, new: &NewInode) -> Result<Arc<Inode>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target` a further name.
    ///
    /// # Errors
    /// As `link(2)`.
    fn link(&self, name: &[u8], target: &Arc<Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes a name of something that is not a directory.
    ///
    /// # Errors
    /// As `unlink(2)`.
    fn unlink(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As `rmdir(2)`; `ENOTEMPTY`.
    fn rmdir(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Moves `from` to `to`, both with the inodes that are there now.
    ///
    /// # Errors
    /// As `rename(2)`.
    fn rename(&self, from: RenameEnd<'_>, to: RenameEnd<'_>, mode: RenameMode) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// All entries of a directory except `.` and `..`.
    ///
    /// # Errors
    /// `EIO`.
    fn read_dir(&self, caller: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// `EINVAL` for other types.
    fn read_link(&self, caller: &Caller<'_>) -> Result<LinkTarget, Errno> {
        Err(Errno::EINVAL)
    }

    /// The text that `readlink(2)` shows.
    ///
    /// # Errors
    /// As [`InodeOps::read_link`].
    fn link_text(&self, caller: &Caller<'_>) -> Result<Vec<u8>, Errno> {
        match self.read_link(caller)? {
            LinkTarget::Path(text) => Ok(text),
            LinkTarget::Object(_) => Err(Errno::EINVAL),
        }
    }

    /// Opens a regular file (or a directory whose listing is not the usual one). The VFS opens FIFOs, devices and
    /// plain directories itself.
    ///
    /// # Errors
    /// As `open(2)`.
    fn open(
        &self,
        inode: &Arc<Inode>,
        flags: OpenFlags,
        caller: &Caller<'_>,
    ) -> Result<Box<dyn FileOps>, Errno>;

    /// True where `name`, found in this directory or not, stays as it is until the VFS itself changes it.
    fn caches(&self, name: &[u8]) -> bool {
        true
    }

    /// Changes permission answers: `Some(result)` replaces the check of the mode bits.
    fn check_access(&self, caller: &Caller<'_>, want: crate::vfs::Access) -> Option<Result<(), Errno>> {
        None
    }

    /// Whether it can have access control lists, which its attributes then keep.
    fn takes_acls(&self) -> bool {
        false
    }

    /// An access control list.
    fn acl(&self, kind: AclKind) -> Option<Acl> {
        None
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`.
    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The names of the extended attributes.
    ///
    /// # Errors
    /// `EIO`.
    fn xattrs(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(Vec::new())
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// As `setxattr(2)`.
    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`.
    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// One end of a rename.
#[derive(Debug, Clone, Copy)]
pub struct RenameEnd<'a> {
    /// The directory.
    pub dir: &'a Arc<Inode>,
    /// The name in it.
    pub name: &'a [u8],
    /// What the name refers to now.
    pub inode: Option<&'a Arc<Inode>>,
}
