//! What the filters of a thread say about a call, and what becomes of it.

use sentry_abi::ptrace::event;
use sentry_abi::seccomp::{AUDIT_ARCH_X86_64, SYS_SECCOMP, data, mode, ret};
use sentry_abi::signal::{SigInfo, Signal};
use sentry_abi::syscall::nr;

use crate::errno::Errno;
use crate::task::seccomp::{Decision, Logging};
use crate::task::{CurrentTask, ExitStatus};

/// Whether a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Proceed,
    /// It is not; the registers have its result.
    Skip,
}

/// Where the call came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallPlace {
    /// Guest code.
    Code,
    /// Its tracer has just seen it, and may have changed it.
    Tracer,
}

/// The highest errno that a filter can give.
const MAX_ERRNO: u32 = 4095;

impl CurrentTask {
    /// Asks the thread's filters about the call that its registers hold.
    pub(crate) fn pass_filters(&mut self, place: CallPlace) -> Verdict {
        // The kernel's way into a call takes 32 bits of the number.
        let number = (self.regs.orig_rax & 0xffff_ffff) as u32;
        match self.seccomp().mode() {
            mode::DISABLED => Verdict::Proceed,
            mode::STRICT => self.pass_strict(number),
            _ => self.pass_filter(number, place),
        }
    }

    /// "The only system calls that the calling thread is permitted to make are read(2), write(2), _exit(2) ... and
    /// sigreturn(2). Other system calls result in the termination of the calling thread" (seccomp(2)).
    fn pass_strict(&mut self, number: u32) -> Verdict {
        match u64::from(number) {
            nr::READ | nr::WRITE | nr::EXIT | nr::RT_SIGRETURN => Verdict::Proceed,
            _ => {
                self.exiting = Some(ExitStatus::Signaled(Signal::SIGKILL));
                Verdict::Skip
            }
        }
    }

    fn pass_filter(&mut self, number: u32, place: CallPlace) -> Verdict {
        let Some(filter) = self.seccomp().filter() else { return Verdict::Proceed };
        if filter.always_allows(number.into()) {
            return Verdict::Proceed;
        }
        let data = data(number, self.regs.rip, self.regs.syscall_args());
        let Decision { answer, logging, listener } = filter.decide(&data);
        let (action, value) = (answer & ret::ACTION_FULL, answer & ret::DATA);
        if logging == Logging::On || action == ret::LOG {
            let (pid, comm) = (self.pid().0, self.comm());
            let comm = String::from_utf8_lossy(&comm).into_owned();
            tracing::info!("seccomp: pid {pid} {comm:?} syscall {number} answer {answer:#x}");
        }
        match action {
            ret::ALLOW | ret::LOG => Verdict::Proceed,
            ret::ERRNO => {
                let errno = u64::from(value.min(MAX_ERRNO));
                self.regs.rax = errno.wrapping_neg();
                Verdict::Skip
            }
            ret::TRAP => {
                // As if the call had not been made, but for the instruction pointer.
                self.regs.rax = self.regs.orig_rax;
                self.force_signal(Signal::SIGSYS, self.sigsys(number, value));
                Verdict::Skip
            }
            ret::TRACE => self.ask_tracer(value, place),
            ret::USER_NOTIF => self.ask_listener(listener, data),
            _ => {
                self.kill_for(action);
                Verdict::Skip
            }
        }
    }

    /// `SECCOMP_RET_TRACE`: without a tracer that wants to hear of it, the call is not there.
    fn ask_tracer(&mut self, value: u32, place: CallPlace) -> Verdict {
        if place == CallPlace::Tracer {
            return Verdict::Proceed;
        }
        self.regs.rax = Errno::ENOSYS.to_return_value();
        if !self.event_stop(event::SECCOMP, value.into())
            || self.is_call_cancelled()
            || self.thread_group().signals.lock().must_leave(self)
        {
            return Verdict::Skip;
        }
        // It may be another call now, which filters have not seen.
        self.pass_filters(CallPlace::Tracer)
    }

    /// Ends the thread, or the process if it is the last or `action` is more than `SECCOMP_RET_KILL_THREAD`.
    fn kill_for(&mut self, action: u32) {
        let status = ExitStatus::Signaled(Signal::SIGSYS);
        let is_last = self.thread_group().signals.lock().threads.len() == 1;
        if action != ret::KILL_THREAD || is_last {
            self.thread_group().begin_exit(status);
        }
        self.exiting = Some(status);
    }

    fn sigsys(&self, number: u32, value: u32) -> SigInfo {
        let mut info = SigInfo::fault(Signal::SIGSYS, SYS_SECCOMP, self.regs.rip);
        info.errno = value.cast_signed();
        info.fields[1] = u64::from(number) | u64::from(AUDIT_ARCH_X86_64) << 32;
        info
    }
}
