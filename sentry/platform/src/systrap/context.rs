//! One guest thread, from the sentry's side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::contract::{Context, Interrupter};
use crate::event::{Access, Event, Fault};
use crate::fpu::FpuState;
use crate::host::{self, Woken};
use crate::regs::Regs;
use crate::stub::INTERRUPT_SIGNAL;
use crate::stub::hand_over as word;
use crate::systrap::frame::{Cause, Frame};
use crate::systrap::guest_thread::GuestThread;
use crate::systrap::kick::Kick;
use crate::systrap::space::Stub;

/// How often a guest that runs for long is checked for life.
const LIVENESS: Duration = Duration::from_millis(250);
/// How long a guest runs before it counts as computing and is placed by the scheduler.
const TURN: Duration = Duration::from_millis(2);
/// Checks after which an interrupt that was not answered kills the guest: 2.5 seconds.
const PATIENCE: u32 = 10;
/// Yields to a guest on the same processor before sleeping. Three round trips of the scheduler cost less than a sleep.
const YIELDS: u32 = 3;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const SYS_SECCOMP: i32 = 1;
/// uretprobe(2). Its neighbour 336, uprobe(2) since Linux 6.18, passes seccomp too, does nothing, and returns ENXIO.
const SYS_URETPROBE: u64 = 335;
const SI_KERNEL: i32 = 0x80;
/// Exception number (Intel SDM, volume 3, 6.15).
const PAGE_FAULT: u64 = 14;

/// A context. Fields are dropped in order: the stub, if this is its last user, before the pages it has mapped.
pub(super) struct SystrapContext {
    stub: Arc<Stub>,
    thread: Arc<GuestThread>,
    kick: Arc<Kick>,
    /// Where the guest's state is; `None` once the guest has died or lied.
    frame: Option<Frame>,
    /// Whether the guest thread is held on the processor of the sentry's thread.
    is_pinned: bool,
}

/// The guest did not answer, or its answer makes no sense.
struct Lost;

impl SystrapContext {
    /// Takes over a thread that is stopped in its handler.
    pub(super) fn new(stub: Arc<Stub>, thread: Arc<GuestThread>, fpu: &FpuState) -> Self {
        let frame = Frame::locate(&thread.area, thread.address);
        if let Some(frame) = frame {
            frame.set_fpu(&thread.area, fpu);
        }
        let kick = Arc::new(Kick::new(stub.process.pid(), thread.tid));
        Self { stub, thread, kick, frame, is_pinned: false }
    }

    fn run(&mut self, regs: &mut Regs) -> Result<Event, Lost> {
        loop {
            let frame = self.frame.ok_or(Lost)?;
            if !self.kick.enter() {
                regs.orig_rax = u64::MAX;
                return Ok(Event::Interrupted);
            }
            frame.store(&self.thread.area, self.thread.address, regs);
            self.frame = None;
            self.resume();
            let stopped = self.wait();
            self.kick.leave();
            stopped?;
            let frame = Frame::locate(&self.thread.area, self.thread.address).ok_or(Lost)?;
            self.frame = Some(frame);
            let signal = self.thread.area.u32(word::KIND).load(Ordering::Relaxed).cast_signed();
            frame.load(&self.thread.area, regs);
            if let Some(event) = self.event(signal, frame.cause(&self.thread.area), regs) {
                return Ok(event);
            }
        }
    }

    /// Gives the area back to the stub.
    fn resume(&mut self) {
        let here = host::current_cpu();
        self.hold_on(here);
        let area = &self.thread.area;
        area.u32(word::COMMAND).store(word::COMMAND_RESUME, Ordering::Relaxed);
        area.u32(word::SENTRY_CPU).store(here, Ordering::Relaxed);
        area.u32(word::SPIN_BUDGET).store(0, Ordering::Relaxed);
        // SeqCst: ordered before the load below as the stub orders its store of STUB_WAITS before loading the state.
        area.u32(word::STATE).store(word::STATE_RESPONSE, Ordering::SeqCst);
        if area.u32(word::STUB_WAITS).load(Ordering::SeqCst) != 0 {
            host::futex_wake(area.u32(word::STATE), 1);
        }
    }

