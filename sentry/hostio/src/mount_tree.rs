//! Detached copies of mount trees (open_tree(2), move_mount(2)).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Flags of linux/mount.h that libc does not name.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;

/// A copy of the mounts at and below a path, attached nowhere.
///
/// Unlike a bind mount it is a picture of the moment: what is mounted afterwards, such as the place that it will be
/// attached to, is not in it.
#[derive(Debug)]
pub struct DetachedTree(OwnedFd);

impl DetachedTree {
    /// Copies the mounts at and below `path`, a directory or a file.
    ///
    /// # Errors
    /// The errors of open_tree(2): `EPERM` without `CAP_SYS_ADMIN` over the mount namespace.
    pub fn copy_of(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned() | libc::AT_RECURSIVE.cast_unsigned();
        // SAFETY: the path is NUL-terminated and lives for the call.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        let fd = i32::try_from(fd).unwrap_or(-1);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned this descriptor to us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Mounts the tree at `path`, which is of its kind: a directory or a file.
    ///
    /// # Errors
    /// The errors of move_mount(2).
    pub fn attach(self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        // SAFETY: both paths are NUL-terminated and live for the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
