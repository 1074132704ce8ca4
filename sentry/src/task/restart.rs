//! Interrupted system calls: fail with `EINTR`, restart, or go on by `restart_syscall(2)` (`signal(7)`).

use sentry_abi::Errno;
use sentry_abi::signal::{SigAction, sa};
use sentry_abi::syscall::nr;

use crate::errno::{Restart, SysResult};
use crate::task::CurrentTask;
use crate::task::run::SyscallRegs;

/// What `restart_syscall(2)` runs: the rest of a relative wait.
pub type Continuation = Box<dyn FnMut(&mut CurrentTask) -> SysResult + Send>;

/// An interrupted call that has not been settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// How it wants to go on.
    pub(crate) restart: Restart,
    /// Its number, which the result register no longer holds.
    pub(crate) number: u64,
}

/// What happens to an interrupted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The guest sees `EINTR`.
    Fail,
    /// The guest makes the call with this number again.
    Repeat(u64),
}

impl Interrupted {
    /// A handler with these flags runs first.
    pub(crate) fn with_handler(self, flags: u64) -> Settlement {
        match self.restart {
            Restart::Always => Settlement::Repeat(self.number),
            Restart::IfSaRestart if flags & sa::RESTART != 0 => Settlement::Repeat(self.number),
            Restart::IfSaRestart | Restart::IfNoHandler | Restart::ViaRestartBlock => Settlement::Fail,
        }
    }

    /// No handler runs.
    pub(crate) fn without_handler(self) -> Settlement {
        match self.restart {
            Restart::Always | Restart::IfSaRestart | Restart::IfNoHandler => Settlement::Repeat(self.number),
            Restart::ViaRestartBlock => Settlement::Repeat(nr::RESTART_SYSCALL),
        }
    }
}

impl CurrentTask {
    /// Leaves `continuation` for `restart_syscall(2)`; the caller then returns [`Restart::ViaRestartBlock`].
    pub fn set_restart_block(&mut self, continuation: Continuation) {
        self.restart_block = Some(continuation);
    }

    pub(crate) fn settle_restart_with_handler(&mut self, action: &SigAction) {
        if let Some(call) = self.interrupted_call.take() {
            self.settle(call.with_handler(action.flags));
        }
    }

    pub(crate) fn settle_restart_without_handler(&mut self) {
        if let Some(call) = self.interrupted_call.take() {
            self.settle(call.without_handler());
        }
    }

    fn settle(&mut self, settlement: Settlement) {
        match settlement {
            Settlement::Fail => self.regs_mut().set_syscall_result(Errno::EINTR.to_return_value()),
            Settlement::Repeat(number) => self.regs_mut().rewind_syscall(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `signal(7)`, "Interruption of system calls": (kind, handler flags or none) -> outcome.
    #[test]
    fn restart_table() {
        let again = Settlement::Repeat(7);
        let via_block = Settlement::Repeat(nr::RESTART_SYSCALL);
        let rows = [
            (Restart::IfSaRestart, None, again),
            (Restart::IfSaRestart, Some(0), Settlement::Fail),
            (Restart::IfSaRestart, Some(sa::RESTART), again),
            (Restart::Always, None, again),
            (Restart::Always, Some(0), again),
            (Restart::IfNoHandler, None, again),
            (Restart::IfNoHandler, Some(sa::RESTART), Settlement::Fail),
            (Restart::ViaRestartBlock, None, via_block),
            (Restart::ViaRestartBlock, Some(sa::RESTART), Settlement::Fail),
        ];
        for (restart, handler, expected) in rows {
            let call = Interrupted { restart, number: 7 };
            let got = handler.map_or_else(|| call.without_handler(), |flags| call.with_handler(flags));
            assert_eq!(got, expected, "{restart:?} with {handler:?}");
        }
    }
}
