//! Rows about System V and POSIX IPC, futexes.

use crate::syscall::ipc as i;
use crate::syscall::table::{Syscall, row};

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[
    row!(
        FUTEX,
        "futex",
        [Ptr, Hex, Uint, Ptr, Ptr, Uint],
        i::futex::sys_futex,
        Partial("no requeue to PI futexes, no priority boosting")
    ),
    row!(SET_ROBUST_LIST, "set_robust_list", [Ptr, Uint], i::robust_list::sys_set_robust_list, Full),
    row!(GET_ROBUST_LIST, "get_robust_list", [Int, Ptr, Ptr], i::robust_list::sys_get_robust_list, Full),
];
