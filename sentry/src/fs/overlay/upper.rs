//! Changing names in the upper layer, where others may look at the same files without the overlay.

use std::sync::Arc;

use crate::errno::Errno;
use crate::vfs::{Inode, NewInode, RenameEnd, RenameMode};

/// Makes a file in a directory of the upper layer.
pub(super) fn create(dir: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>, Errno> {
    changing(dir, name, || dir.create(name, new))
}

/// Gives a file of the upper layer another name.
pub(super) fn link(dir: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<(), Errno> {
    changing(dir, name, || dir.ops().link(name, target))
}

/// Removes the name of a file or of an empty directory.
pub(super) fn remove(dir: &Arc<Inode>, name: &[u8], victim: &Arc<Inode>) -> Result<(), Errno> {
    let _dir = dir.dir_lock.lock();
    let result = if victim.is_dir() { dir.ops().rmdir(name, victim) } else { dir.ops().unlink(name, victim) };
    if let Some(known) = dir.forget_name(name).filter(|_| result.is_ok()) {
        known.mark_unlinked();
    }
    result
}

/// Moves a name of the upper layer to where there is none, or exchanges two.
pub(super) fn rename(from: RenameEnd<'_>, to: RenameEnd<'_>, mode: RenameMode) -> Result<(), Errno> {
    let result = from.dir.ops().rename(from, to, mode);
    from.dir.forget_name(from.name);
    to.dir.forget_name(to.name);
    result
}

/// Runs `change` with the directory locked, and has those who know the name look again.
fn changing<T>(dir: &Arc<Inode>, name: &[u8], change: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let _dir = dir.dir_lock.lock();
    let result = change();
    dir.forget_name(name);
    result
}
