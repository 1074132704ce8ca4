//! The address space.

mod brk;
mod madvise;
mod mlock;
mod mmap;
mod mprotect;
mod mremap;
mod process_vm;

pub(crate) use brk::sys_brk;
pub(crate) use madvise::{sys_madvise, sys_mincore, sys_msync};
pub(crate) use mlock::{sys_mlock, sys_mlock2, sys_mlockall, sys_munlock, sys_munlockall};
pub(crate) use mmap::{sys_mmap, sys_munmap};
pub(crate) use mprotect::sys_mprotect;
pub(crate) use mremap::sys_mremap;
pub(crate) use process_vm::{sys_process_vm_readv, sys_process_vm_writev};
