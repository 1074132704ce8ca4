//! The CPU time of a stub and of its threads.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::contract::CpuClock;
use crate::host;
use crate::stub::StubProcess;

/// The CPU time of one guest thread: that of the host thread under it.
///
/// The host lets no other process read the clock of a thread, so the stub's system call thread reads it, into memory that
/// the guest can write. A guest that does changes what it is told of itself, within what its process has used.
pub(crate) struct ThreadClock<P> {
    /// Weak: a clock that somebody still holds must not keep the process.
    stub: Weak<P>,
    tid: i32,
    /// What an earlier guest thread on the same host thread had used.
    base: Duration,
    /// The last reading in nanoseconds: clocks do not go back, and stand still once the thread is gone.
    last: AtomicU64,
}

impl<P: AsRef<StubProcess> + Send + Sync> ThreadClock<P> {
    /// The clock of `tid`, which had used `base` before.
    pub(crate) fn new(stub: Weak<P>, tid: i32, base: Duration) -> Self {
        Self { stub, tid, base, last: AtomicU64::new(0) }
    }
}

impl<P: AsRef<StubProcess> + Send + Sync> CpuClock for ThreadClock<P> {
    fn read(&self) -> Duration {
        let read = self.stub.upgrade().and_then(|stub| (*stub).as_ref().thread_time(self.tid));
        let used = read.map_or(0, |time| nanoseconds(time.saturating_sub(self.base)));
        Duration::from_nanos(self.last.fetch_max(used, Ordering::Relaxed).max(used))
    }
}

/// The id of a process's CPU clock (`clock_getcpuclockid(3)`).
pub(super) fn of_process(pid: i32) -> libc::clockid_t {
    !pid << 3 | SCHEDULER
}

/// The id of a thread's CPU clock (`pthread_getcpuclockid(3)`), which only its own process may read.
pub(super) fn of_thread(tid: i32) -> libc::clockid_t {
    !tid << 3 | PER_THREAD | SCHEDULER
}

/// Reads a clock of this process, or a CPU clock of another one.
pub(super) fn read(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) } == 0;
    done.then(|| duration(time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned())).flatten()
}

/// A `struct timespec` that may be nonsense.
pub(super) fn duration(seconds: u64, nanoseconds: u64) -> Option<Duration> {
    let nanoseconds = u32::try_from(nanoseconds).ok().filter(|n| *n < 1_000_000_000)?;
    Some(Duration::new(seconds, nanoseconds))
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock id as a system call argument: the kernel takes its low half.
pub(super) fn argument(clock: libc::clockid_t) -> u64 {
    host::flags(clock)
}

/// `CPUCLOCK_SCHED` and `CPUCLOCK_PERTHREAD_MASK` (Linux, include/linux/posix-timers_types.h).
const SCHEDULER: libc::clockid_t = 2;
const PER_THREAD: libc::clockid_t = 4;
