//! A guest thread as others see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use sentry_abi::signal::SigSet;
use sentry_platform::Interrupter;

use crate::errno::Errno;
use crate::ipc::{IpcNamespace, SemaphoreUndo};
use crate::kernel::{KTime, Kernel, Namespaces, PidNamespace, UtsNamespace};
use crate::mm::MemoryManager;
use crate::socket::NetNamespace;
use crate::task::clocks::TaskClocks;
use crate::task::seccomp::Seccomp;
use crate::task::signal::TaskSignals;
use crate::task::trace::Trace;
use crate::task::{Credentials, Limit, Resource, Scheduling, TaskWaiter, ThreadGroup};
use crate::vfs::{FdTable, FdTableUser, FsContext};

/// A thread or process id as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub i32);

/// What a thread is doing, for `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// In guest code or in a system call that does not sleep: `R`.
    Running,
    /// Sleeping, interruptible: `S`.
    Sleeping,
    /// Stopped by job control: `T`.
    Stopped,
    /// Stopped for its tracer: `t`.
    Traced,
    /// Ended, not waited for: `Z`.
    Zombie,
}

impl RunState {
    /// The letter in `/proc/PID/stat`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Sleeping => 'S',
            Self::Stopped => 'T',
            Self::Traced => 't',
            Self::Zombie => 'Z',
        }
    }
}

/// A guest thread, shared. Its own thread holds a [`crate::task::CurrentTask`] around it.
pub struct Task {
    /// Changes only when `execve(2)` makes the thread the leader.
    tid: AtomicI32,
    group: Arc<ThreadGroup>,
    kernel: Arc<Kernel>,
    waiter: Arc<TaskWaiter>,
    /// Something waits for the task's attention: a signal, a stop, its end.
    attention: AtomicBool,
    /// The thread runs guest code, so that only the platform can interrupt it.
    in_guest: AtomicBool,
    interrupter: RwLock<Option<Arc<dyn Interrupter>>>,
    state: AtomicU8,
    pub(crate) signals: Mutex<TaskSignals>,
    shared: RwLock<Shared>,
    comm: Mutex<[u8; 16]>,
    clocks: TaskClocks,
    pub(crate) scheduling: Mutex<Scheduling>,
    /// `set_robust_list(2)`: the list head in guest memory.
    pub(crate) robust_list: AtomicU64,
    start: KTime,
    semaphore_undo: Mutex<Option<Arc<SemaphoreUndo>>>,
    is_root_process: AtomicBool,
    personality: AtomicU32,
    seccomp: Seccomp,
    trace: Trace,
    /// [`CallWork`].
    call_work: AtomicU32,
    /// The platform may answer calls that are to be seen.
    has_stale_answers: AtomicBool,
    parent_death_signal: AtomicI32,
}

bitflags::bitflags! {
    /// Who wants to see the system calls of a thread.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct CallWork: u32 {
        /// Filters (`seccomp(2)`).
        const SECCOMP = 1;
        /// Somebody traces the thread (`ptrace(2)`), whether or not it stops at calls.
        const TRACED = 2;
        /// It stops before and behind calls.
        const CALLS = 4;
        /// It stops before calls, which are not made.
        const EMULATE = 8;
        /// It has to stop as soon as it can: not about calls, but here so that one word says it all.
        const STOP = 16;
    }
}

/// What `clone(2)` shares or copies. The objects are replaced, not changed, by `unshare`, `execve` and `set*id`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mm: Option<Arc<MemoryManager>>,
    pub(crate) files: FdTableUser,
    pub(crate) fs: Arc<FsContext>,
    pub(crate) creds: Arc<Credentials>,
    pub(crate) namespaces: Arc<Namespaces>,
}

/// What a new task starts with.
pub(crate) struct NewTask {
    pub(crate) tid: Tid,
    pub(crate) group: Arc<ThreadGroup>,
    pub(crate) shared: Shared,
    pub(crate) comm: [u8; 16],
    pub(crate) mask: SigSet,
    pub(crate) scheduling: Scheduling,
}

