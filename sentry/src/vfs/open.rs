//! Opening files (`open(2)`, `openat2(2)`).

use std::sync::Arc;

use crate::errno::Errno;
use crate::task::Capabilities;
use crate::vfs::acl::Inherited;
use crate::vfs::attr::MODE_MASK;
use crate::vfs::change;
use crate::vfs::notify::{self, Event};
use crate::vfs::permission::{check_access, shed_set_id};
use crate::vfs::walk::{Last, Resolve, WalkRoot, walk};
use crate::vfs::{
    Access, Caller, Dentry, DirFile, File, FileOps, FileType, LastName, MountFlags, NewKind, OpenFlags,
    SetAttr, VfsPath, Walked,
};

/// How to open a file.
#[derive(Debug, Clone, Copy)]
pub struct OpenHow {
    /// Access mode, creation and status flags.
    pub flags: OpenFlags,
    /// Permission bits of a new file.
    pub mode: u32,
    /// The bits that new files don't get.
    pub umask: u32,
    /// Restrictions on the walk.
    pub resolve: Resolve,
}

impl OpenHow {
    /// An existing file, with `flags`.
    #[must_use]
    pub fn existing(flags: OpenFlags) -> Self {
        Self { flags, mode: 0, umask: 0, resolve: Resolve::empty() }
    }
}

/// Opens `path`. Where the file has to wait for its other end (a FIFO), the caller goes on with
/// [`FileOps::finish_open`].
///
/// # Errors
/// As `open(2)`.
pub fn open(caller: &Caller<'_>, from: &WalkRoot, path: &[u8], how: &OpenHow) -> Result<Arc<File>, Errno> {
    let flags = how.flags;
    if flags.contains(OpenFlags::TMPFILE) {
        return open_unnamed(caller, from, path, how);
    }
    if flags.contains(OpenFlags::CREAT) && !flags.contains(OpenFlags::PATH) {
        return open_or_create(caller, from, path, how);
    }
    let last = if flags.contains(OpenFlags::NOFOLLOW) { Last::NoFollow } else { Last::Follow };
    let place = walk(caller, from, path, last, how.resolve)?.existing()?;
    open_place(caller, place, flags)
}

fn open_or_create(
    caller: &Caller<'_>,
    from: &WalkRoot,
    path: &[u8],
    how: &OpenHow,
) -> Result<Arc<File>, Errno> {
    let flags = how.flags;
    if has_name_with_slash(path) {
        // Whatever is there (open_last_lookups).
        walk(caller, from, path, Last::Parent, how.resolve)?;
        return Err(Errno::EISDIR);
    }
    let last = if flags.intersects(OpenFlags::EXCL | OpenFlags::NOFOLLOW) {
        Last::Parent
    } else {
        Last::FollowOrMissing
    };
    // A second try covers a file that appeared between the walk and the creation.
    for _ in 0..MAX_TRIES {
        let at = walk(caller, from, path, last, how.resolve)?;
        if !matches!(at.name, LastName::Name(_)) {
            return Err(if flags.contains(OpenFlags::EXCL) { Errno::EEXIST } else { Errno::EISDIR });
        }
        if let Some(place) = at.found {
            if flags.contains(OpenFlags::EXCL) {
                return Err(Errno::EEXIST);
            }
            if place.inode().is_dir() {
                return Err(Errno::EISDIR);
            }
            check_protected_create(caller, &at.dir, &place)?;
            return open_place(caller, place, flags);
        }
        match change::create(caller, &at, NewKind::Regular, how.mode & MODE_MASK, how.umask) {
            Ok(place) => return open_created(caller, place, flags),
            Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCL) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EEXIST)
}

/// True for `name/`, not for `./` and `/`.
fn has_name_with_slash(path: &[u8]) -> bool {
    let end = path.len() - path.iter().rev().take_while(|b| **b == b'/').count();
    let name = path[..end].rsplit(|b| *b == b'/').next().unwrap_or_default();
    end < path.len() && !matches!(name, b"" | b"." | b"..")
}

