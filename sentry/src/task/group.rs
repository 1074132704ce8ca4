//! A process: the threads that share a process id.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use sentry_platform::AddressSpace;

use crate::kernel::{ContainerId, KTime, Kernel, PidNamespace};
use crate::task::signal::{GroupSignals, SigHandlers};
use crate::task::{Limits, Task, Tid};
use crate::wait::WaitQueue;

/// The threads of one process and what they share whatever `clone(2)` said.
#[derive(Debug)]
pub struct ThreadGroup {
    pid: Tid,
    pid_ns: Arc<PidNamespace>,
    container: ContainerId,
    /// The first process of its PID namespace.
    is_init: bool,
    kernel: Arc<Kernel>,
    start: KTime,
    pub(crate) signals: Mutex<GroupSignals>,
    handlers: RwLock<Arc<SigHandlers>>,
    pub(crate) limits: RwLock<Limits>,
    /// Told when a child changed state (`wait(2)`).
    pub(crate) child_events: WaitQueue,
    /// Told when a signal was queued (`signalfd(2)`).
    pub(crate) signal_events: WaitQueue,
    /// Told when the process ended (`pidfd_open(2)`).
    pub(crate) exit_events: WaitQueue,
    /// System time of threads that have ended.
    ended_system_ns: AtomicU64,
    /// User time: that of the address space, since the process has it, and of earlier ones.
    guest_time: Mutex<GuestTime>,
    /// CPU time of children that were waited for.
    pub(crate) children_cpu: CpuTimes,
    pub(crate) oom_score_adj: AtomicI32,
    /// What it goes down to without a privilege.
    oom_score_adj_min: AtomicI32,
    /// See [`ThreadGroup::set_ordinary`].
    is_ordinary: AtomicBool,
    /// The thread that made the process, which is its tracer if it asks for one.
    creator: Mutex<Weak<Task>>,
    pub(crate) timers: crate::task::ProcessTimers,
}

/// CPU time in nanoseconds.
#[derive(Debug, Default)]
pub struct CpuTimes {
    /// In guest code.
    pub user_ns: AtomicU64,
    /// In system calls.
    pub system_ns: AtomicU64,
}

impl CpuTimes {
    /// Both readings.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        // Two independent statistics; nothing is derived from their relation.
        (self.user_ns.load(Ordering::Relaxed), self.system_ns.load(Ordering::Relaxed))
    }

    /// Adds to both.
    pub fn add(&self, (user_ns, system_ns): (u64, u64)) {
        self.user_ns.fetch_add(user_ns, Ordering::Relaxed);
        self.system_ns.fetch_add(system_ns, Ordering::Relaxed);
    }
}

/// The user time of a process.
#[derive(Default)]
struct GuestTime {
    /// In earlier address spaces.
    before_ns: u64,
    now: Option<SpaceTime>,
}

/// The user time of a process in its address space.
struct SpaceTime {
    space: Weak<dyn AddressSpace>,
    /// What the space had used when the process got it: one that shares its parent's (`vfork(2)`) begins at zero.
    base_ns: u64,
    /// The last reading, which stays when the space is gone.
    read_ns: u64,
}

impl GuestTime {
    fn read(&mut self) -> u64 {
        let Some(now) = &mut self.now else { return self.before_ns };
        if let Some(space) = now.space.upgrade() {
            now.read_ns = used(&space).saturating_sub(now.base_ns);
        }
        self.before_ns + now.read_ns
    }

    fn change(&mut self, to: &Arc<dyn AddressSpace>) {
        self.before_ns = self.read();
        self.now = Some(SpaceTime { space: Arc::downgrade(to), base_ns: used(to), read_ns: 0 });
    }
}

impl std::fmt::Debug for GuestTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestTime").field("before_ns", &self.before_ns).finish_non_exhaustive()
    }
}

fn used(space: &Arc<dyn AddressSpace>) -> u64 {
    u64::try_from(space.cpu_time().as_nanos()).unwrap_or(u64::MAX)
}

