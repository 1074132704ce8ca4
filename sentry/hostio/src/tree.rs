//! A directory tree of the host that is never left: every path is walked beneath its root, without symbolic links.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags};

/// A directory of the host and everything below it. Paths are relative; the empty one is the root.
#[derive(Debug)]
pub struct HostTree {
    root: OwnedFd,
}

/// The result of an operation on the host.
type Result<T> = std::result::Result<T, Errno>;

impl HostTree {
    /// The tree below `root`, a directory or a single file.
    #[must_use]
    pub fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// The root's descriptor.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A descriptor that only names `path` (`O_PATH`), which may be a symbolic link.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn name(&self, path: &[u8]) -> Result<OwnedFd> {
        if path.is_empty() {
            return self.root.try_clone().map_err(|e| errno(&e));
        }
        open_beneath(self.root.as_fd(), path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())
    }

    /// Opens `path` with `flags`. Never waits and never makes a terminal the controlling one.
    ///
    /// # Errors
    /// As openat2(2); `ELOOP` for a symbolic link.
    pub fn open(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        if path.is_empty() {
            return reopen(self.root.as_fd(), flags);
        }
        open_beneath(self.root.as_fd(), path, flags, Mode::empty())
    }

    /// Makes a regular file and opens it for reading and writing.
    ///
    /// # Errors
    /// As open(2) with `O_CREAT | O_EXCL`.
    pub fn create(&self, path: &[u8], mode: u32) -> Result<OwnedFd> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW;
        open_beneath(dir.as_fd(), name, flags, Mode::from_bits_truncate(mode))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn mkdir(&self, path: &[u8], mode: u32) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        nix::sys::stat::mkdirat(dir, os(name), Mode::from_bits_truncate(mode))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As symlink(2).
    pub fn symlink(&self, path: &[u8], target: &[u8]) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        nix::unistd::symlinkat(os(target), dir, os(name))
    }

    /// Makes a FIFO or a socket file.
    ///
    /// # Errors
    /// As mknod(2).
    pub fn mknod(&self, path: &[u8], kind: SFlag, mode: u32) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        nix::sys::stat::mknodat(dir, os(name), kind, Mode::from_bits_truncate(mode), 0)
    }

    /// Gives `from`, which is not followed, the further name `to`.
    ///
    /// # Errors
    /// As link(2).
    pub fn link(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        nix::unistd::linkat(from_dir, os(from_name), to_dir, os(to_name), LinkatFlags::empty())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn unlink(&self, path: &[u8]) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        nix::unistd::unlinkat(dir, os(name), UnlinkatFlags::NoRemoveDir)
    }

    /// Removes a directory.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn rmdir(&self, path: &[u8]) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        nix::unistd::unlinkat(dir, os(name), UnlinkatFlags::RemoveDir)
    }

    /// Moves `from` to `to`.
    ///
    /// # Errors
    /// As renameat2(2).
    pub fn rename(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        nix::fcntl::renameat2(from_dir, os(from_name), to_dir, os(to_name), flags)
    }

    /// Changes permission bits; not of symbolic links.
    ///
    /// # Errors
    /// As chmod(2).
    pub fn chmod(&self, path: &[u8], mode: u32) -> Result<()> {
        let mode = Mode::from_bits_truncate(mode);
        if path.is_empty() {
            let fd = reopen(self.root.as_fd(), OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
            return nix::sys::stat::fchmod(fd, mode);
        }
        let (dir, name) = self.parent(path)?;
        let stat = nix::sys::stat::fstatat(&dir, os(name), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
            return Err(Errno::EOPNOTSUPP);
        }
        match fchmodat2(dir.as_fd(), name, mode) {
            // The call is Linux 6.6's.
            Err(Errno::ENOSYS) => self.chmod_by_open(path, mode),
            done => done,
        }
    }

    fn chmod_by_open(&self, path: &[u8], mode: Mode) -> Result<()> {
        nix::sys::stat::fchmod(self.open(path, OFlag::O_RDONLY)?, mode)
    }

    /// Changes owner and group, also of symbolic links.
    ///
    /// # Errors
    /// As chown(2).
    pub fn chown(&self, path: &[u8], uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let fd = self.name(path)?;
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        nix::unistd::fchownat(fd, os(b""), uid, gid, AtFlags::AT_EMPTY_PATH)
    }

    /// Sets access and modification time, also of symbolic links.
    ///
    /// # Errors
    /// As utimensat(2).
    pub fn set_times(&self, path: &[u8], atime: TimeSpec, mtime: TimeSpec) -> Result<()> {
        let (dir, name) = if path.is_empty() {
            (self.root.try_clone().map_err(|e| errno(&e))?, &b"."[..])
        } else {
            self.parent(path)?
        };
        nix::sys::stat::utimensat(dir, os(name), &atime, &mtime, UtimensatFlags::NoFollowSymlink)
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// As readlink(2).
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        let fd = self.name(path)?;
        let text = nix::fcntl::readlinkat(fd, os(b""))?;
        Ok(text.as_bytes().to_vec())
    }

    /// The directory that holds `path`, and the last name.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8])> {
        if path.is_empty() {
            return Err(Errno::EBUSY);
        }
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        let fd = if dir.is_empty() {
            self.root.try_clone().map_err(|e| errno(&e))?
        } else {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            open_beneath(self.root.as_fd(), dir, flags, Mode::empty())?
        };
        Ok((fd, name))
    }
}

