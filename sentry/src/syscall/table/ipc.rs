//! Rows about System V and POSIX IPC, futexes.

use crate::syscall::table::Syscall;

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[];
