//! One guest thread, from the sentry's side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::contract::{Answers, CallSite, Context, CpuClock, Interrupter};
use crate::event::{Access, Event, Fault};
use crate::fpu::FpuState;
use crate::host::{self, Woken};
use crate::regs::Regs;
use crate::stub::control::Window;
use crate::stub::hand_over as word;
use crate::stub::text::{self, Entry};
use crate::stub::{INTERRUPT_SIGNAL, ThreadClock};
use crate::systrap::call;
use crate::systrap::call_site::{HotCalls, SITE_LEN, SiteCode, SiteTable};
use crate::systrap::compare_site;
use crate::systrap::frame::{Cause, Frame};
use crate::systrap::guest_thread::{GuestThread, Taken};
use crate::systrap::kick::Kick;
use crate::systrap::placement::{Placement, Seats};
use crate::systrap::space::Stub;

/// How often a guest that runs for long is checked for life.
const LIVENESS: Duration = Duration::from_millis(250);
/// How long a guest runs before it counts as computing and is placed by the scheduler.
const TURN: Duration = Duration::from_millis(2);
/// Turns for which a guest thread that was put on a busy processor may wait for its time slice there.
const SLICES: u32 = 2;
/// Checks after which an interrupt that was not answered kills the guest: 2.5 seconds.
const PATIENCE: u32 = 10;
/// Yields to a guest on the same processor before sleeping. Three round trips of the scheduler cost less than a sleep.
const YIELDS: u32 = 3;
/// How long either side spins for the other on another processor, in ticks of the processor's clock: some 40 us. That is
/// more than waking a thread there takes, or two that once slept would go on waking each other for ever. Pairs for which
/// it is often not enough are not kept apart.
const SPIN_TICKS: u32 = 100_000;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const SYS_SECCOMP: i32 = 1;
/// uretprobe(2). Its neighbour 336, uprobe(2) since Linux 6.18, passes seccomp too, does nothing, and returns ENXIO.
const SYS_URETPROBE: u64 = 335;
const SI_KERNEL: i32 = 0x80;
/// Exception number (Intel SDM, volume 3, 6.15).
const PAGE_FAULT: u64 = 14;
/// Likewise.
const GENERAL_PROTECTION: u64 = 13;

/// A context. Fields are dropped in order: the stub, if this is its last user, before the pages it has mapped.
pub(super) struct SystrapContext {
    stub: Arc<Stub>,
    thread: Arc<GuestThread>,
    kick: Arc<Kick>,
    stopped: Stopped,
    /// What the guest was last resumed with.
    resumed: Box<Regs>,
    hot_calls: HotCalls,
    /// The return address of the call that the guest is stopped at, if its site is certainly a rewritten one.
    came_by_table: Option<u64>,
    /// Whether the guest thread is held on one processor.
    is_pinned: bool,
    placement: Placement<'static>,
    /// What guests that ran on the host thread before have used of its time.
    time_before: Duration,
}

/// Where the guest's state is.
#[derive(Debug, Clone, Copy)]
enum Stopped {
    /// In a signal frame.
    InFrame(Frame),
    /// At a rewritten call: the registers in the thread area, vector state in the processor.
    AtCall,
    /// Nowhere: the guest runs, has died, or has lied.
    Nowhere,
}

/// The guest did not answer, or its answer makes no sense.
struct Lost;

impl SystrapContext {
    /// Takes over a thread that is stopped in its handler.
    pub(super) fn new(stub: Arc<Stub>, taken: Taken, fpu: &FpuState) -> Self {
        let Taken { thread, time_before } = taken;
        let stopped = match Frame::locate(&thread.area, thread.address) {
            Some(frame) => {
                frame.set_fpu(&thread.area, fpu);
                Stopped::InFrame(frame)
            }
            None => Stopped::Nowhere,
        };
        let entry = text::address(stub.process.layout(), Entry::Call);
        thread.area.u64(word::CALL_ENTRY).store(entry, Ordering::Relaxed);
        // The guest thread that had the area before may have published other answers.
        publish(&thread.area, &Answers::default());
        let kick = Arc::new(Kick::new(stub.process.pid(), thread.tid));
        let (resumed, hot_calls) = (Box::default(), HotCalls::new());
        let placement = Placement::new(Seats::of_machine());
        Self {
            stub,
            thread,
            kick,
            stopped,
            resumed,
            hot_calls,
            came_by_table: None,
            is_pinned: false,
            placement,
            time_before,
        }
    }