/// Names `name` in the directory `dir` (`O_PATH`).
///
/// # Errors
/// As openat2(2).
pub fn name_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    open_beneath(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())
}

/// The attributes of what `fd` refers to.
///
/// # Errors
/// As fstat(2).
pub fn stat(fd: BorrowedFd<'_>) -> Result<FileStat> {
    nix::sys::stat::fstat(fd)
}

/// The text of the symbolic link that `fd` (`O_PATH`) names.
///
/// # Errors
/// As readlink(2).
pub fn link_text(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    Ok(nix::fcntl::readlinkat(fd, os(b""))?.as_bytes().to_vec())
}

/// The attributes of `name`, one component, in the directory `dir`; a symbolic link's are its own.
///
/// # Errors
/// As fstatat(2).
pub fn stat_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<FileStat> {
    nix::sys::stat::fstatat(dir, os(name), AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The text of the symbolic link `name`, one component, in the directory `dir`.
///
/// # Errors
/// As readlinkat(2).
pub fn link_text_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    Ok(nix::fcntl::readlinkat(dir, os(name))?.as_bytes().to_vec())
}

/// Opens what `path` names beneath `dir`; no component may be a symbolic link or lead out.
fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(resolve);
    loop {
        match openat2(dir, os(path), how) {
            // A rename elsewhere in the tree can make the kernel unsure whether `..` was left; there is none.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            done => return done,
        }
    }
}

/// Opens a directory that is only named, or a file given as the root of a tree.
fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd> {
    let stat = stat(fd)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return open_beneath(fd, b".", flags, Mode::empty());
    }
    // The root of a tree that is a single file was opened by whoever set the tree up; its access mode decides.
    let _ = fd.as_raw_fd();
    fd.try_clone_to_owned().map_err(|e| errno(&e))
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Changes permission bits of `name` in `dir`, which is no symbolic link.
///
/// Asked without the C library: before version 2.39 its fchmodat(3) goes through chmod(2) and `/proc`, which an empty root
/// lacks and the gofer's list of system calls kills for.
fn fchmodat2(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let (dir, flags) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: the name is a terminated string that lives through the call; the rest are integers.
    let result = unsafe { libc::syscall(libc::SYS_fchmodat2, dir, name.as_ptr(), mode.bits(), flags) };
    Errno::result(result).map(drop)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The entries of the directory `fd` (open for reading), without `.` and `..`: name, inode number, `d_type`.
///
/// # Errors
/// As getdents(2).
pub fn list(fd: OwnedFd) -> Result<Vec<(Vec<u8>, u64, u8)>> {
    let mut dir = nix::dir::Dir::from_fd(fd)?;
    let mut entries = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            Some(nix::dir::Type::Fifo) => libc::DT_FIFO,
            Some(nix::dir::Type::CharacterDevice) => libc::DT_CHR,
            Some(nix::dir::Type::Directory) => libc::DT_DIR,
            Some(nix::dir::Type::BlockDevice) => libc::DT_BLK,
            Some(nix::dir::Type::File) => libc::DT_REG,
            Some(nix::dir::Type::Symlink) => libc::DT_LNK,
            Some(nix::dir::Type::Socket) => libc::DT_SOCK,
            None => libc::DT_UNKNOWN,
        };
        entries.push((name.to_vec(), entry.ino(), kind));
    }
    Ok(entries)
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
