//! A place in the mount tree.

use std::sync::Arc;

use crate::errno::Errno;
use crate::vfs::{Dentry, Inode, Mount, Stat};

/// A dentry as seen through a mount (Linux's `struct path`).
#[derive(Clone)]
pub struct VfsPath {
    /// Through which mount.
    pub mount: Arc<Mount>,
    /// Which name.
    pub dentry: Arc<Dentry>,
}

impl VfsPath {
    /// The place `dentry` in `mount`.
    #[must_use]
    pub fn new(mount: Arc<Mount>, dentry: Arc<Dentry>) -> Self {
        Self { mount, dentry }
    }

    /// The inode.
    #[must_use]
    pub fn inode(&self) -> &Arc<Inode> {
        self.dentry.inode()
    }

    /// The attributes.
    ///
    /// # Errors
    /// As the file system's.
    pub fn stat(&self) -> Result<Stat, Errno> {
        self.dentry.stat()
    }

    /// True for the same dentry in the same mount.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mount, &other.mount)
    }

    /// True at the root of the mount.
    #[must_use]
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, self.mount.root())
    }

    /// The same mount with another dentry.
    #[must_use]
    pub fn with_dentry(&self, dentry: Arc<Dentry>) -> Self {
        Self { mount: self.mount.clone(), dentry }
    }

    /// The absolute path as seen from `root`, and whether `root` was reached: a place outside of it is given from the
    /// top of its mount tree (`getcwd(2)`: "(unreachable)").
    #[must_use]
    pub fn text(&self, root: &Self) -> PathText {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = self.clone();
        let reachable = loop {
            if at.is_same(root) {
                break true;
            }
            if at.is_mount_root() {
                match at.mount.mount_point() {
                    Some(place) => at = place,
                    // A memfd is the root of its own mount and has a name nonetheless.
                    None if names.is_empty() && !at.dentry.name().is_empty() => {
                        return PathText {
                            path: at.dentry.name(),
                            is_reachable: false,
                            is_deleted: at.dentry.is_unlinked(),
                        };
                    }
                    None => break false,
                }
            } else if let Some(parent) = at.dentry.parent() {
                names.push(at.dentry.name());
                at = at.with_dentry(parent);
            } else {
                if names.is_empty() {
                    // An anonymous file: its name is all there is.
                    return PathText {
                        path: at.dentry.name(),
                        is_reachable: false,
                        is_deleted: at.dentry.is_unlinked(),
                    };
                }
                break false;
            }
        };
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        PathText { path, is_reachable: reachable, is_deleted: self.dentry.is_unlinked() }
    }
}

/// A path as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathText {
    /// The path, beginning with `/`.
    pub path: Vec<u8>,
    /// The root given is above it.
    pub is_reachable: bool,
    /// Its name was removed.
    pub is_deleted: bool,
}

impl PathText {
    /// As `/proc` shows it: with ` (deleted)` where the name is gone.
    #[must_use]
    pub fn for_proc(self) -> Vec<u8> {
        let mut path = self.path;
        if self.is_deleted {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }
}

impl std::fmt::Debug for VfsPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VfsPath({:?}, mount {})", self.dentry, self.mount.id().0)
    }
}
