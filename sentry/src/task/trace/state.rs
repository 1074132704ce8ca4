//! What a thread has to do with its tracer.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use sentry_abi::ptrace::option;
use sentry_abi::signal::SigInfo;
use sentry_platform::{FpuState, Regs};

use crate::mm::Debugged;
use crate::task::Task;
use crate::task::trace::watch::DebugRegisters;

/// The tracing of a thread. The lock comes after those of the process tree and of signals, and nothing is taken under it.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    state: Mutex<TraceState>,
    /// The stopped thread has answered, or is not stopped any more.
    pub(super) answered: Condvar,
}

impl Trace {
    pub(crate) fn lock(&self) -> MutexGuard<'_, TraceState> {
        self.state.lock()
    }

    /// Sleeps until the stopped thread has done something for its tracer, or is not stopped any more.
    pub(crate) fn wait_for_answer(&self, state: &mut MutexGuard<'_, TraceState>) {
        self.answered.wait(state);
    }
}

#[derive(Debug, Default)]
pub(crate) struct TraceState {
    /// Who traces the thread. Changes under the lock of the process tree, too.
    pub(crate) link: Option<Link>,
    /// The stop that it is in.
    pub(crate) stop: Option<Box<Stop>>,
    /// What the tracer has the processor watch for.
    pub(crate) debug: DebugRegisters,
    /// What the last stop at an event was about (`PTRACE_GETEVENTMSG`).
    pub(crate) message: u64,
}

/// A thread is traced.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) tracer: Arc<Task>,
    pub(crate) kind: LinkKind,
    pub(crate) options: TraceOptions,
    /// The thread's memory.
    pub(super) memory: Option<Debugged>,
}

/// How it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// `PTRACE_ATTACH`, `PTRACE_TRACEME`.
    Attached,
    /// `PTRACE_SEIZE`.
    Seized,
}

/// `PTRACE_SETOPTIONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TraceOptions(u64);

impl TraceOptions {
    /// `None` for bits that mean nothing.
    pub(crate) fn new(bits: u64) -> Option<Self> {
        (bits & !option::ALL == 0).then_some(Self(bits))
    }

    /// Whether stops at calls differ from others.
    pub(crate) fn marks_calls(self) -> bool {
        self.0 & option::TRACESYSGOOD != 0
    }

    /// Whether the thread dies with its tracer.
    pub(crate) fn kills_on_exit(self) -> bool {
        self.0 & option::EXITKILL != 0
    }

    /// Whether an event stops the thread.
    pub(crate) fn wants(self, event: i32) -> bool {
        self.0 & 1 << event != 0
    }
}

/// A thread is stopped for its tracer.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    /// What `wait(2)` reports: a signal, and above it an event.
    pub(crate) code: i32,
    pub(crate) info: Option<SigInfo>,
    pub(crate) regs: Regs,
    pub(crate) fpu: Option<FpuState>,
    /// The tracer has stored another one.
    pub(crate) is_fpu_changed: bool,
    /// The tracer waits for it.
    pub(crate) is_fpu_wanted: bool,
    /// `wait(2)` has told the tracer.
    pub(crate) is_reported: bool,
    /// `PTRACE_LISTEN`: the thread waits for the end of a group stop, out of the tracer's reach.
    pub(crate) is_listening: bool,
    pub(crate) resume: Option<Resume>,
}

/// Why a thread stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A signal is about to be delivered.
    Signal,
    /// A call is about to be made.
    CallEntry,
    /// A call was made.
    CallExit,
    /// A filter asks (`SECCOMP_RET_TRACE`).
    Filter,
    /// Something else happened.
    Event,
    /// Job control stops the process, or the tracer wanted a stop.
    Group,
}

/// What a tracer makes of a stopped thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) mode: ResumeMode,
    /// The signal that it gets, or 0.
    pub(crate) signal: i32,
}

/// How far a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeMode {
    /// `PTRACE_CONT`.
    Continue,
    /// `PTRACE_SYSCALL`.
    ToCall,
    /// `PTRACE_SINGLESTEP`.
    Step,
    /// `PTRACE_SYSEMU`.
    Emulate,
    /// `PTRACE_SYSEMU_SINGLESTEP`.
    EmulateAndStep,
}
