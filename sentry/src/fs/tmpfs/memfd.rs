//! Files without a name in memory (`memfd_create(2)`), and their seals (`fcntl(2)`, "File Sealing").

use std::sync::Arc;

use sentry_platform::MemoryFile;

use crate::errno::Errno;
use crate::fs::tmpfs::{Tmpfs, TmpfsInode, TmpfsOptions, TmpfsShared};
use crate::vfs::{
    Caller, Dentry, File, Mount, MountFlags, NewInode, NewKind, OpenFlags, SuperBlock, VfsPath,
};

bitflags::bitflags! {
    /// What can no longer be done with a file (`F_ADD_SEALS`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[allow(missing_docs, reason = "the names are those of fcntl(2)")]
    pub struct Seals: u32 {
        const SEAL = 1;
        const SHRINK = 2;
        const GROW = 4;
        const WRITE = 8;
        const FUTURE_WRITE = 16;
        const EXEC = 32;
    }
}

/// Why seals could not be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The file is sealed against further seals.
    #[error("sealed")]
    Sealed,
    /// It may be mapped writable.
    #[error("mapped")]
    Mapped,
    /// The file has no seals.
    #[error("not a memory file")]
    NotSealable,
}

impl From<SealError> for Errno {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Sealed => Self::EPERM,
            SealError::Mapped => Self::EBUSY,
            SealError::NotSealable => Self::EINVAL,
        }
    }
}

/// Makes an anonymous file in `memory` that `/proc` shows as `memfd:NAME`. It can be sealed where `seals` lacks
/// [`Seals::SEAL`].
///
/// # Errors
/// `ENOMEM`.
pub fn create_memfd(
    memory: Arc<MemoryFile>,
    caller: &Caller<'_>,
    name: &[u8],
    mode: u32,
    seals: Seals,
) -> Result<Arc<File>, Errno> {
    let shared = TmpfsShared::new(memory, &TmpfsOptions::default());
    let (uid, gid) = (caller.creds.fsuid.0, caller.creds.fsgid.0);
    let new = NewInode { kind: NewKind::Regular, mode, uid, gid };
    let inode = TmpfsInode::create(&shared, &new)?;
    let regular = inode.downcast::<TmpfsInode>().and_then(TmpfsInode::regular);
    regular.ok_or(Errno::EIO)?.update_seals(|_, _| Ok::<_, Errno>(seals))?;
    let superblock = SuperBlock::bare(Box::new(Tmpfs { shared }));
    let text = [b"/memfd:", name].concat();
    let dentry = Dentry::new_detached(superblock, inode.clone(), &text);
    dentry.mark_unlinked();
    let mount = Mount::new(dentry.clone(), b"tmpfs", MountFlags::empty());
    let ops = inode.ops().open(&inode, OpenFlags::RDWR, caller)?;
    Ok(File::at(ops, OpenFlags::RDWR | OpenFlags::LARGEFILE, VfsPath::new(mount, dentry)))
}

/// Reads or adds seals: `add` of `None` only reads.
///
/// # Errors
/// See [`SealError`].
pub fn memfd_seals(file: &File, add: Option<Seals>) -> Result<Seals, SealError> {
    let node = file.inode().downcast::<TmpfsInode>();
    let regular = node.and_then(TmpfsInode::regular).ok_or(SealError::NotSealable)?;
    if let Some(add) = add {
        regular.update_seals(|seals, is_mapped| {
            if seals.contains(Seals::SEAL) {
                return Err(SealError::Sealed);
            }
            if add.contains(Seals::WRITE) && !seals.contains(Seals::WRITE) && is_mapped {
                return Err(SealError::Mapped);
            }
            Ok(seals | add)
        })?;
    }
    Ok(regular.seals())
}
