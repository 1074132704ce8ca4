//! The inodes of an overlay.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::errno::Errno;
use crate::fs::overlay::layer::{Layers, Lower};
use crate::fs::overlay::mark::Mark;
use crate::fs::overlay::{OverlayShared, WhiteoutKind, upper};
use crate::task::Credentials;
use crate::vfs::acl::{Acl, AclKind};
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, Dentry, DeviceId, DirEntry, FileOps, FileType, Inode, InodeOps, LinkTarget, NewInode, NewKind,
    OpenFlags, RenameEnd, RenameMode, SetAttr, Stat, XattrMode,
};

/// A file of the overlay.
pub struct OverlayInode {
    pub(super) shared: Arc<OverlayShared>,
    pub(super) kind: FileType,
    pub(super) ino: u64,
    pub(super) layers: RwLock<Layers>,
    pub(super) place: Mutex<Place>,
    /// Held while the file is copied up. Taken before the locks of parents are not needed any more, and before
    /// `OverlayShared::change`.
    pub(super) copying: Mutex<()>,
}

/// Where the file is in the overlay, for copying up its parents.
pub(super) struct Place {
    pub(super) parent: Option<Arc<Inode>>,
    pub(super) name: Vec<u8>,
    /// The name was removed: a copy gets none.
    pub(super) is_removed: bool,
}

impl OverlayInode {
    /// The root, which has what the top layer's root has.
    pub(super) fn root(
        shared: &Arc<OverlayShared>,
        upper: Option<Arc<Inode>>,
        upper_name: Option<Arc<Dentry>>,
    ) -> Result<Arc<Inode>, Errno> {
        let layers = Layers {
            upper,
            _upper_name: upper_name,
            lower: shared.lower_roots.clone(),
            lower_path: Vec::new(),
        };
        let place = Place { parent: None, name: Vec::new(), is_removed: false };
        let ino = shared.number(&layers)?;
        Ok(Self::make(shared, FileType::Directory, ino, layers, place))
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
        let kind = layers.top()?.kind();
        if let Some(upper) = layers.upper.as_ref().filter(|u| !u.is_dir())
            && let Some(known) = self.shared.linked(upper)
        {
            return Ok(known);
        }
        let ino = self.shared.number(&layers)?;
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
        self.layers.read().top().cloned()
    }

    pub(super) fn upper(&self) -> Option<Arc<Inode>> {
        self.layers.read().upper.clone()
    }

    /// True for a directory of which a lower layer has a part.
    fn has_lower(&self) -> bool {
        !self.layers.read().lower.is_empty()
    }

    /// What the layers have under `name`, or `ENOENT`.
    fn find(&self, caller: &Caller<'_>, name: &[u8]) -> Result<Layers, Errno> {
        let shared = &self.shared;
        let here = self.layers.read().clone();
        let upper = match here.upper.map(|dir| dir.lookup_shared(caller, name)) {
            Some(Ok(found)) => Some(found),
            Some(Err(Errno::ENOENT)) | None => None,
            Some(Err(e)) => return Err(e),
        };
        let mut lower_path = here.lower_path;
        lower_path.push(b'/');
        lower_path.extend_from_slice(name);
        let Some((upper, upper_name)) = upper else {
            let lower = shared.lower_in(caller, &here.lower, name)?;
            if lower.is_empty() {
                return Err(Errno::ENOENT);
            }
            return Ok(Layers { upper: None, _upper_name: None, lower, lower_path });
        };
        if shared.dialect.is_whiteout(&upper, shared.whiteouts)? {
            return Err(Errno::ENOENT);
        }
        if !upper.is_dir() || shared.dialect.is_opaque(&upper) {
            return Ok(Layers { upper: Some(upper), _upper_name: upper_name, lower: Vec::new(), lower_path });
        }
        let mut lower = match shared.redirect_of(&upper)? {
            Some(path) if path.starts_with(b"/") => {
                let lower = shared.lower_at(caller, &path)?;
                lower_path = path;
                lower
            }
            Some(other) => {
                lower_path.truncate(lower_path.len() - name.len());
                lower_path.extend_from_slice(&other);
                shared.lower_in(caller, &here.lower, &other)?
            }
            None => shared.lower_in(caller, &here.lower, name)?,
        };
        lower.retain(|l| l.inode.is_dir());
        Ok(Layers { upper: Some(upper), _upper_name: upper_name, lower, lower_path })
    }

