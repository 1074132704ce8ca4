//! Building blocks of file systems that show the kernel's state: fixed directories, generated files, links.

mod directory;
mod text;

pub(crate) use directory::{PseudoDir, PseudoLink, pseudo_stat};
pub(crate) use text::{Text, TextInode};

use crate::errno::Errno;
use crate::vfs::{FileSystem, StatFs};

/// A file system without storage.
pub(crate) struct PseudoFs {
    /// Its name in `/proc/filesystems`.
    pub(crate) name: &'static str,
    /// Its magic number of `statfs(2)`.
    pub(crate) magic: u64,
    /// A name that is not there can appear at any time.
    pub(crate) is_dynamic: bool,
}

impl FileSystem for PseudoFs {
    fn type_name(&self) -> &'static str {
        self.name
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs::pseudo(self.magic))
    }

    fn caches_absence(&self) -> bool {
        !self.is_dynamic
    }
}
