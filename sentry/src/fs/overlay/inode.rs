//! The inodes of an overlay.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::errno::Errno;
use crate::fs::overlay::{FIRST_UPPER_INO, OverlayShared};
use crate::task::Credentials;
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, DeviceId, DirEntry, FileOps, FileType, Inode, InodeOps, LinkTarget, NewInode, NewKind, OpenFlags,
    RenameEnd, RenameMode, SetAttr, Stat, XattrMode,
};

/// A file of the overlay.
pub struct OverlayInode {
    pub(super) shared: Arc<OverlayShared>,
    pub(super) kind: FileType,
    ino: u64,
    pub(super) layers: RwLock<Layers>,
    pub(super) place: Mutex<Place>,
    /// Held while the file is copied up. Taken before the locks of parents are not needed any more, and before
    /// `OverlayShared::change`.
    pub(super) copying: Mutex<()>,
}

/// Where the contents are. At least one is there; a directory may have both.
#[derive(Clone)]
pub(super) struct Layers {
    pub(super) upper: Option<Arc<Inode>>,
    pub(super) lower: Option<Lower>,
}

/// A file of the lower layer, and its path from that layer's root.
#[derive(Clone)]
pub(super) struct Lower {
    pub(super) inode: Arc<Inode>,
    path: Vec<u8>,
}

/// Where the file is in the overlay, for copying up its parents.
pub(super) struct Place {
    pub(super) parent: Option<Arc<Inode>>,
    pub(super) name: Vec<u8>,
    /// The name was removed: a copy gets none.
    pub(super) is_removed: bool,
}

/// Marks a directory of the upper layer that hides the lower one (kernel: `overlayfs.rst`).
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Names the lower directory of a renamed one.
const REDIRECT: &[u8] = b"trusted.overlay.redirect";
/// Keeps the number of the lower file that a file was copied from.
pub(super) const ORIGIN: &[u8] = b"trusted.overlay.origin";
/// Attributes with this prefix are the overlay's own.
const OWN_XATTRS: &[u8] = b"trusted.overlay.";

impl OverlayInode {
    pub(super) fn root(
        shared: &Arc<OverlayShared>,
        upper: Arc<Inode>,
        lower: Arc<Inode>,
    ) -> Result<Arc<Inode>, Errno> {
        let stat = lower.ops().stat()?;
        // The root looks like the lower layer's.
        upper.ops().set_attr(&SetAttr {
            mode: Some(stat.permissions()),
            uid: Some(stat.uid),
            gid: Some(stat.gid),
            ..SetAttr::default()
        })?;
        let layers = Layers { upper: Some(upper), lower: Some(Lower { inode: lower, path: Vec::new() }) };
        let place = Place { parent: None, name: Vec::new(), is_removed: false };
        Ok(Self::make(shared, FileType::Directory, stat.ino, layers, place))
    }

    fn make(
        shared: &Arc<OverlayShared>,
        kind: FileType,
        ino: u64,
        layers: Layers,
        place: Place,
    ) -> Arc<Inode> {
        let inode = Self {
            shared: shared.clone(),
            kind,
            ino,
            layers: RwLock::new(layers),
            place: Mutex::new(place),
            copying: Mutex::new(()),
        };
        Inode::new(kind, Box::new(inode))
    }

    /// A child of the directory `parent`.
    fn child(&self, parent: &Arc<Inode>, name: &[u8], layers: Layers) -> Result<Arc<Inode>, Errno> {
        let top = layers.upper.as_ref().or(layers.lower.as_ref().map(|l| &l.inode)).ok_or(Errno::ENOENT)?;
        let kind = top.kind();
        if let Some(upper) = layers.upper.as_ref().filter(|u| !u.is_dir())
            && let Some(known) = self.shared.linked(upper)
        {
            return Ok(known);
        }
        let ino = number(&layers)?;
        let place = Place { parent: Some(parent.clone()), name: name.to_vec(), is_removed: false };
        let upper = layers.upper.clone();
        let inode = Self::make(&self.shared, kind, ino, layers, place);
        if let Some(upper) = upper.filter(|u| !u.is_dir())
            && upper.ops().stat()?.nlink > 1
        {
            self.shared.note_linked(&upper, &inode);
        }
        Ok(inode)
    }

    pub(super) fn of(inode: &Inode) -> Result<&Self, Errno> {
        inode.downcast::<Self>().ok_or(Errno::EXDEV)
    }

    /// The layer that is shown: the upper one where there is one.
    pub(super) fn top(&self) -> Result<Arc<Inode>, Errno> {
        let layers = self.layers.read();
        let top = layers.upper.as_ref().or(layers.lower.as_ref().map(|l| &l.inode));
        top.cloned().ok_or(Errno::EIO)
    }

