//! How a thread waits for a socket.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::net::io_error::Transient;
use crate::wait::{Observer, Readiness, WaitQueue};

/// How long the operations of one direction of a socket wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Patience {
    /// Until it works.
    #[default]
    Forever,
    /// At most this long, counted from each call.
    Limited(Duration),
    /// Not at all.
    None,
}

/// The patience of both directions, shared by the clones of a handle.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    settings: Mutex<Settings>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    is_nonblocking: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Waiting {
    pub(super) fn set_nonblocking(&self, is_nonblocking: bool) {
        self.settings.lock().is_nonblocking = is_nonblocking;
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.settings.lock().read_timeout = checked(timeout)?;
        Ok(())
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.settings.lock().write_timeout = checked(timeout)?;
        Ok(())
    }

    pub(super) fn read_timeout(&self) -> Option<Duration> {
        self.settings.lock().read_timeout
    }

    pub(super) fn write_timeout(&self) -> Option<Duration> {
        self.settings.lock().write_timeout
    }

    pub(super) fn reading(&self) -> Patience {
        let settings = *self.settings.lock();
        settings.patience(settings.read_timeout)
    }

    pub(super) fn writing(&self) -> Patience {
        let settings = *self.settings.lock();
        settings.patience(settings.write_timeout)
    }
}

impl Settings {
    fn patience(self, timeout: Option<Duration>) -> Patience {
        match timeout {
            _ if self.is_nonblocking => Patience::None,
            Some(limit) => Patience::Limited(limit),
            None => Patience::Forever,
        }
    }
}

/// The standard library refuses a time-out of zero as well: it cannot be told from "none" on some systems.
pub(super) fn checked(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    match timeout {
        Some(Duration::ZERO) => Err(io::Error::new(io::ErrorKind::InvalidInput, "a time-out of zero")),
        timeout => Ok(timeout),
    }
}

/// Repeats an operation until it does something else than answer "would block".
pub(super) fn retry<T, E: Transient>(
    queue: &WaitQueue,
    interest: Readiness,
    patience: Patience,
    mut operation: impl FnMut() -> Result<T, E>,
) -> io::Result<T> {
    wait_for(queue, interest, patience, || match operation() {
        Err(error) if error.is_would_block() => None,
        result => Some(result.map_err(Into::into)),
    })
}

/// Waits until `attempt` has a result. It is made at once, and again after each notification about `interest`.
///
/// # Errors
/// `WouldBlock` without patience, `TimedOut` when it is at its end; the result's own.
pub(super) fn wait_for<T>(
    queue: &WaitQueue,
    interest: Readiness,
    patience: Patience,
    mut attempt: impl FnMut() -> Option<io::Result<T>>,
) -> io::Result<T> {
    if let Some(result) = attempt() {
        return result;
    }
    let end = match patience {
        Patience::None => return Err(io::ErrorKind::WouldBlock.into()),
        // A limit beyond what the clock can express is no limit.
        Patience::Limited(limit) => Instant::now().checked_add(limit),
        Patience::Forever => None,
    };
    let sleeper = Sleeper::of_this_thread();
    let registration = Registration { queue, id: queue.register(interest, Arc::clone(&sleeper) as _) };
    let result = loop {
        if let Some(result) = attempt() {
            break result;
        }
        if !sleeper.sleep_until(end) {
            break Err(io::ErrorKind::TimedOut.into());
        }
    };
    drop(registration);
    result
}

/// Ends a registration, also when the attempt panics.
struct Registration<'a> {
    queue: &'a WaitQueue,
    id: crate::wait::WaitId,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.queue.unregister(self.id);
    }
}

/// Wakes one thread. Each thread has one and keeps it, so that waiting allocates nothing.
struct Sleeper {
    thread: Thread,
    is_notified: AtomicBool,
}

impl Sleeper {
    fn of_this_thread() -> Arc<Self> {
        thread_local! {
            static SLEEPER: OnceCell<Arc<Sleeper>> = const { OnceCell::new() };
        }
        SLEEPER.with(|sleeper| {
            let make = || Arc::new(Self { thread: thread::current(), is_notified: AtomicBool::new(false) });
            Arc::clone(sleeper.get_or_init(make))
        })
    }

    /// Sleeps until a notification has come since the last call; false if the time is over first.
    fn sleep_until(&self, end: Option<Instant>) -> bool {
        while !self.is_notified.swap(false, Ordering::Acquire) {
            match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return false,
                Some(left) => thread::park_timeout(left),
            }
        }
        true
    }
}

impl Observer for Sleeper {
    fn notify(&self, _ready: Readiness) {
        // Release: what was changed before the notification is seen by the thread that it wakes.
        self.is_notified.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
