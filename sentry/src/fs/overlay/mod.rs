//! A file system made of layers: a writable one over read-only ones.
//!
//! What is not changed is shown from the lower layers. The first change of a file copies it to the upper layer; a
//! removed name of the lower layers is hidden by a whiteout (a character device 0/0), and a directory made where a
//! lower layer has one is opaque: the same conventions as Linux's overlayfs, so that layers can be used by both. The sandbox's
//! own root is one ([`Overlay::create`]), without overlayfs's limits on renaming; guests mount others ([`Overlay::mount`]).

mod copy_up;
mod inode;
mod layer;
mod mark;
mod mount;
mod options;
mod upper;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::overlay::layer::Lower;
use crate::fs::overlay::mark::{Dialect, WhiteoutForm};
use crate::task::Credentials;
use crate::vfs::{Dentry, FileSystem, Inode, Mount, SetAttr, StatFs, SuperBlock};

pub use inode::OverlayInode;
pub use mount::OverlayLayers;
pub use options::{OverlayOptions, unescape};

/// One overlay.
pub struct Overlay {
    shared: Arc<OverlayShared>,
}

/// What the inodes of one overlay share.
pub(crate) struct OverlayShared {
    /// The upper layer; without one nothing can be changed.
    upper: Option<Arc<SuperBlock>>,
    /// The top layer keeps access control lists.
    takes_acls: bool,
    /// Keeps the names of the upper layer that are used through it (`clone_private_mount`).
    _upper_mount: Option<Arc<Mount>>,
    /// Whose sizes `statfs` shows.
    sizes: Arc<SuperBlock>,
    /// From the top.
    lower_roots: Vec<Lower>,
    /// Where the numbers of the upper layer's own files begin.
    first_upper_number: u64,
    dialect: Dialect,
    /// What hides names in any layer.
    whiteouts: WhiteoutForm,
    /// What this overlay hides names with.
    makes: WhiteoutKind,
    /// Directories of lower layers can be renamed (`redirect_dir=on`).
    redirects: bool,
    follows_redirects: bool,
    /// Who mounted it, in another user namespace than the first: what is copied, he has to be allowed to.
    mounter: Option<Arc<Credentials>>,
    /// As `mountinfo` shows them.
    options: String,
    /// How many overlays there are in the deepest of its layers.
    depth: u32,
    /// Serialises changes of names in the upper layer with copies to it.
    change: Mutex<()>,
    /// Files of the upper layer with several names, by the address of their upper inode: one inode for all names.
    linked: Mutex<HashMap<usize, Weak<Inode>>>,
}

/// What hides a name of a lower layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhiteoutKind {
    /// A character device 0/0.
    Device,
    /// An empty file with a mark, for an upper layer that is an overlay itself and takes no such devices.
    Marked,
}

/// Inode numbers of a layer begin so far above those of the layer below: more than file systems have in practice, and for a
/// few layers still exact as a double. Layers of one file system need no distance.
const LAYER_DISTANCE: u64 = 1 << 44;

impl Overlay {
    /// Shows `lower` with changes going to `upper` (an empty tmpfs), whose root is made to look like `lower`; returns the dentry
    /// of the root.
    ///
    /// # Errors
    /// What the layers say about their roots.
    pub fn create(upper: &Arc<Dentry>, lower: &Arc<Dentry>) -> Result<Arc<Dentry>, Errno> {
        let stat = lower.inode().ops().stat()?;
        upper.inode().ops().set_attr(&SetAttr {
            mode: Some(stat.permissions()),
            uid: Some(stat.uid),
            gid: Some(stat.gid),
            ..SetAttr::default()
        })?;
        let shared = OverlayShared {
            upper: Some(upper.superblock().clone()),
            takes_acls: upper.inode().ops().takes_acls(),
            _upper_mount: None,
            sizes: upper.superblock().clone(),
            lower_roots: vec![Lower { inode: lower.inode().clone(), layer: 0 }],
            first_upper_number: LAYER_DISTANCE,
            dialect: Dialect::Trusted,
            whiteouts: WhiteoutForm::Device,
            makes: WhiteoutKind::Device,
            redirects: true,
            follows_redirects: true,
            mounter: None,
            options: String::new(),
            depth: 0,
            change: Mutex::new(()),
            linked: Mutex::default(),
        };
        // Nobody else sees the upper layer.
        Self::of(shared, Some(upper.inode().clone()), None)
    }

    fn of(
        shared: OverlayShared,
        upper: Option<Arc<Inode>>,
        upper_name: Option<Arc<Dentry>>,
    ) -> Result<Arc<Dentry>, Errno> {
        let shared = Arc::new(shared);
        let root = OverlayInode::root(&shared, upper, upper_name)?;
        let (_, root) = SuperBlock::new(Box::new(Self { shared }), root);
        Ok(root)
    }
}

impl OverlayShared {
    /// What is added to the inode numbers of a lower layer.
    fn first_number(&self, layer: usize) -> u64 {
        if self.first_upper_number == 0 {
            return 0;
        }
        let above_lowest = (self.lower_roots.len() - 1).saturating_sub(layer) as u64;
        LAYER_DISTANCE.wrapping_mul(above_lowest)
    }

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
        Ok(StatFs { magic: OVERLAYFS_MAGIC, ..self.shared.sizes.fs().statfs()? })
    }

    fn show_options(&self) -> String {
        self.shared.options.clone()
    }

    fn is_read_only(&self) -> bool {
        self.shared.upper.is_none()
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
