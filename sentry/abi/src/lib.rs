//! Numbers and structures of the x86-64 Linux ABI, data only.
//!
//! One file per header or subsystem. Structures are `repr(C)` and derive the `zerocopy` traits, so that they
//! cross the user-memory boundary without unsafe code.
#![forbid(unsafe_code)]

mod constants;
pub mod elf;
pub mod errno;
pub mod fs;
pub mod ifreq;
pub mod inet;
pub mod mroute;
pub mod netlink;
pub mod packet;
pub mod ptrace;
pub mod resource;
pub mod sched;
pub mod seccomp;
pub mod sigevent;
pub mod signal;
pub mod socket;
pub mod syscall;
pub mod sysv_ipc;
pub mod time;
pub mod tun;

pub use errno::Errno;
