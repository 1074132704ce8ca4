//! Mounts and mount namespaces (`mount_namespaces(7)`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::errno::Errno;
use crate::kernel::{NamespaceBase, NamespaceKind};
use crate::task::Credentials;
use crate::vfs::{Dentry, SuperBlock, VfsPath};

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
    place: RwLock<Option<VfsPath>>,
    namespace: RwLock<Weak<MountNamespace>>,
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

    /// Fails for a read-only mount.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn check_writable(&self) -> Result<(), Errno> {
        if self.flags().contains(MountFlags::RDONLY) { Err(Errno::EROFS) } else { Ok(()) }
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

/// A tree of mounts.
#[derive(Debug)]
pub struct MountNamespace {
    base: NamespaceBase,
    root: RwLock<Arc<Mount>>,
    /// By the mount above and the dentry (its address) that is covered. Several mounts on one place stack: the key
    /// of the later one is the root of the earlier one.
    table: RwLock<HashMap<(MountId, usize), Arc<Mount>>>,
}

impl MountNamespace {
    /// A namespace that is there from the beginning, with one mount.
    #[must_use]
    pub fn new(root: Arc<Mount>) -> Arc<Self> {
        Self::with(NamespaceBase::initial(NamespaceKind::Mount), root)
    }

    fn with(base: NamespaceBase, root: Arc<Mount>) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            *root.namespace.write() = me.clone();
            Self { base, root: RwLock::new(root), table: RwLock::default() }
        })
    }

    /// Its number and its owner.
    #[must_use]
    pub fn base(&self) -> &NamespaceBase {
        &self.base
    }

    /// The root of the tree, below whatever covers it.
    #[must_use]
    pub fn root_mount(&self) -> Arc<Mount> {
        self.root.read().clone()
    }

    /// The topmost root directory.
    #[must_use]
    pub fn root(&self) -> VfsPath {
        self.cross(self.root_mount().root_path())
    }

    /// Goes down into whatever is mounted on `path`.
    #[must_use]
    pub fn cross(&self, mut path: VfsPath) -> VfsPath {
        while path.dentry.mounted.load(Ordering::Acquire) > 0 {
            let key = (path.mount.id, Arc::as_ptr(&path.dentry).addr());
            let Some(over) = self.table.read().get(&key).cloned() else { break };
            path = over.root_path();
        }
        path
    }

    /// Attaches `mount` at `place`, on top of what is mounted there.
    ///
    /// # Errors
    /// `ENOTDIR` when one is a directory and the other is not, `ENOENT` for a removed place.
    pub fn attach(self: &Arc<Self>, mount: Arc<Mount>, place: VfsPath) -> Result<(), Errno> {
        let place = self.cross(place);
        if place.inode().is_dir() != mount.root.inode().is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if place.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        let mut table = self.table.write();
        place.dentry.mounted.fetch_add(1, Ordering::Release);
        table.insert((place.mount.id, Arc::as_ptr(&place.dentry).addr()), mount.clone());
        *mount.namespace.write() = Arc::downgrade(self);
        *mount.place.write() = Some(place);
        Ok(())
    }

    /// Mounts the file system of `root` at `place` and returns the mount.
    ///
    /// # Errors
    /// As [`MountNamespace::attach`].
    pub fn mount(
        self: &Arc<Self>,
        root: Arc<Dentry>,
        source: &[u8],
        place: VfsPath,
        flags: MountFlags,
    ) -> Result<Arc<Mount>, Errno> {
        let mount = Mount::new(root, source, flags);
        self.attach(mount.clone(), place)?;
        Ok(mount)
    }

    /// True where something is mounted below `mount` for good.
    #[must_use]
    pub fn has_locked_children(&self, mount: &Mount) -> bool {
        let table = self.table.read();
        table.iter().any(|((id, _), below)| *id == mount.id && below.is_locked())
    }

    /// True where something is mounted for good at or below `place` in its mount (`has_locked_children`).
    #[must_use]
    pub fn covers_for_good(&self, place: &VfsPath) -> bool {
        let table = self.table.read();
        let mut below = table.iter().filter(|((id, _), below)| *id == place.mount.id && below.is_locked());
        below.any(|(_, below)| below.mount_point().is_some_and(|at| place.dentry.is_ancestor_of(&at.dentry)))
    }

    /// True where something is mounted on `dentry` in this namespace.
    #[must_use]
    pub fn is_mount_point(&self, dentry: &Arc<Dentry>) -> bool {
        let on = |mount: &Arc<Mount>| mount.mount_point().is_some_and(|at| Arc::ptr_eq(&at.dentry, dentry));
        self.table.read().values().any(on)
    }

    /// True where something is mounted below `mount`.
    #[must_use]
    pub fn has_children(&self, mount: &Mount) -> bool {
        self.table.read().keys().any(|(id, _)| *id == mount.id)
    }

    /// Takes `mount` out of the tree.
    ///
    /// # Errors
    /// `EBUSY` with something mounted below it, `EINVAL` where it is not in this namespace or is its root.
    pub fn detach(&self, mount: &Arc<Mount>, children: DetachChildren) -> Result<(), Errno> {
        let Some(place) = mount.mount_point() else { return Err(Errno::EINVAL) };
        let mut table = self.table.write();
        let key = (place.mount.id, Arc::as_ptr(&place.dentry).addr());
        if !table.get(&key).is_some_and(|m| Arc::ptr_eq(m, mount)) {
            return Err(Errno::EINVAL);
        }
        let below: Vec<Arc<Mount>> = subtree(&table, mount);
        if below.len() > 1 && children == DetachChildren::Refuse {
            return Err(Errno::EBUSY);
        }
        for gone in &below {
            // What hides something for good goes on to do so for those who are still in there (`umount_tree`).
            if gone.is_locked() && !Arc::ptr_eq(gone, mount) {
                continue;
            }
            if let Some(place) = gone.place.write().take() {
                place.dentry.mounted.fetch_sub(1, Ordering::Release);
                table.remove(&(place.mount.id, Arc::as_ptr(&place.dentry).addr()));
            }
        }
        Ok(())
    }

    /// Moves `mount` to `place` (`MS_MOVE`).
    ///
    /// # Errors
    /// `EINVAL` for the root, `ELOOP` when `place` is below `mount`, and as [`MountNamespace::attach`].
    pub fn move_mount(self: &Arc<Self>, mount: &Arc<Mount>, place: VfsPath) -> Result<(), Errno> {
        let old = mount.mount_point().ok_or(Errno::EINVAL)?;
        let mut at = Some(place.mount.clone());
        while let Some(above) = at {
            if Arc::ptr_eq(&above, mount) {
                return Err(Errno::ELOOP);
            }
            at = above.mount_point().map(|p| p.mount);
        }
        {
            let mut table = self.table.write();
            table.remove(&(old.mount.id, Arc::as_ptr(&old.dentry).addr())).ok_or(Errno::EINVAL)?;
            old.dentry.mounted.fetch_sub(1, Ordering::Release);
            *mount.place.write() = None;
        }
        self.attach(mount.clone(), place)
    }

    /// A copy of the tree for a new namespace that `maker` makes (`CLONE_NEWNS`), and the copies of the mounts.
    ///
    /// # Errors
    /// `ENOSPC` where there are too many namespaces.
    pub fn copy(&self, maker: &Credentials) -> Result<(Arc<Self>, MountCopies), Errno> {
        let base = NamespaceBase::new(NamespaceKind::Mount, maker)?;
        let is_lesser = base.owner() != self.base.owner();
        let table = self.table.read();
        let old_root = self.root_mount();
        let mut copies = HashMap::new();
        for old in std::iter::once(&old_root).chain(table.values()) {
            let copy = old.copy(old.root.clone());
            if is_lesser {
                copy.lock(old.id != old_root.id);
            }
            copies.insert(old.id, copy);
        }
        let new = Self::with(base, copies[&old_root.id].clone());
        let mut new_table = new.table.write();
        for old in table.values() {
            let Some(place) = old.mount_point() else { continue };
            let (Some(above), Some(copy)) = (copies.get(&place.mount.id), copies.get(&old.id)) else {
                continue;
            };
            place.dentry.mounted.fetch_add(1, Ordering::Release);
            new_table.insert((above.id, Arc::as_ptr(&place.dentry).addr()), copy.clone());
            *copy.place.write() = Some(VfsPath::new(above.clone(), place.dentry));
            *copy.namespace.write() = Arc::downgrade(&new);
        }
        drop(new_table);
        Ok((new, copies))
    }

    /// Makes `mount` the root and puts the old root at `put_old` (`pivot_root(2)`); the caller checked the places.
    ///
    /// # Errors
    /// As [`MountNamespace::attach`].
    pub fn pivot(self: &Arc<Self>, new_root: &Arc<Mount>, put_old: VfsPath) -> Result<(), Errno> {
        let old_root = self.root_mount();
        let place = new_root.mount_point().ok_or(Errno::EINVAL)?;
        {
            let mut table = self.table.write();
            table.remove(&(place.mount.id, Arc::as_ptr(&place.dentry).addr())).ok_or(Errno::EINVAL)?;
            place.dentry.mounted.fetch_sub(1, Ordering::Release);
            *new_root.place.write() = None;
            *self.root.write() = new_root.clone();
        }
        if old_root.is_locked() {
            // What hid something as the root goes on to do so (`pivot_root` of Linux).
            new_root.set_locked(true);
            old_root.set_locked(false);
        }
        self.attach(old_root, put_old)
    }

    /// All mounts, the root first, parents before children, in the order of their numbers otherwise.
    #[must_use]
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        let table = self.table.read();
        subtree(&table, &self.root_mount())
    }

    /// The mounts at and below `mount`, parents first.
    #[must_use]
    pub fn subtree(&self, mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
        subtree(&self.table.read(), mount)
    }
}

/// The mounts of a copy by those that they were made of.
pub(super) type MountCopies = HashMap<MountId, Arc<Mount>>;

/// What [`MountNamespace::detach`] does with mounts below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachChildren {
    /// Fail with `EBUSY`.
    Refuse,
    /// Detach them too (`MNT_DETACH`).
    Detach,
}

/// `top` and everything below it, parents before children.
fn subtree(table: &HashMap<(MountId, usize), Arc<Mount>>, top: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut by_parent: HashMap<MountId, Vec<&Arc<Mount>>> = HashMap::new();
    for ((above, _), mount) in table {
        by_parent.entry(*above).or_default().push(mount);
    }
    let mut all = vec![top.clone()];
    let mut next = 0;
    while next < all.len() {
        if let Some(below) = by_parent.get_mut(&all[next].id) {
            below.sort_by_key(|m| m.id);
            all.extend(below.iter().map(|m| (*m).clone()));
        }
        next += 1;
    }
    all
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        for mount in self.table.get_mut().values() {
            if let Some(place) = mount.place.write().take() {
                place.dentry.mounted.fetch_sub(1, Ordering::Release);
            }
        }
    }
}
