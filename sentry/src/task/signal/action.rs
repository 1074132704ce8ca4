//! What a process does on each signal (`sigaction(2)`).

use std::sync::Arc;

use parking_lot::Mutex;
use sentry_abi::signal::{SIG_DFL, SIG_IGN, SigAction, Signal};

/// What a signal does where its disposition is `SIG_DFL` (`signal(7)`, "Standard signals").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Ends the process; Linux would dump core.
    Core,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Continues the process; the signal itself does nothing more.
    Continue,
}

impl DefaultAction {
    /// The default action of `signal`.
    #[must_use]
    pub fn of(signal: Signal) -> Self {
        match signal {
            Signal::SIGCHLD | Signal::SIGURG | Signal::SIGWINCH => Self::Ignore,
            Signal::SIGCONT => Self::Continue,
            Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => Self::Stop,
            Signal::SIGQUIT
            | Signal::SIGILL
            | Signal::SIGTRAP
            | Signal::SIGABRT
            | Signal::SIGBUS
            | Signal::SIGFPE
            | Signal::SIGSEGV
            | Signal::SIGXCPU
            | Signal::SIGXFSZ
            | Signal::SIGSYS => Self::Core,
            _ => Self::Terminate,
        }
    }
}

/// The dispositions of a process, shared by `CLONE_SIGHAND`.
#[derive(Debug)]
pub struct SigHandlers {
    actions: Mutex<[SigAction; 65]>,
}

impl SigHandlers {
    /// Every signal at its default.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { actions: Mutex::new([SigAction::default(); 65]) })
    }

    /// A copy (`fork(2)`).
    #[must_use]
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self { actions: Mutex::new(*self.actions.lock()) })
    }

    /// A copy in which handlers are back at their default and ignored signals stay ignored (`execve(2)`).
    #[must_use]
    pub fn for_exec(&self) -> Arc<Self> {
        let mut actions = *self.actions.lock();
        for action in &mut actions {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigAction { handler, ..SigAction::default() };
        }
        Arc::new(Self { actions: Mutex::new(actions) })
    }

    /// The disposition of `signal`.
    #[must_use]
    pub fn get(&self, signal: Signal) -> SigAction {
        self.actions.lock()[index(signal)]
    }

    /// Replaces the disposition of `signal` and returns the old one.
    pub fn set(&self, signal: Signal, action: SigAction) -> SigAction {
        std::mem::replace(&mut self.actions.lock()[index(signal)], action)
    }

    /// The disposition of `signal` as it is delivered: with `SA_RESETHAND` it goes back to its default.
    pub(crate) fn take_for_delivery(&self, signal: Signal) -> SigAction {
        let mut actions = self.actions.lock();
        let slot = &mut actions[index(signal)];
        let action = *slot;
        if action.handler > SIG_IGN && action.flags & sentry_abi::signal::sa::RESETHAND != 0 {
            slot.handler = SIG_DFL;
        }
        action
    }

    /// True where the signal would do nothing: ignored, or at a default that does nothing.
    #[must_use]
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.get(signal).handler {
            SIG_IGN => true,
            SIG_DFL => DefaultAction::of(signal) == DefaultAction::Ignore,
            _ => false,
        }
    }
}

fn index(signal: Signal) -> usize {
    // A signal is in 1..=64 by construction.
    signal.number().unsigned_abs() as usize
}