impl ThreadGroup {
    pub(crate) fn new(
        kernel: &Arc<Kernel>,
        pid: Tid,
        pid_ns: Arc<PidNamespace>,
        container: ContainerId,
        handlers: Arc<SigHandlers>,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            pid,
            is_init: pid_ns.init() == Some(pid),
            pid_ns,
            container,
            kernel: kernel.clone(),
            start: kernel.clocks().monotonic(),
            signals: Mutex::new(GroupSignals::new()),
            handlers: RwLock::new(handlers),
            limits: RwLock::new(limits),
            child_events: WaitQueue::default(),
            signal_events: WaitQueue::default(),
            exit_events: WaitQueue::default(),
            ended_system_ns: AtomicU64::new(0),
            guest_time: Mutex::default(),
            children_cpu: CpuTimes::default(),
            oom_score_adj: AtomicI32::new(0),
            oom_score_adj_min: AtomicI32::new(0),
            is_ordinary: AtomicBool::new(false),
            creator: Mutex::default(),
            timers: crate::task::ProcessTimers::default(),
        })
    }

    /// The process id: the thread id of its leader.
    #[must_use]
    pub fn pid(&self) -> Tid {
        self.pid
    }

    /// The PID namespace.
    #[must_use]
    pub fn pid_ns(&self) -> &Arc<PidNamespace> {
        &self.pid_ns
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> ContainerId {
        self.container
    }

    /// True for the first process of its PID namespace, whose end is that of all others.
    #[must_use]
    pub fn is_init(&self) -> bool {
        self.is_init
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// When the process started.
    #[must_use]
    pub fn start_time(&self) -> KTime {
        self.start
    }

    /// The live threads.
    #[must_use]
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.signals.lock().threads.clone()
    }

    /// The dispositions of signals.
    #[must_use]
    pub fn handlers(&self) -> Arc<SigHandlers> {
        self.handlers.read().clone()
    }

    /// Installs other dispositions (`execve(2)`).
    pub(crate) fn set_handlers(&self, handlers: Arc<SigHandlers>) {
        *self.handlers.write() = handlers;
    }

    /// True once the last thread is gone.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let signals = self.signals.lock();
        signals.threads.is_empty() && signals.exit.is_some()
    }

    /// A copy of the limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        *self.limits.read()
    }

    /// Told when a signal was queued for the process or one of its threads (`signalfd(2)`).
    #[must_use]
    pub fn signal_events(&self) -> &WaitQueue {
        &self.signal_events
    }

    /// Told when the process ended (`pidfd_open(2)`).
    #[must_use]
    pub fn exit_events(&self) -> &WaitQueue {
        &self.exit_events
    }

    /// User and system CPU time of the process in nanoseconds, dead threads included.
    #[must_use]
    pub fn cpu_times(&self) -> (u64, u64) {
        let system = {
            // A thread moves from the one sum to the other under this lock.
            let signals = self.signals.lock();
            let living: u64 = signals.threads.iter().map(|task| task.system_time()).sum();
            self.ended_system_ns.load(Ordering::Relaxed) + living
        };
        (self.guest_time.lock().read(), system)
    }

    /// Reads the user time, for the case that the caller is the last to hold the address space.
    pub(crate) fn sample_guest_time(&self) {
        self.guest_time.lock().read();
    }

    /// Counts the system time of a thread that has just been taken from the threads, whose lock the caller holds.
    pub(crate) fn add_system_time(&self, ns: u64) {
        self.ended_system_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Counts the user time of this address space from now on.
    pub(crate) fn count_guest_time(&self, of: &Arc<dyn AddressSpace>) {
        self.guest_time.lock().change(of);
    }

    /// CPU time of children that were waited for.
    #[must_use]
    pub fn children_cpu_times(&self) -> (u64, u64) {
        self.children_cpu.get()
    }

    /// Whether signals from inside reach it only where it has a handler (pid_namespaces(7)).
    #[must_use]
    pub fn is_protected(&self) -> bool {
        // Set before the process runs.
        self.is_init && !self.is_ordinary.load(Ordering::Relaxed)
    }

    /// Has the first process take signals as any other does: for a command of the host's user, who does not think of
    /// it as an init.
    pub fn set_ordinary(&self) {
        self.is_ordinary.store(true, Ordering::Relaxed);
    }

    /// The thread that made the process, if it is still there.
    pub(crate) fn creator(&self) -> Option<Arc<Task>> {
        self.creator.lock().upgrade()
    }

    pub(crate) fn set_creator(&self, creator: &Arc<Task>) {
        *self.creator.lock() = Arc::downgrade(creator);
    }

    /// `/proc/PID/oom_score_adj`.
    #[must_use]
    pub fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj.load(Ordering::Relaxed)
    }

    /// Sets `/proc/PID/oom_score_adj` and how low it goes without a privilege; the caller checked the permission and the
    /// range.
    pub fn set_oom_score_adj(&self, adj: i32, min: i32) {
        self.oom_score_adj.store(adj, Ordering::Relaxed);
        self.oom_score_adj_min.store(min, Ordering::Relaxed);
    }

    /// How low `/proc/PID/oom_score_adj` goes without a privilege.
    #[must_use]
    pub fn oom_score_adj_min(&self) -> i32 {
        self.oom_score_adj_min.load(Ordering::Relaxed)
    }
}
