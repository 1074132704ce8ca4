//! Names in memory: the tree of directory entries that path walk uses.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::errno::Errno;
use crate::vfs::{Caller, Inode, Stat, SuperBlock};

/// A name that exists, in one file system. Mounts of the same file system share its dentries.
pub struct Dentry {
    superblock: Arc<SuperBlock>,
    inode: Arc<Inode>,
    place: RwLock<Place>,
    children: RwLock<HashMap<Box<[u8]>, Child>>,
    /// How many mounts sit on this dentry, over all namespaces.
    pub(crate) mounted: AtomicU32,
    unlinked: AtomicBool,
    /// Looked up since the cache's hand passed.
    pub(crate) referenced: AtomicBool,
}

struct Place {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
}

enum Child {
    Present(Arc<Dentry>),
    /// A name known not to exist.
    Absent,
}

/// The answer of the cache.
#[derive(Debug)]
pub(crate) enum Cached {
    Present(Arc<Dentry>),
    Absent,
    Unknown,
}

impl Dentry {
    /// The root of a file system.
    #[must_use]
    pub fn new_root(superblock: Arc<SuperBlock>, inode: Arc<Inode>) -> Arc<Self> {
        Self::new(superblock, inode, None, b"")
    }

    fn new(
        superblock: Arc<SuperBlock>,
        inode: Arc<Inode>,
        parent: Option<Arc<Self>>,
        name: &[u8],
    ) -> Arc<Self> {
        let dentry = Arc::new(Self {
            superblock,
            inode,
            place: RwLock::new(Place { parent, name: name.into() }),
            children: RwLock::default(),
            mounted: AtomicU32::new(0),
            unlinked: AtomicBool::new(false),
            referenced: AtomicBool::new(true),
        });
        if dentry.inode.is_dir() {
            dentry.inode.note_name(&dentry);
        }
        dentry
    }

    /// A dentry that hangs below nothing, such as an anonymous file's (`anon_inode:[eventfd]`).
    #[must_use]
    pub fn new_detached(superblock: Arc<SuperBlock>, inode: Arc<Inode>, name: &[u8]) -> Arc<Self> {
        Self::new(superblock, inode, None, name)
    }

