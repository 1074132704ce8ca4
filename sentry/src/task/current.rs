//! The task as its own thread sees it.

use std::ops::Deref;
use std::sync::Arc;

use sentry_abi::signal::SigSet;
use sentry_abi::syscall::nr;
use sentry_platform::{Answers, Context, Fault, Regs};

use crate::fs::mqueue;
use crate::kernel::UserNamespace;
use crate::mm::{MemoryManager, UserAddr, UserIo};
use crate::task::restart::{Continuation, Interrupted};
use crate::task::trace::Watch;
use crate::task::vfork::VforkLatch;
use crate::task::{Credentials, ExitStatus, Task, Tid};
use crate::vfs::{FdTable, FdTableUser, File, FsContext};

/// A task on its own sentry thread: the only holder of its registers and its platform context.
///
/// `mm()` and `files()` are cached here, so that system calls take no lock for them.
pub struct CurrentTask {
    pub(crate) task: Arc<Task>,
    pub(crate) mm: Arc<MemoryManager>,
    pub(crate) files: Arc<FdTable>,
    /// That of its credentials, which nobody else changes.
    user_ns: Arc<UserNamespace>,
    pub(crate) regs: Regs,
    pub(crate) context: Box<dyn Context>,
    pub(crate) restart_block: Option<Continuation>,
    pub(crate) interrupted_call: Option<Interrupted>,
    /// The mask to go back to after a call that waits with another one (`sigsuspend(2)`, `ppoll(2)`).
    pub(crate) saved_mask: Option<SigSet>,
    /// `set_tid_address(2)`.
    pub(crate) clear_child_tid: UserAddr,
    /// Set by `exit(2)`: the thread leaves with this code.
    pub(crate) exiting: Option<ExitStatus>,
    /// Released when this task no longer uses its parent's memory.
    pub(crate) vfork: Option<Arc<VforkLatch>>,
    /// The last fault that became a signal, for its frame.
    pub(crate) last_fault: Option<Fault>,
    /// `rseq(2)` registration: address, length and signature.
    pub(crate) rseq: Option<(UserAddr, u32, u32)>,
    /// A tracer steps through the guest's code.
    pub(crate) is_stepping: bool,
    /// A tracer watches for places in it.
    pub(crate) watch: Option<Box<Watch>>,
}

impl Deref for CurrentTask {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.task
    }
}

impl CurrentTask {
    pub(crate) fn new(
        task: Arc<Task>,
        mm: Arc<MemoryManager>,
        regs: Regs,
        context: Box<dyn Context>,
    ) -> Self {
        let files = task.files();
        let user_ns = task.creds().user_ns.clone();
        Self {
            user_ns,
            task,
            mm,
            files,
            regs,
            context,
            restart_block: None,
            interrupted_call: None,
            saved_mask: None,
            clear_child_tid: UserAddr::NULL,
            exiting: None,
            vfork: None,
            last_fault: None,
            rseq: None,
            is_stepping: false,
            watch: None,
        }
    }

    /// The task, shared.
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// The address space.
    #[must_use]
    pub fn mm(&self) -> &Arc<MemoryManager> {
        &self.mm
    }

    /// The descriptor table.
    #[must_use]
    pub fn files(&self) -> &Arc<FdTable> {
        &self.files
    }

    /// The user namespace.
    #[must_use]
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }

    /// The registers as of the last system call or fault.
    #[must_use]
    pub fn regs(&self) -> &Regs {
        &self.regs
    }

    /// The registers that the guest goes on with.
    pub fn regs_mut(&mut self) -> &mut Regs {
        &mut self.regs
    }

    /// The guest buffer `[base, base + len)` for file I/O.
    #[must_use]
    pub fn user_io(&self, base: UserAddr, len: u64) -> UserIo {
        UserIo::new(self.mm.clone(), base, len)
    }

    fn set_files(&mut self, files: FdTableUser) {
        self.files = Arc::clone(&files);
        let old = self.update_shared(|s| std::mem::replace(&mut s.files, files));
        drop(old);
    }

    /// Sees to it that no other task uses the descriptor table (`execve(2)`, `unshare(2)`, `close_range(2)`). One that nobody shares
    /// stays, and with it the record locks, which belong to it.
    pub(crate) fn own_files(&mut self) {
        if self.shares_files() {
            self.set_files(self.files.fork());
        }
    }

    /// A descriptor of the process for `file` was closed: ends what belongs to the process rather than to the description, that is
    /// record locks, and of a message queue what the process is to be told (`mq_notify(3)`).
    pub(crate) fn descriptor_closed(&self, file: &File) {
        if let Some(queue) = mqueue::queue_of(file) {
            queue.unregister(self.thread_group());
        }
        file.descriptor_closed(self.files.id());
    }

    /// Installs another file system context (`unshare(2)`, `setns(2)`).
    pub fn set_fs(&mut self, fs: Arc<FsContext>) {
        let old = self.update_shared(|s| std::mem::replace(&mut s.fs, fs));
        drop(old);
    }

    /// Installs other credentials (`setuid(2)`, `capset(2)`).
    pub fn set_creds(&mut self, creds: Arc<Credentials>) {
        let old = self.update_shared(|s| std::mem::replace(&mut s.creds, creds.clone()));
        // commit_creds: a process that has changed its identity may hold what others must not see.
        let ids = |c: &Credentials| (c.euid, c.egid, c.fsuid, c.fsgid);
        if ids(&old) != ids(&creds) || !old.holds(&creds) {
            self.mm.set_dumpable(false);
            self.set_parent_death_signal(0);
        }
        drop(old);
        self.user_ns = creds.user_ns.clone();
        self.publish_identity();
    }

    /// Lets the platform answer the calls that only read ids, unless each call is to be seen.
    pub(crate) fn publish_identity(&mut self) {
        if self.kernel().is_tracing() {
            return;
        }
        let creds = self.creds();
        let id = |tid: Tid| u32::try_from(self.number(tid)).ok();
        // Filters that always allow a call have no say in it.
        let is_traced = self.is_traced();
        let unseen = |number: u64, answer: Option<u32>| {
            answer.filter(|_| !is_traced && self.seccomp().always_allows(number))
        };
        // An id that is nobody's may become somebody's when the map is written.
        let answers = Answers {
            pid: unseen(nr::GETPID, id(self.pid())),
            tid: unseen(nr::GETTID, id(self.tid())),
            uid: unseen(nr::GETUID, creds.user_ns.uid_of(creds.uid)),
            euid: unseen(nr::GETEUID, creds.user_ns.uid_of(creds.euid)),
            gid: unseen(nr::GETGID, creds.user_ns.gid_of(creds.gid)),
            egid: unseen(nr::GETEGID, creds.user_ns.gid_of(creds.egid)),
        };
        self.context.publish(&answers);
    }

    /// Blocks `mask` until the current call has returned and its signals were delivered (`ppoll(2)`, `sigsuspend(2)`).
    pub fn set_temporary_mask(&mut self, mask: SigSet) {
        let old = self.set_signal_mask(mask);
        self.saved_mask = Some(old);
    }

    /// Goes back to the mask from before [`CurrentTask::set_temporary_mask`], unless a signal interrupted the call: then
    /// the delivery does it, so that the handler runs.
    pub fn restore_mask(&mut self, interrupted: bool) {
        if interrupted {
            // The way back to the guest must look at signals even if none came.
            self.request_attention();
        } else if let Some(mask) = self.saved_mask.take() {
            self.set_signal_mask(mask);
        }
    }
}

impl std::fmt::Debug for CurrentTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CurrentTask").field("task", &self.task).finish_non_exhaustive()
    }
}
