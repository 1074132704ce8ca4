//! A mounted tree of the host.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::gofer::client::Connection;
use crate::fs::gofer::early::Kept;
use crate::fs::gofer::node::Node;
use crate::fs::gofer::protocol::{Attr, Op, Reply};
use crate::vfs::{Dentry, FileSystem, ManyFaced, StatFs, SuperBlock};

/// Whether somebody else changes the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Nobody: names and attributes are kept.
    Exclusive,
    /// Perhaps: they are asked for each time.
    Shared,
}

/// How to mount a tree.
#[derive(Debug, Clone, Copy)]
pub struct GoferOptions {
    /// Which of the gofer's trees.
    pub tree: u32,
    /// Whether somebody else changes the files.
    pub caching: Caching,
}

/// One mounted tree.
pub struct GoferFs {
    shared: Arc<Shared>,
}

/// What the nodes of one tree share.
pub(super) struct Shared {
    connection: Arc<Connection>,
    pub(super) options: GoferOptions,
    /// The host's device of the root; inode numbers of other devices are made different.
    device: u64,
    others: Mutex<Vec<u64>>,
    /// Files that other trees may lead to as well.
    pub(super) files: Arc<ManyFaced>,
    pub(super) kept: Kept,
}

impl GoferFs {
    /// Mounts a tree; returns the dentry of its root. `files` are those of all trees that may lead to the same.
    ///
    /// # Errors
    /// `EIO` when the gofer does not answer; what it says about the root.
    pub fn create(
        connection: Arc<Connection>,
        options: GoferOptions,
        files: Arc<ManyFaced>,
    ) -> Result<Arc<Dentry>, Errno> {
        let (reply, _) = connection.call(options.tree, Op::Stat(Vec::new()))?;
        let Reply::Attr(attr) = reply else { return Err(Errno::EIO) };
        let shared = Arc::new(Shared {
            connection,
            options,
            device: attr.dev,
            others: Mutex::default(),
            files,
            kept: Kept::default(),
        });
        let root = Node::root(&shared, attr);
        let (_, root) = SuperBlock::new(Box::new(Self { shared }), root);
        Ok(root)
    }
}

impl Shared {
    pub(super) fn call(&self, op: Op) -> Result<(Reply, Option<std::os::fd::OwnedFd>), Errno> {
        self.connection.call(self.options.tree, op)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.options.caching == Caching::Shared
    }

    /// The inode number that the guest sees.
    pub(super) fn ino(&self, attr: &Attr) -> u64 {
        if attr.dev == self.device {
            return attr.ino;
        }
        let mut others = self.others.lock();
        let at = others.iter().position(|dev| *dev == attr.dev).unwrap_or_else(|| {
            others.push(attr.dev);
            others.len() - 1
        });
        // The tree appears as one device, so another device's inodes get a prefix of their own.
        attr.ino ^ ((at as u64 + 1) << 48)
    }
}

impl FileSystem for GoferFs {
    fn type_name(&self) -> &'static str {
        "9p"
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        let (reply, _) = self.shared.call(Op::StatFs(Vec::new()))?;
        let Reply::Sizes([magic, block_size, blocks, free, available, files, files_free, name_max]) = reply
        else {
            return Err(Errno::EIO);
        };
        Ok(StatFs { magic, block_size, blocks, free, available, files, files_free, name_max })
    }

    fn caches_absence(&self) -> bool {
        !self.shared.is_shared()
    }

    fn revalidates(&self) -> bool {
        self.shared.is_shared()
    }
}