/// How often an open races with others that create and remove the name before it gives up.
const MAX_TRIES: usize = 16;

/// `fs.protected_regular` and `fs.protected_fifos` at 1 (`proc_sys_fs(5)`): `O_CREAT` does not open somebody else's
/// file in a world-writable sticky directory.
fn check_protected_create(caller: &Caller<'_>, dir: &VfsPath, place: &VfsPath) -> Result<(), Errno> {
    if !matches!(place.inode().kind(), FileType::Regular | FileType::Fifo) {
        return Ok(());
    }
    let parent = dir.inode().ops().stat()?;
    if parent.mode & 0o1002 != 0o1002 {
        return Ok(());
    }
    let owner = place.stat()?.uid;
    if owner == parent.uid || owner == caller.creds.fsuid.0 { Ok(()) } else { Err(Errno::EACCES) }
}

fn open_unnamed(
    caller: &Caller<'_>,
    from: &WalkRoot,
    path: &[u8],
    how: &OpenHow,
) -> Result<Arc<File>, Errno> {
    let dir = walk(caller, from, path, Last::Follow, how.resolve)?.existing()?;
    if !dir.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    dir.mount.check_writable()?;
    check_access(caller, dir.inode(), Access::WRITE | Access::EXEC)?;
    let inherited = Inherited::from(dir.inode(), &NewKind::Regular, how.mode & MODE_MASK, how.umask);
    let new = change::owned_by(caller, dir.inode(), NewKind::Regular, inherited.mode)?;
    let inode = dir.inode().create_unnamed(&new)?;
    inherited.give(&inode)?;
    let ino = inode.ops().stat()?.ino;
    let name = format!("#{ino}");
    let dentry = Dentry::new_detached(dir.dentry.superblock().clone(), inode, name.as_bytes());
    let place = dir.with_dentry(dentry);
    let flags = how.flags.difference(OpenFlags::TMPFILE);
    let ops = place.inode().ops().open(place.inode(), flags, caller)?;
    // F_GETFL shows that it had no name.
    Ok(finish(ops, place, how.flags))
}

/// Opens a file that the caller just made: its mode does not matter (`open(2)`, `O_CREAT`).
fn open_created(caller: &Caller<'_>, place: VfsPath, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let ops = place.inode().ops().open(place.inode(), flags, caller)?;
    Ok(finish(ops, place, flags))
}

/// Opens the file at `place` after checking that the caller may.
///
/// # Errors
/// As `open(2)`.
pub fn open_place(caller: &Caller<'_>, place: VfsPath, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let kind = place.inode().kind();
    if flags.contains(OpenFlags::DIRECTORY) && kind != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    if flags.contains(OpenFlags::PATH) {
        let kept = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
        return Ok(File::at(Box::new(PathFile), flags & kept, place));
    }
    if kind == FileType::Symlink {
        return Err(Errno::ELOOP);
    }
    check_open(caller, &place, flags)?;
    if flags.contains(OpenFlags::TRUNC) && kind == FileType::Regular {
        shed_set_id(caller, place.inode())?;
        place.inode().ops().set_attr(&SetAttr { size: Some(0), ..SetAttr::default() })?;
        notify::notify_dentry(&place.dentry, Event::MODIFY);
    }
    if let Some(ops) = crate::fs::host::reopen(place.inode()) {
        return Ok(finish(ops?, place, flags));
    }
    let ops: Box<dyn FileOps> = match kind {
        FileType::Directory | FileType::Regular => place.inode().ops().open(place.inode(), flags, caller)?,
        FileType::Fifo => crate::fs::pipe::open_fifo(place.inode(), flags)?,
        FileType::CharDevice => return crate::fs::dev::open(caller, place, flags),
        FileType::BlockDevice | FileType::Socket | FileType::Symlink => return Err(Errno::ENXIO),
    };
    Ok(finish(ops, place, flags))
}

