//! A container of the sandbox as requests see it: what its processes share, its first process, and how processes ended.

use std::collections::HashMap;
use std::fs::File as HostOsFile;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::boot::process::{self, Surroundings};
use crate::boot::run::failed;
use crate::boot::{ControlError, ExitStatus, ProcessConfig, ProcessInfo, ProcessName, SignalTarget};
use crate::fs::host::{self, KeySignals};
use crate::kernel::{ContainerId, Kernel, PidNamespace, Process, ProcessTree};
use crate::task::signal::Posted;
use crate::task::{self, ThreadGroup, Tid};
use crate::vfs::File;

/// A container.
pub(super) struct Container {
    surroundings: Surroundings,
    init: ProcessConfig,
    /// What the first process is started with; gone once it was.
    prepared: Mutex<Option<Vec<Arc<File>>>>,
    ends: Mutex<Ends>,
    changed: Condvar,
    /// Hung up when the gofer has ended.
    gofer: Vec<OwnedFd>,
    exit_status: HostOsFile,
    /// Whether the command that starts the first process stays, and passes the signals of keys on.
    is_attended: bool,
}

/// What a [`Container`] is made of.
pub(super) struct Parts {
    pub(super) surroundings: Surroundings,
    pub(super) init: ProcessConfig,
    pub(super) files: Vec<Arc<File>>,
    pub(super) gofer: Vec<OwnedFd>,
    /// A file for the status of the first process.
    pub(super) exit_status: HostOsFile,
    pub(super) is_attended: bool,
}

/// Processes that requests started, and how they ended, by their ids in the container.
#[derive(Default)]
struct Ends {
    first: Option<i32>,
    /// Present once started; `Some` once ended.
    statuses: HashMap<i32, Option<ExitStatus>>,
    /// There can be no first process any more.
    is_abandoned: bool,
}

/// What waiting for the first process finds where there never was one, and for one that somebody else has reaped.
pub(super) const KILLED: ExitStatus = ExitStatus::Signal(Signal::SIGKILL.number());

/// How long killed processes get to let go of what they hold.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Stack of threads that wait for a process.
const STACK_BYTES: usize = 128 << 10;

