//! Beginning and ending to trace. All of it happens under the lock of the process tree.

use std::sync::Arc;

use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::kernel::{Kernel, ProcessTree};
use crate::mm::Debugged;
use crate::task::signal::JobState;
use crate::task::thread::CallWork;
use crate::task::trace::state::{Link, LinkKind, Resume, ResumeMode, TraceOptions};
use crate::task::trace::watch::DebugRegisters;
use crate::task::{ExitStatus, Task, Tid};

/// A traced thread, on the list of its tracer's process.
#[derive(Debug)]
pub struct Tracee {
    pub(crate) task: Arc<Task>,
    pub(crate) tracer: Arc<Task>,
    /// It has ended, and the tracer has not waited for it: threads that are not leaders. Leaders are zombies.
    pub(crate) exit: Option<ExitStatus>,
}

/// Why a thread cannot be traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// It is, already.
    #[error("traced already")]
    Traced,
    /// It, or the tracer, is ending.
    #[error("about to end")]
    Ending,
}

impl Task {
    /// Whether somebody traces the thread.
    pub(crate) fn is_traced(&self) -> bool {
        self.call_work().contains(CallWork::TRACED)
    }

    /// Who does.
    pub(crate) fn tracer(&self) -> Option<Arc<Self>> {
        if !self.is_traced() {
            return None;
        }
        self.trace().lock().link.as_ref().map(|link| link.tracer.clone())
    }

    /// Has `tracer` trace this thread.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(crate) fn link_to(
        self: &Arc<Self>,
        tree: &mut ProcessTree,
        tracer: &Arc<Self>,
        kind: LinkKind,
        options: TraceOptions,
    ) -> Result<(), LinkError> {
        let is_ending =
            |task: &Self| task.thread_group().signals.lock().exit.is_some() || task.mm().is_none();
        if is_ending(self) || is_ending(tracer) {
            return Err(LinkError::Ending);
        }
        {
            let mut state = self.trace().lock();
            if state.link.is_some() {
                return Err(LinkError::Traced);
            }
            state.link = Some(Link { tracer: tracer.clone(), kind, options, memory: None });
        }
        self.add_call_work(CallWork::TRACED);
        let Some(process) = tree.process_mut(tracer.pid()) else {
            self.unlink(Resume { mode: ResumeMode::Continue, signal: 0 });
            return Err(LinkError::Ending);
        };
        process.tracees.push(Tracee { task: self.clone(), tracer: tracer.clone(), exit: None });
        Ok(())
    }

    /// Makes the thread's code and calls visible to its tracer, once it is linked. Not under the tree's lock.
    pub(crate) fn open_to_tracer(&self) {
        let memory = self.mm().map(|mm| Debugged::new(&mm));
        let old = {
            let mut state = self.trace().lock();
            state.link.as_mut().and_then(|link| std::mem::replace(&mut link.memory, memory))
        };
        drop(old);
    }

    /// Lets go of the thread's memory.
    pub(crate) fn close_to_tracer(&self) {
        if self.is_traced() {
            let old = self.trace().lock().link.as_mut().and_then(|link| link.memory.take());
            drop(old);
        }
    }

    /// Lets the thread go on by itself. Its tracer's list is the caller's business.
    pub(super) fn unlink(&self, resume: Resume) {
        let old = {
            let mut state = self.trace().lock();
            if let Some(stop) = &mut state.stop {
                stop.resume = Some(resume);
            }
            state.debug = DebugRegisters::default();
            state.link.take()
        };
        self.remove_call_work(CallWork::TRACED | CallWork::CALLS | CallWork::EMULATE | CallWork::STOP);
        drop(old);
        self.mark_stale_answers();
        // It may be stopped, or have to stop with its process.
        self.interrupt();
    }

    /// Ends the tracing of a thread (`PTRACE_DETACH`).
    pub(crate) fn detach(self: &Arc<Self>, tree: &mut ProcessTree, resume: Resume) {
        if let Some(tracer) = self.tracer()
            && let Some(process) = tree.process_mut(tracer.pid())
        {
            process.tracees.retain(|tracee| !Arc::ptr_eq(&tracee.task, self));
        }
        self.unlink(resume);
    }
}

