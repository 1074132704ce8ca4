//! A traced thread stops, and does as its tracer says.

use sentry_abi::ptrace::event;
use sentry_abi::signal::{SigInfo, Signal, si_code};
use sentry_platform::Regs;

use crate::task::restart::Interrupted;
use crate::task::thread::CallWork;
use crate::task::trace::link::notify;
use crate::task::trace::state::{LinkKind, Reason, Resume, ResumeMode, Stop};
use crate::task::{CurrentTask, RunState};

/// What ends a stop beside the tracer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndedBy {
    /// The end of the process.
    Exit,
    /// Only `SIGKILL`: the process ends anyway.
    Kill,
}

/// What the thread goes on with.
struct Resumed {
    /// The signal that it gets, or 0.
    signal: i32,
    info: Option<SigInfo>,
}

impl CurrentTask {
    /// Stops at an event if the tracer wants to hear of it. False if it does not.
    pub(crate) fn event_stop(&mut self, number: i32, message: u64) -> bool {
        if !self.wants_event(number) {
            return false;
        }
        let code = number << 8 | Signal::SIGTRAP.number();
        let ended_by = if number == event::EXIT { EndedBy::Kill } else { EndedBy::Exit };
        let reason = if number == event::SECCOMP { Reason::Filter } else { Reason::Event };
        self.notify_stop(reason, code, Some(message), ended_by);
        true
    }

    /// Whether the tracer wants to hear of an event.
    pub(crate) fn wants_event(&self, number: i32) -> bool {
        self.is_traced() && self.trace().lock().link.as_ref().is_some_and(|l| l.options.wants(number))
    }

    /// Stops at a call (`PTRACE_SYSCALL`).
    pub(super) fn call_stop(&mut self, reason: Reason) {
        let marks = self.trace().lock().link.as_ref().is_some_and(|l| l.options.marks_calls());
        let code = Signal::SIGTRAP.number() | if marks { 0x80 } else { 0 };
        // PTRACE_EVENTMSG_SYSCALL_ENTRY and _EXIT.
        let message = if reason == Reason::CallEntry { 1 } else { 2 };
        self.notify_stop(reason, code, Some(message), EndedBy::Exit);
    }

    /// Stops behind the frame of a handler, where the tracer steps.
    pub(crate) fn step_stop(&mut self) {
        self.notify_stop(Reason::Event, Signal::SIGTRAP.number(), None, EndedBy::Exit);
    }

    /// Stops with information that the kernel makes up; a signal from the tracer is sent to the thread.
    fn notify_stop(&mut self, reason: Reason, code: i32, message: Option<u64>, ended_by: EndedBy) {
        let (pid, uid) = (self.tid().0, self.creds().uid.0);
        let info = SigInfo::from_process(Signal::SIGTRAP, code, pid, uid);
        if let Some(message) = message {
            self.trace().lock().message = message;
        }
        let resumed = self.trace_stop(reason, code, Some(info), ended_by);
        if let Some(signal) = Signal::new(resumed.signal) {
            self.raise(signal);
        }
    }

    /// Stops before a signal is delivered. Returns what is delivered instead, if anything.
    pub(crate) fn signal_stop(&mut self, signal: Signal, info: &SigInfo) -> Option<(Signal, SigInfo)> {
        let resumed = self.trace_stop(Reason::Signal, signal.number(), Some(*info), EndedBy::Exit);
        let injected = Signal::new(resumed.signal)?;
        let info = match resumed.info {
            Some(info) if info.signo == injected.number() => info,
            _ => {
                let tracer = self.tracer();
                let (pid, uid) = tracer.map_or((0, 0), |t| (t.pid().0, t.creds().uid.0));
                SigInfo::from_process(injected, si_code::SI_USER, pid, uid)
            }
        };
        if self.signal_mask().contains(injected) {
            // As any other signal that is blocked.
            let _ = self.send_signal(injected, info);
            return None;
        }
        Some((injected, info))
    }

    /// Stops because job control stops the process, or the tracer asked for it.
    pub(crate) fn group_stop(&mut self) {
        self.remove_call_work(CallWork::STOP);
        let job = self.job_signal();
        let kind = self.trace().lock().link.as_ref().map(|link| link.kind);
        match kind {
            None => {}
            Some(LinkKind::Seized) => {
                let signal = job.unwrap_or(Signal::SIGTRAP).number();
                let code = event::STOP << 8 | signal;
                let (pid, uid) = (self.tid().0, self.creds().uid.0);
                let mut info = SigInfo::from_process(Signal::SIGTRAP, code, pid, uid);
                info.signo = signal;
                self.trace_stop(Reason::Group, code, Some(info), EndedBy::Exit);
            }
            Some(LinkKind::Attached) => {
                if let Some(signal) = job {
                    self.trace_stop(Reason::Group, signal.number(), None, EndedBy::Exit);
                }
            }
        }
    }

