//! Sending signals (`kill(2)`, `tgkill(2)`, signals of the kernel itself).

use std::sync::Arc;

use parking_lot::MutexGuard;
use sentry_abi::signal::{SIG_DFL, SigInfo, SigSet, Signal, si_code};

use crate::errno::Errno;
use crate::kernel::{Kernel, ProcessTree};
use crate::task::signal::{DefaultAction, GroupSignals, JobState};
use crate::task::thread::CallWork;
use crate::task::{ExitStatus, Resource, Task, ThreadGroup, Tid, Uid};
use crate::wait::Readiness;

/// To whom a signal goes.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// Any thread, if it does not block the signal this one.
    Process(Option<&'a Task>),
    Thread(&'a Task),
}

/// A signal that is in its queue and has not been announced.
#[must_use]
pub(crate) struct Posted {
    group: Arc<ThreadGroup>,
    wake: Vec<Arc<Task>>,
}

impl Posted {
    /// Has the process look at it, to be called with no lock held.
    pub(crate) fn announce(self) {
        self.group.announce(self.wake);
    }
}

impl Kernel {
    /// Sends a signal of the kernel's to every member of a process group.
    pub(crate) fn signal_group(&self, pgid: Tid, signal: Signal) {
        let tree = self.tree();
        let posted = signal_members(&tree, pgid, signal);
        drop(tree);
        posted.into_iter().for_each(Posted::announce);
    }
}

/// Queues a signal of the kernel's for every member of a process group.
pub(crate) fn signal_members(tree: &MutexGuard<'_, ProcessTree>, pgid: Tid, signal: Signal) -> Vec<Posted> {
    let info = SigInfo::new(signal, si_code::SI_KERNEL);
    // None of the kernel's own is a real-time signal, so there is no queue to be full.
    tree.group_members(pgid).filter_map(|p| p.group.post_with_others(tree, signal, info).ok()).collect()
}

impl ThreadGroup {
    /// Sends `signal` to the process.
    ///
    /// # Errors
    /// `EAGAIN` when the queue of real-time signals is full (`RLIMIT_SIGPENDING`).
    pub fn send_signal(&self, signal: Signal, info: SigInfo) -> Result<(), Errno> {
        self.send_signal_by(None, signal, info)
    }

    /// Sends `signal` to the process, by way of `thread` unless that blocks it.
    ///
    /// # Errors
    /// As [`ThreadGroup::send_signal`].
    pub(crate) fn send_signal_by(
        &self,
        thread: Option<&Task>,
        signal: Signal,
        info: SigInfo,
    ) -> Result<(), Errno> {
        self.post(Target::Process(thread), signal, info)
    }

    /// Ends the process with `status` as `exit_group(2)` does: every thread leaves.
    pub fn begin_exit(&self, status: ExitStatus) {
        let mut signals = self.signals.lock();
        let threads = begin_exit(&mut signals, status);
        drop(signals);
        for task in threads {
            task.interrupt();
        }
    }

    /// Drops pending instances of `signal` (`sigaction(2)` to `SIG_IGN`).
    pub(crate) fn discard_pending(&self, signal: Signal) {
        let mut signals = self.signals.lock();
        signals.pending.discard(SigSet::of(signal));
        for task in &signals.threads {
            task.signals.lock().pending.discard(SigSet::of(signal));
        }
    }

    /// True while the process is stopped by job control.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self.signals.lock().job, JobState::Stopped(_))
    }

    fn post(&self, target: Target<'_>, signal: Signal, info: SigInfo) -> Result<(), Errno> {
        let wake = self.queue(&mut self.signals.lock(), target, signal, info)?;
        self.announce(wake);
        Ok(())
    }

    /// Queues a signal for the process that is sent to others, too, for [`Posted::announce`] once the tree is unlocked.
    /// The lock over all of them is what makes it reach the children of forks that are under way: either the child is
    /// there to be sent the signal, or its parent finds that one came and begins again.
    ///
    /// # Errors
    /// As [`ThreadGroup::send_signal`].
    pub(crate) fn post_with_others(
        self: &Arc<Self>,
        _all: &MutexGuard<'_, ProcessTree>,
        signal: Signal,
        info: SigInfo,
    ) -> Result<Posted, Errno> {
        let mut signals = self.signals.lock();
        signals.shared_signals += 1;
        let wake = self.queue(&mut signals, Target::Process(None), signal, info)?;
        Ok(Posted { group: self.clone(), wake })
    }

    /// Puts a signal into its queue and returns the threads that have to look at it.
    fn queue(
        &self,
        signals: &mut MutexGuard<'_, GroupSignals>,
        target: Target<'_>,
        signal: Signal,
        info: SigInfo,
    ) -> Result<Vec<Arc<Task>>, Errno> {
        if signals.exit.is_some() {
            let is_kill = signal == Signal::SIGKILL;
            return Ok(if is_kill { begin_exit(signals, ExitStatus::Signaled(signal)) } else { Vec::new() });
        }
        let mut wake = self.on_job_control_signal(signals, signal);
        // pid_namespaces(7): processes of the sandbox cannot kill its init, only the sandbox's control can.
        if signal == Signal::SIGKILL && self.is_protected() && self.is_from_inside(&info) {
            return Ok(wake);
        }
        if signal == Signal::SIGKILL {
            wake = begin_exit(signals, ExitStatus::Signaled(signal));
        } else if !self.is_dropped(signals, target, signal, &info) {
            let info = seen_by(signals, info);
            self.check_queue_limit(signals, target, signal, &info)?;
            match target {
                Target::Process(_) => signals.pending.push(signal, info),
                Target::Thread(task) => task.signals.lock().pending.push(signal, info),
            }
            wake.extend(whom_to_wake(signals, target, signal));
        }
        Ok(wake)
    }

    /// Tells of a queued signal, with no lock held.
    fn announce(&self, wake: Vec<Arc<Task>>) {
        for task in wake {
            task.interrupt();
        }
        self.signal_events.notify(Readiness::IN);
    }

    /// `SIGCONT` and stop signals cancel each other when they are sent, whatever their dispositions (`signal(7)`).
    /// Returns the threads to wake because the process continues.
    fn on_job_control_signal(&self, signals: &mut GroupSignals, signal: Signal) -> Vec<Arc<Task>> {
        let cancelled = match DefaultAction::of(signal) {
            DefaultAction::Continue => SigSet::STOP,
            DefaultAction::Stop => SigSet::of(Signal::SIGCONT),
            _ => return Vec::new(),
        };
        signals.pending.discard(cancelled);
        for task in &signals.threads {
            task.signals.lock().pending.discard(cancelled);
        }
        if signal != Signal::SIGCONT || signals.job == JobState::Running {
            return Vec::new();
        }
        // Only a completed stop is reported to the parent as continued; a woken thread does it, since that takes
        // the process tree.
        signals.report_continued = matches!(signals.job, JobState::Stopped(_));
        signals.job = JobState::Running;
        for task in &signals.threads {
            task.continue_traced();
        }
        signals.threads.clone()
    }

    /// True where the signal would be ignored on delivery. Blocked signals stay pending even when ignored, since
    /// the disposition may change before they are unblocked.
    fn is_dropped(&self, signals: &GroupSignals, target: Target<'_>, signal: Signal, info: &SigInfo) -> bool {
        let is_blocked = |task: &Task| {
            let state = task.signals.lock();
            state.mask.union(state.waiting_for).contains(signal)
        };
        let blocked = match target {
            Target::Thread(task) => is_blocked(task),
            Target::Process(_) => signals.threads.first().is_some_and(|t| is_blocked(t)),
        };
        // A tracer sees signals that are ignored, too.
        let is_traced = match target {
            Target::Thread(task) => task.is_traced(),
            Target::Process(_) => signals.threads.first().is_some_and(|t| t.is_traced()),
        };
        if blocked || is_traced {
            return false;
        }
        let handlers = self.handlers();
        if handlers.ignores(signal) {
            return true;
        }
        // pid_namespaces(7): the init process gets only signals that it has a handler for, from inside. Faults and
        // the sandbox's control (`SI_KERNEL`) are not from a process.
        let is_inescapable = signal == Signal::SIGSTOP && !self.is_from_inside(info);
        let is_default = handlers.get(signal).handler == SIG_DFL;
        self.is_protected() && info.code <= 0 && is_default && !is_inescapable
    }

    /// Whether a signal is from a process of the same PID namespace, or one below: what an ancestor namespace sends is
    /// from somebody who has no number here.
    fn is_from_inside(&self, info: &SigInfo) -> bool {
        let pid_ns = self.pid_ns();
        let is_from_ancestor =
            !pid_ns.is_initial() && info.names_process() && pid_ns.number(Tid(info.pid())) == 0;
        info.code <= 0 && !is_from_ancestor
    }

    /// `EAGAIN` for `sigqueue(3)` beyond `RLIMIT_SIGPENDING`; `kill(2)` never fails for this reason.
    fn check_queue_limit(
        &self,
        signals: &GroupSignals,
        target: Target<'_>,
        signal: Signal,
        info: &SigInfo,
    ) -> Result<(), Errno> {
        if !signal.is_realtime() {
            return Ok(());
        }
        let queued = match target {
            Target::Process(_) => signals.pending.len(),
            Target::Thread(task) => task.signals.lock().pending.len(),
        };
        let full = queued as u64 >= self.limits.read().get(Resource::Sigpending).soft;
        if full && info.code != si_code::SI_USER { Err(Errno::EAGAIN) } else { Ok(()) }
    }
}