    pub(super) fn upper(&self) -> Option<Arc<Inode>> {
        self.layers.read().upper.clone()
    }

    fn lower(&self) -> Option<Lower> {
        self.layers.read().lower.clone()
    }

    /// What the layers have under `name`, or `ENOENT`.
    fn find(&self, caller: &Caller<'_>, name: &[u8]) -> Result<Layers, Errno> {
        let (upper_dir, lower_dir) = {
            let layers = self.layers.read();
            (layers.upper.clone(), layers.lower.clone())
        };
        let upper = match upper_dir.map(|dir| dir.lookup(caller, name)) {
            Some(Ok(inode)) => Some(inode),
            Some(Err(Errno::ENOENT)) | None => None,
            Some(Err(e)) => return Err(e),
        };
        let Some(upper) = upper else {
            let lower = lower_in(caller, lower_dir.as_ref(), name)?.ok_or(Errno::ENOENT)?;
            return Ok(Layers { upper: None, lower: Some(lower) });
        };
        if is_whiteout(&upper)? {
            return Err(Errno::ENOENT);
        }
        if !upper.is_dir() || upper.ops().xattr(OPAQUE).is_ok() {
            return Ok(Layers { upper: Some(upper), lower: None });
        }
        let lower = match upper.ops().xattr(REDIRECT) {
            Ok(path) => self.lower_at(caller, &path)?,
            Err(_) => lower_in(caller, lower_dir.as_ref(), name)?,
        };
        let lower = lower.filter(|l| l.inode.is_dir());
        Ok(Layers { upper: Some(upper), lower })
    }