impl Task {
    pub(crate) fn new(new: NewTask) -> Arc<Self> {
        let NewTask { tid, group, shared, comm, mask, scheduling } = new;
        let kernel = group.kernel().clone();
        Arc::new(Self {
            tid: AtomicI32::new(tid.0),
            start: kernel.clocks().monotonic(),
            group,
            kernel,
            waiter: Arc::default(),
            attention: AtomicBool::new(false),
            in_guest: AtomicBool::new(false),
            interrupter: RwLock::new(None),
            state: AtomicU8::new(RunState::Running as u8),
            signals: Mutex::new(TaskSignals::new(mask)),
            shared: RwLock::new(shared),
            comm: Mutex::new(comm),
            clocks: TaskClocks::default(),
            scheduling: Mutex::new(scheduling),
            robust_list: AtomicU64::new(0),
            semaphore_undo: Mutex::new(None),
            is_root_process: AtomicBool::new(false),
            personality: AtomicU32::new(0),
            seccomp: Seccomp::default(),
            trace: Trace::default(),
            call_work: AtomicU32::new(0),
            has_stale_answers: AtomicBool::new(false),
            parent_death_signal: AtomicI32::new(0),
        })
    }

    /// The thread id.
    #[must_use]
    pub fn tid(&self) -> Tid {
        Tid(self.tid.load(Ordering::Relaxed))
    }

    /// Gives the thread the id of its process (`execve(2)` by a thread that is not the leader).
    pub(crate) fn set_tid(&self, tid: Tid) {
        self.tid.store(tid.0, Ordering::Relaxed);
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Tid {
        self.group.pid()
    }

    /// The PID namespace.
    #[must_use]
    pub fn pid_ns(&self) -> &Arc<PidNamespace> {
        self.group.pid_ns()
    }

    /// The number of a thread, process, group or session as this task sees it; 0 for one outside of its namespace.
    #[must_use]
    pub fn number(&self, id: Tid) -> i32 {
        self.pid_ns().number(id)
    }

    /// The same as a return value.
    pub(crate) fn number_value(&self, id: Tid) -> u64 {
        u64::from(self.number(id).unsigned_abs())
    }

    /// What the task calls `number`.
    ///
    /// # Errors
    /// `ESRCH` where that is nothing.
    pub(crate) fn named(&self, number: i32) -> Result<Tid, Errno> {
        self.pid_ns().id(number).ok_or(Errno::ESRCH)
    }

    /// The process.
    #[must_use]
    pub fn thread_group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// When the thread started.
    #[must_use]
    pub fn start_time(&self) -> KTime {
        self.start
    }

    /// The address space; `None` once the task has exited.
    #[must_use]
    pub fn mm(&self) -> Option<Arc<MemoryManager>> {
        self.shared.read().mm.clone()
    }

    /// The descriptor table; an empty one once the task has exited.
    #[must_use]
    pub fn files(&self) -> Arc<FdTable> {
        Arc::clone(&self.shared.read().files)
    }

    /// A part in the descriptor table for another task (`CLONE_FILES`).
    pub(crate) fn share_files(&self) -> FdTableUser {
        self.shared.read().files.share()
    }

    /// Whether other tasks use the descriptor table, too.
    pub(crate) fn shares_files(&self) -> bool {
        self.shared.read().files.is_shared()
    }

    /// Root directory, working directory and umask.
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        self.shared.read().fs.clone()
    }

    /// Identity and capabilities.
    #[must_use]
    pub fn creds(&self) -> Arc<Credentials> {
        self.shared.read().creds.clone()
    }

    /// The namespaces that are neither of users nor of mounts.
    #[must_use]
    pub fn namespaces(&self) -> Arc<Namespaces> {
        self.shared.read().namespaces.clone()
    }

    /// Host and domain name.
    #[must_use]
    pub fn uts(&self) -> Arc<UtsNamespace> {
        self.shared.read().namespaces.uts.clone()
    }

    /// System V IPC.
    #[must_use]
    pub fn ipc(&self) -> Arc<IpcNamespace> {
        self.shared.read().namespaces.ipc.clone()
    }

    /// The network; none where the sandbox has no network stack, and once the task has exited.
    #[must_use]
    pub fn net(&self) -> Option<Arc<NetNamespace>> {
        self.shared.read().namespaces.net.clone()
    }

