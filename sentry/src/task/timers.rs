//! Timers of a process: `setitimer(2)`, `alarm(2)`, `timer_create(2)`.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::Errno;
use crate::kernel::{KTime, Kernel, TimerId, TimerTarget};
use crate::task::cpu_clock::CpuClock;
use crate::task::cpu_shares::CpuShares;
use crate::task::{CurrentTask, Limit, Resource, Task, ThreadGroup};

/// Whom an expiry tells.
#[derive(Debug, Clone)]
pub(crate) enum Notify {
    /// Interval timers: this signal to the process.
    Interval(Signal),
    /// `SIGEV_SIGNAL`: to the process.
    Process { id: i32, signal: Signal, value: u64 },
    /// `SIGEV_THREAD_ID`: to one thread.
    Thread { id: i32, signal: Signal, value: u64, task: Weak<Task> },
    /// `RLIMIT_CPU`: what the limits then say.
    CpuLimit,
    /// `SIGEV_NONE`.
    Nobody,
}

/// What a timer measures.
#[derive(Debug, Clone)]
pub(crate) enum TimerClock {
    /// The monotonic clock; deadlines on others are converted when they are set.
    Monotonic,
    /// CPU time.
    Cpu(CpuClock),
}

impl TimerClock {
    /// The reading, and how many threads can advance it.
    fn read(&self, group: &ThreadGroup) -> (KTime, u64) {
        match self {
            Self::Monotonic => (group.kernel().clocks().monotonic(), 1),
            Self::Cpu(clock) => clock.read(),
        }
    }

    /// Whether all threads of `group` advance it.
    fn is_of(&self, group: &ThreadGroup) -> bool {
        matches!(self, Self::Cpu(clock) if clock.is_of(group))
    }
}

/// How soon a timer on a CPU clock looks again at least: CPU time cannot be waited for, only polled.
const MIN_POLL_NS: u64 = 1_000_000;

/// When to look at a CPU clock again that so many threads can advance, and that has so far to go.
pub(crate) fn poll_interval(left_ns: u64, threads: u64) -> u64 {
    (left_ns / threads).max(MIN_POLL_NS)
}

/// A one-shot or periodic timer.
#[derive(Debug)]
pub(crate) struct IntervalTimer {
    group: Weak<ThreadGroup>,
    clock: TimerClock,
    notify: Notify,
    state: Mutex<State>,
    /// Of a clock of the process: whom to tell.
    shares: Mutex<CpuShares>,
}

#[derive(Debug, Default)]
struct State {
    deadline: Option<KTime>,
    interval_ns: u64,
    armed: Option<TimerId>,
    overrun: i32,
}

/// When a timer shall expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It is disarmed.
    Never,
    /// After this many nanoseconds.
    In(u64),
    /// At this point of its clock.
    At(KTime),
}

/// What is left: time to the next expiry (0 when disarmed) and the period.
pub(crate) type Setting = (u64, u64);

impl IntervalTimer {
    fn new(group: &Arc<ThreadGroup>, clock: TimerClock, notify: Notify) -> Arc<Self> {
        Arc::new(Self {
            group: Arc::downgrade(group),
            clock,
            notify,
            state: Mutex::default(),
            shares: Mutex::default(),
        })
    }

    /// The time left and the period in nanoseconds.
    pub(crate) fn get(&self) -> Setting {
        let Some(group) = self.group.upgrade() else { return (0, 0) };
        let (now, _) = self.clock.read(&group);
        let state = self.state.lock();
        // An armed timer never reads as 0, which means disarmed.
        (state.deadline.map_or(0, |at| at.since(now).max(1)), state.interval_ns)
    }

    /// Arms the timer to expire `value_ns` from now (or at a point of its clock), or disarms it, and returns the old
    /// setting.
    pub(crate) fn set(self: &Arc<Self>, expiry: Expiry, interval_ns: u64) -> Setting {
        let Some(group) = self.group.upgrade() else { return (0, 0) };
        let kernel = group.kernel();
        let (now, threads) = self.clock.read(&group);
        let deadline = match expiry {
            Expiry::Never => None,
            Expiry::In(ns) => Some(now.saturating_add(ns)),
            Expiry::At(at) => Some(at),
        };
        if deadline.is_some() && self.clock.is_of(&group) {
            self.shares.lock().begin(&group);
        }
        let mut state = self.state.lock();
        let old = (state.deadline.map_or(0, |at| at.since(now).max(1)), state.interval_ns);
        if let Some(id) = state.armed.take() {
            kernel.timers().cancel(id);
        }
        state.deadline = deadline;
        state.interval_ns = if deadline.is_some() { interval_ns } else { 0 };
        state.overrun = 0;
        state.armed = deadline.map(|at| self.arm(kernel, at, now, threads));
        old
    }

