//! Running guest code: address spaces, contexts and the memory file behind guest memory.
//!
//! [`Platform`] is the contract; a backend implements it. The sentry runs one host thread per guest thread, which owns
//! one [`Context`] and calls [`Context::switch`] in a loop: the guest runs until it makes a system call, faults or is
//! interrupted.
//!
//! Guest memory is never a Rust reference: it is copied through [`MemoryFile`], which is mapped once into the sentry.

mod contract;
mod event;
mod fpu;
mod free_range;
mod host;
mod host_syscall;
mod kind;
mod memory_file;
mod ptrace;
mod regs;
mod stub;
mod systrap;

pub mod vdso;

pub use contract::{
    AddressSpace, Answers, CallSite, Context, CpuClock, Interrupter, MapOp, MapSource, Platform,
    PlatformError, Populate, Prot,
};
pub use event::{Access, Event, Fault};
pub use fpu::FpuState;
pub use host_syscall::host_syscalls;
pub use kind::{PlatformKind, Prepared, UnknownPlatform};
pub use memory_file::{MAX_PIECES, MemoryFile, MemoryFileError, Piece};
pub use regs::Regs;
pub use systrap::{SpinCounters, vector_features};

/// The size of a page of guest memory in bytes.
pub const PAGE_SIZE: u64 = 4096;