    /// Moves the guest thread to the processor where the sentry's thread runs: they take turns anyway, and waking a
    /// thread on an idle processor costs several times what a change of threads on this one does.
    fn hold_on(&mut self, cpu: u32) {
        if self.thread.area.u32(word::STUB_CPU).load(Ordering::Relaxed) != cpu {
            host::pin(self.thread.tid, cpu);
            self.is_pinned = true;
        }
    }

    /// Lets the scheduler place a guest thread that computes.
    fn let_go(&mut self) {
        if std::mem::take(&mut self.is_pinned) {
            host::unpin(self.thread.tid);
        }
    }

    /// Waits until the guest stops.
    fn wait(&mut self) -> Result<(), Lost> {
        let state = self.thread.area.u32(word::STATE);
        for _ in 0..YIELDS {
            host::yield_now();
            if state.load(Ordering::Acquire) == word::STATE_REQUEST {
                return Ok(());
            }
        }
        self.thread.area.u32(word::SENTRY_WAITS).store(1, Ordering::SeqCst);
        let slept = self.sleep();
        self.thread.area.u32(word::SENTRY_WAITS).store(0, Ordering::SeqCst);
        slept
    }

    fn sleep(&mut self) -> Result<(), Lost> {
        let thread = self.thread.clone();
        let state = thread.area.u32(word::STATE);
        let mut overdue = 0;
        loop {
            let seen = state.load(Ordering::SeqCst);
            if seen == word::STATE_REQUEST {
                return Ok(());
            }
            let patience = if self.is_pinned { TURN } else { LIVENESS };
            let woken = host::futex_wait(state, seen, patience);
            if self.stub.process.is_killed() {
                return Err(Lost);
            }
            if woken == Woken::ByTimeout && self.is_pinned {
                self.let_go();
            } else if woken == Woken::ByTimeout {
                overdue = if self.kick.is_overdue() { overdue + 1 } else { 0 };
                // A guest can end its thread by jumping to where the stub does it.
                let is_there = host::tgkill(self.stub.process.pid(), thread.tid, 0);
                if overdue > PATIENCE || !is_there || !self.stub.process.is_alive() {
                    return Err(Lost);
                }
            }
        }
    }

    /// What a signal in the stub means; `None` for what the guest need not know.
    fn event(&self, signal: i32, cause: Cause, regs: &mut Regs) -> Option<Event> {
        match signal {
            libc::SIGSYS if cause.code == SYS_SECCOMP && cause.arch == AUDIT_ARCH_X86_64 => {
                regs.orig_rax = regs.rax;
                Some(Event::Syscall)
            }
            libc::SIGILL if cause.code == SI_KERNEL => {
                // The one call that seccomp lets through without looking (Linux 6.13, seccomp_uprobe_exception), to
                // where it refuses callers other than the kernel's trampoline.
                (regs.rax, regs.orig_rax) = (SYS_URETPROBE, SYS_URETPROBE);
                Some(Event::Syscall)
            }
            libc::SIGSYS => {
                regs.orig_rax = regs.rax;
                Some(Event::compatibility_call(regs))
            }
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP => {
                let Cause { code, addr, arch: _, trapno, error_code } = cause;
                let is_access = trapno == PAGE_FAULT && code != SI_KERNEL;
                let access = is_access.then(|| Access::from_error_code(error_code));
                let addr = if code == SI_KERNEL { 0 } else { addr };
                Some(Event::Fault(Fault { signo: signal, code, addr, access, trapno, error_code }))
            }
            INTERRUPT_SIGNAL => self.kick.take().then_some(Event::Interrupted),
            // Not a signal that the handler is installed for: the guest wrote it.
            _ => None,
        }
    }
}

impl Context for SystrapContext {
    fn switch(&mut self, regs: &mut Regs) -> Event {
        self.run(regs).unwrap_or_else(|Lost| {
            // A guest that lied about its state cannot go on.
            self.frame = None;
            self.stub.process.kill();
            self.stub.threads.wake_all();
            Event::Died
        })
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.kick.clone()
    }

    fn fpu(&mut self) -> FpuState {
        self.frame.map_or_else(FpuState::initial, |frame| frame.fpu(&self.thread.area))
    }

    fn set_fpu(&mut self, state: &FpuState) {
        if let Some(frame) = self.frame {
            frame.set_fpu(&self.thread.area, state);
        }
    }
}

impl Drop for SystrapContext {
    fn drop(&mut self) {
        if self.frame.is_some() {
            self.stub.threads.put(self.thread.clone());
        }
    }
}
