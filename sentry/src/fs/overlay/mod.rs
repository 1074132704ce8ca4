//! A writable file system in memory over a read-only one.
//!
//! What is not changed is shown from the lower layer. The first change of a file copies it to the upper layer; a
//! removed name of the lower layer is hidden by a whiteout (a character device 0/0), and a directory made where the
//! lower layer has one is opaque: the same conventions as Linux's overlayfs, without its limits on renaming.

mod copy_up;
mod inode;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::vfs::{Dentry, FileSystem, Inode, StatFs, SuperBlock};

pub use inode::OverlayInode;

/// One overlay.
pub struct Overlay {
    shared: Arc<OverlayShared>,
}

/// What the inodes of one overlay share.
pub(crate) struct OverlayShared {
    /// The upper layer, for `statfs`.
    upper: Arc<SuperBlock>,
    lower_root: Arc<Inode>,
    /// Serialises changes of names in the upper layer with copies to it.
    change: Mutex<()>,
    /// Files of the upper layer with several names, by the address of their upper inode: one inode for all names.
    linked: Mutex<HashMap<usize, Weak<Inode>>>,
}

/// Inode numbers of files that exist only in the upper layer begin here: above those of any lower file system in
/// practice, and still exact as a double.
const FIRST_UPPER_INO: u64 = 1 << 44;

impl Overlay {
    /// Shows `lower` with changes going to `upper` (an empty tmpfs); returns the dentry of the root.
    ///
    /// # Errors
    /// What the layers say about their roots.
    pub fn create(upper: &Arc<Dentry>, lower: &Arc<Dentry>) -> Result<Arc<Dentry>, Errno> {
        let shared = Arc::new(OverlayShared {
            upper: upper.superblock().clone(),
            lower_root: lower.inode().clone(),
            change: Mutex::new(()),
            linked: Mutex::default(),
        });
        let root = OverlayInode::root(&shared, upper.inode().clone(), lower.inode().clone())?;
        let (_, root) = SuperBlock::new(Box::new(Self { shared }), root);
        Ok(root)
    }
}

impl OverlayShared {
    /// The inode that stands for `upper`, if that has several names and one was found before.
    fn linked(&self, upper: &Arc<Inode>) -> Option<Arc<Inode>> {
        self.linked.lock().get(&Arc::as_ptr(upper).addr())?.upgrade()
    }

    /// Notes that `inode` stands for `upper`, which has several names.
    fn note_linked(&self, upper: &Arc<Inode>, inode: &Arc<Inode>) {
        let mut linked = self.linked.lock();
        if linked.len() >= 1024 && linked.len().is_power_of_two() {
            linked.retain(|_, inode| inode.strong_count() > 0);
        }
        // The inode keeps `upper` alive, so an address with a live inode is not reused.
        linked.insert(Arc::as_ptr(upper).addr(), Arc::downgrade(inode));
    }
}

impl FileSystem for Overlay {
    fn type_name(&self) -> &'static str {
        "overlay"
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { magic: OVERLAYFS_MAGIC, ..self.shared.upper.fs().statfs()? })
    }

    fn caches_absence(&self) -> bool {
        true
    }
}

/// `statfs(2)`.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
