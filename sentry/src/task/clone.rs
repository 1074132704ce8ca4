//! Making tasks: `fork(2)`, `vfork(2)`, `clone(2)`, `clone3(2)`, and the first process.

use std::sync::Arc;

use sentry_abi::ptrace::event;
use sentry_abi::sched::CloneFlags;
use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::{Errno, Restart, SysError, SysResult};
use crate::kernel::{Namespaces, PidNamespace, Process, ProcessTree, UserNamespace};
use crate::mm::{MemoryManager, UserAddr, Writers};
use crate::task::signal::SigHandlers;
use crate::task::thread::{CallWork, NewTask, Shared};
use crate::task::trace::{LinkKind, Resume, ResumeMode};
use crate::task::vfork::VforkLatch;
use crate::task::{Capabilities, Credentials, CurrentTask, Resource, Task, ThreadGroup, Tid, pidfd};
use crate::vfs::FdFlags;

/// What to clone, after decoding.
#[derive(Debug, Clone)]
pub(crate) struct CloneRequest {
    pub(crate) flags: CloneFlags,
    /// Sent to the parent at the child's end; 0 for none.
    pub(crate) exit_signal: i32,
    /// The child's stack pointer, or 0 to keep the parent's.
    pub(crate) stack: u64,
    pub(crate) parent_tid: UserAddr,
    pub(crate) child_tid: UserAddr,
    pub(crate) pidfd: UserAddr,
    pub(crate) tls: u64,
    /// The child's numbers, in its own PID namespace first; empty for any.
    pub(crate) set_tid: Vec<i32>,
}

/// Namespaces that cannot be made.
const UNSUPPORTED: CloneFlags = CloneFlags::NEWTIME.union(CloneFlags::INTO_CGROUP);

