//! The inodes of a tmpfs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::tmpfs::file::{RegularFile, TmpfsFile};
use crate::fs::tmpfs::{TmpfsOptions, TmpfsShared};
use crate::task::file_caps;
use crate::vfs::acl::{Acl, AclKind};
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, DeviceId, DirEntry, FileOps, FileTime, FileType, Inode, InodeOps, LinkTarget, NewInode, NewKind,
    OpenFlags, RenameEnd, RenameMode, SetAttr, Stat, XattrMap, XattrMode,
};

/// One inode.
pub struct TmpfsInode {
    shared: Arc<TmpfsShared>,
    stat: Mutex<Stat>,
    xattrs: Mutex<XattrMap>,
    /// There may be file capabilities among the attributes, which go with any change of the contents or the owner.
    has_caps: AtomicBool,
    /// There may be access control lists among them.
    has_acls: AtomicBool,
    body: Body,
}

/// The names in a directory.
type Entries = Mutex<BTreeMap<Vec<u8>, Arc<Inode>>>;

enum Body {
    Directory(Entries),
    Regular(Arc<RegularFile>),
    Symlink(Vec<u8>),
    Special,
}

impl TmpfsInode {
    pub(super) fn root(shared: &Arc<TmpfsShared>, options: &TmpfsOptions) -> Arc<Inode> {
        let new =
            NewInode { kind: NewKind::Directory, mode: options.mode, uid: options.uid, gid: options.gid };
        // The first inode of a file system is within any limit.
        Self::make(shared, &new, shared.new_ino().unwrap_or(1))
    }

    /// A new inode without a name.
    pub(super) fn create(shared: &Arc<TmpfsShared>, new: &NewInode) -> Result<Arc<Inode>, Errno> {
        let ino = shared.new_ino()?;
        Ok(Self::make(shared, new, ino))
    }

    fn make(shared: &Arc<TmpfsShared>, new: &NewInode, ino: u64) -> Arc<Inode> {
        let kind = new.kind.file_type();
        let mut stat = Stat { uid: new.uid, gid: new.gid, ..Stat::new(kind, new.mode, ino) };
        let body = match &new.kind {
            NewKind::Regular => Body::Regular(RegularFile::new(shared.clone())),
            NewKind::Directory => Body::Directory(Mutex::default()),
            NewKind::Symlink(target) => {
                stat.mode = FileType::Symlink.mode_bits() | 0o777;
                stat.size = target.len() as u64;
                Body::Symlink(target.clone())
            }
            NewKind::CharDevice(device) | NewKind::BlockDevice(device) => {
                stat.rdev = *device;
                Body::Special
            }
            NewKind::Fifo | NewKind::Socket => Body::Special,
        };
        let inode = Self {
            shared: shared.clone(),
            stat: Mutex::new(stat),
            xattrs: Mutex::default(),
            has_caps: AtomicBool::new(false),
            has_acls: AtomicBool::new(false),
            body,
        };
        Inode::new(kind, Box::new(inode))
    }

    /// Takes the file capabilities away, for what they were given to is changed (`cap_inode_killpriv`).
    pub(super) fn drop_caps(&self) {
        if self.has_caps.load(Ordering::Relaxed) && self.has_caps.swap(false, Ordering::SeqCst) {
            // There may be none, after all.
            let _ = self.xattrs.lock().remove(file_caps::NAME);
        }
    }

    /// The contents of a regular file.
    pub(super) fn regular(&self) -> Option<&Arc<RegularFile>> {
        match &self.body {
            Body::Regular(file) => Some(file),
            _ => None,
        }
    }

    /// Stamps the times of a change of contents, and of access with `None`.
    pub(super) fn touch_modified(&self) {
        let now = FileTime::now();
        let mut stat = self.stat.lock();
        stat.mtime = now;
        stat.ctime = now;
    }

    /// Stamps the time of the last access.
    pub(super) fn touch_accessed(&self) {
        self.stat.lock().atime = FileTime::now();
    }