    /// What `SEM_UNDO` takes back when the process ends.
    pub(crate) fn semaphore_undo(&self) -> Arc<SemaphoreUndo> {
        let mut undo = self.semaphore_undo.lock();
        undo.get_or_insert_with(|| SemaphoreUndo::new(self.pid().0)).clone()
    }

    /// Sets what to take back, for `CLONE_SYSVSEM`, or lets go of it.
    pub(crate) fn set_semaphore_undo(&self, undo: Option<Arc<SemaphoreUndo>>) {
        let old = std::mem::replace(&mut *self.semaphore_undo.lock(), undo);
        // Taking back wakes others: not under the lock.
        drop(old);
    }

    /// Changes what `clone(2)` shares; only for the task itself.
    pub(crate) fn update_shared<R>(&self, change: impl FnOnce(&mut Shared) -> R) -> R {
        change(&mut self.shared.write())
    }

    /// The limit of `resource`.
    #[must_use]
    pub fn rlimit(&self, resource: Resource) -> Limit {
        self.group.limits.read().get(resource)
    }

    /// The name of the thread, without trailing NULs (`PR_GET_NAME`).
    #[must_use]
    pub fn comm(&self) -> Vec<u8> {
        let comm = self.comm.lock();
        comm.iter().copied().take_while(|b| *b != 0).collect()
    }

    /// The name as `PR_GET_NAME` stores it.
    #[must_use]
    pub fn comm_field(&self) -> [u8; 16] {
        *self.comm.lock()
    }

    /// Names the thread; at most 15 bytes count.
    pub fn set_comm(&self, name: &[u8]) {
        let mut field = [0; 16];
        let len = name.len().min(15);
        field[..len].copy_from_slice(&name[..len]);
        *self.comm.lock() = field;
    }

    /// Where the task sleeps; register it with wait queues.
    #[must_use]
    pub fn waiter(&self) -> &Arc<TaskWaiter> {
        &self.waiter
    }

    /// User and system CPU time in nanoseconds. Takes some microseconds: the guest's process is asked for its thread's.
    #[must_use]
    pub fn cpu_times(&self) -> (u64, u64) {
        (self.clocks.user(), self.clocks.system())
    }

    /// System CPU time in nanoseconds.
    pub(crate) fn system_time(&self) -> u64 {
        self.clocks.system()
    }

    /// The CPU time of the thread, for its own use.
    pub(crate) fn clocks(&self) -> &TaskClocks {
        &self.clocks
    }

    /// Priority, policy and CPU mask.
    #[must_use]
    pub fn scheduling(&self) -> Scheduling {
        self.scheduling.lock().clone()
    }

    /// What the thread is doing.
    #[must_use]
    pub fn run_state(&self) -> RunState {
        match self.state.load(Ordering::Relaxed) {
            0 => RunState::Running,
            1 => RunState::Sleeping,
            2 => RunState::Stopped,
            3 => RunState::Traced,
            _ => RunState::Zombie,
        }
    }