    fn run(&mut self, regs: &mut Regs) -> Result<Event, Lost> {
        loop {
            if !self.kick.enter() {
                regs.orig_rax = u64::MAX;
                return Ok(Event::Interrupted);
            }
            let ran = self.run_once(regs);
            self.kick.leave();
            if let Some(event) = ran? {
                return Ok(event);
            }
        }
    }

    /// Lets the guest run until it stops; `None` if that was for nothing it need know of.
    fn run_once(&mut self, regs: &mut Regs) -> Result<Option<Event>, Lost> {
        if regs.gs_base != 0 {
            self.stub.sites.slow_down();
        }
        if matches!(self.stopped, Stopped::AtCall) && !call::is_plain_return(&self.resumed, regs) {
            self.leave_call()?;
        }
        let came_by_table = self.came_by_table.take();
        match self.stopped {
            Stopped::InFrame(frame) => {
                if came_by_table == Some(regs.rip) {
                    // Saves the signal that would come of going there.
                    self.was_behind_call(regs);
                }
                frame.store(&self.thread.area, self.thread.address, regs);
                if regs.gs_base == 0 {
                    // Rewritten calls find the thread area through gs.
                    self.thread.area.u64(word::GS_BASE).store(self.thread.address, Ordering::Relaxed);
                }
            }
            Stopped::AtCall => call::store_result(&self.thread.area, regs),
            Stopped::Nowhere => return Err(Lost),
        }
        *self.resumed = *regs;
        self.resume(word::COMMAND_RESUME);
        self.wait()?;
        let signal = self.thread.area.u32(word::KIND).load(Ordering::Relaxed);
        if signal == word::KIND_CALL {
            call::load(&self.thread.area, regs);
            regs.rip = self.stub.sites.return_address(regs.rip);
            regs.rcx = regs.rip;
            self.came_by_table = Some(regs.rip);
            *self.resumed = *regs;
            self.stopped = Stopped::AtCall;
            return Ok(Some(Event::Syscall));
        }
        let frame = self.locate_frame()?;
        frame.load(&self.thread.area, regs);
        if regs.gs_base == self.thread.address {
            regs.gs_base = 0;
        }
        Ok(self.event(signal.cast_signed(), frame.cause(&self.thread.area), regs))
    }

    fn locate_frame(&mut self) -> Result<Frame, Lost> {
        let frame = Frame::locate(&self.thread.area, self.thread.address).ok_or(Lost)?;
        self.stopped = Stopped::InFrame(frame);
        Ok(frame)
    }

    /// Makes a guest at a rewritten call have a signal frame, in which everything can be seen and changed.
    fn leave_call(&mut self) -> Result<(), Lost> {
        if matches!(self.stopped, Stopped::AtCall) {
            self.resume(word::COMMAND_TRAP);
            self.wait()?;
            self.locate_frame()?;
        }
        Ok(())
    }

    fn frame(&mut self) -> Option<Frame> {
        if self.leave_call().is_err() {
            self.give_up();
        }
        match self.stopped {
            Stopped::InFrame(frame) => Some(frame),
            Stopped::AtCall | Stopped::Nowhere => None,
        }
    }

    /// A guest that lied about its state, or does not answer, cannot go on.
    fn give_up(&mut self) {
        self.stopped = Stopped::Nowhere;
        self.stub.process.kill();
        self.stub.threads.wake_all();
    }

    /// Gives the area back to the stub.
    fn resume(&mut self, command: u32) {
        self.stopped = Stopped::Nowhere;
        let here = host::current_cpu();
        let may_spin = self.place(here);
        let area = &self.thread.area;
        area.u32(word::COMMAND).store(command, Ordering::Relaxed);
        area.u32(word::INTERRUPTED).store(0, Ordering::Relaxed);
        area.u32(word::SENTRY_CPU).store(here, Ordering::Relaxed);
        area.u32(word::SPIN_BUDGET).store(if may_spin { SPIN_TICKS } else { 0 }, Ordering::Relaxed);
        // SeqCst: ordered before the load below as the stub orders its store of STUB_WAITS before loading the state.
        area.u32(word::STATE).store(word::STATE_RESPONSE, Ordering::SeqCst);
        if area.u32(word::STUB_WAITS).load(Ordering::SeqCst) != 0 {
            host::futex_wake(area.u32(word::STATE), 1);
        }
    }

