//! Files that tell about events: epoll, eventfd, timerfd, signalfd, inotify, listeners for filtered calls.

pub mod epoll;
pub mod eventfd;
pub mod inotify;
pub(crate) mod seccomp_listener;
pub mod signalfd;
pub mod timerfd;
