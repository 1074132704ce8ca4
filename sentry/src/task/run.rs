//! The life of a task: run guest code, handle what it stopped for, look at signals, again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sentry_abi::signal::{SigInfo, Signal, si_code};
use sentry_abi::syscall::nr;
use sentry_platform::{Access, Event, Fault, Regs};

use crate::errno::{Errno, SysError};
use crate::mm::FaultError;
use crate::strace;
use crate::syscall::{self, Args};
use crate::task::restart::Interrupted;
use crate::task::running::Running;
use crate::task::seccomp::{CallPlace, Verdict};
use crate::task::signal::Delivery;
use crate::task::thread::CallWork;
use crate::task::{CurrentTask, ExitStatus, vsyscall};

/// What registers need to restart a system call.
pub(crate) trait SyscallRegs {
    /// Stores what the guest finds in `rax`.
    fn set_syscall_result(&mut self, value: u64);
    /// Moves back to the system call instruction, with `number` to call.
    fn rewind_syscall(&mut self, number: u64);
}

impl SyscallRegs for Regs {
    fn set_syscall_result(&mut self, value: u64) {
        self.rax = value;
    }

    fn rewind_syscall(&mut self, number: u64) {
        // `syscall` and `int 0x80` both have two bytes.
        self.rip = self.rip.wrapping_sub(2);
        self.rax = number;
    }
}

/// The flag that traps after each instruction.
const TRAP_FLAG: u64 = 0x100;

impl CurrentTask {
    /// Starts this task on a thread.
    ///
    /// # Errors
    /// `EAGAIN` when the host refuses another thread.
    pub(crate) fn spawn(self) -> Result<(), Errno> {
        let threads = self.kernel().host_threads.clone();
        threads.run(move || self.live()).map_err(|error| {
            tracing::warn!("thread for a task: {error}");
            Errno::EAGAIN
        })
    }

    fn live(mut self) {
        self.waiter().attach();
        self.clocks().start_system();
        self.clocks().start_user(self.context.cpu_clock());
        self.set_interrupter(self.context.interrupter());
        self.publish_identity();
        let task = self.task.clone();
        let _running = Running::for_task(&task);
        let status = catch_unwind(AssertUnwindSafe(|| self.run()));
        let status = status.unwrap_or_else(|_| {
            tracing::error!(
                "task {}: the sentry panicked on its behalf; its process is killed",
                task.tid().0
            );
            task.thread_group().begin_exit(ExitStatus::Signaled(Signal::SIGKILL));
            ExitStatus::Signaled(Signal::SIGKILL)
        });
        // Cleaning up writes to guest memory and tells others; a panic there must not leave a process half alive.
        if catch_unwind(AssertUnwindSafe(|| self.leave(status))).is_err() {
            tracing::error!("task {}: panic while exiting", task.tid().0);
        }
    }

    /// Runs until the thread has to end, and returns how.
    fn run(&mut self) -> ExitStatus {
        loop {
            if self.is_interrupted() && self.look_around() == Delivery::Leave {
                let group = self.thread_group().signals.lock().exit;
                return group.unwrap_or(ExitStatus::Exited(0));
            }
            if !self.enter_guest() {
                self.wait_while_frozen();
                continue;
            }
            let is_stepped = self.is_stepping || self.watch.is_some();
            if is_stepped {
                self.regs.rflags |= TRAP_FLAG;
            }
            let event = self.context.switch(&mut self.regs);
            if is_stepped {
                self.regs.rflags &= !TRAP_FLAG;
            }
            self.leave_guest();
            match event {
                Event::Syscall => {
                    if let Some(site) = self.context.hot_call() {
                        self.mm.rewrite_call(site);
                    }
                    self.system_call();
                    if is_stepped {
                        self.forget_changes();
                    }
                }
                Event::Fault(fault) if is_stepped && fault.is_step() && !self.has_stepped() => {}
                Event::Fault(fault) => self.fault(&fault),
                Event::Interrupted => {}
                Event::Died => {
                    self.thread_group().begin_exit(ExitStatus::Signaled(Signal::SIGKILL));
                    self.request_attention();
                }
            }
            if let Some(status) = self.exiting.take() {
                return status;
            }
        }
    }

    /// Sleeps while guest code is held back, unless the thread has to end.
    fn wait_while_frozen(&self) {
        loop {
            self.waiter().clear();
            let group = self.thread_group();
            if !self.kernel().is_frozen(group.container()) || group.signals.lock().must_leave(self) {
                return;
            }
            self.waiter().sleep(None);
        }
    }