impl Kernel {
    /// A thread that may be a tracer ends: whom it traces goes on, or dies with it (`PTRACE_O_EXITKILL`).
    pub(crate) fn tracer_exits(&self, tracer: &Arc<Task>) {
        let mut killed = Vec::new();
        let mut zombies = Vec::new();
        {
            let mut tree = self.tree();
            let Some(process) = tree.process_mut(tracer.pid()) else { return };
            if process.tracees.is_empty() {
                return;
            }
            let all = std::mem::take(&mut process.tracees);
            let (mine, others): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|tracee| Arc::ptr_eq(&tracee.tracer, tracer));
            process.tracees = others;
            for Tracee { task, tracer: _, exit } in mine {
                let kills = task.trace().lock().link.as_ref().is_some_and(|l| l.options.kills_on_exit());
                task.unlink(Resume { mode: ResumeMode::Continue, signal: 0 });
                if exit.is_none() && kills {
                    killed.push(task.clone());
                }
                if task.is_leader() {
                    zombies.push(task.pid());
                }
            }
        }
        for task in killed {
            task.thread_group().begin_exit(ExitStatus::Signaled(Signal::SIGKILL));
        }
        for pid in zombies {
            self.release_zombie(pid);
        }
    }

    /// Tells the tracer of a thread that is not a leader that it has ended. False if nobody traces it.
    pub(crate) fn report_traced_exit(&self, task: &Arc<Task>, status: ExitStatus) -> bool {
        let Some(tracer) = task.tracer() else { return false };
        {
            let mut tree = self.tree();
            let Some(process) = tree.process_mut(tracer.pid()) else { return false };
            let Some(tracee) = process.tracees.iter_mut().find(|t| Arc::ptr_eq(&t.task, task)) else {
                return false;
            };
            tracee.exit = Some(status);
        }
        let (code, value) = status.child_info();
        notify(&tracer, task, code, value);
        true
    }
}

/// Sends `SIGCHLD` about a traced thread to its tracer, and has it wait again.
pub(super) fn notify(tracer: &Task, about: &Task, code: i32, status: i32) {
    use sentry_abi::signal::{SIG_IGN, sa};
    let group = tracer.thread_group();
    let action = group.handlers().get(Signal::SIGCHLD);
    let is_end = !matches!(code, si_code::CLD_TRAPPED | si_code::CLD_STOPPED);
    if action.handler != SIG_IGN && (is_end || action.flags & sa::NOCLDSTOP == 0) {
        let uid = about.creds().uid.0;
        let info = SigInfo::child(Signal::SIGCHLD, code, about.tid().0, uid, status, 0, 0);
        // SIGCHLD is no real-time signal, so its queue has no limit.
        let _ = group.send_signal(Signal::SIGCHLD, info);
    }
    group.child_events.notify(crate::wait::Readiness::IN);
}

impl Task {
    /// Has the thread stop for its tracer soon (`PTRACE_INTERRUPT`, and new threads of seized ones).
    pub(crate) fn want_stop(&self) {
        self.add_call_work(CallWork::STOP);
        self.interrupt();
    }

    /// The process is continued by `SIGCONT`, whose signal lock the caller holds. A tracer that waits for that hears of it.
    pub(crate) fn continue_traced(&self) {
        if !self.is_traced() {
            return;
        }
        self.signals.lock().stopped = false;
        let mut state = self.trace().lock();
        if state.link.as_ref().is_none_or(|link| link.kind != LinkKind::Seized) {
            return;
        }
        self.add_call_work(CallWork::STOP);
        if let Some(stop) = state.stop.as_mut().filter(|stop| stop.is_listening) {
            stop.resume = Some(Resume { mode: ResumeMode::Continue, signal: 0 });
        }
    }

    /// The signal that stops the process, if job control does.
    pub(crate) fn job_signal(&self) -> Option<Signal> {
        match self.thread_group().signals.lock().job {
            JobState::Running => None,
            JobState::Stopping(signal) | JobState::Stopped(signal) => Some(signal),
        }
    }

    /// The thread's id, or 0 (`TracerPid` of `proc_pid_status(5)`).
    pub(crate) fn tracer_tid(&self) -> Tid {
        self.tracer().map_or(Tid(0), |tracer| tracer.tid())
    }
}
