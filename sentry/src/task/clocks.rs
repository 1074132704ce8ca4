//! The CPU time of a thread: the host's, of the thread that runs guest code and of the one that handles its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use nix::time::ClockId;
use parking_lot::Mutex;
use sentry_platform::CpuClock;

/// The clocks of one guest thread. The time is counted where the host counts it, and includes what the hand-over between
/// the two threads costs.
#[derive(Default)]
pub(crate) struct TaskClocks {
    user: Mutex<User>,
    /// The host's id of the sentry's thread; 0 before it runs and after.
    host_thread: AtomicI32,
    /// What tasks that ran on the thread before have used of its time.
    before_system_ns: AtomicU64,
    /// System time once the thread has ended.
    ended_system_ns: AtomicU64,
}

#[derive(Default)]
struct User {
    /// In programs before `execve(2)`.
    before_ns: u64,
    now: Option<Arc<dyn CpuClock>>,
}

impl TaskClocks {
    /// Counts the system time of the calling thread from now on.
    pub(crate) fn start_system(&self) {
        let thread = nix::unistd::gettid().as_raw();
        self.before_system_ns.store(thread_time(thread), Ordering::Relaxed);
        // Release: whoever sees the thread sees what it had used.
        self.host_thread.store(thread, Ordering::Release);
    }

    /// Stops counting the system time of the calling thread, which is about to end, and returns it.
    pub(crate) fn stop_system(&self) -> u64 {
        let total = self.system();
        self.ended_system_ns.store(total, Ordering::Relaxed);
        self.host_thread.store(0, Ordering::Release);
        total
    }

    /// Counts the user time of this guest thread from now on.
    pub(crate) fn start_user(&self, clock: Arc<dyn CpuClock>) {
        let before = self.user();
        *self.user.lock() = User { before_ns: before, now: Some(clock) };
    }

    pub(super) fn user(&self) -> u64 {
        // The clock is read with the lock dropped.
        let (before, now) = {
            let user = self.user.lock();
            (user.before_ns, user.now.clone())
        };
        before + now.map_or(0, |clock| u64::try_from(clock.read().as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn system(&self) -> u64 {
        match self.host_thread.load(Ordering::Acquire) {
            0 => self.ended_system_ns.load(Ordering::Relaxed),
            thread => thread_time(thread).saturating_sub(self.before_system_ns.load(Ordering::Relaxed)),
        }
    }
}

impl std::fmt::Debug for TaskClocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskClocks").finish_non_exhaustive()
    }
}

/// The CPU time of a thread of this process; 0 once it is gone.
fn thread_time(thread: i32) -> u64 {
    // pthread_getcpuclockid(3): the complement of the id, and the bits CPUCLOCK_PERTHREAD_MASK and CPUCLOCK_SCHED.
    let clock = ClockId::from_raw(!thread << 3 | 6);
    clock.now().map_or(0, |time| {
        let nanoseconds = time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec());
        u64::try_from(nanoseconds).unwrap_or(0)
    })
}
