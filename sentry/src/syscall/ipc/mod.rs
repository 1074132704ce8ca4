//! Futexes, System V IPC and POSIX message queues.

pub(crate) mod futex;
mod futex_pi;
pub(crate) mod mq;
pub(crate) mod mq_notify;
pub(crate) mod msg;
pub(crate) mod robust_list;
pub(crate) mod sem;
pub(crate) mod shm;
