//! A user-space kernel that implements Linux for unmodified x86-64 programs.
#![forbid(unsafe_code)]

pub mod boot;
mod bpf;
pub mod errno;
pub mod fs;
mod host_events;
pub mod io;
pub mod ipc;
pub mod kernel;
pub mod loader;
pub mod mm;
pub mod socket;
pub mod strace;
pub mod syscall;
pub mod task;
pub mod vfs;
pub mod wait;
