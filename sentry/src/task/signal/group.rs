//! The signal state that the threads of a process share.

use std::sync::Arc;

use sentry_abi::signal::Signal;

use crate::task::signal::Pending;
use crate::task::{ExitStatus, Task};

/// Where a process is in job control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobState {
    /// Its threads run.
    Running,
    /// A stop signal came; threads that are not yet stopped are on their way.
    Stopping(Signal),
    /// All threads are stopped.
    Stopped(Signal),
}

/// Protected by `ThreadGroup::signals`, Linux's `siglock`.
#[derive(Debug)]
pub(crate) struct GroupSignals {
    /// The live threads.
    pub(crate) threads: Vec<Arc<Task>>,
    /// Sent to the process.
    pub(crate) pending: Pending,
    /// Job control.
    pub(crate) job: JobState,
    /// The process is ending; every thread leaves with this status.
    pub(crate) exit: Option<ExitStatus>,
    /// `SIGKILL` has come, which ends stops at the end, too (`PTRACE_EVENT_EXIT`).
    pub(crate) is_killed: bool,
    /// A thread runs `execve(2)`; every other thread leaves.
    pub(crate) exec: Option<Arc<Task>>,
    /// The process was continued and its parent does not know yet.
    pub(crate) report_continued: bool,
    /// How many signals came that were sent to several processes at a time. A fork that is under way begins again
    /// after one, since the child would have got it, too.
    pub(crate) shared_signals: u64,
}

impl GroupSignals {
    pub(crate) fn new() -> Self {
        Self {
            threads: Vec::new(),
            pending: Pending::default(),
            job: JobState::Running,
            exit: None,
            is_killed: false,
            exec: None,
            report_continued: false,
            shared_signals: 0,
        }
    }

    /// True where `task` has to leave: the process ends or another thread executes a new program.
    pub(crate) fn must_leave(&self, task: &Task) -> bool {
        self.exit.is_some() || self.exec.as_ref().is_some_and(|by| !std::ptr::eq(&**by, task))
    }
}
