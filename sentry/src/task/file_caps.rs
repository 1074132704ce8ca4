//! Capabilities of files (`capabilities(7)`, "File capabilities"): the extended attribute `security.capability`.
//!
//! It is stored with ids of the first user namespace, as all ids in the sandbox, and shown as the reader's namespace sees it.

use crate::errno::Errno;
use crate::kernel::UserNamespace;
use crate::task::{Capabilities, Credentials, Uid};
use crate::vfs::{Caller, Inode, VfsPath};

/// The name of the attribute.
pub const NAME: &[u8] = b"security.capability";

/// `VFS_CAP_REVISION_2` (`linux/capability.h`): for the root of the file system's user namespace.
const REVISION_2: u32 = 0x0200_0000;
/// `VFS_CAP_REVISION_3`: with the user that is root where the capabilities count.
const REVISION_3: u32 = 0x0300_0000;
const REVISION_MASK: u32 = 0xff00_0000;
/// `VFS_CAP_FLAGS_EFFECTIVE`.
const EFFECTIVE: u32 = 1;
const LEN_2: usize = 20;
const LEN_3: usize = 24;

/// What the attribute says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCaps {
    /// What the program may use whoever runs it, within the bounding set.
    pub permitted: Capabilities,
    /// What it may use where who runs it has it as inheritable.
    pub inheritable: Capabilities,
    /// The program need not ask for them.
    pub is_effective: bool,
    /// The root of the user namespaces in which they count; none for that of the file system's.
    root: Option<u32>,
}

impl FileCaps {
    /// Reads the attribute; `None` for what is none.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let bytes = value.get(index * 4..index * 4 + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let magic = word(0)?;
        let root = match (magic & REVISION_MASK, value.len()) {
            (REVISION_2, LEN_2) => None,
            (REVISION_3, LEN_3) => Some(word(5)?),
            _ => return None,
        };
        let set = |low: usize| {
            let bits = u64::from(word(low)?) | u64::from(word(low + 2)?) << 32;
            Some(Capabilities::from_bits_truncate(bits))
        };
        let is_effective = magic & EFFECTIVE != 0;
        Some(Self { permitted: set(1)?, inheritable: set(2)?, is_effective, root })
    }

    /// The attribute.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { permitted, inheritable, is_effective, root } = self;
        let revision = if root.is_some() { REVISION_3 } else { REVISION_2 };
        let mut value = (revision | if is_effective { EFFECTIVE } else { 0 }).to_le_bytes().to_vec();
        for half in [0, 4] {
            value.extend_from_slice(&permitted.bits().to_le_bytes()[half..half + 4]);
            value.extend_from_slice(&inheritable.bits().to_le_bytes()[half..half + 4]);
        }
        value.extend(root.into_iter().flat_map(u32::to_le_bytes));
        value
    }

    /// What `inode` has for who runs it with `creds`; `home` is the user namespace of its file system.
    ///
    /// # Errors
    /// `EINVAL` for an attribute that is none (`get_file_caps`).
    pub(crate) fn of(
        inode: &Inode,
        home: &UserNamespace,
        creds: &Credentials,
    ) -> Result<Option<Self>, Errno> {
        let Ok(value) = inode.ops().xattr(NAME) else { return Ok(None) };
        let caps = Self::parse(&value).ok_or(Errno::EINVAL)?;
        Ok(caps.root_in(home).filter(|root| is_root_of(*root, &creds.user_ns)).map(|_| caps))
    }

    fn root_in(&self, home: &UserNamespace) -> Option<Uid> {
        self.root.map_or_else(|| home.uid(0), |root| Some(Uid(root)))
    }
}

/// Whether `uid` is root in the namespace or in one above it (`rootid_owns_currentns`).
fn is_root_of(uid: Uid, namespace: &UserNamespace) -> bool {
    let mut at = Some(namespace);
    while let Some(namespace) = at {
        if namespace.uid_of(uid) == Some(0) {
            return true;
        }
        at = namespace.parent().map(|parent| &**parent);
    }
    false
}

/// What is stored when `caller` sets the attribute of `place` to `value` (`cap_convert_nscap`).
///
/// # Errors
/// `EINVAL` for what is no such attribute or names nobody; `EPERM` without `CAP_SETFCAP` for the file.
pub(crate) fn to_store(caller: &Caller<'_>, place: &VfsPath, value: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut caps = FileCaps::parse(value).ok_or(Errno::EINVAL)?;
    if !caller.has_for(&place.stat()?, Capabilities::SETFCAP) {
        return Err(Errno::EPERM);
    }
    let home = place.mount.superblock().user_ns();
    if caps.root.is_none() && caller.creds.has_in(&home, Capabilities::SETFCAP) {
        return Ok(value.to_vec());
    }
    // Who is root in a user namespace of his own gives what counts in there only.
    let root = caller.creds.user_ns.uid(caps.root.unwrap_or(0)).ok_or(Errno::EINVAL)?;
    caps.root = Some(root.0);
    Ok(caps.to_bytes())
}

/// What `caller` sees of the stored attribute of `place` (`cap_inode_getsecurity`).
///
/// # Errors
/// `EOVERFLOW` for capabilities that count elsewhere; `EINVAL`.
pub(crate) fn to_show(caller: &Caller<'_>, place: &VfsPath, value: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut caps = FileCaps::parse(value).ok_or(Errno::EINVAL)?;
    let root = caps.root_in(&place.mount.superblock().user_ns()).ok_or(Errno::EOVERFLOW)?;
    let user_ns = &caller.creds.user_ns;
    caps.root = user_ns.uid_of(root).filter(|shown| *shown != 0);
    if caps.root.is_none() && !is_root_of(root, user_ns) {
        return Err(Errno::EOVERFLOW);
    }
    Ok(caps.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_revisions_survive_reading_and_writing() {
        let caps = FileCaps {
            permitted: Capabilities::NET_RAW | Capabilities::BPF,
            inheritable: Capabilities::CHOWN | Capabilities::CHECKPOINT_RESTORE,
            is_effective: true,
            root: None,
        };
        // linux/capability.h: magic and flags, then permitted and inheritable, low words first.
        let expected = [1, 0, 0, 2, 0, 0x20, 0, 0, 1, 0, 0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(caps.to_bytes(), expected);
        assert_eq!(FileCaps::parse(&expected), Some(caps));
        let third = FileCaps { is_effective: false, root: Some(1000), ..caps };
        assert_eq!(third.to_bytes().len(), LEN_3);
        assert_eq!(FileCaps::parse(&third.to_bytes()), Some(third));
    }

    #[test]
    fn other_lengths_and_revisions_are_refused() {
        let mut value = FileCaps {
            permitted: Capabilities::all(),
            inheritable: Capabilities::empty(),
            is_effective: true,
            root: None,
        }
        .to_bytes();
        assert_eq!(FileCaps::parse(&value[..16]), None);
        assert_eq!(FileCaps::parse(&[]), None);
        value[3] = 3;
        assert_eq!(FileCaps::parse(&value), None);
        value.extend([0; 4]);
        assert!(FileCaps::parse(&value).is_some());
        value[3] = 1;
        assert_eq!(FileCaps::parse(&value), None);
    }
}
