//! Extended attributes: names, limits, permissions (`xattr(7)`).

use std::collections::BTreeMap;

use crate::errno::Errno;
use crate::task::{Capabilities, file_caps};
use crate::vfs::attr::S_ISVTX;
use crate::vfs::permission::check_access;
use crate::vfs::{Access, Caller, FileType, VfsPath};

/// The longest name (`limits.h`).
pub const XATTR_NAME_MAX: usize = 255;
/// The longest value (`limits.h`).
pub const XATTR_SIZE_MAX: usize = 65536;
/// The longest list of names (`limits.h`).
pub const XATTR_LIST_MAX: usize = 65536;

/// How `setxattr(2)` treats an existing attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Make or replace.
    Set,
    /// Fail with `EEXIST` where it exists (`XATTR_CREATE`).
    Create,
    /// Fail with `ENODATA` where it doesn't (`XATTR_REPLACE`).
    Replace,
    /// Fail in any case: both of the above.
    Never,
}

/// Checks whether `caller` may read or change attribute `name` of `path`.
///
/// # Errors
/// `EPERM`, `EACCES`, `EROFS`, `ENODATA`, `EOPNOTSUPP` as `xattr(7)` says for each namespace.
pub fn check_xattr(caller: &Caller<'_>, path: &VfsPath, name: &[u8], want: Access) -> Result<(), Errno> {
    check_namespace(caller, path, name, want)?;
    if is_bare_prefix(name) { Err(Errno::EINVAL) } else { Ok(()) }
}

fn check_namespace(caller: &Caller<'_>, path: &VfsPath, name: &[u8], want: Access) -> Result<(), Errno> {
    let writes = want.contains(Access::WRITE);
    if writes {
        path.mount.check_writable()?;
    }
    if name == file_caps::NAME {
        let may = !writes || caller.has_for(&path.stat()?, Capabilities::SETFCAP);
        return if may { Ok(()) } else { Err(Errno::EPERM) };
    }
    let admin = caller.has(Capabilities::SYS_ADMIN);
    // Access control lists have rules of their own (`acl`).
    if is_system(name) {
        return Err(Errno::EOPNOTSUPP);
    }
    if name.starts_with(b"security.") {
        // cap_inode_setxattr (security/commoncap.c).
        return if writes && !admin { Err(Errno::EPERM) } else { Ok(()) };
    }
    if name.starts_with(b"trusted.") {
        return match (admin, writes) {
            (true, _) => Ok(()),
            (false, true) => Err(Errno::EPERM),
            (false, false) => Err(Errno::ENODATA),
        };
    }
    if !name.starts_with(b"user.") {
        check_access(caller, path.inode(), want)?;
        return Err(Errno::EOPNOTSUPP);
    }
    match path.inode().kind() {
        FileType::Regular => {}
        FileType::Directory => {
            // Where everybody makes files, only the owner says something about the directory.
            let stat = path.stat()?;
            if writes && stat.mode & S_ISVTX != 0 && !caller.owns(&stat) {
                return Err(Errno::EPERM);
            }
        }
        _ => return Err(if writes { Errno::EPERM } else { Errno::ENODATA }),
    }
    check_access(caller, path.inode(), want)
}

/// `user.` and its like are the beginnings of names, and none themselves (`xattr_resolve_name`).
fn is_bare_prefix(name: &[u8]) -> bool {
    matches!(name, b"user." | b"trusted." | b"security.")
}

/// Tells whether `name` belongs to the file system itself, as access control lists do.
#[must_use]
pub fn is_system(name: &[u8]) -> bool {
    name.starts_with(b"system.")
}

/// Extended attributes in memory.
#[derive(Debug, Default, Clone)]
pub struct XattrMap(BTreeMap<Vec<u8>, Vec<u8>>);

impl XattrMap {
    /// The value of `name`.
    ///
    /// # Errors
    /// `ENODATA`.
    pub fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.0.get(name).cloned().ok_or(Errno::ENODATA)
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.0.keys().cloned().collect()
    }

    /// Sets `name`.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA` by `mode`; `ENOSPC` when the attributes of one inode grow too large.
    pub fn set(&mut self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), Errno> {
        match (mode, self.0.contains_key(name)) {
            (XattrMode::Create | XattrMode::Never, true) => return Err(Errno::EEXIST),
            (XattrMode::Replace | XattrMode::Never, false) => return Err(Errno::ENODATA),
            _ => {}
        }
        let used: usize = self.0.iter().map(|(k, v)| k.len() + v.len()).sum();
        if used + name.len() + value.len() > MAX_XATTR_BYTES {
            return Err(Errno::ENOSPC);
        }
        self.0.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    /// Removes `name`.
    ///
    /// # Errors
    /// `ENODATA`.
    pub fn remove(&mut self, name: &[u8]) -> Result<(), Errno> {
        self.0.remove(name).map(|_| ()).ok_or(Errno::ENODATA)
    }
}

/// Ours: attributes are charged to nobody, so one inode's are bounded (Linux's tmpfs: 128 KiB of user xattrs).
const MAX_XATTR_BYTES: usize = 128 * 1024;
