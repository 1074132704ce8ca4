//! Changes of names: create, link, unlink, rename, with the checks that every file system needs.

use std::sync::Arc;

use crate::errno::Errno;
use crate::task::Capabilities;
use crate::vfs::acl::Inherited;
use crate::vfs::attr::S_ISGID;
use crate::vfs::notify::{self, Event};
use crate::vfs::permission::{check_access, check_delete};
use crate::vfs::{
    Access, Caller, Dentry, DeviceId, FileType, Inode, LastName, NewInode, NewKind, RenameEnd, VfsPath,
    Walked,
};

/// How `renameat2(2)` treats an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// It is an error (`RENAME_NOREPLACE`).
    NoReplace,
    /// The two change places (`RENAME_EXCHANGE`).
    Exchange,
    /// The old name becomes a whiteout of overlays (`RENAME_WHITEOUT`).
    Whiteout {
        /// Whether an existing target is replaced.
        replaces: bool,
        /// Whose the whiteout is: user and group.
        owner: (u32, u32),
    },
}

impl RenameMode {
    /// False where an existing target is an error.
    fn replaces(self) -> bool {
        !matches!(self, Self::NoReplace | Self::Whiteout { replaces: false, .. })
    }
}

/// Makes a file where `at` (walked with `Last::Parent` or `Last::FollowOrMissing`) found none, and returns its place.
/// The mode of `kind` is `mode` without the bits of `umask`.
///
/// # Errors
/// As `mknod(2)`, `mkdir(2)`, `symlink(2)`.
pub fn create(
    caller: &Caller<'_>,
    at: &Walked,
    kind: NewKind,
    mode: u32,
    umask: u32,
) -> Result<VfsPath, Errno> {
    let LastName::Name(name) = &at.name else { return Err(Errno::EEXIST) };
    if at.found.is_some() {
        return Err(Errno::EEXIST);
    }
    let dir = &at.dir;
    let is_directory = kind == NewKind::Directory;
    if at.has_trailing_slash && !is_directory {
        return Err(Errno::ENOENT);
    }
    dir.mount.check_writable()?;
    let inode = dir.inode();
    let locked = inode.dir_lock.lock();
    check_free(caller, dir, name)?;
    if is_privileged(&kind) && !caller.has(Capabilities::MKNOD) {
        return Err(Errno::EPERM);
    }
    let inherited = Inherited::from(inode, &kind, mode, umask);
    let new = owned_by(caller, inode, kind, inherited.mode)?;
    let made = inode.create(name, &new)?;
    inherited.give(&made)?;
    dir.dentry.forget(name);
    let dentry = dir.dentry.adopt(name, made);
    drop(locked);
    let event = if is_directory { Event::CREATE | Event::ISDIR } else { Event::CREATE };
    notify::notify_child(inode, event, name, 0);
    Ok(dir.with_dentry(dentry))
}

/// Devices, except for the one that is none: anybody makes the whiteout of overlays (`vfs_mknod`).
fn is_privileged(kind: &NewKind) -> bool {
    match kind {
        NewKind::CharDevice(device) => *device != DeviceId::default(),
        NewKind::BlockDevice(_) => true,
        _ => false,
    }
}

/// Checks, with the directory locked, that `name` can be made in it.
fn check_free(caller: &Caller<'_>, dir: &VfsPath, name: &[u8]) -> Result<(), Errno> {
    if dir.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    match dir.dentry.lookup_locked(caller, name) {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e),
    }
    check_access(caller, dir.inode(), Access::WRITE | Access::EXEC)
}

