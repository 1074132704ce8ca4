//! Rows about tasks, identities, namespaces, limits, scheduling.

use crate::syscall::table::Syscall;

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[];
