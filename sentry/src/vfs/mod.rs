//! The virtual file system: mounts, dentries, inodes, path walk, open files and descriptors.
//!
//! An [`Inode`] is a file system's object; a [`Dentry`] is a cached name of one; a [`Mount`] shows a tree of dentries
//! somewhere in a [`MountNamespace`]; a [`VfsPath`] is a dentry seen through a mount; a [`File`] is an open one.
//! Lock order: `SuperBlock::rename_lock`, `Inode::dir_lock` (parent before child, else by address), the file
//! system's own locks, `Dentry`'s maps. What changes mounts locks the peer groups first; `MountNamespace`'s table is a leaf.

pub mod acl;
pub mod anon;
pub mod attr;
mod bare_inode;
mod branch;
pub mod change;
mod dentry;
mod dir_file;
mod dir_notify;
mod fd_table;
mod file;
mod fs_context;
mod inode;
pub mod lock;
pub(crate) mod lock_waits;
mod many_faced;
mod mappable;
mod mount;
mod mount_namespace;
pub mod notify;
pub mod open;
mod path;
mod peer_group;
pub mod permission;
mod signal_driven;
mod superblock;
pub mod walk;
mod xattr;

pub use attr::{DeviceId, FileTime, FileType, SetAttr, SetTime, Stat, StatFs};
pub(crate) use bare_inode::BareInode;
pub use change::{Remove, RenameMode};
pub use dentry::{Dentry, NAME_MAX};
pub use dir_file::DirFile;
pub use dir_notify::DirEvents;
pub use fd_table::{Fd, FdFlags, FdTable, FdTableId, FdTableUser};
pub use file::{Allocate, File, FileOps, FileWatcher, OpenFlags, Seek};
pub use fs_context::FsContext;
pub use inode::{DirEntry, Inode, InodeOps, LinkTarget, NewInode, NewKind, RenameEnd};
pub use many_faced::{FileIdentity, ManyFaced};
pub use mappable::{Backing, Mappable, MappedRange, MappingOwner};
pub use mount::{Mount, MountFlags, MountId};
pub use mount_namespace::{BindExtent, DetachChildren, MOUNT_MAX, MountNamespace};
pub use open::OpenHow;
pub use path::{PathText, VfsPath};
pub use peer_group::{GroupId, Propagation, Shown};
pub use permission::{Access, Caller};
pub use signal_driven::{OwnerName, SignalDriven};
pub use superblock::{FileSystem, SuperBlock};
pub use walk::{Last, LastName, Resolve, WalkRoot, Walked};
pub use xattr::{
    XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_SIZE_MAX, XattrMap, XattrMode, check_xattr, is_system,
};
