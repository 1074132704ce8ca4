//! Call-backs at deadlines: one thread with an ordered set.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::kernel::{KTime, Kernel};

/// Something that happens at a deadline.
pub trait TimerTarget: Send + Sync {
    /// The deadline passed; `now` is at or after it. Runs on the timer thread: short, without blocking. The target arms
    /// the timer again itself where it is periodic.
    fn expired(self: Arc<Self>, now: KTime);
}

/// Names an armed timer: its deadline and a number that makes it unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(KTime, u64);

/// The armed timers.
#[derive(Default)]
pub struct Timers {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    armed: BTreeMap<TimerId, Arc<dyn TimerTarget>>,
    next: u64,
}

impl Timers {
    /// Calls `target` once at `deadline`.
    pub fn arm(&self, deadline: KTime, target: Arc<dyn TimerTarget>) -> TimerId {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let id = TimerId(deadline, inner.next);
        let is_first = inner.armed.keys().next().is_none_or(|first| id < *first);
        inner.armed.insert(id, target);
        drop(inner);
        if is_first {
            self.changed.notify_one();
        }
        id
    }

    /// Disarms a timer. False when it expired already: its call-back ran or is about to run.
    pub fn cancel(&self, id: TimerId) -> bool {
        self.inner.lock().armed.remove(&id).is_some()
    }

    /// Starts the thread; it ends once the kernel is gone.
    pub(crate) fn start(&self, kernel: &Arc<Kernel>) {
        let weak = Arc::downgrade(kernel);
        let spawned =
            std::thread::Builder::new().name("timers".into()).stack_size(256 << 10).spawn(move || run(&weak));
        if let Err(error) = spawned {
            tracing::error!("timer thread: {error}");
        }
    }
}

/// The longest sleep, after which the thread looks whether the kernel is still there.
const MAX_SLEEP: Duration = Duration::from_secs(60);

fn run(kernel: &Weak<Kernel>) {
    while let Some(kernel) = kernel.upgrade() {
        let timers = kernel.timers();
        let now = kernel.clocks().monotonic();
        let mut inner = timers.inner.lock();
        match inner.armed.first_key_value().map(|(id, _)| *id) {
            Some(id) if id.0 <= now => {
                let target = inner.armed.remove(&id);
                drop(inner);
                if let Some(target) = target {
                    target.expired(now);
                }
            }
            next => {
                let sleep = next.map_or(MAX_SLEEP, |id| Duration::from_nanos(id.0.since(now)).min(MAX_SLEEP));
                timers.changed.wait_for(&mut inner, sleep);
            }
        }
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("armed", &self.inner.lock().armed.len()).finish_non_exhaustive()
    }
}