    /// Moves the guest thread to where it is to run: the processor of the sentry's thread, since waking a thread on an
    /// idle processor costs several times what a change of threads on this one does, or another one. True if both may
    /// spin.
    fn place(&mut self, here: u32) -> bool {
        let has_changed = self.placement.on_turn(Instant::now);
        let there = self.thread.area.u32(word::STUB_CPU).load(Ordering::Relaxed);
        if self.placement.is_apart() {
            // The scheduler may have moved the sentry's thread beside the guest's.
            if (has_changed || there == here)
                && let Some(other) = host::other_cpu(here)
            {
                host::pin(self.thread.tid, other);
                self.is_pinned = true;
            }
            return true;
        }
        if there != here {
            host::pin(self.thread.tid, here);
            self.is_pinned = true;
        }
        false
    }

    /// Lets the scheduler place a guest thread that computes.
    fn let_go(&mut self) {
        if self.is_unanswered() {
            self.placement.give_up_for_want_of_a_processor(Instant::now());
        }
        self.placement.stop();
        if std::mem::take(&mut self.is_pinned) {
            host::unpin(self.thread.tid);
        }
    }

    /// Waits until the guest stops.
    fn wait(&mut self) -> Result<(), Lost> {
        if self.comes_soon() {
            return Ok(());
        }
        self.thread.area.u32(word::SENTRY_WAITS).store(1, Ordering::SeqCst);
        let slept = self.sleep();
        self.thread.area.u32(word::SENTRY_WAITS).store(0, Ordering::SeqCst);
        slept
    }

    /// Waits for a while without sleeping; whether the guest has stopped.
    fn comes_soon(&mut self) -> bool {
        if self.placement.is_apart() {
            if host::spin_until(SPIN_TICKS, || self.is_request()) {
                return true;
            }
            self.spun_in_vain();
            if self.placement.is_apart() {
                return false;
            }
        }
        (0..YIELDS).any(|_| {
            host::yield_now();
            self.is_request()
        })
    }

    fn is_request(&self) -> bool {
        self.thread.area.u32(word::STATE).load(Ordering::Acquire) == word::STATE_REQUEST
    }

    /// Fetches a guest thread back that was put on another processor and did not get it.
    fn spun_in_vain(&mut self) {
        if !self.is_unanswered() {
            self.placement.on_failed_spin(Instant::now);
        } else if self.placement.on_stall(Instant::now()) {
            host::pin(self.thread.tid, host::current_cpu());
            self.is_pinned = true;
        }
    }

    /// Whether the guest thread has not noticed yet that it is its turn.
    fn is_unanswered(&self) -> bool {
        self.thread.area.u32(word::STATE).load(Ordering::Relaxed) == word::STATE_RESPONSE
    }

