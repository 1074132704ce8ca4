//! Directories and links whose entries never change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::errno::Errno;
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, DirEntry, FileOps, FileType, Inode, InodeOps, LinkTarget, OpenFlags, SetAttr, Stat,
};

/// A directory with fixed entries.
pub(crate) struct PseudoDir {
    stat: Stat,
    entries: Vec<(Vec<u8>, Arc<Inode>)>,
}

/// Attributes of a new pseudo file of root's.
pub(crate) fn pseudo_stat(kind: FileType, permissions: u32) -> Stat {
    Stat::new(kind, permissions, NEXT_INO.fetch_add(1, Ordering::Relaxed))
}

/// Numbers of pseudo inodes: unique over all pseudo file systems, which is more than needed.
static NEXT_INO: AtomicU64 = AtomicU64::new(0x1000_0000);

impl PseudoDir {
    /// The directory with `entries`.
    pub(crate) fn inode(entries: Vec<(&str, Arc<Inode>)>) -> Arc<Inode> {
        let mut stat = pseudo_stat(FileType::Directory, 0o555);
        let below = entries.iter().filter(|(_, inode)| inode.is_dir()).count();
        stat.nlink += u32::try_from(below).unwrap_or(0);
        let entries = entries.into_iter().map(|(name, inode)| (name.as_bytes().to_vec(), inode)).collect();
        Inode::new(FileType::Directory, Box::new(Self { stat, entries }))
    }
}

impl InodeOps for PseudoDir {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let found = self.entries.iter().find(|(entry, _)| entry == name);
        found.map(|(_, inode)| inode.clone()).ok_or(Errno::ENOENT)
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let list = self.entries.iter().map(|(name, inode)| {
            let ino = inode.ops().stat().map_or(0, |stat| stat.ino);
            DirEntry { name: name.clone(), ino, kind: inode.kind() }
        });
        Ok(list.collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

/// A symbolic link with a fixed text.
pub(crate) struct PseudoLink {
    stat: Stat,
    target: Vec<u8>,
}

impl PseudoLink {
    /// The link to `target`.
    pub(crate) fn inode(target: &str) -> Arc<Inode> {
        let stat = pseudo_stat(FileType::Symlink, 0o777);
        Inode::new(FileType::Symlink, Box::new(Self { stat, target: target.as_bytes().to_vec() }))
    }
}

impl InodeOps for PseudoLink {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn read_link(&self, _: &Caller<'_>) -> Result<LinkTarget, Errno> {
        Ok(LinkTarget::Path(self.target.clone()))
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Err(Errno::ELOOP)
    }
}
