//! The virtual file system: mounts, dentries, inodes, path walk, open files and descriptors.

mod fd_table;
mod file;
mod mappable;

pub use fd_table::{Fd, FdFlags, FdTable};
pub use file::{File, FileOps, OpenFlags, Seek};
pub use mappable::{Backing, Mappable, MappedRange};
