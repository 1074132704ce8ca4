//! What a pump sleeps on: its links, those who wake it, and the time.
//!
//! A wait for one of several descriptors within a time is a timer of the host that is started and stopped for each frame, and
//! one that is the next to go off is also one that the processor's clock is set for, twice: ten microseconds on a virtual
//! machine, more than half a round trip. So the time is a descriptor as well, which is set once per deadline and not once per
//! frame, and a wait has no limit of its own. Descriptors are registered once (epoll(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netstack::time::Instant;

use crate::sys::{self, Patience, Trigger};

/// The descriptors of a pump.
#[derive(Debug)]
pub(crate) struct Sleep {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off; `None` if it has, or was never set.
    alarm: Option<Instant>,
}

impl Sleep {
    /// Makes one that `wake` ends whenever it becomes readable or more readable.
    pub(crate) fn new(wake: BorrowedFd<'_>) -> io::Result<Self> {
        let (epoll, timer) = (sys::epoll_create()?, sys::timerfd()?);
        // Edges, so that neither has to be read.
        sys::epoll_add(epoll.as_fd(), wake, Trigger::Edge, WAKE)?;
        sys::epoll_add(epoll.as_fd(), timer.as_fd(), Trigger::Edge, TIMER)?;
        Ok(Self { epoll, timer, alarm: None })
    }

    /// Adds a descriptor, to be reported under `key` while it can be read.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        sys::epoll_add(self.epoll.as_fd(), fd, Trigger::Level, key)
    }

    /// Forgets a descriptor.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        // It was registered, so this cannot fail.
        let _ = sys::epoll_remove(self.epoll.as_fd(), fd);
    }

    /// Sees to it that a wait ends at `end`, or a little before or after.
    pub(crate) fn set_alarm(&mut self, now: impl FnOnce() -> Instant, end: Instant) -> io::Result<()> {
        // A deadline that moves later, as most do, costs nothing until the old one has come.
        if self.alarm.is_some_and(|alarm| alarm <= end + SLACK) {
            return Ok(());
        }
        sys::set_timer(self.timer.as_fd(), end - now())?;
        self.alarm = Some(end);
        Ok(())
    }

    /// Waits for descriptors, the wake or the alarm, and gives the keys of the first.
    pub(crate) fn wait(&mut self, patience: Patience) -> io::Result<sys::Keys> {
        let mut keys = sys::epoll_wait(self.epoll.as_fd(), patience)?;
        if keys.contains(&TIMER) {
            self.alarm = None;
        }
        keys.retain(|key| ![WAKE, TIMER].contains(key));
        Ok(keys)
    }
}

/// Keys of our own; those of others count up from zero.
const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// By how much a deadline may be late: as much as the host lets plain threads sleep too long (prctl(2), `PR_SET_TIMERSLACK`).
const SLACK: Duration = Duration::from_micros(50);

#[cfg(test)]
#[path = "sleep_tests.rs"]
mod tests;
