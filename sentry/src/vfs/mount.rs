//! Mounts: file systems, or parts of them, attached somewhere (`mount(2)`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::errno::Errno;
use crate::vfs::{Dentry, MountNamespace, SuperBlock, VfsPath};

bitflags::bitflags! {
    /// What a mount restricts (`mount(2)`), with the values of `MS_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[allow(missing_docs, reason = "the names are those of mount(2)")]
    pub struct MountFlags: u32 {
        const RDONLY = 1;
        const NOSUID = 2;
        const NODEV = 4;
        const NOEXEC = 8;
        const NOSYMFOLLOW = 256;
        const NOATIME = 1024;
        const NODIRATIME = 2048;
        const RELATIME = 1 << 21;
        const STRICTATIME = 1 << 24;
        /// Which access times are kept.
        const ACCESS_TIMES = 1024 | 2048 | 1 << 21 | 1 << 24;
    }
}

/// Names a mount in `/proc/PID/mountinfo` and `statx(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub u64);

/// A file system, or a part of one, attached somewhere.
pub struct Mount {
    id: MountId,
    root: Arc<Dentry>,
    flags: AtomicU32,
    /// The restrictions that cannot be lifted ([`Mount::lock`]).
    locked_flags: AtomicU32,
    /// It stays where it is ([`Mount::lock`]).
    is_locked: AtomicBool,
    /// What `/proc/mounts` shows as the device.
    source: Vec<u8>,
    /// Where it is attached; the mount above is kept alive by the one below.
    pub(super) place: RwLock<Option<VfsPath>>,
    pub(super) namespace: RwLock<Weak<MountNamespace>>,
}

impl Mount {
    /// A mount that is attached nowhere yet.
    #[must_use]
    pub fn new(root: Arc<Dentry>, source: &[u8], flags: MountFlags) -> Arc<Self> {
        root.superblock().mounts.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            id: MountId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            root,
            flags: AtomicU32::new(flags.bits()),
            locked_flags: AtomicU32::new(0),
            is_locked: AtomicBool::new(false),
            source: source.to_vec(),
            place: RwLock::new(None),
            namespace: RwLock::new(Weak::new()),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> MountId {
        self.id
    }

    /// The dentry that appears at the mount point.
    #[must_use]
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// The file system.
    #[must_use]
    pub fn superblock(&self) -> &Arc<SuperBlock> {
        self.root.superblock()
    }

    /// The device name in `/proc/mounts`.
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Its restrictions.
    #[must_use]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces the restrictions (`MS_REMOUNT`).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// Another mount of the same file system with the same restrictions, attached nowhere, with `root` on top.
    #[must_use]
    pub fn copy(&self, root: Arc<Dentry>) -> Arc<Self> {
        let copy = Self::new(root, &self.source, self.flags());
        copy.locked_flags.store(self.locked_flags.load(Ordering::Relaxed), Ordering::Relaxed);
        copy.is_locked.store(self.is_locked(), Ordering::Relaxed);
        copy
    }

    /// Keeps the restrictions for good, for it is now in a namespace whose owner has less to say (`mount_namespaces(7)`,
    /// "Restrictions on mount namespaces"). `stays`: what it covers stays covered, too.
    pub(crate) fn lock(&self, stays: bool) {
        let kept = MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC
            | MountFlags::ACCESS_TIMES;
        let mut locked = self.flags() & kept;
        // How access times are treated is locked, whatever it is.
        locked |= MountFlags::ACCESS_TIMES;
        self.locked_flags.store(locked.bits(), Ordering::Relaxed);
        if stays {
            self.is_locked.store(true, Ordering::Relaxed);
        }
    }

    /// True where it must not be taken from its place alone, which would show what is below.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.is_locked.load(Ordering::Relaxed)
    }

    /// Lets it be taken from its place: nothing is hidden below.
    pub(crate) fn set_locked(&self, is_locked: bool) {
        self.is_locked.store(is_locked, Ordering::Relaxed);
    }

    /// Whether `flags` keep what is locked.
    #[must_use]
    pub fn keeps_locked(&self, flags: MountFlags) -> bool {
        let locked = MountFlags::from_bits_retain(self.locked_flags.load(Ordering::Relaxed));
        let times = MountFlags::ACCESS_TIMES;
        // RELATIME is what is done without any of them, and without any of them they stay.
        let shown = |flags: MountFlags| flags & times.difference(MountFlags::RELATIME);
        let same_times =
            !locked.intersects(times) || !flags.intersects(times) || shown(flags) == shown(self.flags());
        same_times && flags.contains(locked.difference(times))
    }

    /// Whether a view with `flags` is as read-only as this one has to stay.
    #[must_use]
    pub fn keeps_locked_read_only(&self, flags: MountFlags) -> bool {
        let locked = MountFlags::from_bits_retain(self.locked_flags.load(Ordering::Relaxed));
        !locked.contains(MountFlags::RDONLY) || flags.contains(MountFlags::RDONLY)
    }

    /// Fails for a read-only mount or file system.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn check_writable(&self) -> Result<(), Errno> {
        let is_read_only = self.flags().contains(MountFlags::RDONLY) || self.superblock().fs().is_read_only();
        if is_read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Where it is attached: the mount point in the mount above. `None` for the root of a namespace and for a
    /// detached mount.
    #[must_use]
    pub fn mount_point(&self) -> Option<VfsPath> {
        self.place.read().clone()
    }

    /// The root of the mount as a place.
    #[must_use]
    pub fn root_path(self: &Arc<Self>) -> VfsPath {
        VfsPath::new(self.clone(), self.root.clone())
    }

    /// The namespace that it belongs to, while attached.
    #[must_use]
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.namespace.read().upgrade()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // AcqRel: whoever drops the last one sees all that was cached through the others.
        if self.superblock().mounts.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.root.forget_tree();
        }
    }
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mount({}, {:?})", self.id.0, self.root.superblock())
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
