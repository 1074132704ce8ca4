//! A timer as a file (`timerfd_create(2)`).

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::io::IoDst;
use crate::kernel::{KTime, Kernel, TimerId, TimerTarget};
use crate::vfs::anon::AnonKind;
use crate::vfs::{File, FileOps, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

/// Which clock a timer runs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerClock {
    /// `CLOCK_REALTIME` (and its alarm).
    Realtime,
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_BOOTTIME` (and its alarm).
    Boottime,
}

impl TimerClock {
    /// The time on this clock in nanoseconds.
    fn now(self, kernel: &Kernel) -> u64 {
        let clocks = kernel.clocks();
        match self {
            Self::Realtime => clocks.realtime_ns(),
            Self::Monotonic => clocks.monotonic().0,
            Self::Boottime => clocks.boottime().0,
        }
    }
}

/// A timer's first expiry and its period, in nanoseconds; 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimerSetting {
    /// Until the first expiry, or when it is (absolute).
    pub value: u64,
    /// From one expiry to the next.
    pub interval: u64,
}

/// A timerfd.
pub struct TimerFd(Arc<Shared>);

struct Shared {
    kernel: Weak<Kernel>,
    clock: TimerClock,
    state: Mutex<State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    /// When it expires next, on the monotonic clock.
    next: Option<KTime>,
    interval: u64,
    /// Expiries since the last read.
    expired: u64,
    armed: Option<TimerId>,
}

/// Makes a timerfd.
#[must_use]
pub fn create(kernel: &Arc<Kernel>, clock: TimerClock, flags: OpenFlags) -> Arc<File> {
    let shared = Arc::new(Shared {
        kernel: Arc::downgrade(kernel),
        clock,
        state: Mutex::default(),
        queue: WaitQueue::default(),
    });
    let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
    File::anonymous(Box::new(TimerFd(shared)), flags, AnonKind::Other("[timerfd]"))
}

impl TimerFd {
    /// Sets the timer and returns the old setting; an absolute first expiry in the past is now.
    pub fn set(&self, kernel: &Kernel, new: TimerSetting, is_absolute: bool) -> TimerSetting {
        let now = kernel.clocks().monotonic();
        let mut state = self.0.state.lock();
        let old = state.setting(now);
        if let Some(id) = state.armed.take() {
            kernel.timers().cancel(id);
        }
        state.expired = 0;
        state.interval = new.interval;
        state.next = (new.value != 0).then(|| {
            let left =
                if is_absolute { new.value.saturating_sub(self.0.clock.now(kernel)) } else { new.value };
            now.saturating_add(left)
        });
        if let Some(at) = state.next {
            state.armed = Some(kernel.timers().arm(at, self.0.clone()));
        }
        old
    }

    /// The time left and the period.
    #[must_use]
    pub fn get(&self, kernel: &Kernel) -> TimerSetting {
        self.0.state.lock().setting(kernel.clocks().monotonic())
    }
}

impl State {
    fn setting(&self, now: KTime) -> TimerSetting {
        // At least 1: 0 would say that it is disarmed.
        let value = self.next.map_or(0, |at| at.since(now).max(1));
        TimerSetting { value, interval: self.interval }
    }
}

impl TimerTarget for Shared {
    fn expired(self: Arc<Self>, now: KTime) {
        {
            let mut state = self.state.lock();
            let Some(at) = state.next else { return };
            if now < at {
                return;
            }
            state.armed = None;
            match now.since(at).checked_div(state.interval) {
                None => {
                    state.expired += 1;
                    state.next = None;
                }
                Some(missed) => {
                    let periods = missed + 1;
                    state.expired = state.expired.saturating_add(periods);
                    let next = at.saturating_add(periods.saturating_mul(state.interval));
                    state.next = Some(next);
                    if let Some(kernel) = self.kernel.upgrade() {
                        state.armed = Some(kernel.timers().arm(next, self.clone()));
                    }
                }
            }
        }
        self.queue.notify(Readiness::IN);
    }
}

impl FileOps for TimerFd {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let expired = std::mem::take(&mut self.0.state.lock().expired);
        if expired == 0 {
            return Err(Errno::EAGAIN);
        }
        dst.put(&expired.to_ne_bytes())
    }

    fn readiness(&self, _: &File) -> Readiness {
        if self.0.state.lock().expired > 0 { Readiness::IN } else { Readiness::empty() }
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.0.queue.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.0.queue.unregister(id);
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        let armed = self.0.state.lock().armed.take();
        if let (Some(id), Some(kernel)) = (armed, self.0.kernel.upgrade()) {
            kernel.timers().cancel(id);
        }
    }
}
