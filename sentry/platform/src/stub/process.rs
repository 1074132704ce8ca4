//! A stub process: one guest address space, and the system call thread that changes it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::PlatformError;
use crate::host::{self, Woken};
use crate::stub::clock;
use crate::stub::command_page::{self as page, Command};
use crate::stub::control::Window;
use crate::stub::layout::Layout;

/// The page of results follows command page and reply page.
const RESULTS: u64 = 2 * 4096;
const REPLY: u64 = 4096;
/// In the page of results, behind them: a `struct timespec`.
const TIME: u64 = 2048;
const _: () = assert!(8 * page::MAX_BATCH as u64 <= TIME);

/// How often a silent stub is checked for life.
const LIVENESS: Duration = Duration::from_millis(100);
/// Handing the processor over beats sleeping: a wake-up across cores costs tens of microseconds.
const YIELDS: u32 = 4;

/// One stub. Killed and reaped on drop.
pub(crate) struct StubProcess {
    layout: Layout,
    pid: i32,
    life: Mutex<Life>,
    /// Set before the process is killed on purpose, and when its death is noticed.
    is_dead: AtomicBool,
    channel: Mutex<Channel>,
    /// CPU time as last read, in nanoseconds: it outlives the process.
    used: AtomicU64,
}

/// A process id is only ours until the process is reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// With the status of waitpid(2).
    Reaped(i32),
}

/// The sentry's end of the command page; one batch at a time.
struct Channel {
    slot: Window,
    sequence: u32,
    /// Where the system call thread was last told to run.
    cpu: Option<u32>,
}

/// Why a batch was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The host refused a command; those before it were done.
    #[error("command {index}: {source}")]
    Refused {
        /// Which one.
        index: usize,
        /// The reason, which a guest may have forged.
        source: io::Error,
    },
    /// The process has died.
    #[error("the process is gone")]
    Gone,
}

impl CommandError {
    pub(crate) fn into_platform(self, call: &'static str) -> PlatformError {
        match self {
            Self::Refused { source, .. } => PlatformError::Host { call, source },
            Self::Gone => PlatformError::Dead,
        }
    }
}

impl StubProcess {
    /// A process that serves `slot`, whose words are as in a fresh stub.
    pub(super) fn new(layout: Layout, slot: Window, pid: i32) -> Self {
        slot.u64(page::REPLY_OFFSET).store(slot.file_offset() + REPLY, Ordering::Release);
        let channel = Channel { slot, sequence: 0, cpu: None };
        Self {
            layout,
            pid,
            life: Mutex::new(Life::Running),
            is_dead: AtomicBool::new(false),
            channel: Mutex::new(channel),
            used: AtomicU64::new(0),
        }
    }

    /// The process id on the host.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The addresses of its parts.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Performs commands in order, in as few hand-overs as fit.
    ///
    /// # Errors
    /// At the first command that the host refused.
    pub(crate) fn run(&self, commands: &[Command]) -> Result<(), CommandError> {
        let mut channel = self.channel.lock();
        for (batch, first) in commands.chunks(page::MAX_BATCH).zip((0..).step_by(page::MAX_BATCH)) {
            self.run_batch(&mut channel, batch).map_err(|error| match error {
                CommandError::Refused { index, source } => {
                    CommandError::Refused { index: first + index, source }
                }
                CommandError::Gone => CommandError::Gone,
            })?;
        }
        Ok(())
    }

    /// Performs one command and returns its result, which a guest in the stub may have forged.
    pub(crate) fn run_one(&self, command: Command) -> Result<u64, CommandError> {
        let mut channel = self.channel.lock();
        self.run_batch(&mut channel, &[command])?;
        Ok(channel.slot.u64(RESULTS).load(Ordering::Relaxed))
    }

