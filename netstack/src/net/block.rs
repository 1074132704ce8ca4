//! How a thread waits for a socket.

use std::io;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

use crate::net::io_error::Transient;
use crate::wait::{Readiness, WaitQueue, block_until};

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
    let end = match patience {
        Patience::None => return attempt().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into())),
        // A limit beyond what the clock can express is no limit.
        Patience::Limited(limit) => Instant::now().checked_add(limit),
        Patience::Forever => None,
    };
    block_until(queue, interest, end, attempt).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}