impl Container {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        let Parts { surroundings, init, files, gofer, exit_status, is_attended } = parts;
        Arc::new(Self {
            surroundings,
            init,
            prepared: Mutex::new(Some(files)),
            ends: Mutex::default(),
            changed: Condvar::new(),
            gofer,
            exit_status,
            is_attended,
        })
    }

    /// What hangs up when the gofer has ended.
    pub(super) fn gofer(&self) -> &[OwnedFd] {
        &self.gofer
    }

    /// What its processes share.
    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Whether the command that starts the first process stays.
    pub(super) fn is_attended(&self) -> bool {
        self.is_attended
    }

    fn kernel(&self) -> &Arc<Kernel> {
        &self.surroundings.kernel
    }

    fn id(&self) -> ContainerId {
        self.surroundings.container
    }

    fn pid_ns(&self) -> &Arc<PidNamespace> {
        &self.surroundings.namespaces.pid_for_children
    }

    /// The files of the first process, once.
    pub(super) fn take_files(&self) -> Result<Vec<Arc<File>>, ControlError> {
        self.prepared.lock().take().ok_or_else(|| not_now("start"))
    }

    /// Has the signals of keys of the first process's terminal passed on by `command`.
    pub(super) fn set_keys(&self, command: &Arc<dyn KeySignals>) {
        if let Some(files) = &*self.prepared.lock() {
            host::set_keys(files, command);
        }
    }

    /// Starts the first process with `files`, and gives its id.
    pub(super) fn start(&self, files: Vec<Arc<File>>) -> Result<i32, ControlError> {
        let task = process::start(&self.surroundings, &self.init, files)?;
        let pid = self.pid_ns().number(task.pid());
        let mut ends = self.ends.lock();
        ends.first = Some(pid);
        ends.statuses.insert(pid, None);
        let is_abandoned = ends.is_abandoned;
        drop(ends);
        if is_abandoned {
            self.abandon();
        }
        self.changed.notify_all();
        Ok(pid)
    }

    /// Starts another process, with `fds` as its descriptors 0, 1, 2, ... The command that asks for it passes on keys as
    /// `command`.
    pub(super) fn exec(
        self: &Arc<Self>,
        config: &ProcessConfig,
        fds: Vec<OwnedFd>,
        command: &Arc<dyn KeySignals>,
    ) -> Result<i32, ControlError> {
        if !self.is_started() {
            return Err(not_now("exec"));
        }
        let files = host::import(fds).map_err(|error| failed("standard streams", &error))?;
        host::set_keys(&files, command);
        let task = process::start(&self.surroundings, config, files)?;
        let (id, pid) = (task.pid(), self.pid_ns().number(task.pid()));
        self.ends.lock().statuses.insert(pid, None);
        self.watch("exec-wait", move |container| {
            let status = container.wait_for_exit(id);
            container.publish(pid, status);
        })?;
        Ok(pid)
    }

    /// Looks after the end of the first process on a thread of its own.
    pub(super) fn watch_first(self: &Arc<Self>) -> Result<(), ControlError> {
        self.watch("container-wait", |container| {
            container.settle_first(|| {});
        })
    }

    fn watch(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<(), ControlError> {
        let container = self.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let started = thread.spawn(move || work(&container));
        started.map(drop).map_err(|error| failed("thread to wait for the process", &error))
    }

    /// Whether its first process was started.
    pub(super) fn is_started(&self) -> bool {
        self.ends.lock().first.is_some()
    }

    /// Waits until the first process was started and has ended, and its container with it; does `last`, and then tells
    /// who waits. `None` when there will be no first process.
    pub(super) fn settle_first(&self, last: impl FnOnce()) -> Option<ExitStatus> {
        let pid = {
            let mut ends = self.ends.lock();
            loop {
                match ends.first {
                    Some(pid) => break pid,
                    None if ends.is_abandoned => return None,
                    None => self.changed.wait(&mut ends),
                }
            }
        };
        let status = self.wait_for_exit(self.pid_ns().id(pid).unwrap_or(Tid(pid)));
        self.end_all();
        last();
        self.write_exit_status(status);
        self.publish(pid, status);
        Some(status)
    }

    fn wait_for_exit(&self, id: Tid) -> ExitStatus {
        match self.kernel().wait_for_exit(id) {
            Some(task::ExitStatus::Exited(code)) => ExitStatus::Code(code.into()),
            Some(task::ExitStatus::Signaled(signal)) => ExitStatus::Signal(signal.number()),
            // Nobody else reaps what has no parent.
            None => KILLED,
        }
    }

    fn publish(&self, pid: i32, status: ExitStatus) {
        self.ends.lock().statuses.insert(pid, Some(status));
        self.changed.notify_all();
    }

    /// Kills what the first process has left behind, and waits a while for it to be gone. Where the first process is that
    /// of its PID namespace as well, the kernel has killed them (pid_namespaces(7)).
    fn end_all(&self) {
        let deadline = Instant::now() + KILL_LIMIT;
        let is_first = self.id() == ContainerId::FIRST;
        let is_left = |p: &Process| p.exit.is_none() && (is_first || p.group.container() == self.id());
        let left = || -> Vec<_> {
            let tree = self.kernel().tree();
            tree.processes().filter(|p| is_left(p)).map(|p| p.group.clone()).collect()
        };
        for group in left() {
            group.begin_exit(task::ExitStatus::Signaled(Signal::SIGKILL));
        }
        while !left().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Before anybody is told: from the end of the container on it is there, or the sandbox was killed.
    fn write_exit_status(&self, status: ExitStatus) {
        let text = serde_json::to_vec(&status).unwrap_or_default();
        if let Err(error) = (&self.exit_status).write_all(&text) {
            tracing::error!("write the exit status: {error}");
        }
    }

    /// Ends the container: nothing can be had from its files any more, or nobody wants it.
    pub(super) fn abandon(&self) {
        self.ends.lock().is_abandoned = true;
        self.changed.notify_all();
        if self.is_started() {
            // It may have ended already.
            let _ = self.signal(SignalTarget::Process(ProcessName::First), Signal::SIGKILL.number());
            // Nothing of it runs on: the signal is there before it does.
            self.resume();
        }
    }

    /// Waits for a process that a request started to end.
    pub(super) fn wait(&self, process: ProcessName) -> Result<ExitStatus, ControlError> {
        let mut ends = self.ends.lock();
        loop {
            let pid = match (process, ends.first) {
                (ProcessName::Id(pid), _) | (ProcessName::First, Some(pid)) => Some(pid),
                (ProcessName::First, None) if ends.is_abandoned => return Ok(KILLED),
                (ProcessName::First, None) => None,
            };
            if let Some(pid) = pid {
                match ends.statuses.get(&pid) {
                    None => return Err(ControlError::NoProcess { pid }),
                    Some(Some(status)) => return Ok(*status),
                    Some(None) => {}
                }
            }
            self.changed.wait(&mut ends);
        }
    }

    /// Sends a signal and tells whether it went to the first process.
    pub(super) fn signal(&self, target: SignalTarget, number: i32) -> Result<bool, ControlError> {
        let signal = Signal::new(number).ok_or_else(|| not_now(&format!("send signal {number}")))?;
        if signal == Signal::SIGWINCH && self.is_old_news(target) {
            return Ok(false);
        }
        let tree = self.kernel().tree();
        let groups = self.targets(&tree, target)?;
        // Not from a process of the guest: it ends the first process, too.
        let info = SigInfo::new(signal, si_code::SI_KERNEL);
        // A full queue of real-time signals is the guest's affair.
        let post = |group: &Arc<ThreadGroup>| group.post_with_others(&tree, signal, info).ok();
        let posted: Vec<_> = groups.iter().filter_map(post).collect();
        drop(tree);
        posted.into_iter().for_each(Posted::announce);
        let first = self.ends.lock().first;
        Ok(groups.iter().any(|group| Some(self.pid_ns().number(group.pid())) == first))
    }

    /// The processes that a signal is for; for one process there is at least one.
    fn targets(
        &self,
        tree: &ProcessTree,
        target: SignalTarget,
    ) -> Result<Vec<Arc<ThreadGroup>>, ControlError> {
        let own = |process: &&Process| process.group.container() == self.id();
        let groups: Vec<_> = match target {
            SignalTarget::All => {
                return Ok(tree.processes().filter(own).map(|process| process.group.clone()).collect());
            }
            SignalTarget::Process(name) => {
                let process = self.process(tree, name)?;
                return Ok(vec![process.group.clone()]);
            }
            SignalTarget::Foreground(name) => {
                let process = self.process(tree, name)?;
                let foreground = process.session.terminal().and_then(|terminal| host::foreground(&*terminal));
                let pgid = foreground.unwrap_or(process.pgid);
                tree.group_members(pgid).filter(own).map(|process| process.group.clone()).collect()
            }
        };
        Ok(groups)
    }

    fn process<'a>(&self, tree: &'a ProcessTree, name: ProcessName) -> Result<&'a Process, ControlError> {
        let pid = match name {
            ProcessName::Id(pid) => Some(pid),
            ProcessName::First => self.ends.lock().first,
        };
        let pid = pid.ok_or_else(|| not_now("signal"))?;
        let found = self.pid_ns().id(pid).and_then(|id| tree.process(id));
        found.filter(|process| process.group.container() == self.id()).ok_or(ControlError::NoProcess { pid })
    }

    /// True for a change of the terminal's size that the guest made itself.
    fn is_old_news(&self, target: SignalTarget) -> bool {
        let SignalTarget::Foreground(name) = target else { return false };
        let tree = self.kernel().tree();
        let terminal = self.process(&tree, name).ok().and_then(|process| process.session.terminal());
        drop(tree);
        terminal.is_some_and(|terminal| !host::take_size_change(&*terminal))
    }

    /// The processes.
    pub(super) fn processes(&self) -> Vec<ProcessInfo> {
        let clocks = self.kernel().clocks();
        let (now, real_ns) = (clocks.monotonic(), clocks.realtime_ns());
        let pid_ns = self.pid_ns();
        let tree = self.kernel().tree();
        let living = self.living(&tree);
        living
            .map(|process| {
                let age_ns = now.since(process.group.start_time());
                let (user_ns, system_ns) = process.group.cpu_times();
                ProcessInfo {
                    uid: process.leader.creds().uid.0,
                    pid: pid_ns.number(process.group.pid()),
                    ppid: process.parent.map_or(0, |parent| pid_ns.number(parent)),
                    threads: u32::try_from(process.group.threads().len()).unwrap_or(u32::MAX),
                    start_secs: real_ns.saturating_sub(age_ns) / 1_000_000_000,
                    cpu_ms: (user_ns + system_ns) / 1_000_000,
                    command: String::from_utf8_lossy(&process.leader.comm()).into_owned(),
                }
            })
            .collect()
    }

    /// Its processes that have not ended.
    pub(super) fn living<'a>(&'a self, tree: &'a ProcessTree) -> impl Iterator<Item = &'a Process> {
        self.own(tree).filter(|process| process.exit.is_none())
    }

    /// Its processes, and those that nobody has waited for.
    pub(super) fn own<'a>(&'a self, tree: &'a ProcessTree) -> impl Iterator<Item = &'a Process> {
        tree.processes().filter(|process| process.group.container() == self.id())
    }

    /// Stops its code.
    pub(super) fn pause(&self) -> Result<(), ControlError> {
        self.kernel().freeze(self.id()).map_err(|error| failed("stop guest code", &error))
    }

    /// Lets its code go on.
    pub(super) fn resume(&self) {
        self.kernel().thaw(self.id());
    }
}

pub(super) fn not_now(request: &str) -> ControlError {
    ControlError::NotNow { request: request.to_owned() }
}