    /// The CPU time of all threads so far, also once they have ended.
    pub(crate) fn time(&self) -> Duration {
        let now = clock::read(clock::of_process(self.pid)).filter(|_| *self.life.lock() == Life::Running);
        let now = now.map_or(0, clock::nanoseconds);
        Duration::from_nanos(self.used.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// The CPU time of a thread, as far as what a guest may have forged can be believed. `None` when there is no such
    /// thread.
    pub(crate) fn thread_time(&self, tid: i32) -> Option<Duration> {
        let mut channel = self.channel.lock();
        let args = [clock::argument(clock::of_thread(tid)), self.layout.scratch() + TIME];
        self.run_batch(&mut channel, &[Command::exact(libc::SYS_clock_gettime, &args, 0)]).ok()?;
        let word = |at| channel.slot.u64(RESULTS + TIME + at).load(Ordering::Relaxed);
        let time = clock::duration(word(0), word(8))?;
        drop(channel);
        Some(time.min(self.time()))
    }

    /// Starts a guest thread on the given signal stack; calls `until_ready` before the command page is used again.
    pub(crate) fn start_thread<T>(
        &self,
        entry: u64,
        signal_stack: std::ops::Range<u64>,
        until_ready: impl FnOnce(i32) -> Result<T, PlatformError>,
    ) -> Result<T, PlatformError> {
        let mut channel = self.channel.lock();
        let slot = &channel.slot;
        slot.u64(page::SIGNAL_STACK).store(signal_stack.start, Ordering::Relaxed);
        slot.u64(page::SIGNAL_STACK + 8).store(0, Ordering::Relaxed);
        slot.u64(page::SIGNAL_STACK + 16).store(signal_stack.end - signal_stack.start, Ordering::Relaxed);
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        let clone = Command::positive(libc::SYS_clone, &[host::flags(flags), 0, 0, 0, entry, 0]);
        self.run_batch(&mut channel, &[clone]).map_err(|e| e.into_platform("clone"))?;
        let tid = channel.slot.u64(RESULTS).load(Ordering::Relaxed);
        let tid = i32::try_from(tid).ok().filter(|tid| *tid > 0).ok_or(PlatformError::Dead)?;
        // The number came through memory that a guest can write: it must at least be a thread of this process.
        if !host::tgkill(self.pid, tid, 0) {
            return Err(PlatformError::Dead);
        }
        until_ready(tid)
    }

    fn run_batch(&self, channel: &mut Channel, batch: &[Command]) -> Result<(), CommandError> {
        if self.is_dead.load(Ordering::Relaxed) {
            return Err(CommandError::Gone);
        }
        channel.write(batch);
        channel.sequence = channel.sequence.wrapping_add(1);
        self.call_to_this_cpu(channel);
        let slot = &channel.slot;
        slot.u32(REPLY + page::REPLY_STATUS).store(0, Ordering::Relaxed);
        slot.u32(page::SENTRY_WAITS).store(0, Ordering::Relaxed);
        // Release: the commands are visible to whoever sees the number.
        slot.u32(page::SEQUENCE).store(channel.sequence, Ordering::Release);
        host::futex_wake(slot.u32(page::SEQUENCE), 1);
        self.wait_for_reply(slot, channel.sequence)?;
        match slot.u32(REPLY + page::REPLY_STATUS).load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => {
                let index =
                    usize::try_from(failed).unwrap_or(usize::MAX).saturating_sub(1).min(batch.len() - 1);
                let result = slot.u64(RESULTS + 8 * host::word(index)).load(Ordering::Relaxed);
                let code = i32::try_from(result.wrapping_neg()).ok().filter(|code| (1..4096).contains(code));
                let source = io::Error::from_raw_os_error(code.unwrap_or(libc::ENOMEM));
                Err(CommandError::Refused { index, source })
            }
        }
    }

    /// Makes the system call thread run where the caller does: waking it on an idle processor takes far longer than
    /// what it has to do.
    fn call_to_this_cpu(&self, channel: &mut Channel) {
        let here = host::current_cpu();
        if channel.cpu != Some(here) {
            host::pin(self.pid, here);
            channel.cpu = Some(here);
        }
    }

    fn wait_for_reply(&self, slot: &Window, sequence: u32) -> Result<(), CommandError> {
        let reply = slot.u32(REPLY + page::REPLY_SEQUENCE);
        for _ in 0..YIELDS {
            if reply.load(Ordering::Acquire) == sequence {
                return Ok(());
            }
            host::yield_now();
        }
        // SeqCst: ordered before the load of the reply, as the stub orders its reply before loading this.
        slot.u32(page::SENTRY_WAITS).store(1, Ordering::SeqCst);
        loop {
            let seen = reply.load(Ordering::SeqCst);
            if seen == sequence {
                return Ok(());
            }
            let woken = host::futex_wait(reply, seen, LIVENESS);
            if self.is_dead.load(Ordering::Relaxed) || woken == Woken::ByTimeout && !self.is_alive() {
                return Err(CommandError::Gone);
            }
        }
    }

    /// Wakes whoever waits for a reply.
    fn wake_waiters(&self) {
        // The lock may be held by the waiter, so the word is woken through a second path: its timeout.
        if let Some(channel) = self.channel.try_lock() {
            host::futex_wake(channel.slot.u32(REPLY + page::REPLY_SEQUENCE), i32::MAX);
        }
    }

    /// True once the process was killed by the sentry or found dead. Costs a load.
    pub(crate) fn is_killed(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// False once the process has ended or was killed.
    pub(crate) fn is_alive(&self) -> bool {
        if self.is_dead.load(Ordering::Acquire) {
            return false;
        }
        let mut life = self.life.lock();
        if *life == Life::Running {
            let mut status = 0;
            // SAFETY: `status` is valid for writing; the process is our child and not reaped yet.
            let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG | libc::__WALL) };
            if reaped != 0 {
                *life = Life::Reaped(status);
            }
        }
        let alive = *life == Life::Running;
        if !alive {
            self.is_dead.store(true, Ordering::Release);
        }
        alive
    }