    fn entries(&self) -> Result<&Entries, Errno> {
        match &self.body {
            Body::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Adds `name` and counts `..` of a directory.
    fn insert(&self, name: &[u8], inode: Arc<Inode>) -> Result<(), Errno> {
        let is_dir = inode.is_dir();
        self.entries()?.lock().insert(name.to_vec(), inode);
        self.changed(i32::from(is_dir));
        Ok(())
    }

    fn remove(&self, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let removed = self.entries()?.lock().remove(name).ok_or(Errno::ENOENT)?;
        self.changed(-i32::from(removed.is_dir()));
        Ok(removed)
    }

    /// Stamps a changed directory and adjusts its link count.
    fn changed(&self, links: i32) {
        let now = FileTime::now();
        let entries = self.entries().map_or(0, |e| e.lock().len());
        let mut stat = self.stat.lock();
        stat.mtime = now;
        stat.ctime = now;
        stat.nlink = stat.nlink.saturating_add_signed(links);
        // As Linux's tmpfs counts a directory's size: 20 bytes for each entry.
        stat.size = 40 + 20 * entries as u64;
    }

    fn adjust_links(inode: &Inode, by: i32) {
        if let Some(node) = inode.downcast::<Self>() {
            let mut stat = node.stat.lock();
            stat.nlink = stat.nlink.saturating_add_signed(by);
            stat.ctime = FileTime::now();
        }
    }

    fn is_empty_dir(inode: &Inode) -> bool {
        let node = inode.downcast::<Self>();
        node.and_then(|n| n.entries().ok()).is_some_and(|entries| entries.lock().is_empty())
    }
}

impl InodeOps for TmpfsInode {
    fn stat(&self) -> Result<Stat, Errno> {
        let mut stat = *self.stat.lock();
        if let Body::Regular(file) = &self.body {
            let (size, pages) = file.usage();
            stat.size = size;
            stat.blocks = pages * 8;
        }
        Ok(stat)
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        if let Some(size) = attr.size {
            let Body::Regular(file) = &self.body else { return Err(Errno::EINVAL) };
            if file.truncate(size)? {
                self.stat.lock().mtime = FileTime::now();
            }
        }
        let is_directory = matches!(self.body, Body::Directory(_));
        if attr.size.is_some() || (attr.uid.is_some() || attr.gid.is_some()) && !is_directory {
            self.drop_caps();
        }
        attr.apply(&mut self.stat.lock());
        if let Some(mode) = attr.mode
            && let Some(list) = self.acl(AclKind::Access)
        {
            let value = list.with_mode(mode).store();
            self.xattrs.lock().set(AclKind::Access.attribute(), &value, XattrMode::Set)?;
        }
        Ok(())
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        self.entries()?.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    fn create(&self, _: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>, Errno> {
        let inode = Self::create(&self.shared, new)?;
        self.insert(name, inode.clone())?;
        Ok(inode)
    }

    fn create_unnamed(&self, _: &Arc<Inode>, new: &NewInode) -> Result<Arc<Inode>, Errno> {
        let inode = Self::create(&self.shared, new)?;
        Self::adjust_links(&inode, -1);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<Inode>) -> Result<(), Errno> {
        self.insert(name, target.clone())?;
        Self::adjust_links(target, 1);
        Ok(())
    }

    fn unlink(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        self.remove(name)?;
        Self::adjust_links(child, -1);
        Ok(())
    }

    fn rmdir(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        if !Self::is_empty_dir(child) {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove(name)?;
        Self::adjust_links(child, -2);
        Ok(())
    }

    fn rename(&self, from: RenameEnd<'_>, to: RenameEnd<'_>, mode: RenameMode) -> Result<(), Errno> {
        let target_dir = to.dir.downcast::<Self>().ok_or(Errno::EXDEV)?;
        if mode == RenameMode::Exchange {
            let old = self.remove(from.name)?;
            let new = target_dir.remove(to.name)?;
            self.insert(from.name, new)?;
            return target_dir.insert(to.name, old);
        }
        let whiteout = match mode {
            RenameMode::Whiteout { owner: (uid, gid), .. } => {
                let kind = NewKind::CharDevice(DeviceId::default());
                Some(Self::create(&self.shared, &NewInode { kind, mode: 0, uid, gid })?)
            }
            _ => None,
        };
        if let Some(replaced) = to.inode {
            if replaced.is_dir() {
                if !Self::is_empty_dir(replaced) {
                    return Err(Errno::ENOTEMPTY);
                }
                target_dir.remove(to.name)?;
                Self::adjust_links(replaced, -2);
            } else {
                target_dir.remove(to.name)?;
                Self::adjust_links(replaced, -1);
            }
        }
        let moved = self.remove(from.name)?;
        Self::adjust_links(&moved, 0);
        if let Some(whiteout) = whiteout {
            self.insert(from.name, whiteout)?;
        }
        target_dir.insert(to.name, moved)
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let entries = self.entries()?.lock();
        let list = entries.iter().map(|(name, inode)| {
            let ino = inode.downcast::<Self>().map_or(0, |node| node.stat.lock().ino);
            DirEntry { name: name.clone(), ino, kind: inode.kind() }
        });
        Ok(list.collect())
    }

    fn read_link(&self, _: &Caller<'_>) -> Result<LinkTarget, Errno> {
        match &self.body {
            Body::Symlink(target) => Ok(LinkTarget::Path(target.clone())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(&self, inode: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        match &self.body {
            Body::Regular(_) => Ok(Box::new(TmpfsFile::new(inode.clone()))),
            Body::Directory(_) => Ok(open_directory()),
            Body::Symlink(_) => Err(Errno::ELOOP),
            Body::Special => Err(Errno::ENXIO),
        }
    }

    fn takes_acls(&self) -> bool {
        true
    }

    fn acl(&self, kind: AclKind) -> Option<Acl> {
        if !self.has_acls.load(Ordering::Relaxed) {
            return None;
        }
        Acl::stored(&self.xattrs.lock().get(kind.attribute()).ok()?)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.xattrs.lock().get(name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.xattrs.lock().names())
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), Errno> {
        if name == file_caps::NAME {
            // Before it is there: who changes the contents meanwhile looks for it.
            self.has_caps.store(true, Ordering::SeqCst);
        }
        if AclKind::of_attribute(name).is_some() {
            self.has_acls.store(true, Ordering::SeqCst);
        }
        self.xattrs.lock().set(name, value, mode)?;
        self.stat.lock().ctime = FileTime::now();
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        self.xattrs.lock().remove(name)?;
        self.stat.lock().ctime = FileTime::now();
        Ok(())
    }
}

impl Drop for TmpfsInode {
    fn drop(&mut self) {
        self.shared.drop_ino();
        // A deep tree must not recurse as deep when it is dropped: take the children out level by level.
        let Body::Directory(entries) = &mut self.body else { return };
        let mut pending: Vec<Arc<Inode>> = std::mem::take(entries.get_mut()).into_values().collect();
        while let Some(inode) = pending.pop() {
            if Arc::strong_count(&inode) == 1
                && let Some(Body::Directory(below)) = inode.downcast::<Self>().map(|n| &n.body)
            {
                pending.extend(std::mem::take(&mut *below.lock()).into_values());
            }
        }
    }
}
