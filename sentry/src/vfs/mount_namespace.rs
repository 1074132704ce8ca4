//! Mount namespaces: trees of mounts (`mount_namespaces(7)`).
//!
//! What changes a tree holds the lock of the peer groups, which all namespaces of a sandbox share, so that a change and its
//! propagation are one (Linux's `namespace_sem`). Mounts and namespaces that go are dropped after it: their end takes it, too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Mutex, RwLock};

use crate::errno::Errno;
use crate::kernel::{NamespaceBase, NamespaceKind};
use crate::task::Credentials;
use crate::vfs::branch::Branch;
use crate::vfs::peer_group::{GroupId, PeerGroups, Propagation, Receiver, Relation, Shown};
use crate::vfs::{Dentry, Mount, MountFlags, MountId, VfsPath};

/// `/proc/sys/fs/mount-max`: how many mounts a namespace may have.
pub const MOUNT_MAX: usize = 100_000;

/// A tree of mounts.
#[derive(Debug)]
pub struct MountNamespace {
    base: NamespaceBase,
    root: RwLock<Arc<Mount>>,
    /// By the mount above and the dentry (its address) that is covered. Several mounts on one place stack: the key
    /// of the later one is the root of the earlier one.
    table: RwLock<Table>,
    /// Which mounts of this and other namespaces hear of each other.
    peers: Arc<Mutex<PeerGroups>>,
}

type Table = HashMap<(MountId, usize), Arc<Mount>>;

/// Where in a [`Table`] what is mounted on `place` is.
fn key(place: &VfsPath) -> (MountId, usize) {
    (place.mount.id(), Arc::as_ptr(&place.dentry).addr())
}

impl MountNamespace {
    /// A namespace that is there from the beginning, with one mount.
    #[must_use]
    pub fn new(root: Arc<Mount>) -> Arc<Self> {
        Self::with(NamespaceBase::initial(NamespaceKind::Mount), root, Arc::default())
    }

    /// A namespace with one mount that `maker` makes.
    ///
    /// # Errors
    /// `ENOSPC` where there are too many.
    pub fn create(root: Arc<Mount>, maker: &Credentials) -> Result<Arc<Self>, Errno> {
        let base = NamespaceBase::new(NamespaceKind::Mount, maker)?;
        Ok(Self::with(base, root, Arc::default()))
    }

