//! Taking signals on the way back to guest code (`signal(7)`).

use std::sync::Arc;

use sentry_abi::signal::{SIG_DFL, SIG_IGN, SigAction, SigInfo, SigSet, Signal, sa, si_code};

use crate::task::signal::{DefaultAction, JobState};
use crate::task::thread::{CallWork, RunState};
use crate::task::{CurrentTask, ExitStatus, Task};

/// What a look at the pending signals found.
enum Next {
    /// Nothing to do.
    Nothing,
    /// The process ends, or another thread executes a program.
    Leave,
    /// Job control stops the process.
    Stop,
    /// The tracer wants a stop.
    TraceStop,
    /// A signal to act on.
    Signal(Signal, SigInfo),
}

/// What became of the signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The thread goes on in guest code.
    Resume,
    /// The thread has to exit.
    Leave,
}

impl CurrentTask {
    /// Acts on everything that asks for attention, then settles an interrupted system call.
    pub(crate) fn deliver_signals(&mut self) -> Delivery {
        loop {
            self.clear_attention();
            let (signal, info) = match self.next_signal() {
                Next::Leave => return Delivery::Leave,
                Next::Nothing => break,
                Next::Stop => {
                    self.stop();
                    continue;
                }
                Next::TraceStop => {
                    self.group_stop();
                    continue;
                }
                Next::Signal(signal, info) => (signal, info),
            };
            let (signal, info) = match self.is_traced() && signal != Signal::SIGKILL {
                true => match self.signal_stop(signal, &info) {
                    Some(delivered) => delivered,
                    None => continue,
                },
                false => (signal, info),
            };
            let action = self.thread_group().handlers().take_for_delivery(signal);
            match action.handler {
                SIG_IGN => {}
                SIG_DFL => self.act_by_default(signal),
                _ => self.handle(signal, &info, &action),
            }
        }
        self.settle_restart_without_handler();
        if let Some(mask) = self.saved_mask.take() {
            self.set_signal_mask(mask);
        }
        Delivery::Resume
    }

    fn next_signal(&self) -> Next {
        let mut group = self.thread_group().signals.lock();
        if group.must_leave(self) {
            return Next::Leave;
        }
        let mut mine = self.signals.lock();
        // A thread that its tracer has let go on stays so until the process is stopped again.
        if group.job != JobState::Running && !(mine.stopped && self.is_traced()) {
            return Next::Stop;
        }
        if self.call_work().contains(CallWork::STOP) {
            return Next::TraceStop;
        }
        let allowed = SigSet(!mine.mask.0);
        let next = mine.pending.pop(allowed).or_else(|| group.pending.pop(allowed));
        next.map_or(Next::Nothing, |(signal, info)| Next::Signal(signal, info))
    }

    /// Builds the frame of a handler; a stack that cannot take it is a fault.
    fn handle(&mut self, signal: Signal, info: &SigInfo, action: &SigAction) {
        self.settle_restart_with_handler(action);
        let blocked = self.signal_mask();
        // sigsuspend(2) and ppoll(2): the handler returns to the mask from before the call.
        let return_mask = self.saved_mask.take().unwrap_or(blocked);
        if self.push_signal_frame(signal, info, action, return_mask).is_err() {
            self.fault_on_frame(signal);
            return;
        }
        let mut mask = blocked.union(action.mask);
        if action.flags & sa::NODEFER == 0 {
            mask = mask.with(signal);
        }
        self.set_signal_mask(mask);
        if std::mem::take(&mut self.is_stepping) {
            self.step_stop();
        }
    }

    /// As `force_sigsegv`: when the frame of SIGSEGV itself does not fit, no handler can help.
    pub(crate) fn fault_on_frame(&self, signal: Signal) {
        if signal == Signal::SIGSEGV {
            let handlers = self.thread_group().handlers();
            handlers.set(signal, SigAction::default());
        }
        self.force_signal(Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, si_code::SI_KERNEL));
    }

    fn act_by_default(&self, signal: Signal) {
        match DefaultAction::of(signal) {
            DefaultAction::Ignore | DefaultAction::Continue => {}
            DefaultAction::Stop => self.begin_stop(signal),
            DefaultAction::Terminate | DefaultAction::Core => {
                self.thread_group().begin_exit(ExitStatus::Signaled(signal));
            }
        }
    }

    /// Starts a stop of the whole process. Terminal stop signals do nothing to an orphaned process group
    /// (`setpgid(2)`): nobody could continue it.
    fn begin_stop(&self, signal: Signal) {
        if signal != Signal::SIGSTOP && self.kernel().is_in_orphaned_group(self.pid()) {
            return;
        }
        let threads: Vec<Arc<Task>> = {
            let mut group = self.thread_group().signals.lock();
            if group.exit.is_some() || group.job != JobState::Running {
                return;
            }
            group.job = JobState::Stopping(signal);
            group.report_continued = false;
            group.threads.clone()
        };
        for task in threads {
            task.interrupt();
        }
    }

    /// Sleeps until the process is continued or ends. The last thread to stop tells the parent.
    fn stop(&mut self) {
        let completed = {
            let mut group = self.thread_group().signals.lock();
            self.signals.lock().stopped = true;
            match group.job {
                JobState::Stopping(signal) if group.threads.iter().all(|t| t.signals.lock().stopped) => {
                    group.job = JobState::Stopped(signal);
                    Some(signal)
                }
                _ => None,
            }
        };
        self.set_run_state(RunState::Stopped);
        if let Some(signal) = completed {
            self.kernel().report_stop(self.pid(), signal);
        }
        let report = loop {
            self.waiter().clear();
            if self.is_traced() {
                self.group_stop();
                if self.is_traced() {
                    let mut group = self.thread_group().signals.lock();
                    let is_over = group.job == JobState::Running;
                    if is_over {
                        self.signals.lock().stopped = false;
                    }
                    break is_over && std::mem::take(&mut group.report_continued);
                }
                self.set_run_state(RunState::Stopped);
            }
            {
                let mut group = self.thread_group().signals.lock();
                if group.job == JobState::Running || group.must_leave(self) {
                    self.signals.lock().stopped = false;
                    break std::mem::take(&mut group.report_continued);
                }
            }
            self.waiter().sleep(None);
        };
        self.set_run_state(RunState::Running);
        if report {
            self.kernel().report_continue(self.pid());
        }
    }
}