impl CloneRequest {
    /// Checks the combination of flags (`clone(2)`, ERRORS).
    fn check(&self) -> Result<(), Errno> {
        let f = self.flags;
        let needs = |flag: CloneFlags, other: CloneFlags| !f.contains(flag) || f.contains(other);
        let excludes = |a: CloneFlags, b: CloneFlags| !f.contains(a.union(b));
        let valid = needs(CloneFlags::SIGHAND, CloneFlags::VM)
            && needs(CloneFlags::THREAD, CloneFlags::SIGHAND)
            && excludes(CloneFlags::NEWNS, CloneFlags::FS)
            && excludes(CloneFlags::NEWUSER, CloneFlags::FS)
            && excludes(CloneFlags::NEWUSER, CloneFlags::THREAD)
            && excludes(CloneFlags::NEWPID, CloneFlags::THREAD)
            && excludes(CloneFlags::NEWPID, CloneFlags::PARENT)
            && excludes(CloneFlags::CLEAR_SIGHAND, CloneFlags::SIGHAND)
            && excludes(CloneFlags::PIDFD, CloneFlags::DETACHED)
            && excludes(CloneFlags::NEWIPC, CloneFlags::SYSVSEM)
            && (0..=64).contains(&self.exit_signal)
            && !f.intersects(UNSUPPORTED);
        if valid { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

impl CurrentTask {
    /// Makes a task as `request` says and returns its id.
    ///
    /// # Errors
    /// As `clone(2)`.
    pub(crate) fn clone_task(&mut self, request: &CloneRequest) -> SysResult {
        request.check()?;
        let flags = request.flags;
        let is_elsewhere = self.namespaces().pid_for_children != *self.pid_ns();
        let parts_from_init = flags.contains(CloneFlags::PARENT) && self.thread_group().is_protected();
        if flags.contains(CloneFlags::THREAD) && is_elsewhere || parts_from_init {
            return Err(Errno::EINVAL.into());
        }
        let creds = self.child_credentials(flags)?;
        if flags.intersects(CloneFlags::NEWNS | Namespaces::KINDS)
            && !creds.has_in_own(Capabilities::SYS_ADMIN)
        {
            return Err(Errno::EPERM.into());
        }
        self.check_task_limit()?;
        // What was sent before the child exists is for the parent, who may not live to make it (`copy_process`).
        if self.is_interrupted() {
            return Err(Restart::Always.into());
        }
        let shared_signals = self.thread_group().signals.lock().shared_signals;
        let mm = if flags.contains(CloneFlags::VM) {
            self.mm.clone()
        } else {
            self.mm.fork(self.other_writers())?
        };
        if flags.contains(CloneFlags::VM) && !flags.intersects(CloneFlags::THREAD | CloneFlags::VFORK) {
            mm.note_other_process();
        }
        let fpu = self.context.fpu();
        let context = mm.address_space().new_context(&fpu).map_err(|_| Errno::EAGAIN)?;
        let event = self.clone_event(request);
        let traced = event.filter(|number| self.wants_event(*number));
        let (child, tid) = self.insert_child(request, &mm, creds, shared_signals, traced.is_some())?;
        if child.is_traced() {
            child.open_to_tracer();
        }
        if !flags.contains(CloneFlags::THREAD) {
            child.thread_group().count_guest_time(mm.address_space());
        }
        let latch = flags.contains(CloneFlags::VFORK).then(|| VforkLatch::new(self.waiter().clone()));

        let mut regs = self.regs;
        regs.rax = 0;
        if request.stack != 0 {
            regs.rsp = request.stack;
        }
        if flags.contains(CloneFlags::SETTLS) {
            regs.fs_base = request.tls;
        }
        let mut current = Self::new(child.clone(), mm.clone(), regs, context);
        current.vfork.clone_from(&latch);
        if flags.contains(CloneFlags::CHILD_CLEARTID) {
            current.clear_child_tid = request.child_tid;
        }
        if !flags.contains(CloneFlags::VM) {
            // rseq(2): kept over fork, not for threads.
            current.rseq = self.rseq;
        }
        // Stores that fail are ignored, as Linux does.
        if flags.contains(CloneFlags::PARENT_SETTID) {
            let _ = self.mm.write_obj(request.parent_tid, &self.number(tid));
        }
        if flags.contains(CloneFlags::CHILD_SETTID) {
            let _ = mm.write_obj(request.child_tid, &child.number(tid));
        }
        if flags.contains(CloneFlags::PIDFD) {
            self.install_pidfd(&child, request.pidfd)?;
        }
        if let Err(errno) = current.spawn() {
            forget_child(&child);
            return Err(errno.into());
        }
        if let Some(number) = traced {
            self.event_stop(number, self.value_for_tracer(tid));
        }
        if let Some(latch) = latch {
            self.wait_for_vfork(&latch);
            self.event_stop(event::VFORK_DONE, self.value_for_tracer(tid));
        }
        Ok(self.number_value(tid))
    }

    /// An id as the tracer sees it.
    pub(crate) fn value_for_tracer(&self, id: Tid) -> u64 {
        self.tracer().map_or(0, |tracer| tracer.number_value(id))
    }

    /// The credentials of a child: in a namespace of its own, or those of its parent.
    fn child_credentials(&self, flags: CloneFlags) -> Result<Arc<Credentials>, Errno> {
        if !flags.contains(CloneFlags::NEWUSER) {
            return Ok(self.creds());
        }
        self.check_root_for_user_namespace()?;
        Ok(Arc::new(UserNamespace::create(&self.creds())?))
    }

    /// Who is held in a part of the files by his root directory would get out with the capabilities of a new user
    /// namespace (`user_namespaces(7)`; `current_chrooted`).
    ///
    /// # Errors
    /// `EPERM`.
    pub(crate) fn check_root_for_user_namespace(&self) -> Result<(), Errno> {
        let fs = self.fs();
        if fs.root().is_same(&fs.namespace().root()) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Whether others have the same root and working directory (`CLONE_FS`).
    pub(crate) fn shares_fs(&self) -> bool {
        // One reference is the task's, the other is in hand.
        Arc::strong_count(&self.fs()) > 2
    }

    /// What a tracer is told, if it wants to be.
    fn clone_event(&self, request: &CloneRequest) -> Option<i32> {
        match () {
            () if request.flags.contains(CloneFlags::UNTRACED) => None,
            () if request.flags.contains(CloneFlags::VFORK) => Some(event::VFORK),
            () if request.exit_signal != Signal::SIGCHLD.number() => Some(event::CLONE),
            () => Some(event::FORK),
        }
    }

    /// Has the tracer trace the child, too. It stops before it does anything.
    fn share_tracer(&self, tree: &mut ProcessTree, child: &Arc<Task>) {
        let link = {
            let state = self.trace().lock();
            state.link.as_ref().map(|link| (link.tracer.clone(), link.kind, link.options))
        };
        let Some((tracer, kind, options)) = link else { return };
        if child.link_to(tree, &tracer, kind, options).is_err() {
            return;
        }
        match kind {
            LinkKind::Seized => child.add_call_work(CallWork::STOP),
            LinkKind::Attached => {
                let info = SigInfo::new(Signal::SIGSTOP, si_code::SI_USER);
                child.signals.lock().pending.push(Signal::SIGSTOP, info);
            }
        }
        child.request_attention();
    }

    /// Whether threads other than this one may write to its memory now.
    fn other_writers(&self) -> Writers {
        let is_alone = self.thread_group().signals.lock().threads.len() == 1;
        // The parent of a child of vfork(2) waits, but not its other threads.
        if is_alone && self.vfork.is_none() && !self.mm.has_several_processes() {
            Writers::None
        } else {
            Writers::Others
        }
    }

    fn install_pidfd(&self, child: &Arc<Task>, addr: UserAddr) -> Result<(), Errno> {
        let file = pidfd::new_file(child.thread_group().clone());
        let limit = self.rlimit(Resource::Nofile).soft;
        let fd = self.files.install(file, FdFlags::CLOEXEC, 0, limit);
        let stored = fd.and_then(|fd| self.mm.write_obj(addr, &fd.0).map(|()| fd));
        if let Err(errno) = stored {
            forget_child(child);
            return Err(errno);
        }
        Ok(())
    }

    fn check_task_limit(&self) -> Result<(), Errno> {
        let tree = self.kernel().tree();
        let count = tree.thread_count();
        if count >= self.kernel().max_tasks() {
            return Err(Errno::EAGAIN);
        }
        let creds = self.creds();
        let limit = self.rlimit(Resource::Nproc).soft;
        // getrlimit(2): not enforced for the superuser and with CAP_SYS_RESOURCE or CAP_SYS_ADMIN.
        let exempt =
            creds.uid.0 == 0 || creds.has(Capabilities::SYS_RESOURCE) || creds.has(Capabilities::SYS_ADMIN);
        if !exempt && count as u64 >= limit {
            let own = tree.processes().filter(|p| p.leader.creds().uid == creds.uid);
            let threads: usize = own.map(|p| p.group.signals.lock().threads.len()).sum();
            if threads as u64 >= limit {
                return Err(Errno::EAGAIN);
            }
        }
        Ok(())
    }

    /// Makes the shared part of the child and enters it everywhere, unless this process is ending.
    fn insert_child(
        &self,
        request: &CloneRequest,
        mm: &Arc<MemoryManager>,
        creds: Arc<Credentials>,
        shared_signals: u64,
        is_traced: bool,
    ) -> Result<(Arc<Task>, Tid), SysError> {
        let flags = request.flags;
        let files = if flags.contains(CloneFlags::FILES) { self.share_files() } else { self.files.fork() };
        let fs = match self.fs() {
            fs if flags.contains(CloneFlags::NEWNS) => fs.fork_namespace(&creds)?,
            fs if flags.contains(CloneFlags::FS) => fs,
            fs => fs.fork(),
        };
        let namespaces = self.namespaces().fork(flags, &creds, self.pid_ns(), self.kernel())?;
        let pid_ns = namespaces.pid_for_children.clone();
        let shared = Shared { mm: Some(mm.clone()), files, fs, creds, namespaces };
        let mut tree = self.kernel().tree();
        tree.check_chosen(&pid_ns, &request.set_tid, &self.creds())?;
        let tid = tree.allocate_id(&pid_ns, &request.set_tid)?;
        let group = if flags.contains(CloneFlags::THREAD) {
            self.thread_group().clone()
        } else {
            self.new_group(flags, tid, pid_ns)
        };
        let child = Task::new(NewTask {
            tid,
            group: group.clone(),
            shared,
            comm: self.comm_field(),
            mask: self.signal_mask(),
            scheduling: self.scheduling().for_child(),
        });
        if flags.contains(CloneFlags::SYSVSEM) {
            child.set_semaphore_undo(Some(self.semaphore_undo()));
        }
        if !flags.contains(CloneFlags::VM) || flags.contains(CloneFlags::VFORK) {
            // sigaltstack(2): inherited by fork and vfork, not by threads.
            child.signals.lock().alt_stack = self.signals.lock().alt_stack;
        }
        if !flags.contains(CloneFlags::THREAD) {
            child.inherit_call_work(self);
        }
        if flags.contains(CloneFlags::THREAD) {
            let mut signals = group.signals.lock();
            if signals.exit.is_some() || signals.exec.is_some() {
                return Err(Errno::EAGAIN.into());
            }
            // Filters that are installed for all threads of the process either are there or find the thread.
            child.inherit_call_work(self);
            signals.threads.push(child.clone());
            if signals.job != crate::task::signal::JobState::Running {
                child.request_attention();
            }
            drop(signals);
            tree.insert_thread(&child);
        } else {
            let parent = self.thread_group().signals.lock();
            if parent.exit.is_some() {
                return Err(Errno::EAGAIN.into());
            }
            if parent.shared_signals != shared_signals {
                // The announcement may be under way.
                self.request_attention();
                return Err(Restart::Always.into());
            }
            drop(parent);
            group.signals.lock().threads.push(child.clone());
            self.insert_process(&mut tree, request, &group, &child)?;
            group.watch_cpu_limit();
        }
        // CLONE_PTRACE: "if the calling process is being traced, then trace the child also".
        if is_traced || flags.contains(CloneFlags::PTRACE) {
            self.share_tracer(&mut tree, &child);
        }
        Ok((child, tid))
    }

    fn new_group(&self, flags: CloneFlags, pid: Tid, pid_ns: Arc<PidNamespace>) -> Arc<ThreadGroup> {
        let handlers = self.thread_group().handlers();
        let handlers = match () {
            () if flags.contains(CloneFlags::SIGHAND) => handlers,
            () if flags.contains(CloneFlags::CLEAR_SIGHAND) => handlers.for_exec(),
            () => handlers.fork(),
        };
        let parent = self.thread_group();
        let group =
            ThreadGroup::new(self.kernel(), pid, pid_ns, parent.container(), handlers, parent.limits());
        group.set_oom_score_adj(self.thread_group().oom_score_adj(), self.thread_group().oom_score_adj_min());
        group.set_creator(self.task());
        group
    }

    fn insert_process(
        &self,
        tree: &mut ProcessTree,
        request: &CloneRequest,
        group: &Arc<ThreadGroup>,
        child: &Arc<Task>,
    ) -> Result<(), Errno> {
        let this = tree.process(self.pid()).ok_or(Errno::ESRCH)?;
        let (pgid, session) = (this.pgid, this.session.clone());
        let (parent, maker) = if request.flags.contains(CloneFlags::PARENT) {
            (this.parent, this.maker)
        } else {
            (Some(self.pid()), Some(self.tid()))
        };
        let exit_signal = if request.flags.contains(CloneFlags::PARENT) {
            this.exit_signal
        } else {
            Signal::new(request.exit_signal)
        };
        tree.insert(Process {
            group: group.clone(),
            leader: child.clone(),
            parent,
            maker,
            children: std::collections::BTreeSet::new(),
            pgid,
            session,
            exit_signal,
            exit: None,
            stop_report: None,
            continue_report: false,
            has_execed: false,
            is_subreaper: false,
            tracees: Vec::new(),
        });
        Ok(())
    }
}

/// Removes a child that could not be started.
fn forget_child(child: &Arc<Task>) {
    let group = child.thread_group();
    group.signals.lock().threads.retain(|t| !Arc::ptr_eq(t, child));
    let mut tree = child.kernel().tree();
    child.detach(&mut tree, Resume { mode: ResumeMode::Continue, signal: 0 });
    if child.tid() == group.pid() {
        tree.reap(child.tid());
    } else {
        tree.remove_thread(child.tid());
    }
}

/// The handlers of a first process: everything at its default.
pub(crate) fn initial_handlers() -> Arc<SigHandlers> {
    SigHandlers::new()
}
