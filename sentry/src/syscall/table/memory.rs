//! Rows about the address space.

use crate::syscall::memory as m;
use crate::syscall::table::{Syscall, row};

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[
    row!(MMAP, "mmap", [Ptr, Uint, Hex, Hex, Fd, Hex], m::sys_mmap, Partial("no huge pages, no MAP_32BIT")),
    row!(MPROTECT, "mprotect", [Ptr, Uint, Hex], m::sys_mprotect, Full),
    row!(MUNMAP, "munmap", [Ptr, Uint], m::sys_munmap, Full),
    row!(BRK, "brk", [Ptr], m::sys_brk, Full),
    row!(MREMAP, "mremap", [Ptr, Uint, Uint, Hex, Ptr], m::sys_mremap, Partial("no MREMAP_DONTUNMAP")),
    row!(MSYNC, "msync", [Ptr, Uint, Hex], m::sys_msync, Full),
    row!(MINCORE, "mincore", [Ptr, Uint, Ptr], m::sys_mincore, Full),
    row!(MADVISE, "madvise", [Ptr, Uint, Int], m::sys_madvise, Partial("no MADV_REMOVE, hints do nothing")),
    row!(MLOCK, "mlock", [Ptr, Uint], m::sys_mlock, Full),
    row!(MUNLOCK, "munlock", [Ptr, Uint], m::sys_munlock, Full),
    row!(MLOCKALL, "mlockall", [Hex], m::sys_mlockall, Full),
    row!(MUNLOCKALL, "munlockall", [], m::sys_munlockall, Full),
    row!(
        PROCESS_VM_READV,
        "process_vm_readv",
        [Int, Ptr, Uint, Ptr, Uint, Hex],
        m::sys_process_vm_readv,
        Full
    ),
    row!(
        PROCESS_VM_WRITEV,
        "process_vm_writev",
        [Int, Ptr, Uint, Ptr, Uint, Hex],
        m::sys_process_vm_writev,
        Full
    ),
    row!(MLOCK2, "mlock2", [Ptr, Uint, Hex], m::sys_mlock2, Full),
];