    /// Takes a whiteout at `name` away; the upper directory exists. True where there was one.
    fn remove_whiteout(
        &self,
        upper_dir: &Arc<Inode>,
        caller: &Caller<'_>,
        name: &[u8],
    ) -> Result<bool, Errno> {
        match upper_dir.lookup(caller, name) {
            Ok(inode) if self.shared.dialect.is_whiteout(&inode, self.shared.whiteouts)? => {
                upper::remove(upper_dir, name, &inode)?;
                Ok(true)
            }
            Ok(_) | Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Hides `name` of the lower layers, if they have one.
    fn hide(&self, upper_dir: &Arc<Inode>, caller: &Caller<'_>, name: &[u8]) -> Result<(), Errno> {
        let lower = self.layers.read().lower.clone();
        if self.shared.lower_in(caller, &lower, name)?.is_empty() {
            return Ok(());
        }
        self.make_whiteout(upper_dir, name)
    }

    fn make_whiteout(&self, upper_dir: &Arc<Inode>, name: &[u8]) -> Result<(), Errno> {
        let (uid, gid) = self.shared.mounter.as_ref().map_or((0, 0), |c| (c.fsuid.0, c.fsgid.0));
        let kind = match self.shared.makes {
            WhiteoutKind::Device => NewKind::CharDevice(DeviceId::default()),
            WhiteoutKind::Marked => NewKind::Regular,
        };
        let made = upper::create(upper_dir, name, &NewInode { kind, mode: 0, uid, gid })?;
        if self.shared.makes == WhiteoutKind::Marked {
            self.shared.dialect.write(&made, Mark::Whiteout, b"y")?;
            self.shared.dialect.write(upper_dir, Mark::Opaque, b"x")?;
        }
        Ok(())
    }

    /// Makes a directory that is moved to, or made at, a name that a lower layer has show only its own contents.
    fn make_opaque(&self, upper: &Arc<Inode>) -> Result<(), Errno> {
        self.shared.dialect.write(upper, Mark::Opaque, b"y")
    }

    /// The merged listing by name, with the inode numbers that `stat` shows where they are known without a lookup.
    fn merged(&self, caller: &Caller<'_>) -> Result<BTreeMap<Vec<u8>, DirEntry>, Errno> {
        let mut all = BTreeMap::new();
        let layers = self.layers.read().clone();
        for lower in layers.lower.iter().rev() {
            self.list_lower(caller, lower, &mut all)?;
        }
        let Some(upper) = &layers.upper else { return Ok(all) };
        let shared = &self.shared;
        for entry in upper.ops().read_dir(caller)? {
            let Ok(inode) = upper.lookup(caller, &entry.name) else { continue };
            if shared.dialect.is_whiteout(&inode, shared.whiteouts)? {
                all.remove(&entry.name);
                continue;
            }
            let merges = |lower: &&DirEntry| {
                lower.kind == FileType::Directory && inode.is_dir() && !shared.dialect.is_opaque(&inode)
            };
            let ino = match all.get(&entry.name).filter(merges) {
                Some(lower) => lower.ino,
                None => shared.upper_number(&inode)?,
            };
            all.insert(entry.name.clone(), DirEntry { ino, ..entry });
        }
        Ok(all)
    }

    /// Adds what one layer has in the directory to what those below have.
    fn list_lower(
        &self,
        caller: &Caller<'_>,
        dir: &Lower,
        all: &mut BTreeMap<Vec<u8>, DirEntry>,
    ) -> Result<(), Errno> {
        let dialect = self.shared.dialect;
        let first = self.shared.first_number(dir.layer);
        // Marked whiteouts are only where the directory says so.
        let has_marked = dialect.read(&dir.inode, Mark::Opaque).is_some_and(|value| value == b"x");
        for mut entry in dir.inode.ops().read_dir(caller)? {
            let may_hide = match entry.kind {
                FileType::CharDevice => true,
                FileType::Regular => has_marked,
                _ => false,
            };
            if may_hide
                && let Ok(inode) = dir.inode.lookup(caller, &entry.name)
                && dialect.is_whiteout(&inode, self.shared.whiteouts)?
            {
                all.remove(&entry.name);
                continue;
            }
            entry.ino = entry.ino.wrapping_add(first);
            all.insert(entry.name.clone(), entry);
        }
        Ok(())
    }

    /// Empties the upper part of a directory of its whiteouts before it is removed.
    fn drop_whiteouts(&self, upper: &Arc<Inode>, caller: &Caller<'_>) -> Result<(), Errno> {
        for entry in upper.ops().read_dir(caller)? {
            self.remove_whiteout(upper, caller, &entry.name)?;
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

    /// Whether it may get another name: a directory of which a lower layer has a part only if what is there can be found again
    /// (`ovl_can_move`).
    fn check_movable(&self) -> Result<(), Errno> {
        let stays = self.kind == FileType::Directory && self.has_lower() && !self.shared.redirects;
        if stays { Err(Errno::EXDEV) } else { Ok(()) }
    }

    /// Prepares the move of a directory between two: it keeps showing its lower part, found by path from now on.
    fn keep_lower(inode: &Inode, from: &Self, to: &Self) -> Result<(), Errno> {
        let this = Self::of(inode)?;
        let Some(upper) = this.upper().filter(|u| u.is_dir()) else { return Ok(()) };
        if this.has_lower() {
            let mut path = this.layers.read().lower_path.clone();
            let before = this.shared.dialect.read(&upper, Mark::Redirect);
            let is_absolute = before.is_some_and(|path| path.starts_with(b"/"));
            if std::ptr::eq(from, to) && !is_absolute {
                // Beside its old name that is enough (`ovl_get_redirect`).
                path = path.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
            }
            return this.shared.dialect.write(&upper, Mark::Redirect, &path);
        }
        // Among names of its own it hides nothing.
        if to.has_lower() { this.make_opaque(&upper).map_err(|_| Errno::EXDEV) } else { Ok(()) }
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
                self.drop_whiteouts(&upper, &caller)?;
            }
            upper::remove(&dir, name, &upper)?;
        }
        self.hide(&dir, &caller, name)
    }
}

impl OverlayShared {
    /// The inode number of a file: a copied file keeps that of the lower layer.
    fn number(&self, layers: &Layers) -> Result<u64, Errno> {
        match (layers.lower.first(), &layers.upper) {
            (Some(lower), _) => {
                Ok(self.first_number(lower.layer).wrapping_add(lower.inode.ops().stat()?.ino))
            }
            (None, Some(upper)) => self.upper_number(upper),
            (None, None) => Err(Errno::EIO),
        }
    }

    /// The same for a file of the upper layer.
    fn upper_number(&self, upper: &Inode) -> Result<u64, Errno> {
        // What other systems noted is longer, and nothing to us.
        let origin = self.dialect.read(upper, Mark::Origin).and_then(|value| value.try_into().ok());
        match origin {
            Some(origin) => Ok(u64::from_le_bytes(origin)),
            None => Ok(self.first_upper_number.wrapping_add(upper.ops().stat()?.ino)),
        }
    }
}

impl InodeOps for OverlayInode {
    fn stat(&self) -> Result<Stat, Errno> {
        let layers = self.layers.read();
        let mut stat = layers.top()?.ops().stat()?;
        stat.ino = self.ino;
        if self.kind == FileType::Directory && layers.is_merged() {
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
        for lower in layers.lower {
            lower.inode.ops().prefetch(names);
        }
    }

    fn create(&self, this: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>, Errno> {
        if new.kind == NewKind::CharDevice(DeviceId::default()) {
            // It would hide the name (`ovl_mknod`).
            return Err(Errno::EPERM);
        }
        let creds = Credentials::root();
        let caller = Caller::kernel(&creds);
        let dir = self.copy_up()?;
        let _change = self.shared.change.lock();
        let hid_something = self.remove_whiteout(&dir, &caller, name)?;
        let upper = upper::create(&dir, name, new)?;
        if hid_something
            && new.kind == NewKind::Directory
            && let Err(e) = self.make_opaque(&upper)
        {
            upper::remove(&dir, name, &upper)?;
            self.make_whiteout(&dir, name)?;
            return Err(e);
        }
        self.child(this, name, Layers::only_upper(upper))
    }

    fn create_unnamed(&self, this: &Arc<Inode>, new: &NewInode) -> Result<Arc<Inode>, Errno> {
        let upper = self.copy_up()?.create_unnamed(new)?;
        let inode = self.child(this, b"", Layers::only_upper(upper))?;
        Self::note_removed(&inode);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<Inode>) -> Result<(), Errno> {
        let creds = Credentials::root();
        let caller = Caller::kernel(&creds);
        let target_upper = Self::of(target)?.copy_up()?;
        let dir = self.copy_up()?;
        let _change = self.shared.change.lock();
        self.remove_whiteout(&dir, &caller, name)?;
        upper::link(&dir, name, &target_upper)?;
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
        if matches!(mode, RenameMode::Whiteout { .. }) {
            return Err(Errno::EINVAL);
        }
        let to_dir = Self::of(to.dir)?;
        Self::of(moved)?.check_movable()?;
        if let (Some(other), RenameMode::Exchange) = (to.inode, mode) {
            Self::of(other)?.check_movable()?;
        }
        if let (Some(replaced), RenameMode::Replace) = (to.inode, mode)
            && replaced.is_dir()
            && !Self::of(replaced)?.merged(&caller)?.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        let moved_upper = Self::of(moved)?.copy_up()?;
        let old_upper = self.copy_up()?;
        let new_upper = to_dir.copy_up()?;
        if mode == RenameMode::Exchange {
            let other = to.inode.ok_or(Errno::ENOENT)?;
            let other_upper = Self::of(other)?.copy_up()?;
            let _change = self.shared.change.lock();
            Self::keep_lower(moved, self, to_dir)?;
            Self::keep_lower(other, to_dir, self)?;
            upper::rename(
                RenameEnd { dir: &old_upper, name: from.name, inode: Some(&moved_upper) },
                RenameEnd { dir: &new_upper, name: to.name, inode: Some(&other_upper) },
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
        Self::keep_lower(moved, self, to_dir)?;
        to_dir.remove_whiteout(&new_upper, &caller, to.name)?;
        upper::rename(
            RenameEnd { dir: &old_upper, name: from.name, inode: Some(&moved_upper) },
            RenameEnd { dir: &new_upper, name: to.name, inode: None },
            RenameMode::Replace,
        )?;
        Self::note_moved(moved, to.dir, to.name);
        self.hide(&old_upper, &caller, from.name)
    }

    fn read_dir(&self, caller: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        Ok(self.merged(caller)?.into_values().collect())
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

    fn takes_acls(&self) -> bool {
        self.shared.takes_acls
    }

    fn acl(&self, kind: AclKind) -> Option<Acl> {
        self.layers.read().top().ok()?.ops().acl(kind)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.top()?.ops().xattr(&self.shared.dialect.escape(name))
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let names = self.top()?.ops().xattrs()?;
        Ok(names.iter().filter_map(|name| self.shared.dialect.unescape(name)).collect())
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), Errno> {
        self.copy_up()?.ops().set_xattr(&self.shared.dialect.escape(name), value, mode)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        let name = self.shared.dialect.escape(name);
        self.top()?.ops().xattr(&name)?;
        self.copy_up()?.ops().remove_xattr(&name)
    }
}