    /// Has the timer looked at when `deadline` can be reached at the earliest.
    fn arm(self: &Arc<Self>, kernel: &Kernel, deadline: KTime, now: KTime, threads: u64) -> TimerId {
        let at = match self.clock {
            TimerClock::Monotonic => deadline,
            _ => {
                let wait = poll_interval(deadline.since(now), threads);
                kernel.clocks().monotonic().saturating_add(wait)
            }
        };
        kernel.timers().arm(at, self.clone())
    }

    /// Expiries that no signal told of, as of the last signal.
    pub(crate) fn overrun(&self) -> i32 {
        self.state.lock().overrun
    }

    fn tell(&self, group: &ThreadGroup, missed: i32) {
        let (id, signal, value) = match &self.notify {
            Notify::Nobody => return,
            Notify::CpuLimit => return group.enforce_cpu_limit(),
            Notify::Interval(signal) => {
                let info = SigInfo::new(*signal, si_code::SI_KERNEL);
                let _ = group.send_signal_by(self.user_of_time(group).as_deref(), *signal, info);
                return;
            }
            Notify::Process { id, signal, value } | Notify::Thread { id, signal, value, .. } => {
                (*id, *signal, *value)
            }
        };
        let thread = match &self.notify {
            Notify::Thread { task, .. } => match task.upgrade() {
                Some(task) => Some(task),
                None => return,
            },
            _ => None,
        };
        // A signal of this timer that is still pending only counts (timer_getoverrun(2)).
        let is_mine =
            |i: &SigInfo| i.code == si_code::SI_TIMER && i.pid() == id && i.signo == signal.number();
        let was_pending = {
            let mut signals = group.signals.lock();
            match &thread {
                Some(task) => task.signals.lock().pending.find_mut(is_mine).is_some(),
                None => signals.pending.find_mut(is_mine).is_some(),
            }
        };
        if was_pending {
            let mut state = self.state.lock();
            state.overrun = state.overrun.saturating_add(missed).saturating_add(1);
            return;
        }
        self.state.lock().overrun = missed;
        let info = SigInfo::timer(signal, id, missed, value);
        let _ = match thread {
            Some(task) => task.send_signal(signal, info),
            None => group.send_signal_by(self.user_of_time(group).as_deref(), signal, info),
        };
    }

    /// The thread that a signal is about, where it is about CPU time of the process.
    fn user_of_time(&self, group: &ThreadGroup) -> Option<Arc<Task>> {
        self.clock.is_of(group).then(|| self.shares.lock().next(group)).flatten()
    }
}

impl TimerTarget for IntervalTimer {
    fn expired(self: Arc<Self>, _: KTime) {
        let Some(group) = self.group.upgrade() else { return };
        let (now, threads) = self.clock.read(&group);
        let missed = {
            let mut state = self.state.lock();
            state.armed = None;
            let Some(deadline) = state.deadline else { return };
            if deadline > now {
                state.armed = Some(self.arm(group.kernel(), deadline, now, threads));
                return;
            }
            if let Some(missed) = now.since(deadline).checked_div(state.interval_ns) {
                let next = deadline.saturating_add(state.interval_ns.saturating_mul(missed + 1));
                state.deadline = Some(next);
                state.armed = Some(self.arm(group.kernel(), next, now, threads));
                i32::try_from(missed).unwrap_or(i32::MAX)
            } else {
                // No period: it expires once.
                state.deadline = None;
                0
            }
        };
        self.tell(&group, missed);
    }
}

/// The timers of one process.
#[derive(Debug, Default)]
pub struct ProcessTimers {
    /// `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF`.
    interval: Mutex<[Option<Arc<IntervalTimer>>; 3]>,
    posix: Mutex<BTreeMap<i32, (i32, Arc<IntervalTimer>)>>,
    /// `RLIMIT_CPU`, where there is one.
    cpu_limit: Mutex<Option<Arc<IntervalTimer>>>,
}

/// The most POSIX timers of a process; Linux limits them by `RLIMIT_SIGPENDING`.
const MAX_TIMERS: usize = 4096;

