//! Processes by id, their parents, groups and sessions: what Linux's `tasklist_lock` protects.
//!
//! Lock order: the tree comes before `ThreadGroup::signals`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sentry_abi::signal::Signal;

use crate::errno::Errno;
use crate::kernel::{PidNamespace, Session};
use crate::task::trace::Tracee;
use crate::task::{Credentials, ExitStatus, Task, ThreadGroup, Tid};

/// The highest id plus one (`/proc/sys/kernel/pid_max`).
const PID_MAX: i32 = 32768;
/// Where ids start again after a wrap (`RESERVED_PIDS` in the kernel).
const PID_WRAP: i32 = 300;

/// One process that exists or is a zombie.
#[derive(Debug)]
pub struct Process {
    /// Its threads and their shared state.
    pub group: Arc<ThreadGroup>,
    /// The thread whose id is the process id; it stays here as a zombie.
    pub leader: Arc<Task>,
    /// Who waits for it; `None` for processes that the sandbox's control started.
    pub parent: Option<Tid>,
    /// The thread of the parent that made it, or that took over what it made: its end is what `PR_SET_PDEATHSIG` is about.
    pub(crate) maker: Option<Tid>,
    /// Its children, zombies included.
    pub children: BTreeSet<Tid>,
    /// Its process group.
    pub pgid: Tid,
    /// Its session.
    pub session: Arc<Session>,
    /// What the parent gets when it ends; `None` for `clone` with exit signal 0.
    pub exit_signal: Option<Signal>,
    /// How it ended, once it has.
    pub exit: Option<ExitStatus>,
    /// A stop that the parent has not waited for.
    pub stop_report: Option<Signal>,
    /// A continuation that the parent has not waited for.
    pub continue_report: bool,
    /// It has called `execve(2)` since its `fork(2)` (`setpgid(2)` EACCES).
    pub has_execed: bool,
    /// The threads that its own ones trace.
    pub tracees: Vec<Tracee>,
    /// It adopts orphaned descendants (`PR_SET_CHILD_SUBREAPER`).
    pub is_subreaper: bool,
}

impl Process {
    /// The tracer of its leader, if that is not the parent.
    pub(crate) fn other_tracer(&self) -> Option<Arc<Task>> {
        self.leader.tracer().filter(|tracer| Some(tracer.pid()) != self.parent)
    }

    /// Whether its parent traces its leader.
    pub(crate) fn is_traced_by_parent(&self) -> bool {
        self.leader.tracer().is_some_and(|tracer| Some(tracer.pid()) == self.parent)
    }
}

/// All tasks of the sandbox.
#[derive(Debug, Default)]
pub struct ProcessTree {
    processes: BTreeMap<Tid, Process>,
    threads: HashMap<Tid, Arc<Task>>,
    last: i32,
    /// The ids that have numbers in further namespaces, until they are used again.
    numbered: HashMap<Tid, Arc<PidNamespace>>,
    /// See [`ProcessTree::close`].
    is_closed: bool,
}

impl ProcessTree {
    /// Admits no further process or thread: init has ended. Who is there now is all that has to be killed.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// The last id that was given.
    pub(crate) fn last(&self) -> i32 {
        self.last
    }

    /// Has the next id be the one behind `last`, if that is free.
    pub(crate) fn set_last(&mut self, last: i32) {
        self.last = last;
    }

    /// Checks the numbers that `creds` chooses for something in `pid_ns` (`set_tid` of `clone3(2)`).
    ///
    /// # Errors
    /// As [`PidNamespace::check_chosen`].
    pub(crate) fn check_chosen(
        &self,
        pid_ns: &PidNamespace,
        chosen: &[i32],
        creds: &Credentials,
    ) -> Result<(), Errno> {
        pid_ns.check_chosen(chosen, creds, &|id| self.is_used(id))
    }

