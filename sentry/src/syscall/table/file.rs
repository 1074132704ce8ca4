//! Rows about files, directories, descriptors, mounts, polling.

use crate::syscall::table::Syscall;

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[];