impl ProcessTimers {
    /// The interval timer `which` of `setitimer(2)`.
    ///
    /// # Errors
    /// `EINVAL` for an unknown one.
    pub(crate) fn interval(&self, group: &Arc<ThreadGroup>, which: i32) -> Result<Arc<IntervalTimer>, Errno> {
        let (at, clock, signal) = match which {
            0 => (0, TimerClock::Monotonic, Signal::SIGALRM),
            1 => (1, TimerClock::Cpu(CpuClock::of_process(group, true)), Signal::SIGVTALRM),
            2 => (2, TimerClock::Cpu(CpuClock::of_process(group, false)), Signal::SIGPROF),
            _ => return Err(Errno::EINVAL),
        };
        let mut timers = self.interval.lock();
        let make = || IntervalTimer::new(group, clock, Notify::Interval(signal));
        Ok(timers[at].get_or_insert_with(make).clone())
    }

    /// Makes a POSIX timer on `clock`; `notify` gets its id.
    ///
    /// # Errors
    /// `EAGAIN` when there are too many.
    pub(crate) fn create(
        &self,
        group: &Arc<ThreadGroup>,
        clock_id: i32,
        clock: TimerClock,
        notify: impl FnOnce(i32) -> Notify,
    ) -> Result<i32, Errno> {
        let mut posix = self.posix.lock();
        if posix.len() >= MAX_TIMERS {
            return Err(Errno::EAGAIN);
        }
        let id = (0..i32::MAX).find(|id| !posix.contains_key(id)).ok_or(Errno::EAGAIN)?;
        posix.insert(id, (clock_id, IntervalTimer::new(group, clock, notify(id))));
        Ok(id)
    }

    /// The POSIX timer `id` and its clock.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn get(&self, id: i32) -> Result<(i32, Arc<IntervalTimer>), Errno> {
        self.posix.lock().get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Deletes the POSIX timer `id`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn delete(&self, id: i32) -> Result<(), Errno> {
        let (_, timer) = self.posix.lock().remove(&id).ok_or(Errno::EINVAL)?;
        timer.set(Expiry::Never, 0);
        Ok(())
    }

    fn delete_all(&self) {
        for (_, timer) in std::mem::take(&mut *self.posix.lock()).into_values() {
            timer.set(Expiry::Never, 0);
        }
    }

    /// The end of the process.
    pub(crate) fn disarm_all(&self) {
        self.delete_all();
        let limit = self.cpu_limit.lock().take();
        for timer in std::mem::take(&mut *self.interval.lock()).into_iter().flatten().chain(limit) {
            timer.set(Expiry::Never, 0);
        }
    }
}

impl ThreadGroup {
    /// Has `RLIMIT_CPU` looked after, to be called when the limit or the process is new.
    pub(crate) fn watch_cpu_limit(self: &Arc<Self>) {
        let limit = self.limits().get(Resource::Cpu);
        if limit.soft == Limit::INFINITY && limit.hard == Limit::INFINITY {
            return;
        }
        let timer = {
            let mut timer = self.timers.cpu_limit.lock();
            let clock = TimerClock::Cpu(CpuClock::of_process(self, false));
            let make = || IntervalTimer::new(self, clock, Notify::CpuLimit);
            timer.get_or_insert_with(make).clone()
        };
        timer.set(Expiry::At(seconds(limit.soft.min(limit.hard))), 0);
    }

    /// check_process_timers: at the hard limit `SIGKILL`, at the soft one `SIGXCPU`, again each second of CPU time.
    fn enforce_cpu_limit(&self) {
        let (user_ns, system_ns) = self.cpu_times();
        let used = KTime(user_ns + system_ns);
        let mut limits = self.limits.write();
        let mut limit = limits.get(Resource::Cpu);
        let signal = match () {
            () if used >= seconds(limit.hard) => Some(Signal::SIGKILL),
            () if used >= seconds(limit.soft) => {
                // The kernel, too, counts the limit itself up (`rlim_cur`).
                limit.soft = limit.soft.saturating_add(1);
                limits.set(Resource::Cpu, limit);
                Some(Signal::SIGXCPU)
            }
            // Changed meanwhile.
            () => None,
        };
        drop(limits);
        if let Some(signal) = signal {
            // A full queue is for real-time signals only.
            let _ = self.send_signal(signal, SigInfo::new(signal, si_code::SI_KERNEL));
        }
        let timer = self.timers.cpu_limit.lock().clone();
        if let Some(timer) = timer.filter(|_| signal != Some(Signal::SIGKILL)) {
            timer.set(Expiry::At(seconds(limit.soft.min(limit.hard))), 0);
        }
    }
}

/// A limit as a point of the CPU clock; one of zero counts as a second (`check_process_timers`).
fn seconds(limit: u64) -> KTime {
    KTime(limit.max(1).saturating_mul(1_000_000_000))
}

impl CurrentTask {
    /// `execve(2)`: POSIX timers go, interval timers stay.
    pub(crate) fn timers_on_exec(&self) {
        self.thread_group().timers.delete_all();
    }
}
