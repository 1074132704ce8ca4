//! Copying a file of the lower layer to the upper one before it is changed.

use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::overlay::mark::Mark;
use crate::fs::overlay::{OverlayInode, upper};
use crate::io::{SliceDst, SliceSrc};
use crate::task::{Credentials, Gid, Uid};
use crate::vfs::anon::AnonKind;
use crate::vfs::permission::{check_access, check_mode};
use crate::vfs::{
    Access, Caller, File, FileType, Inode, LinkTarget, NewInode, NewKind, OpenFlags, SetAttr, SetTime, Stat,
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
    /// `EROFS` without an upper layer; `EOVERFLOW` for files of somebody whom the one who mounted it does not know; `ENOSPC`,
    /// `ENOMEM`, `EIO`.
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
        if self.shared.upper.is_none() {
            return Err(Errno::EROFS);
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
        self.check_mounter(&stat, &parent_upper)?;
        let kind = match self.kind {
            FileType::Regular => None,
            FileType::Directory => Some(NewKind::Directory),
            FileType::Symlink => match lower.ops().read_link(&caller)? {
                LinkTarget::Path(target) => Some(NewKind::Symlink(target)),
                LinkTarget::Object(_) => return Err(Errno::EINVAL),
            },
            FileType::Fifo => Some(NewKind::Fifo),
            FileType::Socket => Some(NewKind::Socket),
            FileType::CharDevice => Some(NewKind::CharDevice(stat.rdev)),
            FileType::BlockDevice => Some(NewKind::BlockDevice(stat.rdev)),
        };
        let upper = match kind {
            None => self.copy_regular(&caller, &lower, &stat, &parent_upper, contents)?,
            Some(kind) => self.make_named(&parent_upper, &lower, kind, &stat)?,
        };
        // Where the layer takes no attributes, the number changes with the next mount.
        let _ = self.shared.dialect.write(&upper, Mark::Origin, &self.ino.to_le_bytes());
        let mut layers = self.layers.write();
        layers.upper = Some(upper.clone());
        if self.kind != FileType::Directory {
            // The number stays that of the lower file; nothing else of it is needed.
            layers.lower.clear();
        }
        Ok(upper)
    }

    /// Whoever mounts an overlay in a user namespace copies no more by it than without: the copy belongs to who has the file, and
    /// goes where he could make it (`ovl_copy_up_one`, which does all with his credentials).
    fn check_mounter(&self, stat: &Stat, parent: &Inode) -> Result<(), Errno> {
        let Some(creds) = &self.shared.mounter else { return Ok(()) };
        if creds.user_ns.uid_of(Uid(stat.uid)).is_none() || creds.user_ns.gid_of(Gid(stat.gid)).is_none() {
            return Err(Errno::EOVERFLOW);
        }
        let mounter = Caller::kernel(creds);
        if self.kind == FileType::Regular {
            check_mode(&mounter, stat, Access::READ)?;
        }
        check_access(&mounter, parent, Access::WRITE | Access::EXEC)
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
        self.copy_xattrs(lower, &upper)?;
        set_times(&upper, stat)?;
        let _change = self.shared.change.lock();
        let place = self.place.lock();
        if !place.is_removed {
            keeping_times(parent, || upper::link(parent, &place.name, &upper))?;
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
        let upper = keeping_times(parent, || upper::create(parent, &place.name, &new_like(kind, stat)))?;
        self.copy_xattrs(lower, &upper)?;
        set_times(&upper, stat)?;
        Ok(upper)
    }

    /// All but the overlay's own, which say nothing about the copy.
    fn copy_xattrs(&self, from: &Inode, to: &Inode) -> Result<(), Errno> {
        for name in from.ops().xattrs()? {
            if self.shared.dialect.unescape(&name).is_some()
                && let Ok(value) = from.ops().xattr(&name)
            {
                to.ops().set_xattr(&name, &value, XattrMode::Set)?;
            }
        }
        Ok(())
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