/// What a signal says about who sent it, as the process sees it (`__send_signal_locked`).
fn seen_by(signals: &GroupSignals, info: SigInfo) -> SigInfo {
    if !info.names_process() {
        return info;
    }
    let Some(task) = signals.threads.first() else { return info };
    let uid = task.creds().user_ns.show_uid(Uid(info.uid()));
    info.naming(task.number(Tid(info.pid())), uid)
}

/// Sets the status that every thread leaves with, unless the process ends already, and returns the threads.
fn begin_exit(signals: &mut MutexGuard<'_, GroupSignals>, status: ExitStatus) -> Vec<Arc<Task>> {
    if signals.exit.is_none() {
        signals.exit = Some(status);
    }
    signals.is_killed |= status == ExitStatus::Signaled(Signal::SIGKILL);
    signals.job = JobState::Running;
    signals.threads.clone()
}

/// The thread that shall take the signal: one that does not block it, the preferred one or else the leader first.
fn whom_to_wake(signals: &GroupSignals, target: Target<'_>, signal: Signal) -> Option<Arc<Task>> {
    let wants = |task: &Task| {
        let state = task.signals.lock();
        !state.mask.contains(signal) || state.waiting_for.contains(signal)
    };
    let this = |task: &Task| signals.threads.iter().find(|t| std::ptr::eq(&***t, task) && wants(t)).cloned();
    match target {
        Target::Thread(task) => this(task),
        Target::Process(preferred) => {
            preferred.and_then(this).or_else(|| signals.threads.iter().find(|t| wants(t)).cloned())
        }
    }
}