    /// The inode.
    #[must_use]
    pub fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }

    /// The file system.
    #[must_use]
    pub fn superblock(&self) -> &Arc<SuperBlock> {
        &self.superblock
    }

    /// The directory that holds the name; `None` at the root of the file system.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.place.read().parent.clone()
    }

    /// The name; empty at the root.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.place.read().name.to_vec()
    }

    /// True after the name was removed.
    #[must_use]
    pub fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Relaxed)
    }

    /// Makes the dentry count as removed (a memfd, which never had a name).
    pub(crate) fn mark_unlinked(&self) {
        self.unlinked.store(true, Ordering::Relaxed);
    }

    /// The attributes with the device number.
    ///
    /// # Errors
    /// As the file system's.
    pub fn stat(&self) -> Result<Stat, Errno> {
        let mut stat = self.inode.ops().stat()?;
        stat.dev = self.superblock.device();
        Ok(stat)
    }

    /// True where `self` is `other` or an ancestor of it.
    #[must_use]
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut at = Some(other.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, self) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// What the cache knows of `name`.
    pub(crate) fn cached(&self, name: &[u8]) -> Cached {
        let known = self.known(name);
        if self.superblock.revalidates()
            && let Cached::Present(child) = &known
            && child.mounted.load(Ordering::Relaxed) == 0
            && !self.inode.ops().still_there(name, &child.inode)
        {
            child.unlinked.store(true, Ordering::Relaxed);
            self.forget(name);
            return Cached::Unknown;
        }
        known
    }

    fn known(&self, name: &[u8]) -> Cached {
        match self.children.read().get(name) {
            Some(Child::Present(dentry)) => {
                // A plain load first: the line stays shared when the bit is already set.
                if !dentry.referenced.load(Ordering::Relaxed) {
                    dentry.referenced.store(true, Ordering::Relaxed);
                }
                Cached::Present(dentry.clone())
            }
            Some(Child::Absent) => Cached::Absent,
            None => Cached::Unknown,
        }
    }

    /// Finds `name`, asking the file system when the cache doesn't know.
    ///
    /// # Errors
    /// `ENOENT`, `ENAMETOOLONG`, `EIO`.
    pub fn lookup(self: &Arc<Self>, caller: &Caller<'_>, name: &[u8]) -> Result<Arc<Self>, Errno> {
        match self.cached(name) {
            Cached::Present(dentry) => return Ok(dentry),
            Cached::Absent => return Err(Errno::ENOENT),
            Cached::Unknown => {}
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let _dir = self.inode.dir_lock.lock();
        self.lookup_locked(caller, name)
    }

    /// As [`Dentry::lookup`], with the directory's lock held.
    pub(crate) fn lookup_locked(
        self: &Arc<Self>,
        caller: &Caller<'_>,
        name: &[u8],
    ) -> Result<Arc<Self>, Errno> {
        match self.cached(name) {
            Cached::Present(dentry) => return Ok(dentry),
            Cached::Absent => return Err(Errno::ENOENT),
            Cached::Unknown => {}
        }
        match self.inode.lookup(caller, name) {
            Ok(inode) => Ok(self.adopt(name, inode)),
            Err(e) => {
                if e == Errno::ENOENT && self.superblock.caches_absence() && self.inode.ops().caches(name) {
                    self.remember_absent(name);
                }
                Err(e)
            }
        }
    }

    /// Makes the dentry for `inode` under `name`; the directory's lock is held.
    pub(crate) fn adopt(self: &Arc<Self>, name: &[u8], inode: Arc<Inode>) -> Arc<Self> {
        let dentry = Self::new(self.superblock.clone(), inode, Some(self.clone()), name);
        if self.inode.ops().caches(name) {
            self.children.write().insert(name.into(), Child::Present(dentry.clone()));
            self.superblock.dentries().inserted(&dentry);
        }
        dentry
    }

    fn remember_absent(&self, name: &[u8]) {
        let mut children = self.children.write();
        if children.len() >= MAX_REMEMBERED {
            children.retain(|_, child| matches!(child, Child::Present(_)));
        }
        if children.len() < MAX_REMEMBERED {
            children.insert(name.into(), Child::Absent);
        }
    }

    /// Forgets `child` after its name was removed; the directory's lock is held.
    pub(crate) fn disown(&self, name: &[u8], child: &Arc<Self>) {
        child.unlinked.store(true, Ordering::Relaxed);
        let mut children = self.children.write();
        if self.superblock.caches_absence() && children.len() < MAX_REMEMBERED {
            children.insert(name.into(), Child::Absent);
        } else {
            children.remove(name);
        }
    }

    /// Moves `child` from `old_name` here to `new_name` in `new_dir`; both directories' locks are held.
    pub(crate) fn move_child(
        self: &Arc<Self>,
        old_name: &[u8],
        child: &Arc<Self>,
        new_dir: &Arc<Self>,
        new_name: &[u8],
    ) {
        self.children.write().remove(old_name);
        *child.place.write() = Place { parent: Some(new_dir.clone()), name: new_name.into() };
        if new_dir.inode.ops().caches(new_name) {
            new_dir.children.write().insert(new_name.into(), Child::Present(child.clone()));
        }
    }

    /// Moves `child`, which another dentry already replaced here, to `name` in `dir` (`RENAME_EXCHANGE`).
    pub(crate) fn exchange_child(&self, child: &Arc<Self>, dir: &Arc<Self>, name: &[u8]) {
        *child.place.write() = Place { parent: Some(dir.clone()), name: name.into() };
        if self.inode.ops().caches(name) {
            dir.children.write().insert(name.into(), Child::Present(child.clone()));
        }
    }

    /// Forgets what is known of `name`, and returns it: the file system changed behind the cache.
    pub(crate) fn forget(&self, name: &[u8]) -> Option<Arc<Self>> {
        match self.children.write().remove(name) {
            Some(Child::Present(dentry)) => Some(dentry),
            Some(Child::Absent) | None => None,
        }
    }

    /// Lets go of all cached dentries of the file system, from its root on, which are a cycle of references.
    pub(crate) fn forget_tree(self: &Arc<Self>) {
        let mut top = self.clone();
        while let Some(parent) = top.parent() {
            top = parent;
        }
        let mut pending = vec![top];
        while let Some(dentry) = pending.pop() {
            let children = std::mem::take(&mut *dentry.children.write());
            pending.extend(children.into_values().filter_map(|child| match child {
                Child::Present(dentry) => Some(dentry),
                Child::Absent => None,
            }));
        }
    }

    /// Drops `self` from its parent's cache if nobody uses it. True when it was dropped or is not in the cache.
    pub(crate) fn evict(self: Arc<Self>) -> bool {
        let (parent, name) = {
            let place = self.place.read();
            match &place.parent {
                Some(parent) => (parent.clone(), place.name.clone()),
                None => return true,
            }
        };
        let mut children = parent.children.write();
        match children.get(&name) {
            Some(Child::Present(dentry)) if Arc::ptr_eq(dentry, &self) => {}
            _ => return true,
        }
        // One reference is the map's, one is ours; children and open files hold more.
        if Arc::strong_count(&self) > 2 || self.mounted.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let dropped = children.remove(&name);
        drop(children);
        drop(dropped);
        true
    }

    /// The path from the file system's root, for messages and `/proc`.
    #[must_use]
    pub fn path_in_fs(self: &Arc<Self>) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self.clone();
        loop {
            let name = at.name();
            let Some(parent) = at.parent() else { break };
            names.push(name);
            at = parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }
}

impl std::fmt::Debug for Dentry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dentry").field(&String::from_utf8_lossy(&self.name())).finish()
    }
}

/// The longest name of a file (`limits.h`).
pub const NAME_MAX: usize = 255;

/// How many names a directory's cache holds before it stops remembering those that do not exist.
const MAX_REMEMBERED: usize = 4096;

/// Keeps the number of cached dentries of a file system bounded: a clock over those inserted.
pub(crate) struct DentryCache {
    limit: usize,
    hand: Mutex<std::collections::VecDeque<std::sync::Weak<Dentry>>>,
}

impl DentryCache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, hand: Mutex::default() }
    }

    /// Notes a new dentry and drops old unused ones beyond the limit.
    fn inserted(&self, dentry: &Arc<Dentry>) {
        let mut victims = Vec::new();
        {
            let mut hand = self.hand.lock();
            hand.push_back(Arc::downgrade(dentry));
            // At most a few steps for each insertion keep the cost of a lookup bounded.
            let mut steps = 0;
            while hand.len() > self.limit && steps < 8 {
                steps += 1;
                let Some(weak) = hand.pop_front() else { break };
                let Some(old) = weak.upgrade() else { continue };
                if old.referenced.swap(false, Ordering::Relaxed) {
                    hand.push_back(weak);
                } else {
                    victims.push((old, weak));
                }
            }
        }
        for (old, weak) in victims {
            // Our own parent's children lock is not held here, so eviction may take it.
            if !old.evict() {
                self.hand.lock().push_back(weak);
            }
        }
    }
}
