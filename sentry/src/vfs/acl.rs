//! POSIX access control lists (`acl(5)`; kernel: `fs/posix_acl.c`).

use crate::errno::Errno;
use crate::kernel::UserNamespace;
use crate::task::{Capabilities, Gid, Uid};
use crate::vfs::attr::S_ISGID;
use crate::vfs::{Access, Caller, FileType, Inode, NewKind, SetAttr, Stat, VfsPath, XattrMode};

/// Which list of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclKind {
    /// Who may do what with it.
    Access,
    /// What is made in the directory gets it.
    Default,
}

impl AclKind {
    /// The list that the attribute `name` stands for.
    #[must_use]
    pub fn of_attribute(name: &[u8]) -> Option<Self> {
        [Self::Access, Self::Default].into_iter().find(|kind| kind.attribute() == name)
    }

    /// The attribute that stands for the list, and keeps it.
    #[must_use]
    pub fn attribute(self) -> &'static [u8] {
        match self {
            Self::Access => b"system.posix_acl_access",
            Self::Default => b"system.posix_acl_default",
        }
    }
}

/// A list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    who: Who,
    /// As [`Access`].
    perm: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Other,
}

/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
/// The id of who needs none, or has none here (`ACL_UNDEFINED_ID`).
const NO_ID: u32 = u32::MAX;
/// The permissions in a mode.
const RWXRWXRWX: u32 = 0o777;

impl Acl {
    /// Reads the value of an attribute whose ids `to_id` translates; `None` for a list without entries.
    ///
    /// # Errors
    /// `EINVAL` for what is no list, `EOPNOTSUPP` for another version.
    fn parse(value: &[u8], to_id: impl Fn(Who) -> Option<Who>) -> Result<Option<Self>, Errno> {
        let Some((version, rest)) = value.split_first_chunk::<4>() else { return Err(Errno::EINVAL) };
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (records, rest) = rest.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut entries = Vec::with_capacity(records.len());
        for [t0, t1, p0, p1, id @ ..] in records {
            let id = u32::from_le_bytes(*id);
            let who = match u16::from_le_bytes([*t0, *t1]) {
                0x01 => Who::Owner,
                0x02 => Who::User(id),
                0x04 => Who::OwningGroup,
                0x08 => Who::Group(id),
                0x10 => Who::Mask,
                0x20 => Who::Other,
                _ => return Err(Errno::EINVAL),
            };
            let who = to_id(who).ok_or(Errno::EINVAL)?;
            entries.push(Entry { who, perm: u16::from_le_bytes([*p0, *p1]) });
        }
        Ok(Some(Self(entries)).filter(|list| !list.0.is_empty()))
    }

    /// The list that a file system keeps in an attribute.
    #[must_use]
    pub fn stored(value: &[u8]) -> Option<Self> {
        Self::parse(value, Some).ok().flatten()
    }

    /// As file systems keep it.
    #[must_use]
    pub fn store(&self) -> Vec<u8> {
        self.write(|who| match who {
            Who::User(id) | Who::Group(id) => id,
            _ => NO_ID,
        })
    }

    fn write(&self, id: impl Fn(Who) -> u32) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            let tag: u16 = match entry.who {
                Who::Owner => 0x01,
                Who::User(_) => 0x02,
                Who::OwningGroup => 0x04,
                Who::Group(_) => 0x08,
                Who::Mask => 0x10,
                Who::Other => 0x20,
            };
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&entry.perm.to_le_bytes());
            value.extend_from_slice(&id(entry.who).to_le_bytes());
        }
        value
    }

    /// `posix_acl_valid`: owner, users, group, groups, mask (where there are users or groups), others.
    fn is_valid(&self) -> bool {
        let rank = |entry: &Entry| match entry.who {
            Who::Owner => 0,
            Who::User(_) => 1,
            Who::OwningGroup => 2,
            Who::Group(_) => 3,
            Who::Mask => 4,
            Who::Other => 5,
        };
        let count = |wanted| self.0.iter().filter(|e| rank(e) == wanted).count();
        let named = count(1) + count(3);
        self.0.is_sorted_by_key(rank)
            && self.0.iter().all(|e| e.perm <= 7)
            && (count(0), count(2), count(5)) == (1, 1, 1)
            && count(4) <= 1
            && (named == 0 || count(4) == 1)
    }

    fn find(&self, who: Who) -> Option<u16> {
        self.0.iter().find(|e| e.who == who).map(|e| e.perm)
    }

    /// The permission bits that say as much, and whether they say all (`posix_acl_equiv_mode`).
    fn as_mode(&self) -> (u32, bool) {
        let bits = |who| u32::from(self.find(who).unwrap_or(0));
        let mask = self.find(Who::Mask);
        let group = mask.map_or_else(|| bits(Who::OwningGroup), u32::from);
        let says_all = mask.is_none() && self.0.len() == 3;
        (bits(Who::Owner) << 6 | group << 3 | bits(Who::Other), says_all)
    }

    /// The list after a change of the mode (`posix_acl_chmod`).
    #[must_use]
    pub fn with_mode(&self, mode: u32) -> Self {
        let has_mask = self.find(Who::Mask).is_some();
        let set = |entry: &Entry| {
            let shift = match entry.who {
                Who::Owner => 6,
                Who::Mask => 3,
                Who::OwningGroup if !has_mask => 3,
                Who::Other => 0,
                _ => return *entry,
            };
            // Three bits.
            Entry { perm: ((mode >> shift) & 7) as u16, ..*entry }
        };
        Self(self.0.iter().map(set).collect())
    }

    /// The list and the mode of a new file that asks for `mode` (`posix_acl_create_masq`).
    fn for_new(&self, mode: u32) -> (Self, u32) {
        let (allowed, _) = self.as_mode();
        let mode = mode & (!RWXRWXRWX | allowed);
        (self.with_mode(mode), mode)
    }

    /// Whether somebody who does not own the file may do `want` (`posix_acl_permission`).
    pub(super) fn allows(&self, caller: &Caller<'_>, stat: &Stat, want: Access) -> bool {
        let mask = self.find(Who::Mask).unwrap_or(7);
        let gives = |perm: u16| u32::from(perm) & want.bits() == want.bits();
        if let Some(perm) = self.find(Who::User(caller.creds.fsuid.0)) {
            return gives(perm & mask);
        }
        let mut is_member = false;
        for entry in &self.0 {
            let gid = match entry.who {
                Who::OwningGroup => stat.gid,
                Who::Group(gid) => gid,
                _ => continue,
            };
            if caller.in_group(gid) {
                is_member = true;
                if gives(entry.perm) {
                    return gives(entry.perm & mask);
                }
            }
        }
        !is_member && gives(self.find(Who::Other).unwrap_or(0))
    }
}

