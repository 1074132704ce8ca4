//! The virtual file system: mounts, dentries, inodes, path walk, open files and descriptors.

mod fd_table;
mod file;
mod fs_context;
mod mappable;

pub use fd_table::{Fd, FdFlags, FdTable};
pub use file::{File, FileOps, OpenFlags, Seek};
pub use fs_context::FsContext;
pub use mappable::{Backing, Mappable, MappedRange};
