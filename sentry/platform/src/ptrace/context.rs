//! A traced guest thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::contract::{Context, CpuClock, Interrupter};
use crate::event::{Access, Event, Fault};
use crate::fpu::FpuState;
use crate::host;
use crate::ptrace::calls::{Stop, Tid, load, store};
use crate::regs::Regs;
use crate::stub::text::{self, Entry};
use crate::stub::{INTERRUPT_SIGNAL, StubProcess, ThreadClock};

/// The signal that makes a running guest thread stop; it is never delivered.
const KICK: i32 = INTERRUPT_SIGNAL;
/// A tracee that stopped within this time takes turns with its tracer.
const TURN: Duration = Duration::from_micros(500);
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// A guest thread and the state of its tracing.
pub(super) struct PtraceContext {
    stub: Arc<StubProcess>,
    tid: Tid,
    state: State,
    kick: Arc<Kick>,
    /// The vector state to load before the guest runs next.
    new_fpu: Option<FpuState>,
    /// The processor that the tracee is held on, and when it was last resumed.
    held_on: Option<u32>,
    resumed: Instant,
    /// Where the last page fault was, to tell the first access from one that a mapping did not satisfy.
    last_fault: (u64, u64),
}

enum State {
    /// Pausing in stub text; traced from the first switch on, by the thread that calls it.
    Paused,
    /// Stopped, with these registers in the host's form.
    Stopped(Box<libc::user_regs_struct>),
    /// Gone.
    Dead,
}

struct Kick {
    pid: i32,
    tid: i32,
    wanted: AtomicBool,
    in_guest: AtomicBool,
}

impl Interrupter for Kick {
    fn interrupt(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        // SeqCst on both: either `switch` sees `wanted` before it resumes the guest, or this sees `in_guest`.
        if self.in_guest.load(Ordering::SeqCst) {
            // SAFETY: takes numbers only. A thread that is gone is fine.
            unsafe { libc::syscall(libc::SYS_tgkill, self.pid, self.tid, KICK) };
        }
    }
}

impl PtraceContext {
    pub(super) fn new(stub: Arc<StubProcess>, tid: i32, fpu: FpuState) -> Self {
        let kick =
            Kick { pid: stub.pid(), tid, wanted: AtomicBool::new(false), in_guest: AtomicBool::new(false) };
        Self {
            stub,
            tid: Tid(tid),
            state: State::Paused,
            kick: Arc::new(kick),
            new_fpu: Some(fpu),
            held_on: None,
            resumed: Instant::now(),
            last_fault: (0, 0),
        }
    }

    /// Takes the thread over where it is not yet, and returns its registers.
    fn stopped(&mut self) -> Option<&mut libc::user_regs_struct> {
        if matches!(self.state, State::Paused) {
            self.state = match self.take_over() {
                Ok(regs) => State::Stopped(Box::new(regs)),
                Err(_) => State::Dead,
            };
        }
        match &mut self.state {
            State::Stopped(regs) => Some(regs),
            State::Paused | State::Dead => None,
        }
    }

    fn take_over(&self) -> io::Result<libc::user_regs_struct> {
        let parked = text::address(self.stub.layout(), Entry::Parked);
        self.tid.seize()?;
        self.tid.interrupt()?;
        loop {
            match self.tid.wait() {
                Stop::Event => {
                    let regs = self.tid.registers()?;
                    if regs.rip == parked {
                        return Ok(regs);
                    }
                    // Not there yet: it installs its seccomp program first.
                    self.tid.cont()?;
                    host::yield_now();
                    self.tid.interrupt()?;
                }
                Stop::Dead => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
                Stop::Syscall | Stop::Signal(_) => self.tid.cont()?,
            }
        }
    }

    /// Holds a tracee that stops often on the tracer's processor: waking it on an idle one takes several times as long
    /// as taking turns. One that computes is placed by the scheduler.
    fn place(&mut self) {
        let now = Instant::now();
        let is_busy_with_us = now.duration_since(self.resumed) < TURN;
        self.resumed = now;
        let here = is_busy_with_us.then(host::current_cpu);
        if here != self.held_on {
            match here {
                Some(cpu) => host::pin(self.tid.0, cpu),
                None => host::unpin(self.tid.0),
            }
            self.held_on = here;
        }
    }

    fn load_new_fpu(&mut self) -> io::Result<()> {
        let Some(state) = self.new_fpu.take() else { return Ok(()) };
        let mut area = self.tid.xsave()?;
        let n = state.as_bytes().len().min(area.len());
        area[..n].copy_from_slice(&state.as_bytes()[..n]);
        if n < area.len() && n == FpuState::MIN_LEN {
            // Only x87 and SSE were given: everything else is in its initial state.
            area[n..].fill(0);
        }
        keep_valid(&mut area);
        self.tid.set_xsave(&area)
    }

