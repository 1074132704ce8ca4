//! Futexes and System V IPC.

pub(crate) mod futex;
mod futex_pi;
pub(crate) mod robust_list;