    /// The exit status, if the process has ended by itself.
    pub(crate) fn exit_status(&self) -> Option<i32> {
        let _ = self.is_alive();
        match *self.life.lock() {
            Life::Reaped(status) if libc::WIFEXITED(status) => Some(libc::WEXITSTATUS(status)),
            Life::Reaped(_) | Life::Running => None,
        }
    }

    /// Ends the process with all its threads.
    pub(crate) fn kill(&self) {
        self.time();
        self.is_dead.store(true, Ordering::Release);
        if *self.life.lock() == Life::Running {
            // SAFETY: no memory is passed; the process is our child and not reaped, so the id is still its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
        self.wake_waiters();
    }

    /// Waits until a killed process is gone.
    pub(crate) fn reap(&self) {
        let mut life = self.life.lock();
        while *life == Life::Running {
            let mut status = 0;
            // SAFETY: as in `is_alive`; a killed process ends soon.
            let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            if reaped == self.pid || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                *life = Life::Reaped(status);
            }
        }
    }
}

impl AsRef<Self> for StubProcess {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Drop for StubProcess {
    fn drop(&mut self) {
        self.kill();
        self.reap();
    }
}

impl Channel {
    fn write(&self, batch: &[Command]) {
        for (n, command) in batch.iter().enumerate() {
            let at = page::LIST + page::COMMAND_LEN * host::word(n);
            let number = u32::try_from(command.number).unwrap_or(u32::MAX);
            self.slot.u32(at).store(number, Ordering::Relaxed);
            let rule = if command.expected.is_some() { page::RULE_EXACT } else { page::RULE_POSITIVE };
            self.slot.u32(at + 4).store(rule, Ordering::Relaxed);
            for (argument, value) in (0..).zip(command.args) {
                self.slot.u64(at + 8 + 8 * argument).store(value, Ordering::Relaxed);
            }
            self.slot.u64(at + 56).store(command.expected.unwrap_or(0), Ordering::Relaxed);
        }
        let count = u32::try_from(batch.len()).unwrap_or(0);
        self.slot.u32(page::COUNT).store(count, Ordering::Relaxed);
    }
}
