//! Host file descriptors, memfd, seccomp, signals and namespaces behind safe types.
//!
//! Everything that the sandbox needs from the host kernel and that has no safe interface elsewhere
//! lives here, each piece in a small module with private fields. Nothing in this crate knows what
//! a guest, a container or a system call of the sandbox is.

pub mod caps;
pub mod channel;
pub mod empty_root;
pub mod fd_flags;
pub mod inherited;
pub mod memfd;
pub mod mount_tree;
pub mod namespace;
pub mod nowait;
pub mod packet;
pub mod pidfd;
pub mod privilege;
pub mod process_stat;
pub mod random;
pub mod seccomp;
pub mod seqpacket;
pub mod socket;
pub mod spawn;
pub mod tree;
pub mod tty;
