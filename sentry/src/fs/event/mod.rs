//! Files that tell about events: epoll, eventfd, timerfd, signalfd, inotify.

pub mod epoll;
pub mod eventfd;
pub mod inotify;
pub mod signalfd;
pub mod timerfd;
