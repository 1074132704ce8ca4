//! Copying a file of the lower layer to the upper one before it is changed.

use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::overlay::OverlayInode;
use crate::fs::overlay::inode::ORIGIN;
use crate::io::{SliceDst, SliceSrc};
use crate::task::Credentials;
use crate::vfs::anon::AnonKind;
use crate::vfs::{
    Caller, File, FileType, Inode, LinkTarget, NewInode, NewKind, OpenFlags, SetAttr, SetTime, Stat,
    XattrMode,
};

/// What of a regular file is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    All,
    /// Nothing: the file is about to be truncated.
    None,
}

/// How much is copied at a time.
const CHUNK: usize = 256 * 1024;

impl OverlayInode {
    /// The file in the upper layer, copied there with its parents where it was not yet.
    ///
    /// # Errors
    /// `EINVAL` for what is neither a regular file, a directory nor a symbolic link; `ENOSPC`, `ENOMEM`, `EIO`.
    pub(super) fn copy_up(&self) -> Result<Arc<Inode>, Errno> {
        self.copy_up_with(Contents::All)
    }

    /// As [`OverlayInode::copy_up`], but without contents.
    pub(super) fn copy_up_empty(&self) -> Result<Arc<Inode>, Errno> {
        self.copy_up_with(Contents::None)
    }

    fn copy_up_with(&self, contents: Contents) -> Result<Arc<Inode>, Errno> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        // Before any lock: opening one of these might wait, and nobody else may wait with it.
        match self.kind {
            FileType::Regular | FileType::Directory | FileType::Symlink => {}
            _ => return Err(Errno::EINVAL),
        }
        let parent = self.place.lock().parent.clone().ok_or(Errno::EIO)?;
        let parent_upper = Self::of(&parent)?.copy_up()?;
        let _copying = self.copying.lock();
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let creds = Credentials::root();
        let caller = Caller::kernel(&creds);
        let lower = self.top()?;
        let stat = lower.ops().stat()?;
        let upper = match self.kind {
            FileType::Regular => self.copy_regular(&caller, &lower, &stat, &parent_upper, contents)?,
            FileType::Directory => self.make_named(&parent_upper, &lower, NewKind::Directory, &stat)?,
            _ => {
                let LinkTarget::Path(target) = lower.ops().read_link(&caller)? else {
                    return Err(Errno::EINVAL);
                };
                self.make_named(&parent_upper, &lower, NewKind::Symlink(target), &stat)?
            }
        };
        upper.ops().set_xattr(ORIGIN, &stat.ino.to_le_bytes(), XattrMode::Set)?;
        let mut layers = self.layers.write();
        layers.upper = Some(upper.clone());
        if self.kind != FileType::Directory {
            // The number stays that of the lower file; nothing else of it is needed.
            layers.lower = None;
        }
        Ok(upper)
    }

    /// Copies a regular file to one without a name and gives it its name at the end, so that nobody sees half of it.
    fn copy_regular(
        &self,
        caller: &Caller<'_>,
        lower: &Arc<Inode>,
        stat: &Stat,
        parent: &Arc<Inode>,
        contents: Contents,
    ) -> Result<Arc<Inode>, Errno> {
        let upper = parent.create_unnamed(&new_like(NewKind::Regular, stat))?;
        if contents == Contents::All {
            copy_data(caller, lower, &upper)?;
        }
        copy_xattrs(lower, &upper)?;
        set_times(&upper, stat)?;
        let _change = self.shared.change.lock();
        let place = self.place.lock();
        if !place.is_removed {
            keeping_times(parent, || parent.ops().link(&place.name, &upper))?;
        }
        Ok(upper)
    }

    fn make_named(
        &self,
        parent: &Arc<Inode>,
        lower: &Arc<Inode>,
        kind: NewKind,
        stat: &Stat,
    ) -> Result<Arc<Inode>, Errno> {
        let _change = self.shared.change.lock();
        let place = self.place.lock();
        if place.is_removed {
            return Err(Errno::ENOENT);
        }
        let upper = keeping_times(parent, || parent.create(&place.name, &new_like(kind, stat)))?;
        copy_xattrs(lower, &upper)?;
        set_times(&upper, stat)?;
        Ok(upper)
    }
}

fn new_like(kind: NewKind, stat: &Stat) -> NewInode {
    NewInode { kind, mode: stat.permissions(), uid: stat.uid, gid: stat.gid }
}

/// Runs `change`, which is not the guest's doing, and restores the times of `dir`.
fn keeping_times<T>(dir: &Arc<Inode>, change: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let before = dir.ops().stat()?;
    let result = change()?;
    set_times(dir, &before)?;
    Ok(result)
}

fn set_times(inode: &Inode, stat: &Stat) -> Result<(), Errno> {
    inode.ops().set_attr(&SetAttr {
        atime: Some(SetTime::At(stat.atime)),
        mtime: Some(SetTime::At(stat.mtime)),
        ..SetAttr::default()
    })
}

fn copy_xattrs(from: &Inode, to: &Inode) -> Result<(), Errno> {
    for name in from.ops().xattrs()? {
        if let Ok(value) = from.ops().xattr(&name) {
            to.ops().set_xattr(&name, &value, XattrMode::Set)?;
        }
    }
    Ok(())
}

fn copy_data(caller: &Caller<'_>, from: &Arc<Inode>, to: &Arc<Inode>) -> Result<(), Errno> {
    let kind = AnonKind::Other("copy-up");
    let source = from.ops().open(from, OpenFlags::empty(), caller)?;
    let source = File::anonymous(source, OpenFlags::empty(), kind);
    let target = to.ops().open(to, OpenFlags::WRONLY, caller)?;
    let target = File::anonymous(target, OpenFlags::WRONLY, kind);
    let mut buf = vec![0; CHUNK];
    loop {
        let n = source.read(&mut SliceDst::new(&mut buf))?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = &buf[..n];
        while !rest.is_empty() {
            let wrote = target.write(&mut SliceSrc::new(rest))?;
            if wrote == 0 {
                return Err(Errno::ENOSPC);
            }
            rest = &rest[wrote..];
        }
    }
}
