//! Timers of a process: `setitimer(2)`, `alarm(2)`, `timer_create(2)`.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::Errno;
use crate::kernel::{KTime, Kernel, TimerId, TimerTarget};
use crate::task::{CurrentTask, Task, ThreadGroup};

/// Whom an expiry tells.
#[derive(Debug, Clone)]
pub(crate) enum Notify {
    /// `ITIMER_REAL`: `SIGALRM` to the process.
    Alarm,
    /// `SIGEV_SIGNAL`: to the process.
    Process { id: i32, signal: Signal, value: u64 },
    /// `SIGEV_THREAD_ID`: to one thread.
    Thread { id: i32, signal: Signal, value: u64, task: Weak<Task> },
    /// `SIGEV_NONE`.
    Nobody,
}

/// A one-shot or periodic timer on the monotonic clock.
#[derive(Debug)]
pub(crate) struct IntervalTimer {
    group: Weak<ThreadGroup>,
    notify: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deadline: Option<KTime>,
    interval_ns: u64,
    armed: Option<TimerId>,
    overrun: i32,
}

/// What is left: time to the next expiry (0 when disarmed) and the period.
pub(crate) type Setting = (u64, u64);

impl IntervalTimer {
    fn new(group: &Arc<ThreadGroup>, notify: Notify) -> Arc<Self> {
        Arc::new(Self { group: Arc::downgrade(group), notify, state: Mutex::default() })
    }

    /// The time left and the period in nanoseconds.
    pub(crate) fn get(&self, now: KTime) -> Setting {
        let state = self.state.lock();
        // An armed timer never reads as 0, which means disarmed.
        (state.deadline.map_or(0, |at| at.since(now).max(1)), state.interval_ns)
    }

    /// Arms (or with `None` disarms) the timer and returns the old setting.
    pub(crate) fn set(
        self: &Arc<Self>,
        kernel: &Kernel,
        now: KTime,
        deadline: Option<KTime>,
        interval_ns: u64,
    ) -> Setting {
        let mut state = self.state.lock();
        let old = (state.deadline.map_or(0, |at| at.since(now).max(1)), state.interval_ns);
        if let Some(id) = state.armed.take() {
            kernel.timers().cancel(id);
        }
        state.deadline = deadline;
        state.interval_ns = if deadline.is_some() { interval_ns } else { 0 };
        state.overrun = 0;
        state.armed = deadline.map(|at| kernel.timers().arm(at, self.clone()));
        old
    }

    /// Expiries that no signal told of, as of the last signal.
    pub(crate) fn overrun(&self) -> i32 {
        self.state.lock().overrun
    }

    fn tell(&self, group: &ThreadGroup, missed: i32) {
        let (id, signal, value) = match &self.notify {
            Notify::Nobody => return,
            Notify::Alarm => {
                let info = SigInfo::new(Signal::SIGALRM, si_code::SI_KERNEL);
                let _ = group.send_signal(Signal::SIGALRM, info);
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
            None => group.send_signal(signal, info),
        };
    }
}

impl TimerTarget for IntervalTimer {
    fn expired(self: Arc<Self>, now: KTime) {
        let Some(group) = self.group.upgrade() else { return };
        let missed = {
            let mut state = self.state.lock();
            let Some(deadline) = state.deadline.filter(|at| *at <= now) else { return };
            state.armed = None;
            if state.interval_ns == 0 {
                state.deadline = None;
                0
            } else {
                let missed = now.since(deadline) / state.interval_ns;
                let next = deadline.saturating_add(state.interval_ns.saturating_mul(missed + 1));
                state.deadline = Some(next);
                state.armed = Some(group.kernel().timers().arm(next, self.clone()));
                i32::try_from(missed).unwrap_or(i32::MAX)
            }
        };
        self.tell(&group, missed);
    }
}

/// The timers of one process.
#[derive(Debug, Default)]
pub struct ProcessTimers {
    real: Mutex<Option<Arc<IntervalTimer>>>,
    posix: Mutex<BTreeMap<i32, (i32, Arc<IntervalTimer>)>>,
}

/// The most POSIX timers of a process; Linux limits them by `RLIMIT_SIGPENDING`.
const MAX_TIMERS: usize = 4096;

impl ProcessTimers {
    /// `ITIMER_REAL`.
    pub(crate) fn real(&self, group: &Arc<ThreadGroup>) -> Arc<IntervalTimer> {
        self.real.lock().get_or_insert_with(|| IntervalTimer::new(group, Notify::Alarm)).clone()
    }

    /// Makes a POSIX timer on `clock`; `notify` gets its id.
    ///
    /// # Errors
    /// `EAGAIN` when there are too many.
    pub(crate) fn create(
        &self,
        group: &Arc<ThreadGroup>,
        clock: i32,
        notify: impl FnOnce(i32) -> Notify,
    ) -> Result<i32, Errno> {
        let mut posix = self.posix.lock();
        if posix.len() >= MAX_TIMERS {
            return Err(Errno::EAGAIN);
        }
        let id = (0..i32::MAX).find(|id| !posix.contains_key(id)).ok_or(Errno::EAGAIN)?;
        posix.insert(id, (clock, IntervalTimer::new(group, notify(id))));
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
    pub(crate) fn delete(&self, kernel: &Kernel, id: i32) -> Result<(), Errno> {
        let (_, timer) = self.posix.lock().remove(&id).ok_or(Errno::EINVAL)?;
        timer.set(kernel, KTime(0), None, 0);
        Ok(())
    }

    fn delete_all(&self, kernel: &Kernel) {
        for (_, timer) in std::mem::take(&mut *self.posix.lock()).into_values() {
            timer.set(kernel, KTime(0), None, 0);
        }
    }

    /// The end of the process.
    pub(crate) fn disarm_all(&self, kernel: &Kernel) {
        self.delete_all(kernel);
        if let Some(timer) = self.real.lock().take() {
            timer.set(kernel, KTime(0), None, 0);
        }
    }
}

impl CurrentTask {
    /// `execve(2)`: POSIX timers go, interval timers stay.
    pub(crate) fn timers_on_exec(&self) {
        self.thread_group().timers.delete_all(self.kernel());
    }
}