    fn sleep(&mut self) -> Result<(), Lost> {
        let thread = self.thread.clone();
        let state = thread.area.u32(word::STATE);
        let mut overdue = 0;
        let mut slices = 0;
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
                if self.placement.is_apart() && self.is_unanswered() && slices < SLICES {
                    slices += 1;
                } else {
                    self.let_go();
                }
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
    fn event(&mut self, signal: i32, cause: Cause, regs: &mut Regs) -> Option<Event> {
        if self.was_rewritten_call(signal, regs) {
            return Some(Event::Syscall);
        }
        if signal == libc::SIGSEGV && cause.trapno == GENERAL_PROTECTION && self.was_behind_call(regs) {
            return None;
        }
        match signal {
            // The stub turned a rewritten call that was over into a frame because of an interrupt.
            libc::SIGSYS if self.was_leaving_call(regs) => self.kick.take().then_some(Event::Interrupted),
            libc::SIGSYS if cause.code == SYS_SECCOMP && cause.arch == AUDIT_ARCH_X86_64 => {
                regs.orig_rax = regs.rax;
                self.hot_calls.count(regs.rip, regs.rax);
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
            INTERRUPT_SIGNAL => {
                let _ = self.was_leaving_call(regs);
                self.kick.take().then_some(Event::Interrupted)
            }
            // Not a signal that the handler is installed for: the guest wrote it.
            _ => None,
        }
    }

    /// Whether the guest was on its way back from a rewritten call, in stub text; gives it the registers it was to have.
    fn was_leaving_call(&self, regs: &mut Regs) -> bool {
        let layout = self.stub.process.layout();
        let exit = text::address(layout, Entry::CallExit)..=text::address(layout, Entry::Trapped);
        let was = exit.contains(&regs.rip);
        if was {
            *regs = *self.resumed;
            regs.orig_rax = u64::MAX;
        }
        was
    }

    /// Whether the signal stands for a call: at a rewritten site, or at one that traps by way of the table. What stops
    /// in the code of the table otherwise has not got to the call yet and is put back to the site.
    fn was_rewritten_call(&mut self, signal: i32, regs: &mut Regs) -> bool {
        let sites = &self.stub.sites;
        let (site, number) = if let Some(site) = sites.of_code(regs.rip) {
            if signal != libc::SIGSYS {
                regs.rip = SiteTable::apparent_rip(site, regs.rip);
                return false;
            }
            self.came_by_table = Some(site.return_address);
            (site, site.number())
        } else if signal != libc::SIGILL {
            return false;
        } else if let Some(site) = sites.of_return_address(regs.rip.wrapping_add(2)) {
            (site, None)
        } else if let Some(site) = sites.of_return_address(regs.rip.wrapping_add(SITE_LEN))
            && site.number().is_some()
        {
            (site, site.number())
        } else {
            return false;
        };
        let number = number.map_or(regs.rax, u64::from);
        (regs.rip, regs.rcx, regs.r11) = (site.return_address, site.return_address, regs.rflags);
        (regs.rax, regs.orig_rax) = (number, number);
        true
    }

    /// Whether the guest came to the comparison of a rewritten site otherwise than by a call through the table: from a
    /// call that began before the rewrite, a signal handler, a fork. Compares in its place.
    fn was_behind_call(&self, regs: &mut Regs) -> bool {
        let Some(site) = self.stub.sites.of_return_address(regs.rip) else { return false };
        let SiteCode::Compare(with) = site.code else { return false };
        compare_site::compare(regs, with);
        true
    }
}

impl Context for SystrapContext {
    fn switch(&mut self, regs: &mut Regs) -> Event {
        self.run(regs).unwrap_or_else(|Lost| {
            self.give_up();
            Event::Died
        })
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.kick.clone()
    }

    fn cpu_clock(&self) -> Arc<dyn CpuClock> {
        Arc::new(ThreadClock::new(Arc::downgrade(&self.stub), self.thread.tid, self.time_before))
    }

    fn fpu(&mut self) -> FpuState {
        self.frame().map_or_else(FpuState::initial, |frame| frame.fpu(&self.thread.area))
    }

    fn set_fpu(&mut self, state: &FpuState) {
        if let Some(frame) = self.frame() {
            frame.set_fpu(&self.thread.area, state);
        }
    }

    fn publish(&mut self, answers: &Answers) {
        // Sites that a debugger had put back can get hot again.
        self.hot_calls.clear();
        publish(&self.thread.area, answers);
    }

    fn hot_call(&mut self) -> Option<CallSite> {
        self.hot_calls.take()
    }
}

/// Stores what the code of rewritten sites answers by itself.
fn publish(area: &Window, answers: &Answers) {
    let Answers { pid, tid, uid, euid, gid, egid } = *answers;
    for n in 0..word::ID_NUMBERS {
        area.u32(word::IDS + 4 * n).store(word::UNPUBLISHED, Ordering::Relaxed);
    }
    for (at, answer) in [
        (word::PID, pid),
        (word::TID, tid),
        (word::id_of(libc::SYS_getuid), uid),
        (word::id_of(libc::SYS_geteuid), euid),
        (word::id_of(libc::SYS_getgid), gid),
        (word::id_of(libc::SYS_getegid), egid),
    ] {
        area.u32(at).store(answer.unwrap_or(word::UNPUBLISHED), Ordering::Relaxed);
    }
}

impl Drop for SystrapContext {
    fn drop(&mut self) {
        // Without its space, the last context takes the process with it: nobody wants the thread any more.
        if Arc::strong_count(&self.stub) > 1 && self.frame().is_some() {
            self.stub.threads.put(self.thread.clone(), &self.stub.process);
        }
    }
}