    fn run(&mut self, regs: &mut Regs) -> io::Result<Event> {
        let tid = self.tid;
        let Some(host) = self.stopped() else { return Ok(Event::Died) };
        store(regs, host);
        let host = *host;
        tid.set_registers(&host)?;
        self.load_new_fpu()?;
        self.place();
        loop {
            self.kick.in_guest.store(true, Ordering::SeqCst);
            if self.kick.wanted.swap(false, Ordering::SeqCst) {
                self.kick.in_guest.store(false, Ordering::SeqCst);
                regs.orig_rax = u64::MAX;
                return Ok(Event::Interrupted);
            }
            tid.sysemu()?;
            let stop = tid.wait();
            self.kick.in_guest.store(false, Ordering::SeqCst);
            if stop == Stop::Dead {
                self.state = State::Dead;
                return Ok(Event::Died);
            }
            let host = tid.registers()?;
            load(&host, regs);
            self.state = State::Stopped(Box::new(host));
            match stop {
                Stop::Syscall if tid.syscall_arch()? != AUDIT_ARCH_X86_64 => {
                    return Ok(Event::compatibility_call(regs));
                }
                Stop::Syscall => {
                    // The host stored -ENOSYS.
                    regs.rax = regs.orig_rax;
                    return Ok(Event::Syscall);
                }
                // A call through the vsyscall page, which only seccomp sees. The host put the number back into rax.
                Stop::Signal(libc::SIGSYS) => {
                    regs.orig_rax = regs.rax;
                    return Ok(Event::Syscall);
                }
                Stop::Signal(KICK) if self.kick.wanted.swap(false, Ordering::SeqCst) => {
                    regs.orig_rax = u64::MAX;
                    return Ok(Event::Interrupted);
                }
                Stop::Signal(
                    signo @ (libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP),
                ) => {
                    regs.orig_rax = u64::MAX;
                    let info = tid.siginfo()?;
                    return Ok(Event::Fault(self.fault(signo, &info, regs)));
                }
                // A kick that came late, or a signal of somebody on the host: guests do not see those.
                Stop::Signal(_) | Stop::Event | Stop::Dead => {}
            }
        }
    }

    /// The host does not tell a tracer how an address was accessed; `SEGV_ACCERR` means that a mapping is there
    /// that does not allow it, and the sentry maps readable pages only.
    fn fault(&mut self, signo: i32, info: &libc::siginfo_t, regs: &Regs) -> Fault {
        const SEGV_ACCERR: i32 = 2;
        const SI_KERNEL: i32 = 0x80;
        // SAFETY: the union's address member is valid for these signals.
        let addr = unsafe { info.si_addr() }.addr() as u64;
        // A general protection fault (a non-canonical address) has no address.
        let addr = if info.si_code == SI_KERNEL { 0 } else { addr };
        let access = (signo == libc::SIGSEGV && info.si_code != SI_KERNEL).then(|| {
            let repeated = self.last_fault == (addr, regs.rip);
            match addr {
                a if a == regs.rip => Access::Execute,
                _ if info.si_code == SEGV_ACCERR || repeated => Access::Write,
                _ => Access::Read,
            }
        });
        self.last_fault = (addr, regs.rip);
        let trapno = match signo {
            libc::SIGSEGV if info.si_code == SI_KERNEL => 13,
            libc::SIGSEGV | libc::SIGBUS => 14,
            libc::SIGILL => 6,
            libc::SIGTRAP if info.si_code == SI_KERNEL => 3,
            libc::SIGTRAP => 1,
            _ => 0,
        };
        let error_code = match access {
            Some(Access::Write) => 6,
            Some(Access::Execute) => 0x14,
            Some(Access::Read) => 4,
            None => 0,
        };
        Fault { signo, code: info.si_code, addr, access, trapno, error_code }
    }
}

/// Clears what the host would refuse: reserved MXCSR bits and a compacted or extended header.
fn keep_valid(area: &mut [u8]) {
    const MXCSR: std::ops::Range<usize> = 24..28;
    let mxcsr = u32::from_le_bytes([area[24], area[25], area[26], area[27]]) & 0xffff;
    area[MXCSR].copy_from_slice(&mxcsr.to_le_bytes());
    // XCOMP_BV and the reserved part of the header.
    if let Some(header) = area.get_mut(520..576) {
        header.fill(0);
    }
}

impl Context for PtraceContext {
    fn switch(&mut self, regs: &mut Regs) -> Event {
        match self.run(regs) {
            Ok(event) => event,
            // ESRCH: killed while stopped. Whatever else the host says, this thread cannot go on.
            Err(_) => {
                self.state = State::Dead;
                Event::Died
            }
        }
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.kick.clone()
    }

    fn cpu_clock(&self) -> Arc<dyn CpuClock> {
        Arc::new(ThreadClock::new(Arc::downgrade(&self.stub), self.tid.0, Duration::ZERO))
    }

    fn fpu(&mut self) -> FpuState {
        if let Some(state) = &self.new_fpu {
            return state.clone();
        }
        self.tid.xsave().ok().and_then(FpuState::new).unwrap_or_else(FpuState::initial)
    }

    fn set_fpu(&mut self, state: &FpuState) {
        self.new_fpu = Some(state.clone());
    }
}

impl Drop for PtraceContext {
    /// Lets the thread exit; a context is dropped by the thread that traced it, or before any did.
    fn drop(&mut self) {
        if let Some(host) = self.stopped() {
            let mut host = *host;
            host.orig_rax = u64::MAX;
            host.rip = text::address(self.stub.layout(), Entry::Exit);
            if self.tid.set_registers(&host).and_then(|()| self.tid.detach()).is_err() {
                // Killed while it was stopped, or traced by another thread, which cannot be helped. A dead tracee must
                // be waited for: the process stays until then.
                self.stub.kill();
                while self.tid.wait() != Stop::Dead {}
            }
        }
    }
}