    pub(crate) fn set_run_state(&self, state: RunState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// True where a blocked call has to end: a signal to handle, a stop, the end of the process.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// Forgets the request; to be followed by a look at what may be pending.
    pub(crate) fn clear_attention(&self) {
        self.attention.store(false, Ordering::SeqCst);
    }

    /// Makes the next return to guest code look at pending work, without waking anybody: for the task itself.
    pub(crate) fn request_attention(&self) {
        self.attention.store(true, Ordering::SeqCst);
    }

    /// Makes the task look at its pending work: ends its sleep, or takes it out of guest code.
    pub fn interrupt(&self) {
        // SeqCst pairs with `enter_guest`: either it sees the request or this sees the thread in guest code.
        self.attention.store(true, Ordering::SeqCst);
        self.waiter.wake();
        self.interrupt_guest();
    }

    /// Takes the thread out of guest code if it is there. A sleep goes on.
    pub(crate) fn interrupt_guest(&self) {
        if self.is_in_guest()
            && let Some(interrupter) = self.interrupter.read().as_ref()
        {
            interrupter.interrupt();
        }
    }

    /// True while the thread runs guest code, or is about to.
    pub(crate) fn is_in_guest(&self) -> bool {
        self.in_guest.load(Ordering::SeqCst)
    }

    /// Says that the thread is about to run guest code. False when its attention is wanted first, or guest code is held
    /// back.
    pub(crate) fn enter_guest(&self) -> bool {
        self.in_guest.store(true, Ordering::SeqCst);
        if self.attention.load(Ordering::SeqCst) || self.kernel.is_frozen(self.group.container()) {
            self.in_guest.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Says that the thread is back from guest code.
    pub(crate) fn leave_guest(&self) {
        // Relaxed: a late interrupt only costs a spurious return from guest code.
        self.in_guest.store(false, Ordering::Relaxed);
    }

    /// Takes the thread out of guest code if it is there, and waits until it is.
    pub(crate) fn interrupt_and_wait(&self) {
        if !self.is_in_guest() {
            return;
        }
        self.interrupt();
        while self.is_in_guest() {
            std::thread::yield_now();
        }
    }

    /// `personality(2)`.
    #[must_use]
    pub fn personality(&self) -> u32 {
        self.personality.load(Ordering::Relaxed)
    }

    /// Changes it and returns the old one; for the task itself.
    pub(crate) fn set_personality(&self, personality: u32) -> u32 {
        self.personality.swap(personality, Ordering::Relaxed)
    }

    /// The filters of the thread's calls.
    pub(crate) fn seccomp(&self) -> &Seccomp {
        &self.seccomp
    }

    /// Who wants to see the thread's calls.
    pub(crate) fn call_work(&self) -> CallWork {
        // Relaxed: the thread changes it itself, or its process is made to look first (`withdraw_answers`).
        CallWork::from_bits_retain(self.call_work.load(Ordering::Relaxed))
    }

    /// Adds to it.
    pub(crate) fn add_call_work(&self, work: CallWork) {
        self.call_work.fetch_or(work.bits(), Ordering::SeqCst);
    }

    /// Takes from it.
    pub(crate) fn remove_call_work(&self, work: CallWork) {
        self.call_work.fetch_and(!work.bits(), Ordering::SeqCst);
    }

    /// The thread's tracing.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Has what its parent has (`clone(2)`).
    pub(crate) fn inherit_call_work(&self, parent: &Self) {
        self.seccomp.inherit(&parent.seccomp);
        self.set_personality(parent.personality());
        self.add_call_work(parent.call_work().intersection(CallWork::SECCOMP));
    }

    /// Sets `PR_SET_NO_NEW_PRIVS` from another thread.
    pub(crate) fn set_no_new_privs(&self) {
        self.update_shared(|shared| {
            let creds = Credentials::clone(&shared.creds);
            shared.creds = Arc::new(Credentials { no_new_privs: true, ..creds });
        });
    }

    /// Has the platform answer no calls that are to be seen from now on.
    pub(crate) fn withdraw_answers(&self) {
        self.mark_stale_answers();
        self.interrupt_and_wait();
    }

    /// The same, some time.
    pub(crate) fn mark_stale_answers(&self) {
        self.has_stale_answers.store(true, Ordering::SeqCst);
    }

    /// Whether that has to be done.
    pub(crate) fn has_stale_answers(&self) -> bool {
        self.has_stale_answers.load(Ordering::SeqCst)
    }

    /// Whether that has to be done, once.
    pub(crate) fn take_stale_answers(&self) -> bool {
        self.has_stale_answers.swap(false, Ordering::SeqCst)
    }

    /// `PR_GET_PDEATHSIG`: 0 for none.
    pub(crate) fn parent_death_signal(&self) -> i32 {
        self.parent_death_signal.load(Ordering::Relaxed)
    }

    /// `PR_SET_PDEATHSIG`.
    pub(crate) fn set_parent_death_signal(&self, signal: i32) {
        self.parent_death_signal.store(signal, Ordering::Relaxed);
    }

    /// Tells how to take the thread out of guest code: at its start and after `execve(2)`.
    pub(crate) fn set_interrupter(&self, interrupter: Arc<dyn Interrupter>) {
        *self.interrupter.write() = Some(interrupter);
    }

    /// True for a process that the sandbox's control made, and waits for.
    pub(crate) fn is_root_process(&self) -> bool {
        self.is_root_process.load(Ordering::Relaxed)
    }

    pub(crate) fn set_root_process(&self) {
        self.is_root_process.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("tid", &self.tid()).field("pid", &self.pid()).finish_non_exhaustive()
    }
}
