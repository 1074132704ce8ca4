//! What the sentry and the gofer say to each other.

use serde::{Deserialize, Serialize};

use crate::vfs::{DeviceId, FileTime, FileType, Stat};

/// A path beneath the root of a tree: names joined by `/`, the empty one is the root itself.
pub(super) type TreePath = Vec<u8>;

/// A question about one of the trees that the gofer serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which tree.
    pub(super) tree: u32,
    /// What is asked.
    pub(super) op: Op,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Op {
    /// The attributes of a file.
    Stat(TreePath),
    /// The attributes of names one below the other, from a directory on.
    Walk(TreePath, Vec<Vec<u8>>),
    /// A descriptor of a regular file.
    Open(TreePath, OpenFor),
    /// The entries of a directory, from a number on.
    List(TreePath, u64),
    /// So many entries of a directory with their attributes, in the order of their names, from the first on that is not
    /// before the one given.
    Look(TreePath, Vec<u8>, u16),
    /// A new file.
    Make(TreePath, MakeKind, Owner),
    /// A further name (the second) of a file.
    Link(TreePath, TreePath),
    /// Remove a file.
    Unlink(TreePath),
    /// Remove a directory.
    RemoveDir(TreePath),
    /// Move a file.
    Rename(TreePath, TreePath, RenameHow),
    /// Change attributes.
    SetAttr(TreePath, NewAttr),
    /// Sizes of the file system.
    StatFs(TreePath),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum OpenFor {
    Read,
    ReadWrite,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MakeKind {
    Regular,
    Directory,
    Symlink(Vec<u8>),
    Fifo,
    Socket,
}

/// Owner and full mode, type bits included, of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RenameHow {
    Replace,
    NoReplace,
    Exchange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct NewAttr {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<NewTime>,
    pub(super) mtime: Option<NewTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NewTime {
    Now,
    At(i64, u32),
}

/// The answer; a descriptor may come along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It failed with this error number.
    Failed(u16),
    /// It is done.
    Done,
    /// It is done; the attributes are these now.
    Attr(Attr),
    /// The attributes of the names found, and the error number of the first that was not.
    Walked(Vec<Attr>, Option<u16>),
    /// Entries of a directory: name, inode number, `d_type`; and the number to go on from, unless that is all.
    Entries(Vec<(Vec<u8>, u64, u8)>, Option<u64>),
    /// Entries of a directory with their attributes, in the order of their names.
    Looked(Vec<(Vec<u8>, Attr)>),
    /// Sizes: magic, block size, blocks, free, available, files, free files, longest name.
    Sizes([u64; 8]),
}

/// Attributes on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u64,
    pub(super) size: u64,
    pub(super) blksize: u32,
    pub(super) blocks: u64,
    /// Access, modification, change.
    pub(super) times: [(i64, u32); 3],
    /// The text of a symbolic link.
    pub(super) link: Option<Vec<u8>>,
}

impl Attr {
    /// As the VFS wants it; `ino` was made unique over the host's devices by the caller.
    pub(super) fn to_stat(&self, ino: u64) -> Stat {
        let [atime, mtime, ctime] = self.times.map(|(sec, nsec)| FileTime { sec, nsec });
        Stat {
            dev: 0,
            ino,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: DeviceId::decode(self.rdev),
            size: self.size,
            blksize: self.blksize,
            blocks: self.blocks,
            atime,
            mtime,
            ctime,
            btime: None,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }
}

/// Entries in one reply: with names of at most 255 bytes it stays below the longest message.
pub(super) const MAX_ENTRIES: usize = 400;
/// Entries with attributes in one reply.
pub(super) const MAX_LOOK: u16 = 256;
/// The bytes of names and links after which a reply with attributes ends: with what else is in it, it stays below the
/// longest message.
pub(super) const MAX_LOOK_BYTES: usize = 64 << 10;
/// Names in one walk.
pub(super) const MAX_WALK: usize = 16;