    fn with(base: NamespaceBase, root: Arc<Mount>, peers: Arc<Mutex<PeerGroups>>) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            *root.namespace.write() = me.clone();
            Self { base, root: RwLock::new(root), table: RwLock::default(), peers }
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
            let Some(over) = self.table.read().get(&key(&path)).cloned() else { break };
            path = over.root_path();
        }
        path
    }

    /// How `mount` takes part in propagation.
    #[must_use]
    pub fn propagation(&self, mount: &Mount) -> Shown {
        self.peers.lock().state(mount.id())
    }

    /// The nearest group that `mount` gets its changes from, and of which there is a mount that `is_visible`
    /// (`get_dominating_id` of Linux).
    #[must_use]
    pub fn dominating(&self, mount: &Mount, is_visible: impl Fn(&Arc<Mount>) -> bool) -> Option<GroupId> {
        // Looked at without the lock: see the file's comment.
        let masters = self.peers.lock().masters(mount.id());
        masters.iter().find(|(_, mounts)| mounts.iter().any(&is_visible)).map(|(group, _)| *group)
    }

    /// Sets the propagation type of mounts.
    pub fn set_propagation(&self, mounts: &[Arc<Mount>], to: Propagation) {
        let mut peers = self.peers.lock();
        for mount in mounts {
            peers.change(mount, to);
        }
    }

    /// Attaches `mount` at `place`, on top of what is mounted there, and at the places that hear of it.
    ///
    /// # Errors
    /// `ENOTDIR` when one is a directory and the other is not, `ENOENT` for a removed place, `ENOSPC` for too many mounts.
    pub fn attach(self: &Arc<Self>, mount: Arc<Mount>, place: VfsPath) -> Result<(), Errno> {
        self.graft(&Branch::new(mount), place)
    }

    /// Attaches a copy of `from`, or of the tree there, at `place` (`MS_BIND`).
    ///
    /// # Errors
    /// `EINVAL` for what is unbindable, and as [`MountNamespace::attach`].
    pub fn bind(self: &Arc<Self>, from: &VfsPath, place: VfsPath, extent: BindExtent) -> Result<(), Errno> {
        // Taken before attaching, so that a bind of a tree into itself ends.
        let tree = match extent {
            BindExtent::Tree => self.subtree(&from.mount),
            BindExtent::Mount => vec![from.mount.clone()],
        };
        let branch = {
            let mut peers = self.peers.lock();
            if peers.state(from.mount.id()).is_unbindable {
                return Err(Errno::EINVAL);
            }
            let bindable = |mount: &Mount| !peers.state(mount.id()).is_unbindable;
            Branch::of(&tree, &from.dentry, bindable).copy(&mut peers, Relation::Same)
        };
        branch.top().set_locked(false);
        let done = self.graft(&branch, place);
        if done.is_err() {
            branch.forget(&mut self.peers.lock());
        }
        done
    }

    /// Attaches a tree whose mounts are attached to each other only, or not at all.
    fn graft(self: &Arc<Self>, branch: &Branch, place: VfsPath) -> Result<(), Errno> {
        let mut peers = self.peers.lock();
        let place = self.cross(place);
        check_place(branch.top(), &place)?;
        let receivers = self.receivers(&peers, &place);
        let result = self.check_room(branch, &receivers);
        if result.is_ok() {
            self.link_and_propagate(&mut peers, branch, &place, &receivers);
        }
        drop(peers);
        result
    }

    /// The other places that hear of what happens at `place`, with their namespaces.
    fn receivers(&self, peers: &PeerGroups, place: &VfsPath) -> Vec<(Receiver, Arc<Self>)> {
        let others = peers.receivers(place.mount.id()).into_iter();
        others
            .filter(|to| {
                !Arc::ptr_eq(&to.mount, &place.mount) && to.mount.root().is_ancestor_of(&place.dentry)
            })
            .filter_map(|to| to.mount.namespace().map(|namespace| (to, namespace)))
            .collect()
    }

    fn check_room(&self, branch: &Branch, receivers: &[(Receiver, Arc<Self>)]) -> Result<(), Errno> {
        let copies =
            |namespace: &Self| receivers.iter().filter(|(_, of)| std::ptr::eq(&**of, namespace)).count();
        let is_full = |namespace: &Self, own: usize| {
            let more = (copies(namespace) + own).saturating_mul(branch.len());
            namespace.table.read().len().saturating_add(more) > MOUNT_MAX
        };
        let full = is_full(self, 1) || receivers.iter().any(|(_, namespace)| is_full(namespace, 0));
        if full { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Attaches a tree and its copies (`attach_recursive_mnt`, `propagate_mnt` of Linux).
    fn link_and_propagate(
        self: &Arc<Self>,
        peers: &mut PeerGroups,
        branch: &Branch,
        place: &VfsPath,
        receivers: &[(Receiver, Arc<Self>)],
    ) {
        let origin = peers.state(place.mount.id()).group;
        if origin.is_some() {
            branch.share(peers);
        }
        self.link(branch, place.clone());
        // What was made for each group: its peers' copies are peers, its slaves' copies slaves.
        let mut made: HashMap<GroupId, Branch> =
            origin.map(|group| (group, branch.clone())).into_iter().collect();
        for (to, namespace) in receivers {
            let copy = match to.group.and_then(|group| made.get(&group)) {
                Some(model) => model.copy(peers, Relation::Same),
                None => {
                    let mut master = to.master;
                    while let Some(group) = master
                        && !made.contains_key(&group)
                    {
                        master = peers.master_of(group);
                    }
                    let model = master.and_then(|group| made.get(&group)).unwrap_or(branch);
                    let copy = model.copy(peers, Relation::Slave);
                    if let Some(group) = to.group {
                        copy.share(peers);
                        made.insert(group, copy.clone());
                    }
                    copy
                }
            };
            if namespace.base.owner() != self.base.owner() {
                copy.lock();
            }
            copy.top().set_locked(false);
            namespace.link(&copy, VfsPath::new(to.mount.clone(), place.dentry.clone()));
        }
    }

    /// Puts a tree into the table. What is mounted at `place` itself comes on top of it.
    fn link(self: &Arc<Self>, branch: &Branch, place: VfsPath) {
        let mut table = self.table.write();
        if let Some(over) = table.remove(&key(&place)) {
            place.dentry.mounted.fetch_sub(1, Ordering::Release);
            put(&mut table, over, branch.top().root_path());
        }
        for (mount, place) in branch.places(&place) {
            // The lower part of a tree that is moved stays as it is.
            if mount.mount_point().is_some_and(|at| at.is_same(&place)) {
                continue;
            }
            *mount.namespace.write() = Arc::downgrade(self);
            put(&mut table, mount, place);
        }
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
        table.iter().any(|((id, _), below)| *id == mount.id() && below.is_locked())
    }

    /// True where something is mounted for good at or below `place` in its mount (`has_locked_children`).
    #[must_use]
    pub fn covers_for_good(&self, place: &VfsPath) -> bool {
        let table = self.table.read();
        let mut below = table.iter().filter(|((id, _), below)| *id == place.mount.id() && below.is_locked());
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
        self.table.read().keys().any(|(id, _)| *id == mount.id())
    }

    /// Takes `mount` out of the tree, and what is mounted where others hear of it.
    ///
    /// # Errors
    /// `EBUSY` with something mounted below it or where one of the others is in use, `EINVAL` where it is not in this
    /// namespace or is its root.
    pub fn detach(&self, mount: &Arc<Mount>, children: DetachChildren) -> Result<(), Errno> {
        let Some(place) = mount.mount_point() else { return Err(Errno::EINVAL) };
        // Dropped last: see the file's comment.
        let (mut gone, mut hearing) = (Vec::new(), Vec::new());
        let mut peers = self.peers.lock();
        if !self.mounted_on(&place).is_some_and(|found| Arc::ptr_eq(&found, mount)) {
            return Err(Errno::EINVAL);
        }
        let below = self.subtree(mount);
        if children == DetachChildren::Refuse {
            let others = self.receivers(&peers, &place);
            let is_busy = others
                .iter()
                .any(|(to, of)| of.is_used(&VfsPath::new(to.mount.clone(), place.dentry.clone())));
            hearing.extend(others);
            if below.len() > 1 || is_busy {
                return Err(Errno::EBUSY);
            }
        }
        for mount in below.iter().rev() {
            // What hides something for good goes on to do so for those who are still in there (`umount_tree`).
            if mount.is_locked() && !Arc::ptr_eq(mount, &below[0]) {
                continue;
            }
            // Gone already where the tree propagates into itself.
            let Some(place) = mount.mount_point() else { continue };
            let others = self.receivers(&peers, &place);
            gone.extend(self.unlink(&place));
            peers.forget(mount.id());
            for (to, namespace) in &others {
                let there = VfsPath::new(to.mount.clone(), place.dentry.clone());
                gone.extend(namespace.unlink_copy(&mut peers, &there));
            }
            hearing.extend(others);
        }
        drop(peers);
        Ok(())
    }

    /// What is mounted at exactly this place, below what covers it.
    fn mounted_on(&self, place: &VfsPath) -> Option<Arc<Mount>> {
        self.table.read().get(&key(place)).cloned()
    }

    fn unlink(&self, place: &VfsPath) -> Option<Arc<Mount>> {
        take(&mut self.table.write(), place)
    }

    /// True where what is mounted at `place`, which hears of an unmount, is in use (`propagate_mount_busy`).
    fn is_used(&self, place: &VfsPath) -> bool {
        let Some(mount) = self.mounted_on(place) else { return false };
        let covers = self.mounted_on(&mount.root_path()).is_some();
        let children = self.table.read().keys().filter(|(id, _)| *id == mount.id()).count();
        // The table's reference, this one, and that of what covers it. What has other mounts below stays anyway.
        children == usize::from(covers) && Arc::strong_count(&mount) > 2 + usize::from(covers)
    }

    /// Takes away what is mounted at `place`, which hears of an unmount (`propagate_umount`). It stays where it is locked or has
    /// mounts below; what covers it goes on to cover the place.
    fn unlink_copy(&self, peers: &mut PeerGroups, place: &VfsPath) -> Option<Arc<Mount>> {
        let mount = self.mounted_on(place)?;
        let over = self.mounted_on(&mount.root_path());
        let mut table = self.table.write();
        let children = table.keys().filter(|(id, _)| *id == mount.id()).count();
        if mount.is_locked() || children > usize::from(over.is_some()) {
            return None;
        }
        if let Some(over) = &over {
            take(&mut table, &mount.root_path());
            take(&mut table, place);
            put(&mut table, over.clone(), place.clone());
        } else {
            take(&mut table, place);
        }
        peers.forget(mount.id());
        Some(mount)
    }

    /// Moves `mount` to `place` (`MS_MOVE`).
    ///
    /// # Errors
    /// `EINVAL` for the root, for what is below a shared mount, and for a tree with unbindable mounts that goes below one;
    /// `ELOOP` when `place` is below `mount`, and as [`MountNamespace::attach`].
    pub fn move_mount(self: &Arc<Self>, mount: &Arc<Mount>, place: VfsPath) -> Result<(), Errno> {
        let old = mount.mount_point().ok_or(Errno::EINVAL)?;
        let mut at = Some(place.mount.clone());
        while let Some(above) = at {
            if Arc::ptr_eq(&above, mount) {
                return Err(Errno::ELOOP);
            }
            at = above.mount_point().map(|p| p.mount);
        }
        let mut peers = self.peers.lock();
        let place = self.cross(place);
        check_place(mount, &place)?;
        let tree = self.subtree(mount);
        let is_unbindable = |mount: &Arc<Mount>| peers.state(mount.id()).is_unbindable;
        if peers.is_shared(old.mount.id())
            || (peers.is_shared(place.mount.id()) && tree.iter().any(is_unbindable))
        {
            return Err(Errno::EINVAL);
        }
        let branch = Branch::of(&tree, mount.root(), |_| true);
        let receivers = self.receivers(&peers, &place);
        let result = self.check_room(&branch, &receivers);
        if result.is_ok() {
            self.unlink(&old);
            self.link_and_propagate(&mut peers, &branch, &place, &receivers);
        }
        drop(peers);
        result
    }

    /// A copy of the tree for a new namespace that `maker` makes (`CLONE_NEWNS`), and the copies of the mounts.
    ///
    /// # Errors
    /// `ENOSPC` where there are too many namespaces.
    pub fn copy(&self, maker: &Credentials) -> Result<(Arc<Self>, MountCopies), Errno> {
        let base = NamespaceBase::new(NamespaceKind::Mount, maker)?;
        let is_lesser = base.owner() != self.base.owner();
        let relation = if is_lesser { Relation::Lesser } else { Relation::Same };
        let mut peers = self.peers.lock();
        let table = self.table.read();
        let old_root = self.root_mount();
        let mut copies = HashMap::new();
        for old in std::iter::once(&old_root).chain(table.values()) {
            let copy = old.copy(old.root().clone());
            peers.copy(old, &copy, relation);
            if is_lesser {
                copy.lock(old.id() != old_root.id());
            }
            copies.insert(old.id(), copy);
        }
        let new = Self::with(base, copies[&old_root.id()].clone(), self.peers.clone());
        let mut new_table = new.table.write();
        for old in table.values() {
            let Some(place) = old.mount_point() else { continue };
            let (Some(above), Some(copy)) = (copies.get(&place.mount.id()), copies.get(&old.id())) else {
                continue;
            };
            *copy.namespace.write() = Arc::downgrade(&new);
            put(&mut new_table, copy.clone(), VfsPath::new(above.clone(), place.dentry));
        }
        drop(new_table);
        Ok((new, copies))
    }

    /// Makes `mount` the root and puts the old root at `put_old` (`pivot_root(2)`); the caller checked the places.
    ///
    /// # Errors
    /// `EINVAL` where one of the mounts, or the one above the new root, is shared; as [`MountNamespace::attach`].
    pub fn pivot(self: &Arc<Self>, new_root: &Arc<Mount>, put_old: VfsPath) -> Result<(), Errno> {
        let old_root = self.root_mount();
        let place = new_root.mount_point().ok_or(Errno::EINVAL)?;
        {
            let peers = self.peers.lock();
            if peers.is_shared(put_old.mount.id()) || peers.is_shared(place.mount.id()) {
                return Err(Errno::EINVAL);
            }
            check_place(&old_root, &self.cross(put_old.clone()))?;
            self.unlink(&place).ok_or(Errno::EINVAL)?;
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

/// How much [`MountNamespace::bind`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindExtent {
    /// The mount.
    Mount,
    /// What is mounted below it, too (`MS_REC`).
    Tree,
}

/// What [`MountNamespace::detach`] does with mounts below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachChildren {
    /// Fail with `EBUSY`.
    Refuse,
    /// Detach them too (`MNT_DETACH`).
    Detach,
}

/// Whether `mount` can stand at `place`.
fn check_place(mount: &Mount, place: &VfsPath) -> Result<(), Errno> {
    if place.inode().is_dir() != mount.root().inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if place.dentry.is_unlinked() { Err(Errno::ENOENT) } else { Ok(()) }
}

fn put(table: &mut Table, mount: Arc<Mount>, place: VfsPath) {
    place.dentry.mounted.fetch_add(1, Ordering::Release);
    *mount.place.write() = Some(place.clone());
    table.insert(key(&place), mount);
}

fn take(table: &mut Table, place: &VfsPath) -> Option<Arc<Mount>> {
    let mount = table.remove(&key(place))?;
    place.dentry.mounted.fetch_sub(1, Ordering::Release);
    *mount.place.write() = None;
    Some(mount)
}

/// `top` and everything below it, parents before children.
fn subtree(table: &Table, top: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut by_parent: HashMap<MountId, Vec<&Arc<Mount>>> = HashMap::new();
    for ((above, _), mount) in table {
        by_parent.entry(*above).or_default().push(mount);
    }
    let mut all = vec![top.clone()];
    let mut next = 0;
    while next < all.len() {
        if let Some(below) = by_parent.get_mut(&all[next].id()) {
            below.sort_by_key(|m| m.id());
            all.extend(below.iter().map(|m| (*m).clone()));
        }
        next += 1;
    }
    all
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        let table = std::mem::take(self.table.get_mut());
        let mut peers = self.peers.lock();
        peers.forget(self.root.get_mut().id());
        for mount in table.values() {
            peers.forget(mount.id());
        }
        drop(peers);
        for mount in table.into_values() {
            if let Some(place) = mount.place.write().take() {
                place.dentry.mounted.fetch_sub(1, Ordering::Release);
            }
        }
    }
}
