//! The CPU clocks of processes and threads, as `clock_gettime(2)`, timers and `clock_nanosleep(2)` name them.

use std::sync::{Arc, Weak};

use sentry_abi::time::clock;

use crate::errno::Errno;
use crate::kernel::KTime;
use crate::task::{CurrentTask, Task, ThreadGroup, Tid};

/// A CPU clock. It stands still once what it measures is gone.
#[derive(Debug, Clone)]
pub(crate) struct CpuClock {
    whose: Whose,
    /// Without system time (`CPUCLOCK_VIRT`).
    is_user_only: bool,
}

#[derive(Debug, Clone)]
enum Whose {
    Process(Weak<ThreadGroup>),
    Thread(Weak<Task>),
}

/// What a clock is asked for: some may be read but not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockUse {
    Read,
    Timer,
}

/// Two bits that say what is counted: ticks in all, ticks in user mode, or what the scheduler knows. None of ours are ticks.
const KIND: i32 = 3;
const USER: i32 = 1;
const SCHEDULER: i32 = 2;
/// A thread's clock (`CPUCLOCK_PERTHREAD`).
const PER_THREAD: i32 = 4;

impl CpuClock {
    /// That of a process.
    pub(super) fn of_process(group: &Arc<ThreadGroup>, is_user_only: bool) -> Self {
        Self { whose: Whose::Process(Arc::downgrade(group)), is_user_only }
    }

    /// The one that `id` names (clock_getcpuclockid(3)): the complement of a number in the upper bits, which is 0 for the caller.
    /// `None` if `id` is of another kind of clock.
    ///
    /// # Errors
    /// `EINVAL` if there is none, or it is of a thread of another process.
    pub(crate) fn named(task: &CurrentTask, id: i32, wanted: ClockUse) -> Result<Option<Self>, Errno> {
        let id = match id {
            clock::PROCESS_CPUTIME_ID => !0 << 3 | SCHEDULER,
            clock::THREAD_CPUTIME_ID => !0 << 3 | PER_THREAD | SCHEDULER,
            0.. => return Ok(None),
            id => id,
        };
        if id & KIND == KIND {
            return Err(Errno::EINVAL);
        }
        let tid = match !(id >> 3) {
            0 => None,
            number => Some(task.named(number).map_err(|_| Errno::EINVAL)?),
        };
        let whose = if id & PER_THREAD == 0 {
            Whose::Process(Arc::downgrade(&process(task, tid, wanted)?))
        } else {
            Whose::Thread(Arc::downgrade(&thread(task, tid)?))
        };
        Ok(Some(Self { whose, is_user_only: id & KIND == USER }))
    }

    /// Whether `id` names such a clock, or would.
    pub(crate) fn is_named_by(id: i32) -> bool {
        id < 0 || matches!(id, clock::PROCESS_CPUTIME_ID | clock::THREAD_CPUTIME_ID)
    }

    /// Whether `id` names the clock of the calling thread, which does not advance while the thread waits for it.
    pub(crate) fn is_own_thread(task: &CurrentTask, id: i32) -> bool {
        let number = !(id >> 3);
        let is_own = number == 0 || task.named(number).is_ok_and(|tid| tid == task.tid());
        id < 0 && id & PER_THREAD != 0 && is_own
    }

    /// The reading, and how many threads can advance it.
    pub(crate) fn read(&self) -> (KTime, u64) {
        let ((user, system), threads) = match &self.whose {
            Whose::Process(group) => {
                group.upgrade().map_or(((0, 0), 1), |group| (group.cpu_times(), group.threads().len()))
            }
            Whose::Thread(task) => (task.upgrade().map_or((0, 0), |task| task.cpu_times()), 1),
        };
        let total = if self.is_user_only { user } else { user.saturating_add(system) };
        (KTime(total), threads.max(1) as u64)
    }

    /// Whether it is that of all threads of `group`.
    pub(super) fn is_of(&self, group: &ThreadGroup) -> bool {
        matches!(&self.whose, Whose::Process(mine) if std::ptr::eq(mine.as_ptr(), group))
    }
}

/// `pid_for_clock`: any thread of the caller's names its process to be read, but no timer.
fn process(task: &CurrentTask, tid: Option<Tid>, wanted: ClockUse) -> Result<Arc<ThreadGroup>, Errno> {
    let own = task.thread_group();
    match tid {
        None => Ok(own.clone()),
        Some(tid) if tid == task.tid() && wanted == ClockUse::Read => Ok(own.clone()),
        Some(tid) => {
            task.kernel().tree().process(tid).map(|process| process.group.clone()).ok_or(Errno::EINVAL)
        }
    }
}

fn thread(task: &CurrentTask, tid: Option<Tid>) -> Result<Arc<Task>, Errno> {
    let Some(tid) = tid else { return Ok(task.task().clone()) };
    let thread = task.kernel().tree().thread(tid).cloned();
    thread.filter(|thread| Arc::ptr_eq(thread.thread_group(), task.thread_group())).ok_or(Errno::EINVAL)
}