    /// An id for something in `pid_ns` with the numbers of `chosen`, which were checked: the lowest one above the last one given
    /// that nothing uses, where that is not chosen.
    ///
    /// # Errors
    /// `EAGAIN` when there is none; `ENOMEM` once init has ended (pid_namespaces(7)).
    pub(crate) fn allocate_id(&mut self, pid_ns: &Arc<PidNamespace>, chosen: &[i32]) -> Result<Tid, Errno> {
        if self.is_closed {
            return Err(Errno::ENOMEM);
        }
        let id = match chosen.get(pid_ns.level()) {
            Some(id) => Tid(*id),
            None => self.next_id()?,
        };
        if let Some(old) = self.numbered.remove(&id) {
            old.forget(id);
        }
        if !pid_ns.is_initial() {
            pid_ns.admit(id, chosen, &|id| self.is_used(id))?;
            self.numbered.insert(id, pid_ns.clone());
        }
        Ok(id)
    }

    fn next_id(&mut self) -> Result<Tid, Errno> {
        for _ in 0..PID_MAX {
            self.last = if self.last + 1 >= PID_MAX { PID_WRAP } else { self.last + 1 };
            if !self.is_used(Tid(self.last)) {
                return Ok(Tid(self.last));
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Whether an id is a thread's, a group's or a session's.
    fn is_used(&self, id: Tid) -> bool {
        self.threads.contains_key(&id)
            || self.processes.values().any(|p| p.pgid == id || p.session.id() == id)
    }

    /// Adds a process whose leader is `process.leader`.
    pub(crate) fn insert(&mut self, process: Process) {
        let pid = process.group.pid();
        if let Some(parent) = process.parent.and_then(|p| self.processes.get_mut(&p)) {
            parent.children.insert(pid);
        }
        self.threads.insert(pid, process.leader.clone());
        self.processes.insert(pid, process);
    }

    /// Adds a thread that is not a leader.
    pub(crate) fn insert_thread(&mut self, task: &Arc<Task>) {
        self.threads.insert(task.tid(), task.clone());
    }

    /// Removes a thread that is not a leader.
    pub(crate) fn remove_thread(&mut self, tid: Tid) {
        self.threads.remove(&tid);
    }

    /// Makes `task` the leader of its process: `execve(2)` by another thread takes over the process id.
    pub(crate) fn replace_leader(&mut self, task: &Arc<Task>) {
        self.threads.remove(&task.tid());
        if let Some(process) = self.processes.get(&task.pid()) {
            // The old leader has ended without a word to its tracer.
            let old = process.leader.clone();
            self.forget_tracee(&old);
        }
        task.set_tid(task.pid());
        self.threads.insert(task.pid(), task.clone());
        if let Some(process) = self.processes.get_mut(&task.pid()) {
            process.leader = task.clone();
        }
        // It is the only thread now.
        self.change_maker(task.pid(), |_| true, Some(task.pid()));
    }

    /// Makes `maker` the thread that the children of `pid` with such a maker come from; returns these.
    pub(crate) fn change_maker(
        &mut self,
        pid: Tid,
        is_meant: impl Fn(Option<Tid>) -> bool,
        maker: Option<Tid>,
    ) -> Vec<Tid> {
        let mut children =
            self.processes.get(&pid).map_or_else(Vec::new, |p| p.children.iter().copied().collect());
        children.retain(|child| {
            let child = self.processes.get_mut(child).filter(|child| is_meant(child.maker));
            child.map(|child| child.maker = maker).is_some()
        });
        children
    }

    /// Forgets a zombie and returns it.
    pub(crate) fn reap(&mut self, pid: Tid) -> Option<Process> {
        let process = self.processes.remove(&pid)?;
        self.threads.remove(&pid);
        self.forget_tracee(&process.leader);
        if let Some(parent) = process.parent.and_then(|p| self.processes.get_mut(&p)) {
            parent.children.remove(&pid);
        }
        Some(process)
    }

    /// Takes a thread that has ended off the list of its tracer.
    fn forget_tracee(&mut self, task: &Arc<Task>) {
        if let Some(tracer) = task.tracer()
            && let Some(process) = self.processes.get_mut(&tracer.pid())
        {
            process.tracees.retain(|tracee| !Arc::ptr_eq(&tracee.task, task));
            task.trace().lock().link = None;
        }
    }

    /// The process `pid`.
    #[must_use]
    pub fn process(&self, pid: Tid) -> Option<&Process> {
        self.processes.get(&pid)
    }

    pub(crate) fn process_mut(&mut self, pid: Tid) -> Option<&mut Process> {
        self.processes.get_mut(&pid)
    }

    /// The thread `tid`; a zombie leader counts.
    #[must_use]
    pub fn thread(&self, tid: Tid) -> Option<&Arc<Task>> {
        self.threads.get(&tid)
    }

    /// All processes in ascending order of their ids.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// Every thread of every process that has not ended.
    pub(crate) fn threads(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.threads.values()
    }

    /// How many threads exist.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// The processes of a process group.
    pub fn group_members(&self, pgid: Tid) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(move |p| p.pgid == pgid)
    }

    /// Moves the children of a process that ends to `heir` and returns the zombies among them.
    pub(crate) fn reparent_children(&mut self, pid: Tid, heir: Option<Tid>) -> Vec<Tid> {
        let children =
            self.processes.get_mut(&pid).map(|p| std::mem::take(&mut p.children)).unwrap_or_default();
        let mut zombies = Vec::new();
        for child in children {
            let Some(process) = self.processes.get_mut(&child) else { continue };
            process.parent = heir;
            process.maker = heir;
            // As `reparent_leader`: a new parent always gets SIGCHLD.
            process.exit_signal = Some(Signal::SIGCHLD);
            if process.exit.is_some() {
                zombies.push(child);
            }
            if let Some(heir) = heir.and_then(|h| self.processes.get_mut(&h)) {
                heir.children.insert(child);
            }
        }
        zombies
    }

    /// Who adopts the children of `pid`: the nearest living ancestor that is a subreaper, else init.
    #[must_use]
    pub fn heir_of(&self, pid: Tid) -> Option<Tid> {
        let ended = self.processes.get(&pid)?;
        let pid_ns = ended.group.pid_ns();
        let mut at = ended.parent;
        // "... within the same PID namespace" (PR_SET_CHILD_SUBREAPER(2const)).
        let is_near = |process: &&Process| process.group.pid_ns() == pid_ns;
        while let Some(process) = at.and_then(|p| self.processes.get(&p)).filter(is_near) {
            if process.is_subreaper && process.exit.is_none() {
                return at;
            }
            at = process.parent;
        }
        let init = pid_ns.init()?;
        (pid != init && self.processes.get(&init).is_some_and(|p| p.exit.is_none())).then_some(init)
    }

    /// True where no member of the group has a parent in the same session and another group
    /// (`setpgid(2)`, "orphaned process group"). `ignoring` counts as gone.
    #[must_use]
    pub fn is_orphaned(&self, pgid: Tid, ignoring: Option<Tid>) -> bool {
        !self
            .group_members(pgid)
            .any(|p| p.exit.is_none() && Some(p.group.pid()) != ignoring && self.is_held_by_parent(p))
    }

    /// The process groups that `pid` keeps from being orphaned, by itself or as a parent: only these can become so when
    /// it ends. A group without such a link was orphaned before.
    #[must_use]
    pub fn groups_held_by(&self, pid: Tid) -> BTreeSet<Tid> {
        let Some(process) = self.processes.get(&pid) else { return BTreeSet::new() };
        let children = process.children.iter().filter_map(|child| self.processes.get(child));
        let members = children.chain([process]);
        members.filter(|member| self.is_held_by_parent(member)).map(|member| member.pgid).collect()
    }

    /// True for a process whose parent could continue its group.
    fn is_held_by_parent(&self, process: &Process) -> bool {
        let parent = process.parent.and_then(|parent| self.processes.get(&parent));
        parent
            .is_some_and(|parent| parent.pgid != process.pgid && parent.session.id() == process.session.id())
    }

    /// True where some member of the group is stopped.
    #[must_use]
    pub fn has_stopped_member(&self, pgid: Tid) -> bool {
        self.group_members(pgid).any(|p| p.group.is_stopped())
    }
}