    /// Does what others have asked of the thread.
    fn look_around(&mut self) -> Delivery {
        if self.take_stale_answers() {
            self.publish_identity();
        }
        self.deliver_signals()
    }

    fn system_call(&mut self) {
        if self.call_work().is_empty() {
            self.make_call();
            // Who begins to trace a thread meanwhile does not see the end of the call.
            return;
        }
        if self.enter_watched_call() == Verdict::Proceed {
            self.make_call();
        }
        self.leave_watched_call();
    }

    fn make_call(&mut self) {
        let number = self.regs.orig_rax;
        let args = Args(self.regs.syscall_args());
        let result = if self.kernel().traces(number) {
            strace::traced(self, number, &args)
        } else {
            syscall::dispatch(self, number, &args)
        };
        match result {
            Ok(value) => self.regs.rax = value,
            Err(SysError::Errno(errno)) => self.regs.rax = errno.to_return_value(),
            Err(SysError::Restart(restart)) => {
                self.regs.rax = Errno::EINTR.to_return_value();
                self.interrupted_call = Some(Interrupted { restart, number });
                // Settled on the way back, whether or not the signal is still there.
                self.request_attention();
            }
        }
        if number != nr::RESTART_SYSCALL && self.interrupted_call.is_none() {
            self.restart_block = None;
        }
    }

    fn fault(&mut self, fault: &Fault) {
        if fault.signo == Signal::SIGSEGV.number() || fault.signo == Signal::SIGBUS.number() {
            if vsyscall::is_call(&self.regs, fault) {
                self.emulate_vsyscall();
                return;
            }
            let access = fault.access.unwrap_or(Access::Read);
            let mut result = self.mm.handle_fault(fault.addr, access);
            // The page was there for reading, so an access of unknown kind must have been a write.
            if fault.access.is_none() && result.is_ok() {
                let write = self.mm.handle_fault(fault.addr, Access::Write);
                if matches!(write, Ok(()) | Err(FaultError::OutOfMemory)) {
                    result = write;
                }
            }
            match result {
                // A host file that shrank under its mapping faults again although the page "is there".
                Ok(()) if fault.signo == Signal::SIGBUS.number() => {}
                Ok(()) => return,
                Err(error) => {
                    self.raise_memory_fault(fault, error);
                    return;
                }
            }
        }
        let signal = Signal::new(fault.signo).unwrap_or(Signal::SIGSEGV);
        self.last_fault = Some(*fault);
        self.force_signal(signal, SigInfo::fault(signal, fault.code, fault.addr));
    }

    fn raise_memory_fault(&mut self, fault: &Fault, error: FaultError) {
        const SEGV_MAPERR: i32 = si_code::SEGV_MAPERR;
        let (signal, code) = match error {
            FaultError::NotMapped => (Signal::SIGSEGV, SEGV_MAPERR),
            FaultError::Denied => (Signal::SIGSEGV, si_code::SEGV_ACCERR),
            FaultError::NoPage => (Signal::SIGBUS, si_code::BUS_ADRERR),
            FaultError::OutOfMemory | FaultError::Host => {
                // As Linux's out-of-memory killer, which takes the process that could not get its page.
                tracing::warn!("process {}: {error}; killed", self.pid().0);
                self.thread_group().begin_exit(ExitStatus::Signaled(Signal::SIGKILL));
                self.request_attention();
                return;
            }
        };
        self.last_fault = Some(*fault);
        self.force_signal(signal, SigInfo::fault(signal, code, fault.addr));
    }

    /// Runs a legacy vsyscall (`vdso(7)`): the guest jumped to its fixed address, so the result goes to `rax` and the
    /// return address is on the stack.
    fn emulate_vsyscall(&mut self) {
        let Some(number) = vsyscall::number(self.regs.rip) else { return };
        let Ok(return_to) = self.mm.read_obj::<u64>(crate::mm::UserAddr(self.regs.rsp)) else {
            let info = SigInfo::fault(Signal::SIGSEGV, si_code::SEGV_MAPERR, self.regs.rsp);
            self.force_signal(Signal::SIGSEGV, info);
            return;
        };
        self.regs.orig_rax = number;
        // Filters see the entry of the page as the place of the call.
        self.regs.rax = number;
        let verdict = if self.call_work().contains(CallWork::SECCOMP) {
            self.pass_filters(CallPlace::Code)
        } else {
            Verdict::Proceed
        };
        self.regs.rip = return_to;
        self.regs.rsp = self.regs.rsp.wrapping_add(8);
        if verdict == Verdict::Proceed {
            self.make_call();
        }
    }
}
