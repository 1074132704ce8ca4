//! The file system context of a task: root, working directory, umask, mount namespace (`clone(2)` `CLONE_FS`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use crate::errno::Errno;
use crate::task::Credentials;
use crate::vfs::{MountNamespace, VfsPath};

/// Root directory, working directory, umask and mount namespace. Shared by threads through `Arc`.
#[derive(Debug)]
pub struct FsContext {
    places: RwLock<Places>,
    umask: AtomicU32,
}

#[derive(Debug, Clone)]
struct Places {
    namespace: Arc<MountNamespace>,
    root: VfsPath,
    cwd: VfsPath,
}

impl FsContext {
    /// A context at the root of `namespace` with the usual umask of 022.
    #[must_use]
    pub fn new(namespace: Arc<MountNamespace>) -> Arc<Self> {
        let root = namespace.root();
        Arc::new(Self {
            places: RwLock::new(Places { namespace, cwd: root.clone(), root }),
            umask: AtomicU32::new(0o022),
        })
    }

    /// A copy (`clone(2)` without `CLONE_FS`).
    #[must_use]
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self {
            places: RwLock::new(self.places.read().clone()),
            umask: AtomicU32::new(self.umask()),
        })
    }

    /// A copy with its own copy of the mounts, which `maker` makes (`CLONE_NEWNS`).
    ///
    /// # Errors
    /// `ENOSPC` where there are too many mount namespaces.
    pub fn fork_namespace(&self, maker: &Credentials) -> Result<Arc<Self>, Errno> {
        let old = self.places.read().clone();
        let (namespace, copies) = old.namespace.copy(maker)?;
        let moved = |path: VfsPath| match copies.get(&path.mount.id()) {
            Some(mount) => VfsPath::new(mount.clone(), path.dentry),
            None => path,
        };
        let places = Places { namespace, root: moved(old.root), cwd: moved(old.cwd) };
        Ok(Arc::new(Self { places: RwLock::new(places), umask: AtomicU32::new(self.umask()) }))
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> VfsPath {
        self.places.read().root.clone()
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(&self) -> VfsPath {
        self.places.read().cwd.clone()
    }

    /// The mount namespace.
    #[must_use]
    pub fn namespace(&self) -> Arc<MountNamespace> {
        self.places.read().namespace.clone()
    }

    /// Changes the root directory (`chroot(2)`); the working directory stays.
    pub fn set_root(&self, root: VfsPath) {
        let old = std::mem::replace(&mut self.places.write().root, root);
        drop(old);
    }

    /// Changes the working directory.
    pub fn set_cwd(&self, cwd: VfsPath) {
        let old = std::mem::replace(&mut self.places.write().cwd, cwd);
        drop(old);
    }

    /// Enters another namespace at its root (`setns(2)`).
    pub fn enter(&self, namespace: Arc<MountNamespace>) {
        let root = namespace.root();
        *self.places.write() = Places { namespace, cwd: root.clone(), root };
    }

    /// The permission bits that new files don't get.
    #[must_use]
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Replaces the umask and returns the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }
}