    /// The lower file at `path` from the lower root.
    fn lower_at(&self, caller: &Caller<'_>, path: &[u8]) -> Result<Option<Lower>, Errno> {
        let mut at = Lower { inode: self.shared.lower_root.clone(), path: Vec::new() };
        for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
            match lower_in(caller, Some(&at), name)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Takes a whiteout at `name` away; the upper directory exists. True where there was one.
    fn remove_whiteout(upper_dir: &Arc<Inode>, caller: &Caller<'_>, name: &[u8]) -> Result<bool, Errno> {
        match upper_dir.lookup(caller, name) {
            Ok(inode) if is_whiteout(&inode)? => {
                upper_dir.ops().unlink(name, &inode)?;
                Ok(true)
            }
            Ok(_) | Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Hides `name` of the lower layer, if it has one.
    fn hide(&self, upper_dir: &Arc<Inode>, caller: &Caller<'_>, name: &[u8]) -> Result<(), Errno> {
        if lower_in(caller, self.lower().as_ref(), name)?.is_none() {
            return Ok(());
        }
        let kind = NewKind::CharDevice(DeviceId::default());
        upper_dir.create(name, &NewInode { kind, mode: 0, uid: 0, gid: 0 })?;
        Ok(())
    }

    /// Makes a directory that is moved to, or made at, a name that the lower layer has show only its own contents.
    fn make_opaque(upper: &Arc<Inode>) -> Result<(), Errno> {
        upper.ops().set_xattr(OPAQUE, b"y", XattrMode::Set)
    }

    /// The merged listing by name, with the inode numbers that `stat` shows where they are known without a lookup.
    fn merged(&self, caller: &Caller<'_>) -> Result<BTreeMap<Vec<u8>, DirEntry>, Errno> {
        let mut all = BTreeMap::new();
        let layers = self.layers.read().clone();
        if let Some(lower) = &layers.lower {
            all.extend(lower.inode.ops().read_dir(caller)?.into_iter().map(|e| (e.name.clone(), e)));
        }
        if let Some(upper) = &layers.upper {
            for entry in upper.ops().read_dir(caller)? {
                let Ok(inode) = upper.lookup(caller, &entry.name) else { continue };
                if is_whiteout(&inode)? {
                    all.remove(&entry.name);
                    continue;
                }
                let merges = |lower: &&DirEntry| {
                    lower.kind == FileType::Directory && inode.is_dir() && inode.ops().xattr(OPAQUE).is_err()
                };
                let ino = match all.get(&entry.name).filter(merges) {
                    Some(lower) => lower.ino,
                    None => upper_number(&inode)?,
                };
                all.insert(entry.name.clone(), DirEntry { ino, ..entry });
            }
        }
        Ok(all)
    }

    /// Empties the upper part of a directory of its whiteouts before it is removed.
    fn drop_whiteouts(upper: &Arc<Inode>, caller: &Caller<'_>) -> Result<(), Errno> {
        for entry in upper.ops().read_dir(caller)? {
            Self::remove_whiteout(upper, caller, &entry.name)?;
        }
        Ok(())
    }

    fn note_removed(inode: &Inode) {
        if let Ok(this) = Self::of(inode) {
            this.place.lock().is_removed = true;
        }
    }

    fn note_moved(inode: &Inode, dir: &Arc<Inode>, name: &[u8]) {
        if let Ok(this) = Self::of(inode) {
            *this.place.lock() = Place { parent: Some(dir.clone()), name: name.to_vec(), is_removed: false };
        }
    }

    /// Prepares the move of a directory: it keeps showing its lower part, found by path from now on.
    fn keep_lower(&self, inode: &Inode) -> Result<(), Errno> {
        let this = Self::of(inode)?;
        let Some(upper) = this.upper().filter(|u| u.is_dir()) else { return Ok(()) };
        match this.lower() {
            Some(lower) => upper.ops().set_xattr(REDIRECT, &lower.path, XattrMode::Set),
            None => Self::make_opaque(&upper),
        }
    }

    /// The removal that `unlink`, `rmdir` and `rename` share: the upper file goes, the lower one is hidden.
    fn remove(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        let creds = Credentials::root();
        let caller = Caller::kernel(&creds);
        let dir = self.copy_up()?;
        let _change = self.shared.change.lock();
        let node = Self::of(child)?;
        // A copy under way finds out from this that its name is gone.
        Self::note_removed(child);
        if let Some(upper) = node.upper()
            && dir.lookup(&caller, name).is_ok()
        {
            if upper.is_dir() {
                Self::drop_whiteouts(&upper, &caller)?;
                dir.ops().rmdir(name, &upper)?;
            } else {
                dir.ops().unlink(name, &upper)?;
            }
        }
        self.hide(&dir, &caller, name)
    }
}

/// Finds `name` in a lower directory.
fn lower_in(caller: &Caller<'_>, dir: Option<&Lower>, name: &[u8]) -> Result<Option<Lower>, Errno> {
    let Some(dir) = dir.filter(|d| d.inode.is_dir()) else { return Ok(None) };
    match dir.inode.lookup(caller, name) {
        Ok(inode) => {
            let mut path = dir.path.clone();
            path.push(b'/');
            path.extend_from_slice(name);
            Ok(Some(Lower { inode, path }))
        }
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The inode number of a file: a copied file keeps that of the lower layer; what is only in the upper layer is
/// numbered above all of those.
fn number(layers: &Layers) -> Result<u64, Errno> {
    if let Some(lower) = &layers.lower {
        return Ok(lower.inode.ops().stat()?.ino);
    }
    upper_number(layers.upper.as_ref().ok_or(Errno::EIO)?)
}

/// The same for a file of the upper layer.
fn upper_number(upper: &Inode) -> Result<u64, Errno> {
    match upper.ops().xattr(ORIGIN) {
        Ok(value) => Ok(value.try_into().map_or(0, u64::from_le_bytes)),
        Err(_) => Ok(FIRST_UPPER_INO + upper.ops().stat()?.ino),
    }
}

/// A character device 0/0 of the upper layer hides a name.
fn is_whiteout(inode: &Inode) -> Result<bool, Errno> {
    if inode.kind() != FileType::CharDevice {
        return Ok(false);
    }
    Ok(inode.ops().stat()?.rdev == DeviceId::default())
}

impl InodeOps for OverlayInode {
    fn stat(&self) -> Result<Stat, Errno> {
        let layers = self.layers.read();
        let top = layers.upper.as_ref().or(layers.lower.as_ref().map(|l| &l.inode)).ok_or(Errno::EIO)?;
        let mut stat = top.ops().stat()?;
        stat.ino = self.ino;
        if self.kind == FileType::Directory && layers.upper.is_some() && layers.lower.is_some() {
            // As overlayfs: the number of subdirectories of a merged directory is not known.
            stat.nlink = 1;
        }
        Ok(stat)
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        if attr.size == Some(0) {
            return self.copy_up_empty()?.ops().set_attr(attr);
        }
        self.copy_up()?.ops().set_attr(attr)
    }

    fn lookup(&self, this: &Arc<Inode>, caller: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let layers = self.find(caller, name)?;
        self.child(this, name, layers)
    }

    fn prefetch(&self, names: &[&[u8]]) {
        let layers = self.layers.read().clone();
        // Names that the upper layer has are not worth a round trip.
        if let Some(lower) = layers.lower {
            lower.inode.ops().prefetch(names);
        }
    }

    fn create(&self, this: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>, Errno> {
        let creds = Credentials::root();
        let caller = Caller::kernel(&creds);
        let dir = self.copy_up()?;
        let _change = self.shared.change.lock();
        let hid_something = Self::remove_whiteout(&dir, &caller, name)?;
        let upper = dir.create(name, new)?;
        if hid_something && new.kind == NewKind::Directory {
            Self::make_opaque(&upper)?;
        }
        self.child(this, name, Layers { upper: Some(upper), lower: None })
    }

    fn create_unnamed(&self, this: &Arc<Inode>, new: &NewInode) -> Result<Arc<Inode>, Errno> {
        let upper = self.copy_up()?.create_unnamed(new)?;
        let inode = self.child(this, b"", Layers { upper: Some(upper), lower: None })?;
        Self::note_removed(&inode);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<Inode>) -> Result<(), Errno> {
        let creds = Credentials::root();
        let caller = Caller::kernel(&creds);
        let target_upper = Self::of(target)?.copy_up()?;
        let dir = self.copy_up()?;
        let _change = self.shared.change.lock();
        Self::remove_whiteout(&dir, &caller, name)?;
        dir.ops().link(name, &target_upper)?;
        self.shared.note_linked(&target_upper, target);
        Ok(())
    }

    fn unlink(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        self.remove(name, child)
    }

    fn rmdir(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        let creds = Credentials::root();
        if !Self::of(child)?.merged(&Caller::kernel(&creds))?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove(name, child)
    }

    fn rename(&self, from: RenameEnd<'_>, to: RenameEnd<'_>, mode: RenameMode) -> Result<(), Errno> {
        let creds = Credentials::root();
        let caller = Caller::kernel(&creds);
        let moved = from.inode.ok_or(Errno::ENOENT)?;
        let to_dir = Self::of(to.dir)?;
        if let (Some(replaced), RenameMode::Replace) = (to.inode, mode)
            && replaced.is_dir()
            && !Self::of(replaced)?.merged(&caller)?.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        Self::of(moved)?.copy_up()?;
        let old_upper = self.copy_up()?;
        let new_upper = to_dir.copy_up()?;
        if mode == RenameMode::Exchange {
            let other = to.inode.ok_or(Errno::ENOENT)?;
            Self::of(other)?.copy_up()?;
            let _change = self.shared.change.lock();
            self.keep_lower(moved)?;
            self.keep_lower(other)?;
            old_upper.ops().rename(
                RenameEnd { dir: &old_upper, name: from.name, inode: None },
                RenameEnd { dir: &new_upper, name: to.name, inode: None },
                mode,
            )?;
            Self::note_moved(moved, to.dir, to.name);
            Self::note_moved(other, from.dir, from.name);
            return Ok(());
        }
        if let Some(replaced) = to.inode {
            to_dir.remove(to.name, replaced)?;
        }
        let _change = self.shared.change.lock();
        self.keep_lower(moved)?;
        Self::remove_whiteout(&new_upper, &caller, to.name)?;
        old_upper.ops().rename(
            RenameEnd { dir: &old_upper, name: from.name, inode: None },
            RenameEnd { dir: &new_upper, name: to.name, inode: None },
            mode,
        )?;
        Self::note_moved(moved, to.dir, to.name);
        self.hide(&old_upper, &caller, from.name)
    }

    fn read_dir(&self, caller: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let layers = self.layers.read().clone();
        match (layers.upper, layers.lower) {
            // One layer alone needs no merging.
            (None, Some(lower)) => lower.inode.ops().read_dir(caller),
            _ => Ok(self.merged(caller)?.into_values().collect()),
        }
    }

    fn read_link(&self, caller: &Caller<'_>) -> Result<LinkTarget, Errno> {
        self.top()?.ops().read_link(caller)
    }

    fn open(&self, _: &Arc<Inode>, flags: OpenFlags, caller: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        if self.kind == FileType::Directory {
            return Ok(open_directory());
        }
        let layer = if flags.is_writable() { self.copy_up()? } else { self.top()? };
        layer.ops().open(&layer, flags, caller)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name.starts_with(OWN_XATTRS) {
            return Err(Errno::ENODATA);
        }
        self.top()?.ops().xattr(name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = self.top()?.ops().xattrs()?;
        names.retain(|name| !name.starts_with(OWN_XATTRS));
        Ok(names)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), Errno> {
        if name.starts_with(OWN_XATTRS) {
            return Err(Errno::EPERM);
        }
        self.copy_up()?.ops().set_xattr(name, value, mode)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        if name.starts_with(OWN_XATTRS) {
            return Err(Errno::ENODATA);
        }
        self.top()?.ops().xattr(name)?;
        self.copy_up()?.ops().remove_xattr(name)
    }
}
