//! poll(2), epoll(7) and timerfd_create(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{check, check_len};

/// epoll_create1(2), closed on exec.
pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: epoll_create1 takes a number and returns a new descriptor or -1.
    let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the descriptor was just returned to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// When a descriptor is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// As long as it can be read.
    Level,
    /// When it becomes readable, and whenever more comes.
    Edge,
}

/// Adds a descriptor to those that `epoll` waits for; it is reported under `key` (epoll_ctl(2)).
pub(crate) fn epoll_add(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    trigger: Trigger,
    key: u64,
) -> io::Result<()> {
    let edge = match trigger {
        Trigger::Level => 0,
        Trigger::Edge => libc::EPOLLET,
    };
    // The flags are bits of a word.
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | edge).cast_unsigned(), u64: key };
    // SAFETY: the event is live for the call, and both descriptors are open.
    check(unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
    })?;
    Ok(())
}

/// Takes a descriptor out of those that `epoll` waits for (epoll_ctl(2)).
pub(crate) fn epoll_remove(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let (epoll, fd) = (epoll.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: EPOLL_CTL_DEL takes no event, and both descriptors are open.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) })?;
    Ok(())
}

/// What one [`epoll_wait`] reports.
pub(crate) type Keys = smallvec::SmallVec<[u64; MAX_EVENTS]>;

/// Whether to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until something is ready.
    Endless,
    None,
}

/// epoll_pwait(2): the keys of descriptors that are ready. An interrupted wait is over.
pub(crate) fn epoll_wait(epoll: BorrowedFd<'_>, patience: Patience) -> io::Result<Keys> {
    let timeout = match patience {
        Patience::Endless => -1_i32,
        Patience::None => 0,
    };
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS];
    let no_mask: *const libc::sigset_t = std::ptr::null();
    // SAFETY: the array is live, exclusive and as long as said; a null signal mask leaves the thread's own.
    let count = check_len(unsafe {
        let (epoll, events) = (epoll.as_raw_fd(), events.as_mut_ptr());
        libc::syscall(libc::SYS_epoll_pwait, epoll, events, MAX_EVENTS, timeout, no_mask, MASK_LEN)
    });
    match count {
        // At most MAX_EVENTS.
        Ok(count) => Ok(events.iter().take(count).map(|event| event.u64).collect()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Keys::new()),
        Err(error) => Err(error),
    }
}

/// What to ask [`poll`] whether `fd` can be read.
pub(crate) fn readable(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// ppoll(2): waits until one of the descriptors is ready or the time is over, and returns how many are. An interrupted
/// wait is over.
pub(crate) fn poll(fds: &mut [libc::pollfd], limit: Option<Duration>) -> io::Result<usize> {
    let mut limit = limit.map(|limit| libc::timespec {
        // Nobody waits for 292 billion years.
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let limit = limit.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let no_mask: *const libc::sigset_t = std::ptr::null();
    // SAFETY: the array is live, exclusive and as long as said; so is the time, where what is left of it may be written; a null
    // signal mask leaves the thread's own.
    let count = check_len(unsafe {
        libc::syscall(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), limit, no_mask, MASK_LEN)
    });
    match count {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        other => other,
    }
}

/// timerfd_create(2) of the monotonic clock, not blocking.
pub(crate) fn timerfd() -> io::Result<OwnedFd> {
    // SAFETY: timerfd_create takes numbers and returns a new descriptor or -1.
    let raw = check(unsafe {
        libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
    })?;
    // SAFETY: the descriptor was just returned to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// timerfd_settime(2): the timer becomes readable in `delay` instead of whenever it was to.
pub(crate) fn set_timer(timer: BorrowedFd<'_>, delay: Duration) -> io::Result<()> {
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::timespec {
        // Nobody waits for 292 billion years.
        tv_sec: delay.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        // Nothing at all would stop it.
        tv_nsec: delay.subsec_nanos().max(u32::from(delay.is_zero())).into(),
    };
    let times = libc::itimerspec { it_interval: never, it_value: value };
    // SAFETY: the times are live for the call; without a place for them the old ones are not reported.
    check(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const times, std::ptr::null_mut()) })?;
    Ok(())
}

/// The kernel's `sigset_t`: 64 signals.
const MASK_LEN: usize = 8;

/// The most descriptors that one wait reports; more are reported by the next.
const MAX_EVENTS: usize = 16;