/// Lists and mode of a file to be made.
pub(super) struct Inherited {
    pub(super) mode: u32,
    access: Option<Acl>,
    default: Option<Acl>,
}

impl Inherited {
    /// In a directory with a default list that is what counts, and not the umask (`umask(2)`, `posix_acl_create`).
    pub(super) fn from(dir: &Inode, kind: &NewKind, mode: u32, umask: u32) -> Self {
        let default = dir.ops().acl(AclKind::Default).filter(|_| !matches!(kind, NewKind::Symlink(_)));
        let Some(default) = default else {
            return Self { mode: mode & !umask, access: None, default: None };
        };
        let (access, mode) = default.for_new(mode);
        Self {
            mode,
            access: Some(access).filter(|list| !list.as_mode().1),
            default: (*kind == NewKind::Directory).then_some(default),
        }
    }

    /// Gives the lists to the file that was made.
    ///
    /// # Errors
    /// As [`crate::vfs::InodeOps::set_xattr`].
    pub(super) fn give(&self, made: &Inode) -> Result<(), Errno> {
        for (kind, list) in [(AclKind::Access, &self.access), (AclKind::Default, &self.default)] {
            if let Some(list) = list {
                made.ops().set_xattr(kind.attribute(), &list.store(), XattrMode::Set)?;
            }
        }
        Ok(())
    }
}

/// The value of the attribute that stands for a list, with ids as the caller's user namespace has them (`vfs_get_acl`).
///
/// # Errors
/// `EOPNOTSUPP` where there are no lists, `ENODATA`.
pub fn get(caller: &Caller<'_>, place: &VfsPath, kind: AclKind) -> Result<Vec<u8>, Errno> {
    check_supported(place)?;
    let list = place.inode().ops().acl(kind).ok_or(Errno::ENODATA)?;
    let user_ns = &caller.creds.user_ns;
    Ok(list.write(|who| match who {
        Who::User(id) => user_ns.uid_of(Uid(id)).unwrap_or(NO_ID),
        Who::Group(id) => user_ns.gid_of(Gid(id)).unwrap_or(NO_ID),
        _ => NO_ID,
    }))
}

/// Sets a list, or removes it where the value is empty or has no entries, and makes the mode fit (`vfs_set_acl`). How the
/// attribute is to be set otherwise does not matter.
///
/// # Errors
/// `EOPNOTSUPP` where there are no lists, `EINVAL`, `EACCES` for default lists of what is no directory, `EPERM`.
pub fn set(caller: &Caller<'_>, place: &VfsPath, kind: AclKind, value: &[u8]) -> Result<(), Errno> {
    let user_ns: &UserNamespace = &caller.creds.user_ns;
    let list = if value.is_empty() {
        None
    } else {
        Acl::parse(value, |who| match who {
            Who::User(id) => user_ns.uid(id).map(|uid| Who::User(uid.0)),
            Who::Group(id) => user_ns.gid(id).map(|gid| Who::Group(gid.0)),
            other => Some(other),
        })?
    };
    place.mount.check_writable()?;
    check_supported(place)?;
    let (ops, stat) = (place.inode().ops(), place.stat()?);
    if kind == AclKind::Default && !place.inode().is_dir() {
        return if list.is_some() { Err(Errno::EACCES) } else { Ok(()) };
    }
    if !caller.owns(&stat) {
        return Err(Errno::EPERM);
    }
    if list.as_ref().is_some_and(|list| !list.is_valid()) {
        return Err(Errno::EINVAL);
    }
    let mut kept = list;
    if let (AclKind::Access, Some(list)) = (kind, &kept) {
        let (bits, says_all) = list.as_mode();
        let mut mode = stat.permissions() & !RWXRWXRWX | bits;
        if !caller.in_group(stat.gid) && !caller.has_for(&stat, Capabilities::FSETID) {
            mode &= !S_ISGID;
        }
        ops.set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
        kept = kept.filter(|_| !says_all);
    }
    match kept {
        Some(list) => ops.set_xattr(kind.attribute(), &list.store(), XattrMode::Set),
        None => match ops.remove_xattr(kind.attribute()) {
            Err(Errno::ENODATA) => Ok(()),
            result => result,
        },
    }
}

fn check_supported(place: &VfsPath) -> Result<(), Errno> {
    let inode = place.inode();
    let has_lists = inode.kind() != FileType::Symlink && inode.ops().takes_acls();
    if has_lists { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