/// The new inode's owner and mode: the caller's, or the directory's group where that has `S_ISGID` (`inode(7)`).
pub(crate) fn owned_by(
    caller: &Caller<'_>,
    dir: &Inode,
    kind: NewKind,
    mode: u32,
) -> Result<NewInode, Errno> {
    let parent = dir.ops().stat()?;
    let (mut gid, mut mode) = (caller.creds.fsgid.0, mode);
    if parent.mode & S_ISGID != 0 {
        gid = parent.gid;
        if kind == NewKind::Directory {
            mode |= S_ISGID;
        } else if mode & (S_ISGID | 0o010) == S_ISGID | 0o010
            && !caller.in_group(gid)
            && !caller.has_for(&parent, Capabilities::FSETID)
        {
            mode &= !S_ISGID;
        }
    }
    Ok(NewInode { kind, mode, uid: caller.creds.fsuid.0, gid })
}

/// Gives `target` the name that `at` (walked with `Last::Parent`) found free.
///
/// # Errors
/// As `link(2)`.
pub fn link(caller: &Caller<'_>, target: &VfsPath, at: &Walked) -> Result<(), Errno> {
    let LastName::Name(name) = &at.name else { return Err(Errno::EEXIST) };
    if at.found.is_some() {
        return Err(Errno::EEXIST);
    }
    let dir = &at.dir;
    if at.has_trailing_slash {
        return Err(Errno::ENOENT);
    }
    dir.mount.check_writable()?;
    if !Arc::ptr_eq(&dir.mount, &target.mount) {
        return Err(Errno::EXDEV);
    }
    if target.inode().is_dir() {
        return Err(Errno::EPERM);
    }
    check_protected_hardlink(caller, target)?;
    let inode = dir.inode();
    let locked = inode.dir_lock.lock();
    check_free(caller, dir, name)?;
    inode.ops().link(name, target.inode())?;
    dir.dentry.forget(name);
    drop(locked);
    notify::notify_inode(target.inode(), Event::ATTRIB);
    notify::notify_child(inode, Event::CREATE, name, 0);
    Ok(())
}

/// `fs.protected_hardlinks` (`proc_sys_fs(5)`): only the owner links files that it could not also read and write.
fn check_protected_hardlink(caller: &Caller<'_>, target: &VfsPath) -> Result<(), Errno> {
    let stat = target.stat()?;
    if caller.owns(&stat) {
        return Ok(());
    }
    let safe = stat.file_type() == FileType::Regular
        && stat.mode & 0o4000 == 0
        && stat.mode & 0o2010 != 0o2010
        && check_access(caller, target.inode(), Access::READ | Access::WRITE).is_ok();
    if safe { Ok(()) } else { Err(Errno::EPERM) }
}

/// What [`unlink`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove {
    /// Anything but a directory (`unlink(2)`).
    File,
    /// An empty directory (`rmdir(2)`).
    Directory,
}

