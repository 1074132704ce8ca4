//! The host threads that guest threads run on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::PlatformError;
use crate::host;
use crate::stub::command_page::Command;
use crate::stub::control::{Control, Window};
use crate::stub::hand_over as word;
use crate::stub::layout::{MAX_THREADS, SIGNAL_STACK, THREAD_LEN};
use crate::stub::process::StubProcess;
use crate::stub::text::{self, Entry};

/// Threads that wait for their next guest; a guest with more comings and goings pays for a new thread.
const MAX_IDLE: usize = 64;
/// How long a new thread may take to set itself up, on a machine that is not broken.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A host thread in a stub and the area that it shares with the sentry.
pub(crate) struct GuestThread {
    /// The area in the sentry.
    pub(super) area: Window,
    /// The area in the stub.
    pub(super) address: u64,
    /// The thread id. A guest may have forged it, within its own process.
    pub(super) tid: i32,
    /// The CPU time in nanoseconds when it was last put back.
    used: AtomicU64,
}

impl GuestThread {
    /// Ends the sleep of the sentry's thread, which will look at the state of things.
    pub(super) fn wake_sentry(&self) {
        host::futex_wake(self.area.u32(word::STATE), i32::MAX);
    }

    /// Tells the thread, which has the last word in its area, to end.
    fn dismiss(&self) {
        self.area.u32(word::COMMAND).store(word::COMMAND_EXIT, Ordering::Relaxed);
        self.area.u32(word::STATE).store(word::STATE_RESPONSE, Ordering::SeqCst);
        host::futex_wake(self.area.u32(word::STATE), 1);
    }
}

/// A thread for a guest thread, and the CPU time that it had used by then.
pub(super) struct Taken {
    pub(super) thread: Arc<GuestThread>,
    pub(super) time_before: Duration,
}

/// The threads of a stub.
pub(crate) struct ThreadPool {
    control: Arc<Control>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    /// Areas ever mapped; they stay mapped until the stub is gone.
    all: Vec<Arc<GuestThread>>,
    /// Set up, stopped in their handlers.
    idle: Vec<Arc<GuestThread>>,
    /// How many areas were ever mapped.
    areas: u64,
    /// Told to end.
    ending: Vec<Arc<GuestThread>>,
}

impl ThreadPool {
    pub(super) fn new(control: Arc<Control>) -> Self {
        Self { control, threads: Mutex::default() }
    }

    /// An idle thread, or a new one. It is stopped in its handler with a frame for registers on its signal stack.
    ///
    /// # Errors
    /// When the host refuses another thread.
    pub(super) fn take(&self, process: &StubProcess) -> Result<Taken, PlatformError> {
        if !process.is_alive() {
            return Err(PlatformError::Dead);
        }
        let idle = self.threads.lock().idle.pop();
        if let Some(thread) = idle {
            let time_before = Duration::from_nanos(thread.used.load(Ordering::Relaxed));
            return Ok(Taken { thread, time_before });
        }
        let thread = Arc::new(self.start(process)?);
        self.threads.lock().all.push(thread.clone());
        Ok(Taken { thread, time_before: Duration::ZERO })
    }

    /// Takes a stopped thread back.
    pub(super) fn put(&self, thread: Arc<GuestThread>, process: &StubProcess) {
        // Now rather than when somebody waits for the next guest.
        let used = process.thread_time(thread.tid).unwrap_or_default();
        thread.used.store(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut threads = self.threads.lock();
        if threads.idle.len() < MAX_IDLE {
            threads.idle.push(thread);
        } else {
            thread.dismiss();
            threads.ending.push(thread);
        }
    }

    /// Wakes the sentry's threads that wait for the guest.
    pub(super) fn wake_all(&self) {
        let all = self.threads.lock().all.clone();
        for thread in all {
            thread.wake_sentry();
        }
    }

    fn start(&self, process: &StubProcess) -> Result<GuestThread, PlatformError> {
        let reclaimed = self.threads.lock().reclaim(process.pid());
        let (address, area) = match reclaimed {
            Some(ended) => (ended.address, ended.area),
            None => self.map_area(process)?,
        };
        let stack = address + SIGNAL_STACK..address + THREAD_LEN;
        let entry = text::address(process.layout(), Entry::Thread);
        let started = process.start_thread(entry, stack, |tid| {
            wait_until_ready(&area, process)?;
            Ok(tid)
        });
        match started {
            Ok(tid) => Ok(GuestThread { area, address, tid, used: AtomicU64::new(0) }),
            Err(error) => {
                // The area may still be written by whatever went wrong, so it is not given back.
                std::mem::forget(area);
                Err(error)
            }
        }
    }

    fn map_area(&self, process: &StubProcess) -> Result<(u64, Window), PlatformError> {
        let full = |code| PlatformError::Host { call: "clone", source: io::Error::from_raw_os_error(code) };
        let index = {
            let mut threads = self.threads.lock();
            threads.areas += 1;
            threads.areas - 1
        };
        if index >= MAX_THREADS {
            return Err(full(libc::EAGAIN));
        }
        let area = self.control.window(THREAD_LEN).ok_or_else(|| full(libc::ENOMEM))?;
        let address = process.layout().thread(index);
        let prot = host::flags(libc::PROT_READ | libc::PROT_WRITE);
        let flags = host::flags(libc::MAP_SHARED | libc::MAP_FIXED);
        let fd = host::flags(self.control.raw_fd());
        let args = [address, THREAD_LEN, prot, flags, fd, area.file_offset()];
        match process.run(&[Command::exact(libc::SYS_mmap, &args, address)]) {
            Ok(()) => Ok((address, area)),
            Err(error) => {
                std::mem::forget(area);
                Err(error.into_platform("mmap"))
            }
        }
    }
}

impl Threads {
    /// The area of a thread that was told to end and has.
    fn reclaim(&mut self, pid: i32) -> Option<GuestThread> {
        let at = self.ending.iter().position(|thread| !host::tgkill(pid, thread.tid, 0))?;
        let ended = self.ending.swap_remove(at);
        self.all.retain(|thread| !Arc::ptr_eq(thread, &ended));
        let ended = Arc::into_inner(ended)?;
        for at in [word::STATE, word::COMMAND, word::STUB_WAITS, word::SENTRY_WAITS] {
            ended.area.u32(at).store(0, Ordering::SeqCst);
        }
        Some(ended)
    }
}

fn wait_until_ready(area: &Window, process: &StubProcess) -> Result<(), PlatformError> {
    let state = area.u32(word::STATE);
    let deadline = Instant::now() + START_TIMEOUT;
    // SeqCst, as everywhere on the waits words: stored before the state is loaded.
    area.u32(word::SENTRY_WAITS).store(1, Ordering::SeqCst);
    loop {
        let seen = state.load(Ordering::SeqCst);
        if seen == word::STATE_REQUEST {
            area.u32(word::SENTRY_WAITS).store(0, Ordering::SeqCst);
            return Ok(());
        }
        host::futex_wait(state, seen, Duration::from_millis(100));
        if !process.is_alive() || Instant::now() > deadline {
            return Err(PlatformError::Dead);
        }
    }
}
