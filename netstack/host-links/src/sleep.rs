//! What a pump sleeps on: its links, those who wake it, and the time.
//!
//! A wait for one of several descriptors within a time is a timer of the host that is started and stopped for each frame, and
//! one that is the next to go off is also one that the processor's clock is set for, twice: ten microseconds on a virtual
//! machine, more than half a round trip. So the time is a descriptor as well, which is set once per deadline and not once per
//! frame, and a wait has no limit of its own.
//!
//! The time and the wake are registered once (epoll(7)), since they are rarely ready. Links are not: whoever puts a frame into the
//! queue of a registered descriptor tells its epoll instance so, under two locks, whether somebody waits or not. That is a sixth of
//! what the other end of a tap spends on a frame, most of which come while the pump is busy with those before. So links are waited
//! for with poll(2), which is there only while the pump sleeps, and takes no longer for a few. Links beyond those are registered.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netstack::time::Instant;
use smallvec::{SmallVec, smallvec};

use crate::sys::{self, Keys, Patience, Trigger};

/// The descriptors of a pump.
#[derive(Debug)]
pub(crate) struct Sleep {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off; `None` if it has, or was never set.
    alarm: Option<Instant>,
    /// What poll(2) waits for: the epoll instance first, then links.
    polled: SmallVec<[libc::pollfd; 1 + MAX_POLLED]>,
    /// The keys of those links, in the same order.
    keys: SmallVec<[u64; MAX_POLLED]>,
}

impl Sleep {
    /// Makes one that `wake` ends whenever it becomes readable or more readable.
    pub(crate) fn new(wake: BorrowedFd<'_>) -> io::Result<Self> {
        let (epoll, timer) = (sys::epoll_create()?, sys::timerfd()?);
        // Edges, so that neither has to be read.
        sys::epoll_add(epoll.as_fd(), wake, Trigger::Edge, WAKE)?;
        sys::epoll_add(epoll.as_fd(), timer.as_fd(), Trigger::Edge, TIMER)?;
        let polled = smallvec![sys::readable(epoll.as_fd())];
        Ok(Self { epoll, timer, alarm: None, polled, keys: SmallVec::new() })
    }

    /// Adds a descriptor, to be reported under `key` while it can be read. It has to be removed before it is closed.
    pub(crate) fn add(&mut self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        if self.keys.len() < MAX_POLLED {
            self.polled.push(sys::readable(fd));
            self.keys.push(key);
            return Ok(());
        }
        sys::epoll_add(self.epoll.as_fd(), fd, Trigger::Level, key)
    }

    /// Forgets a descriptor.
    pub(crate) fn remove(&mut self, fd: BorrowedFd<'_>) {
        match self.polled.iter().skip(1).position(|entry| entry.fd == fd.as_raw_fd()) {
            Some(index) => {
                self.polled.remove(1 + index);
                self.keys.remove(index);
            }
            None => {
                // It was registered, so this cannot fail.
                let _ = sys::epoll_remove(self.epoll.as_fd(), fd);
            }
        }
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
    pub(crate) fn wait(&mut self, patience: Patience) -> io::Result<Keys> {
        let mut ready = Keys::new();
        let limit = match patience {
            Patience::Endless => None,
            Patience::None => Some(Duration::ZERO),
        };
        if sys::poll(&mut self.polled, limit)? == 0 {
            return Ok(ready);
        }
        let (registered, links) = self.polled.split_at(1);
        let links = links.iter().zip(&self.keys);
        // Whatever is said of a link, an error as well, reading it tells what it is.
        ready.extend(links.filter(|(entry, _)| entry.revents != 0).map(|(_, key)| *key));
        if registered.iter().any(|entry| entry.revents != 0) {
            let keys = sys::epoll_wait(self.epoll.as_fd(), Patience::None)?;
            if keys.contains(&TIMER) {
                self.alarm = None;
            }
            ready.extend(keys.into_iter().filter(|key| ![WAKE, TIMER].contains(key)));
        }
        Ok(ready)
    }
}

/// Keys of our own; those of others count up from zero.
const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// The most links that poll(2) waits for: each of them is asked in each wait.
const MAX_POLLED: usize = 4;

/// By how much a deadline may be late: as much as the host lets plain threads sleep too long (prctl(2), `PR_SET_TIMERSLACK`).
const SLACK: Duration = Duration::from_micros(50);

#[cfg(test)]
#[path = "sleep_tests.rs"]
mod tests;
