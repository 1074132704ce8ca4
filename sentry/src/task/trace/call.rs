//! Calls of threads that are watched.

use sentry_abi::signal::{SigInfo, Signal};

use crate::errno::Errno;
use crate::task::CurrentTask;
use crate::task::seccomp::{CallPlace, Verdict};
use crate::task::thread::CallWork;
use crate::task::trace::state::Reason;

/// `si_code` of the trap behind a call that was stepped over.
const TRAP_BRKPT: i32 = 1;

impl CurrentTask {
    /// Shows the call that the registers hold to the tracer and to filters.
    pub(crate) fn enter_watched_call(&mut self) -> Verdict {
        let work = self.call_work();
        if work.intersects(CallWork::CALLS | CallWork::EMULATE) {
            self.regs.rax = Errno::ENOSYS.to_return_value();
            self.call_stop(Reason::CallEntry);
            // The tracer may have put another call there, or none: -1.
            let has_left = self.thread_group().signals.lock().must_leave(self);
            if work.contains(CallWork::EMULATE) || has_left || self.is_call_cancelled() {
                return Verdict::Skip;
            }
        }
        if work.contains(CallWork::SECCOMP) { self.pass_filters(CallPlace::Code) } else { Verdict::Proceed }
    }

    /// Whether the tracer wants no call.
    pub(crate) fn is_call_cancelled(&self) -> bool {
        // The kernel keeps the number as an int.
        (self.regs.orig_rax as u32).cast_signed() < 0
    }

    /// Shows the result of a call to the tracer.
    pub(crate) fn leave_watched_call(&mut self) {
        if self.exiting.is_some() {
            return;
        }
        if self.call_work().contains(CallWork::CALLS) {
            self.call_stop(Reason::CallExit);
        }
        if self.is_stepping {
            let info = SigInfo::fault(Signal::SIGTRAP, TRAP_BRKPT, self.regs.rip);
            self.force_signal(Signal::SIGTRAP, info);
        }
    }
}