impl Task {
    /// Sends `signal` to this thread.
    ///
    /// # Errors
    /// As [`ThreadGroup::send_signal`].
    pub fn send_signal(&self, signal: Signal, info: SigInfo) -> Result<(), Errno> {
        self.thread_group().post(Target::Thread(self), signal, info)
    }

    /// Sends a signal of the kernel (`SIGPIPE`, `SIGXFSZ`) to this thread.
    pub fn raise(&self, signal: Signal) {
        // The queue limit is for real-time signals only; the kernel raises none.
        let _ = self.send_signal(signal, SigInfo::new(signal, si_code::SI_KERNEL));
    }

    /// Makes `signal` act although it is blocked or ignored: then it kills. For faults, which cannot be put off
    /// (`signal(7)`).
    pub fn force_signal(&self, signal: Signal, info: SigInfo) {
        let handlers = self.thread_group().handlers();
        {
            let mut state = self.signals.lock();
            let action = handlers.get(signal);
            let blocked = state.mask.contains(signal);
            if blocked || action.handler == sentry_abi::signal::SIG_IGN {
                handlers.set(signal, sentry_abi::signal::SigAction { handler: SIG_DFL, ..action });
            }
            state.mask = state.mask.minus(SigSet::of(signal));
            state.pending.push(signal, info);
        }
        self.interrupt();
    }

    /// The signals that are pending for this thread or its process (`sigpending(2)`), blocked or not.
    #[must_use]
    pub fn pending_signals(&self) -> SigSet {
        let group = self.thread_group().signals.lock();
        let mine = self.signals.lock();
        group.pending.set().union(mine.pending.set())
    }

    /// Takes the next pending signal of `set`, the thread's own first (`signalfd(2)`, `sigtimedwait(2)`).
    pub fn take_pending(&self, set: SigSet) -> Option<(Signal, SigInfo)> {
        let mut group = self.thread_group().signals.lock();
        let mut mine = self.signals.lock();
        let set = set.minus(SigSet::UNBLOCKABLE);
        mine.pending.pop(set).or_else(|| group.pending.pop(set))
    }

    /// Withdraws a request for attention that has nothing behind it any more.
    pub(crate) fn settle_spurious_attention(&self) {
        self.clear_attention();
        if self.call_work().contains(CallWork::STOP) || self.has_stale_answers() {
            self.request_attention();
        }
        let group = self.thread_group().signals.lock();
        let mine = self.signals.lock();
        let pending = group.pending.set().union(mine.pending.set());
        if group.must_leave(self) || group.job != JobState::Running || !pending.minus(mine.mask).is_empty() {
            self.request_attention();
        }
    }

    /// The blocked signals.
    #[must_use]
    pub fn signal_mask(&self) -> SigSet {
        self.signals.lock().mask
    }

    /// Blocks exactly `mask` and returns what was blocked. Only for the task itself.
    pub fn set_signal_mask(&self, mask: SigSet) -> SigSet {
        let group = self.thread_group().signals.lock();
        let mut mine = self.signals.lock();
        let old = std::mem::replace(&mut mine.mask, mask.minus(SigSet::UNBLOCKABLE));
        let newly_blocked = mine.mask.minus(old);
        let pending = group.pending.set().union(mine.pending.set());
        let deliverable = !pending.minus(mine.mask).is_empty();
        drop(mine);
        // A process-wide signal that woke this thread and is now blocked here must find another thread
        // (`retarget_shared_pending`).
        let orphaned = group.pending.set().intersection(newly_blocked);
        let mut wake = Vec::new();
        if !orphaned.is_empty() {
            for task in group.threads.iter().filter(|t| !std::ptr::eq(&***t, self)) {
                if !orphaned.minus(task.signals.lock().mask).is_empty() {
                    wake.push(task.clone());
                }
            }
        }
        drop(group);
        if deliverable {
            self.request_attention();
        }
        for task in wake {
            task.interrupt();
        }
        old
    }
}
