//! Waiting for readiness: the one mechanism under blocking calls, epoll and the network stack.
//!
//! The mechanism is the network stack's, so that an observer that a task registers with a TCP socket needs no
//! adapter; pipes, terminals and timers use the same queues.

pub use netstack::wait::{Observer, Readiness, WaitId, WaitQueue};