/// Removes the name that `at` (walked with `Last::Parent`) found.
///
/// # Errors
/// As `unlink(2)` and `rmdir(2)`.
pub fn unlink(caller: &Caller<'_>, at: &Walked, what: Remove) -> Result<(), Errno> {
    let name = match (&at.name, what) {
        (LastName::Name(name), _) => name,
        (LastName::Dot, Remove::Directory) => {
            // `rmdir("/")` is busy, `rmdir(".")` invalid (rmdir(2)).
            let root = at.found.as_ref().is_some_and(VfsPath::is_mount_root) && at.has_trailing_slash;
            return Err(if root { Errno::EBUSY } else { Errno::EINVAL });
        }
        (LastName::DotDot, Remove::Directory) => return Err(Errno::ENOTEMPTY),
        (LastName::Dot | LastName::DotDot, Remove::File) => return Err(Errno::EISDIR),
    };
    let dir = &at.dir;
    dir.mount.check_writable()?;
    let inode = dir.inode();
    let locked = inode.dir_lock.lock();
    let victim = dir.dentry.lookup_locked(caller, name)?;
    if at.has_trailing_slash && what == Remove::File {
        return Err(if victim.inode().is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    check_delete(caller, inode, victim.inode())?;
    match (what, victim.inode().is_dir()) {
        (Remove::File, true) => return Err(Errno::EISDIR),
        (Remove::Directory, false) => return Err(Errno::ENOTDIR),
        _ => {}
    }
    if is_busy(caller, &victim) {
        return Err(Errno::EBUSY);
    }
    match what {
        Remove::File => inode.ops().unlink(name, victim.inode())?,
        Remove::Directory => {
            let _child = victim.inode().dir_lock.lock();
            inode.ops().rmdir(name, victim.inode())?;
        }
    }
    dir.dentry.disown(name, &victim);
    drop(locked);
    tell_removed(inode, &victim, name);
    Ok(())
}

fn tell_removed(dir: &Inode, victim: &Arc<Dentry>, name: &[u8]) {
    let isdir = if victim.inode().is_dir() { Event::ISDIR } else { Event::empty() };
    if !victim.inode().is_dir() {
        notify::notify_inode(victim.inode(), Event::ATTRIB);
    }
    notify::notify_child(dir, Event::DELETE | isdir, name, 0);
    let gone = victim.inode().is_dir() || victim.inode().ops().stat().map_or(true, |s| s.nlink == 0);
    if gone {
        victim.inode().note_unlinked();
    }
}

/// A mount point cannot be removed or replaced, by those who see it: who mounts in a namespace of his own takes nothing
/// from others (`is_local_mountpoint`).
fn is_busy(caller: &Caller<'_>, dentry: &Arc<Dentry>) -> bool {
    dentry.mounted.load(std::sync::atomic::Ordering::Acquire) > 0
        && caller.task.is_none_or(|task| task.fs().namespace().is_mount_point(dentry))
}

/// Moves what `from` found to the name of `to` (both walked with `Last::Parent`).
///
/// # Errors
/// As `rename(2)` and `renameat2(2)`.
pub fn rename(caller: &Caller<'_>, from: &Walked, to: &Walked, mode: RenameMode) -> Result<(), Errno> {
    if !Arc::ptr_eq(&from.dir.mount, &to.dir.mount) {
        return Err(Errno::EXDEV);
    }
    let LastName::Name(old_name) = &from.name else { return Err(Errno::EBUSY) };
    let LastName::Name(new_name) = &to.name else {
        return Err(if mode.replaces() { Errno::EBUSY } else { Errno::EEXIST });
    };
    from.dir.mount.check_writable()?;
    let (old_dir, new_dir) = (&from.dir.dentry, &to.dir.dentry);
    let superblock = old_dir.superblock().clone();
    let _tree = superblock.rename_lock.lock();
    let locked = lock_two(old_dir.inode(), new_dir.inode());
    let old = old_dir.lookup_locked(caller, old_name)?;
    let new = match new_dir.lookup_locked(caller, new_name) {
        Ok(new) => Some(new),
        Err(Errno::ENOENT) => None,
        Err(e) => return Err(e),
    };
    match (mode, &new) {
        (mode, Some(_)) if !mode.replaces() => return Err(Errno::EEXIST),
        (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
        _ => {}
    }
    let check = RenameCheck { caller, from, to, old: &old, new: new.as_ref(), mode };
    check.shape()?;
    if new.as_ref().is_some_and(|new| is_same_file(&old, new)) {
        // Two names of one file: nothing to do (rename(2)).
        return Ok(());
    }
    check.permissions()?;
    old_dir.inode().ops().rename(
        RenameEnd { dir: old_dir.inode(), name: old_name, inode: Some(old.inode()) },
        RenameEnd { dir: new_dir.inode(), name: new_name, inode: new.as_ref().map(|d| d.inode()) },
        mode,
    )?;
    match (&new, mode) {
        (Some(new), RenameMode::Exchange) => {
            old_dir.move_child(old_name, &old, new_dir, new_name);
            // The exchanged dentry's old slot now holds `old`: only its place changes.
            new_dir.exchange_child(new, old_dir, old_name);
        }
        (replaced, _) => {
            if let Some(replaced) = replaced {
                new_dir.disown(new_name, replaced);
            }
            old_dir.move_child(old_name, &old, new_dir, new_name);
        }
    }
    drop(locked);
    notify::notify_rename(old_dir.inode(), old_name, new_dir.inode(), new_name, old.inode());
    if let Some(replaced) = new.as_ref().filter(|_| mode != RenameMode::Exchange)
        && replaced.inode().ops().stat().map_or(true, |s| s.nlink == 0 || s.is_dir())
    {
        replaced.inode().note_unlinked();
    }
    Ok(())
}

/// True for two names of one file; remote file systems have an inode for each name.
fn is_same_file(a: &Dentry, b: &Dentry) -> bool {
    if Arc::ptr_eq(a.inode(), b.inode()) {
        return true;
    }
    let (Ok(a), Ok(b)) = (a.stat(), b.stat()) else { return false };
    !a.is_dir() && a.nlink > 1 && (a.dev, a.ino) == (b.dev, b.ino)
}

/// The checks of a rename, with both directories locked.
struct RenameCheck<'a> {
    caller: &'a Caller<'a>,
    from: &'a Walked,
    to: &'a Walked,
    old: &'a Arc<Dentry>,
    new: Option<&'a Arc<Dentry>>,
    mode: RenameMode,
}

impl RenameCheck<'_> {
    /// What does not depend on the caller.
    fn shape(&self) -> Result<(), Errno> {
        let old_is_dir = self.old.inode().is_dir();
        if !old_is_dir {
            if self.from.has_trailing_slash {
                return Err(Errno::ENOTDIR);
            }
            if self.mode != RenameMode::Exchange && self.to.has_trailing_slash {
                return Err(Errno::ENOTDIR);
            }
        }
        if self.old.is_ancestor_of(&self.to.dir.dentry) {
            return Err(Errno::EINVAL);
        }
        if let Some(new) = self.new
            && new.is_ancestor_of(&self.from.dir.dentry)
        {
            return Err(if self.mode == RenameMode::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if self.to.dir.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }

    fn permissions(&self) -> Result<(), Errno> {
        let (old_dir, new_dir) = (self.from.dir.inode(), self.to.dir.inode());
        check_delete(self.caller, old_dir, self.old.inode())?;
        let old_is_dir = self.old.inode().is_dir();
        match self.new {
            None => check_access(self.caller, new_dir, Access::WRITE | Access::EXEC)?,
            Some(new) => {
                check_delete(self.caller, new_dir, new.inode())?;
                if self.mode != RenameMode::Exchange {
                    match (old_is_dir, new.inode().is_dir()) {
                        (true, false) => return Err(Errno::ENOTDIR),
                        (false, true) => return Err(Errno::EISDIR),
                        _ => {}
                    }
                }
            }
        }
        if is_busy(self.caller, self.old) || self.new.is_some_and(|n| is_busy(self.caller, n)) {
            return Err(Errno::EBUSY);
        }
        // A directory that moves gets a new `..`, so it must be writable itself.
        if old_is_dir && !Arc::ptr_eq(old_dir, new_dir) {
            check_access(self.caller, self.old.inode(), Access::WRITE)?;
        }
        Ok(())
    }
}

/// Locks two directories in address order, once where they are the same.
fn lock_two<'a>(
    a: &'a Arc<Inode>,
    b: &'a Arc<Inode>,
) -> (parking_lot::MutexGuard<'a, ()>, Option<parking_lot::MutexGuard<'a, ()>>) {
    if Arc::ptr_eq(a, b) {
        return (a.dir_lock.lock(), None);
    }
    let (first, second) = if Arc::as_ptr(a).addr() < Arc::as_ptr(b).addr() { (a, b) } else { (b, a) };
    let first = first.dir_lock.lock();
    (first, Some(second.dir_lock.lock()))
}
