//! How a process ended.

use sentry_abi::signal::{Signal, si_code};

/// The end of a process as its parent learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// `exit(2)` with this code.
    Exited(u8),
    /// Killed by a signal.
    Signaled(Signal),
}

impl ExitStatus {
    /// The status word of `wait(2)`.
    #[must_use]
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code) << 8,
            Self::Signaled(signal) => signal.number(),
        }
    }

    /// `si_code` and `si_status` of the parent's `SIGCHLD`.
    #[must_use]
    pub fn child_info(self) -> (i32, i32) {
        match self {
            Self::Exited(code) => (si_code::CLD_EXITED, i32::from(code)),
            Self::Signaled(signal) => (si_code::CLD_KILLED, signal.number()),
        }
    }

    /// The exit code that a shell shows: 128 + n for signal n.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code),
            Self::Signaled(signal) => 128 + signal.number(),
        }
    }
}
