//! What a system call can end with: a value, an errno, or a restart.

pub use sentry_abi::Errno;

/// The result of a system call handler: the value for `rax`, or why there is none.
pub type SysResult = Result<u64, SysError>;

/// Why a system call did not return a value.
#[derive(Debug)]
pub enum SysError {
    /// The call failed; the guest sees `-errno`.
    Errno(Errno),
    /// A signal interrupted the call; what the guest sees depends on the signal's action (signal(7)).
    Restart(Restart),
}

/// How an interrupted system call goes on once signals were handled. The names are those of Linux's internal
/// `ERESTART*` codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// `ERESTARTSYS`: restart if the handler has `SA_RESTART` or there was no handler, else `EINTR`.
    IfSaRestart,
    /// `ERESTARTNOINTR`: always restart.
    Always,
    /// `ERESTARTNOHAND`: restart only if no handler ran, else `EINTR`.
    IfNoHandler,
    /// `ERESTART_RESTARTBLOCK`: if no handler ran, call `restart_syscall(2)` (relative timeouts), else `EINTR`. The
    /// continuation was left in the task's restart block.
    ViaRestartBlock,
}

impl Restart {
    /// The kernel's own error code, which tracers see.
    #[must_use]
    pub fn kernel_code(self) -> u64 {
        match self {
            Self::IfSaRestart => 512,
            Self::Always => 513,
            Self::IfNoHandler => 514,
            Self::ViaRestartBlock => 516,
        }
    }

    /// What a code stands for.
    #[must_use]
    pub fn from_kernel_code(code: u64) -> Option<Self> {
        let all = [Self::IfSaRestart, Self::Always, Self::IfNoHandler, Self::ViaRestartBlock];
        all.into_iter().find(|restart| restart.kernel_code() == code)
    }
}

impl From<Errno> for SysError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Restart> for SysError {
    fn from(restart: Restart) -> Self {
        Self::Restart(restart)
    }
}
