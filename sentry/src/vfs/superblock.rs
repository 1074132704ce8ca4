//! An instance of a file system.

use std::any::Any;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::kernel::UserNamespace;
use crate::vfs::dentry::DentryCache;
use crate::vfs::{Dentry, DeviceId, Inode, StatFs};

/// What a file system does as a whole.
pub trait FileSystem: Any + Send + Sync {
    /// The type's name in `/proc/filesystems`.
    fn type_name(&self) -> &'static str;

    /// Sizes and limits.
    ///
    /// # Errors
    /// `EIO`.
    fn statfs(&self) -> Result<StatFs, Errno>;

    /// The file system's own mount options, as `/proc/mounts` shows them (`size=64k,mode=755`), or empty.
    fn show_options(&self) -> String {
        String::new()
    }

    /// True where nothing can be changed, however it is mounted.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Writes everything back (`syncfs(2)`).
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// True where a name that was not found stays absent until the VFS itself makes it.
    fn caches_absence(&self) -> bool {
        false
    }

    /// True where somebody else may rename and remove files, so that a cached name is checked before each use.
    fn revalidates(&self) -> bool {
        false
    }

    /// How many dentries to keep; a file system whose inodes live in memory anyway says how cheap they are.
    fn dentry_limit(&self) -> usize {
        16 * 1024
    }
}

/// A file system that can be mounted, in one or more places.
pub struct SuperBlock {
    /// Whose the file system is, if not the first user namespace's.
    user_ns: OnceLock<Arc<UserNamespace>>,
    device: u64,
    fs: Box<dyn FileSystem>,
    caches_absence: bool,
    revalidates: bool,
    dentries: DentryCache,
    /// How many mounts show it. With the last one the cached dentries, which refer to each other, are let go.
    pub(crate) mounts: AtomicUsize,
    /// Serialises renames between directories (Linux's `s_vfs_rename_mutex`); taken before any `dir_lock`.
    pub(crate) rename_lock: Mutex<()>,
}

impl SuperBlock {
    /// An instance of `fs` with `root`, and the dentry of its root.
    #[must_use]
    pub fn new(fs: Box<dyn FileSystem>, root: Arc<Inode>) -> (Arc<Self>, Arc<Dentry>) {
        let superblock = Self::bare(fs);
        let root = Dentry::new_root(superblock.clone(), root);
        (superblock, root)
    }

    /// An instance without a root, for anonymous files.
    #[must_use]
    pub fn bare(fs: Box<dyn FileSystem>) -> Arc<Self> {
        Arc::new(Self {
            user_ns: OnceLock::new(),
            device: DeviceId::new(0, NEXT_MINOR.fetch_add(1, Ordering::Relaxed)).encode(),
            caches_absence: fs.caches_absence(),
            revalidates: fs.revalidates(),
            dentries: DentryCache::new(fs.dentry_limit()),
            fs,
            mounts: AtomicUsize::new(0),
            rename_lock: Mutex::new(()),
        })
    }

    /// The user namespace that it was mounted in.
    #[must_use]
    pub fn user_ns(&self) -> Arc<UserNamespace> {
        self.user_ns.get().cloned().unwrap_or_else(UserNamespace::initial)
    }

    /// Says where it was mounted; once, before anybody uses it.
    pub(crate) fn set_user_ns(&self, user_ns: Arc<UserNamespace>) {
        // One that is shown in several places stays with the first.
        let _ = self.user_ns.set(user_ns);
    }

    /// Whether devices on it can be opened (Linux's `SB_I_NODEV`).
    pub(crate) fn has_devices(&self) -> bool {
        self.user_ns.get().is_none_or(|user_ns| user_ns.is_initial())
    }

    /// `st_dev` of its files.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The file system.
    #[must_use]
    pub fn fs(&self) -> &dyn FileSystem {
        &*self.fs
    }

    /// The file system as its concrete type, where it is of that type.
    #[must_use]
    pub fn downcast<T: FileSystem>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.fs;
        any.downcast_ref()
    }

    pub(crate) fn caches_absence(&self) -> bool {
        self.caches_absence
    }

    pub(crate) fn revalidates(&self) -> bool {
        self.revalidates
    }

    pub(crate) fn dentries(&self) -> &DentryCache {
        &self.dentries
    }
}

impl std::fmt::Debug for SuperBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SuperBlock({}, {:#x})", self.fs.type_name(), self.device)
    }
}

/// Minor numbers for file systems without a device (major 0), unique in the process.
static NEXT_MINOR: AtomicU32 = AtomicU32::new(1);
