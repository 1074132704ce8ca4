//! What an overlay writes beside the files of its layers (kernel: `overlayfs.rst`).

use crate::errno::Errno;
use crate::vfs::{DeviceId, FileType, Inode, XattrMode};

/// A note on a file of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A directory that hides those of the layers below (`y`), or has whiteouts that are attributes (`x`).
    Opaque,
    /// Where the directories below are that belong to a renamed one.
    Redirect,
    /// The number of the lower file that a file was copied from.
    Origin,
    /// An empty file that hides a name, where the upper layer takes no devices 0/0.
    Whiteout,
}

/// The beginning of the attributes' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `trusted.overlay.`
    Trusted,
    /// `user.overlay.`, for who has no say over the whole system (`userxattr`).
    User,
    /// No attributes: a user namespace's overlay without `userxattr`.
    Nothing,
}

impl Dialect {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted | Self::Nothing => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    fn name(self, mark: Mark) -> Vec<u8> {
        let end: &[u8] = match mark {
            Mark::Opaque => b"opaque",
            Mark::Redirect => b"redirect",
            Mark::Origin => b"origin",
            Mark::Whiteout => b"whiteout",
        };
        [self.prefix(), end].concat()
    }

    /// What `inode` says, if it says something.
    pub(super) fn read(self, inode: &Inode, mark: Mark) -> Option<Vec<u8>> {
        if self == Self::Nothing {
            return None;
        }
        inode.ops().xattr(&self.name(mark)).ok()
    }

    /// Notes `value` on a file of the upper layer.
    ///
    /// # Errors
    /// `EIO` where this overlay notes nothing, as Linux says when it then needs to.
    pub(super) fn write(self, inode: &Inode, mark: Mark, value: &[u8]) -> Result<(), Errno> {
        if self == Self::Nothing {
            return Err(Errno::EIO);
        }
        inode.ops().set_xattr(&self.name(mark), value, XattrMode::Set)
    }

    /// True for a directory that shows nothing of the layers below.
    pub(super) fn is_opaque(self, dir: &Inode) -> bool {
        self.read(dir, Mark::Opaque).is_some_and(|value| value == b"y")
    }

    /// True for what hides a name: a character device 0/0, or an empty file with a mark.
    ///
    /// # Errors
    /// What the layer says to `stat`.
    pub(super) fn is_whiteout(self, inode: &Inode, form: WhiteoutForm) -> Result<bool, Errno> {
        match inode.kind() {
            FileType::CharDevice => Ok(inode.ops().stat()?.rdev == DeviceId::default()),
            FileType::Regular if form == WhiteoutForm::DeviceOrMark => {
                Ok(inode.ops().stat()?.size == 0 && self.read(inode, Mark::Whiteout).is_some())
            }
            _ => Ok(false),
        }
    }

    /// The name under which a layer keeps an attribute that programs see as `name`: the overlay's own are another overlay's,
    /// seen through this one (`ovl_xattr_escape_name`).
    pub(super) fn escape(self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(self.prefix()) {
            Some(rest) => [self.prefix(), b"overlay.", rest].concat(),
            None => name.to_vec(),
        }
    }

    /// The other way; `None` for the overlay's own.
    pub(super) fn unescape(self, name: &[u8]) -> Option<Vec<u8>> {
        match name.strip_prefix(self.prefix()) {
            Some(rest) => Some([self.prefix(), rest.strip_prefix(b"overlay.")?].concat()),
            None => Some(name.to_vec()),
        }
    }
}

/// What is looked for as a whiteout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhiteoutForm {
    /// Only devices, which cost nothing to tell from other files.
    Device,
    /// Marked files, too.
    DeviceOrMark,
}