    fn trace_stop(&mut self, reason: Reason, code: i32, info: Option<SigInfo>, ended_by: EndedBy) -> Resumed {
        let nothing = Resumed { signal: 0, info: None };
        let task = self.task().clone();
        let shown = self.shown_regs();
        let tracer = {
            if self.must_not_stop(ended_by) {
                return nothing;
            }
            let mut state = task.trace().lock();
            let Some(link) = &state.link else { return nothing };
            let tracer = link.tracer.clone();
            state.stop = Some(Box::new(Stop {
                reason,
                code,
                info,
                regs: shown,
                fpu: None,
                is_fpu_changed: false,
                is_fpu_wanted: false,
                is_reported: false,
                is_listening: false,
                resume: None,
            }));
            tracer
        };
        self.set_run_state(RunState::Traced);
        let cld = if reason == Reason::Group { si_code::CLD_STOPPED } else { si_code::CLD_TRAPPED };
        notify(&tracer, &task, cld, code & 0x7f);
        drop(tracer);
        let stop = self.wait_for_tracer(ended_by);
        self.set_run_state(RunState::Running);
        let Some(stop) = stop else { return nothing };
        self.take_regs(&shown, &stop.regs);
        if stop.is_fpu_changed
            && let Some(fpu) = &stop.fpu
        {
            self.context.set_fpu(fpu);
        }
        let Some(Resume { mode, signal }) = stop.resume else { return nothing };
        self.set_resume_mode(mode);
        let debug = self.trace().lock().debug;
        self.watch = debug.watch(&self.mm);
        Resumed { signal, info: stop.info }
    }

    /// Serves the tracer until it lets the thread go on.
    fn wait_for_tracer(&mut self, ended_by: EndedBy) -> Option<Box<Stop>> {
        let task = self.task().clone();
        loop {
            self.waiter().clear();
            let has_to_end = self.must_not_stop(ended_by);
            let wants_fpu = {
                let mut state = task.trace().lock();
                let stop = state.stop.as_mut()?;
                if has_to_end || stop.resume.is_some() {
                    let stop = state.stop.take();
                    task.trace().answered.notify_all();
                    return stop;
                }
                stop.is_fpu_wanted && stop.fpu.is_none()
            };
            if wants_fpu {
                let fpu = self.context.fpu();
                if let Some(stop) = task.trace().lock().stop.as_mut() {
                    stop.fpu = Some(fpu);
                }
                task.trace().answered.notify_all();
                continue;
            }
            self.waiter().sleep(None);
        }
    }

    fn must_not_stop(&self, ended_by: EndedBy) -> bool {
        let group = self.thread_group().signals.lock();
        match ended_by {
            EndedBy::Exit => group.must_leave(self),
            EndedBy::Kill => group.is_killed,
        }
    }

    fn set_resume_mode(&mut self, mode: ResumeMode) {
        let (work, steps) = match mode {
            ResumeMode::Continue => (CallWork::empty(), false),
            ResumeMode::ToCall => (CallWork::CALLS, false),
            ResumeMode::Step => (CallWork::empty(), true),
            ResumeMode::Emulate => (CallWork::EMULATE, false),
            ResumeMode::EmulateAndStep => (CallWork::EMULATE, true),
        };
        self.remove_call_work(CallWork::CALLS | CallWork::EMULATE);
        self.add_call_work(work);
        self.is_stepping = steps;
    }

    /// The registers as a tracer sees them: an interrupted call still has the kernel's own error.
    fn shown_regs(&self) -> Regs {
        match self.interrupted_call {
            Some(call) => {
                Regs { rax: call.restart.kernel_code().wrapping_neg(), orig_rax: call.number, ..self.regs }
            }
            None => self.regs,
        }
    }

    /// Goes on with what the tracer has left. Whether a call is made again depends on the error still being there.
    fn take_regs(&mut self, shown: &Regs, left: &Regs) {
        if left == shown {
            return;
        }
        self.regs = *left;
        let code = left.rax.wrapping_neg();
        self.interrupted_call = crate::errno::Restart::from_kernel_code(code)
            .filter(|_| left.orig_rax.cast_signed() >= 0)
            .map(|restart| Interrupted { restart, number: left.orig_rax });
    }
}
