//! Futexes and System V IPC.

pub(crate) mod futex;
mod futex_pi;
pub(crate) mod msg;
pub(crate) mod robust_list;
pub(crate) mod sem;
pub(crate) mod shm;