/// The default for directories in [`crate::vfs::InodeOps::open`].
#[must_use]
pub fn open_directory() -> Box<dyn FileOps> {
    Box::new(DirFile::default())
}

fn finish(ops: Box<dyn FileOps>, place: VfsPath, flags: OpenFlags) -> Arc<File> {
    notify::notify_dentry(&place.dentry, Event::OPEN);
    File::at(ops, status_flags(flags), place)
}

/// The flags that stay with the description (`fcntl(F_GETFL)`).
#[must_use]
pub fn status_flags(flags: OpenFlags) -> OpenFlags {
    flags.difference(
        OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOCTTY | OpenFlags::TRUNC | OpenFlags::CLOEXEC,
    ) | OpenFlags::LARGEFILE
}

fn check_open(caller: &Caller<'_>, place: &VfsPath, flags: OpenFlags) -> Result<(), Errno> {
    let kind = place.inode().kind();
    let mount_flags = place.mount.flags();
    let mut want = Access::empty();
    want.set(Access::READ, flags.access_mode() != 1);
    want.set(Access::WRITE, flags.access_mode() != 0 || flags.contains(OpenFlags::TRUNC));
    if kind == FileType::Directory && want.contains(Access::WRITE) {
        return Err(Errno::EISDIR);
    }
    let is_device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
    let has_devices =
        place.mount.superblock().has_devices() || place.mount.superblock().fs().type_name() == "devpts";
    if is_device && (mount_flags.contains(MountFlags::NODEV) || !has_devices) {
        return Err(Errno::EACCES);
    }
    // Pipes, sockets and devices on a read-only mount can be written.
    if want.contains(Access::WRITE) && matches!(kind, FileType::Regular | FileType::Directory) {
        place.mount.check_writable()?;
    }
    check_access(caller, place.inode(), want)?;
    if flags.contains(OpenFlags::NOATIME) && !caller.has(Capabilities::FOWNER) && !caller.owns(&place.stat()?)
    {
        return Err(Errno::EPERM);
    }
    // Nothing but regular files has direct I/O (do_dentry_open).
    if flags.contains(OpenFlags::DIRECT) && kind != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// What `open(2)` would do, for `exec`: walks, checks execute permission and the mount, and opens for reading.
///
/// # Errors
/// As `execve(2)`: `EACCES` for what is not an executable regular file.
pub fn open_exec(caller: &Caller<'_>, from: &WalkRoot, path: &[u8], last: Last) -> Result<Arc<File>, Errno> {
    let place = walk(caller, from, path, last, Resolve::empty())?.existing()?;
    open_exec_place(caller, place)
}

/// As [`open_exec`], for a place that is known already (`execveat(2)` with `AT_EMPTY_PATH`).
///
/// # Errors
/// As [`open_exec`].
pub fn open_exec_place(caller: &Caller<'_>, place: VfsPath) -> Result<Arc<File>, Errno> {
    match place.inode().kind() {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Regular => {}
        _ => return Err(Errno::EACCES),
    }
    if place.mount.flags().contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES);
    }
    check_access(caller, place.inode(), Access::EXEC)?;
    // Reading needs no permission of its own: execute-only programs run.
    let ops = place.inode().ops().open(place.inode(), OpenFlags::empty(), caller)?;
    Ok(File::at(ops, OpenFlags::LARGEFILE, place))
}

/// A description that only names a place (`O_PATH`).
#[derive(Debug)]
struct PathFile;

impl FileOps for PathFile {}

/// Walks `path` and returns the place.
///
/// # Errors
/// As [`walk`].
pub fn lookup(caller: &Caller<'_>, from: &WalkRoot, path: &[u8], last: Last) -> Result<VfsPath, Errno> {
    let walked: Walked = walk(caller, from, path, last, Resolve::empty())?;
    walked.existing()
}
