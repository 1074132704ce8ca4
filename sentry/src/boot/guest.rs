//! The running kernel as requests see it.

use std::collections::HashMap;
use std::fs::File as HostOsFile;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::Stack;
use netstack_host_links::Reader;
use parking_lot::{Condvar, Mutex};
use sentry_abi::signal::{SigInfo, Signal, si_code};
use sentry_hostio::inherited;
use sentry_hostio::seqpacket::SeqPacket;
use sentry_platform::{MemoryFile, Prepared};

use crate::boot::capture::Capture;
use crate::boot::mounts::Mounter;
use crate::boot::process::{self, Surroundings};
use crate::boot::run::failed;
use crate::boot::{
    BootConfig, CaptureEnd, ControlError, DonatedFd, ExitStatus, NetworkConfig, NetworkKind, ProcessConfig,
    ProcessInfo, SignalTarget, Stats, filter, keys, network,
};
use crate::errno::Errno;
use crate::fs::host::{self, KeySignals};
use crate::fs::proc::write_setting;
use crate::ipc::IpcNamespace;
use crate::kernel::{Kernel, KernelConfig, Namespaces, ProcessTree, UtsNamespace};
use crate::socket::NetNamespace;
use crate::socket::proc_net::HostFiles;
use crate::task::signal::Posted;
use crate::task::{self, ThreadGroup, Tid};
use crate::vfs::{File, FsContext};

/// Most threads of a sandbox (`kernel.threads-max` of a small machine).
const MAX_TASKS: usize = 16_384;

/// A sandbox: its kernel, its first process, and how processes ended.
pub(super) struct Guest {
    surroundings: Surroundings,
    init: ProcessConfig,
    /// Settings of the network to change before the first process, by name.
    settings: Vec<(String, String)>,
    stack: Stack,
    /// What the first process is started with; gone once it was.
    prepared: Mutex<Option<Vec<Arc<File>>>>,
    /// Keeps the network alive.
    reader: Mutex<Option<Reader>>,
    ends: Mutex<Ends>,
    changed: Condvar,
    platform: crate::boot::PlatformChoice,
    network: NetworkKind,
    /// Hung up when the gofer has ended.
    gofer: Vec<OwnedFd>,
    exit_status: HostOsFile,
    capture: Mutex<Option<Capture>>,
    /// Whether the command that starts the first process stays, and passes the signals of keys on.
    is_attended: bool,
}

/// Processes that requests started, and how they ended.
#[derive(Default)]
struct Ends {
    init: Option<i32>,
    /// Present once started; `Some` once ended.
    statuses: HashMap<i32, Option<ExitStatus>>,
    /// Requests that know of an end and have not told their command yet.
    farewells: usize,
    /// There can be no first process any more.
    is_abandoned: bool,
}

/// Keeps the sandbox from ending while a command is told about the end of a process.
pub(super) struct Farewell<'a>(&'a Guest);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        self.0.ends.lock().farewells -= 1;
        self.0.changed.notify_all();
    }
}

impl Guest {
    /// A kernel with mounts and without processes.
    pub(super) fn new(
        config: BootConfig,
        platform: Prepared,
        host_files: Option<HostFiles>,
    ) -> Result<Arc<Self>, ControlError> {
        let memory = MemoryFile::new(config.host.memory_bytes)
            .map_err(|error| failed("create the memory file", &error))?;
        let memory = Arc::new(memory);
        let kernel = Kernel::new(KernelConfig {
            platform: platform.create(memory.clone()),
            memory_file: memory.clone(),
            max_tasks: MAX_TASKS,
            strace: config.strace.is_some(),
        });
        let kernel = kernel.map_err(|error| failed("create the kernel", &error))?;
        if let Some(strace) = config.strace.as_ref().filter(|strace| !strace.syscalls.is_empty()) {
            kernel.trace_only(&strace.syscalls);
        }
        let stack = Stack::builder().build();
        let network = match config.network {
            NetworkKind::Host => NetNamespace::on_host(stack.clone(), host_files),
            NetworkKind::Sandbox | NetworkKind::None => NetNamespace::new(stack.clone()),
        };
        kernel.set_net_namespace(network.clone());
        let sockets = take(&config.gofer)?;
        let gofer = sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>();
        let gofer = gofer.map_err(|error| failed("copy the connections to the gofer", &error))?;
        let sockets = sockets.into_iter().map(SeqPacket::from).collect();
        let ipc = IpcNamespace::new();
        let mounter = Mounter::new(sockets, memory, ipc.clone());
        let namespace = mounter.root(&config.root).map_err(|error| failed("root file system", &error))?;
        mounter
            .mount_all(&kernel, &namespace, &config.mounts)
            .and_then(|()| {
                mounter.protect(&namespace, &config.root, &config.readonly_paths, &config.masked_paths)
            })
            .map_err(|error| failed("file systems", &error))?;
        let files = host::import(take(&config.stdio)?).map_err(|error| failed("standard streams", &error))?;
        let exit_status = take(&[config.exit_status])?.into_iter().next().map(HostOsFile::from);
        let exit_status = exit_status.ok_or_else(|| not_now("write the exit status"))?;
        let uts = UtsNamespace::new(config.hostname.as_bytes());
        if !config.domainname.is_empty() {
            uts.set_domainname(config.domainname.into_bytes());
        }
        Ok(Arc::new(Self {
            surroundings: Surroundings {
                kernel,
                fs: FsContext::new(namespace),
                namespaces: Namespaces::initial(uts, ipc, Some(network)),
            },
            init: config.init,
            settings: config.network_settings,
            stack,
            prepared: Mutex::new(Some(files)),
            reader: Mutex::new(None),
            ends: Mutex::default(),
            changed: Condvar::new(),
            platform: config.platform,
            network: config.network,
            gofer,
            exit_status,
            capture: Mutex::new(None),
            is_attended: config.dies_with_parent,
        }))
    }

    fn kernel(&self) -> &Arc<Kernel> {
        &self.surroundings.kernel
    }

    /// Sets the network up and starts the first process. The command that asks for it passes on keys as `command`.
    pub(super) fn start(
        self: &Arc<Self>,
        config: NetworkConfig,
        sockets: Vec<OwnedFd>,
        command: &Arc<dyn KeySignals>,
    ) -> Result<i32, ControlError> {
        let files = self.prepared.lock().take().ok_or_else(|| not_now("start"))?;
        if self.is_attended {
            host::set_keys(&files, command);
        } else {
            let keys = keys::pass_on(self).map_err(|error| failed("receive the terminal's keys", &error))?;
            host::set_keys(&files, &keys);
        }
        let reader =
            network::connect(&self.stack, config, sockets).map_err(|error| failed("network", &error))?;
        *self.reader.lock() = Some(reader);
        self.change_settings()?;
        filter::confine(self.platform, self.network).map_err(|error| failed("system-call filter", &error))?;
        let task = process::start(&self.surroundings, &self.init, files)?;
        let pid = task.pid().0;
        let mut ends = self.ends.lock();
        ends.init = Some(pid);
        ends.statuses.insert(pid, None);
        let is_abandoned = ends.is_abandoned;
        drop(ends);
        if is_abandoned {
            self.abandon();
        }
        self.changed.notify_all();
        Ok(pid)
    }

    fn change_settings(&self) -> Result<(), ControlError> {
        for (name, value) in &self.settings {
            match write_setting(self.kernel(), name, value) {
                Ok(()) => {}
                // Not every setting of Linux exists here.
                Err(Errno::ENOENT) => tracing::warn!("setting {name} is not known and left out"),
                Err(errno) => return Err(failed(&format!("set {name} to {value:?}"), &errno)),
            }
        }
        Ok(())
    }

    /// Starts another process, with `fds` as its descriptors 0, 1, 2, ... The command that asks for it passes on keys as
    /// `command`.
    pub(super) fn exec(
        self: &Arc<Self>,
        config: &ProcessConfig,
        fds: Vec<OwnedFd>,
        command: &Arc<dyn KeySignals>,
    ) -> Result<i32, ControlError> {
        if self.ends.lock().init.is_none() {
            return Err(not_now("exec"));
        }
        let files = host::import(fds).map_err(|error| failed("standard streams", &error))?;
        host::set_keys(&files, command);
        let task = process::start(&self.surroundings, config, files)?;
        let pid = task.pid().0;
        self.ends.lock().statuses.insert(pid, None);
        let guest = self.clone();
        let watcher = std::thread::Builder::new().name("exec-wait".to_owned()).stack_size(128 << 10);
        watcher
            .spawn(move || guest.record_end(Tid(pid)))
            .map_err(|error| failed("thread to wait for the process", &error))?;
        Ok(pid)
    }

    /// Waits until a process of ours ended, and writes down how.
    fn record_end(&self, pid: Tid) -> ExitStatus {
        let status = match self.kernel().wait_for_exit(pid) {
            Some(task::ExitStatus::Exited(code)) => ExitStatus::Code(code.into()),
            Some(task::ExitStatus::Signaled(signal)) => ExitStatus::Signal(signal.number()),
            // Nobody else reaps what has no parent.
            None => ExitStatus::Signal(Signal::SIGKILL.number()),
        };
        if self.ends.lock().init == Some(pid.0) {
            // The kernel has killed them and makes no more (pid_namespaces(7)).
            let deadline = Instant::now() + KILL_LIMIT;
            while !self.processes().is_empty() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            network::drain(&self.stack);
            // What was recorded is in the file before anybody is told.
            drop(self.capture.lock().take());
            self.write_exit_status(status);
        }
        self.ends.lock().statuses.insert(pid.0, Some(status));
        self.changed.notify_all();
        status
    }

    /// Before anybody is told: from the end of the sandbox on it is there, or the sandbox was killed.
    fn write_exit_status(&self, status: ExitStatus) {
        let text = serde_json::to_vec(&status).unwrap_or_default();
        if let Err(error) = (&self.exit_status).write_all(&text) {
            tracing::error!("write the exit status: {error}");
        }
    }

    /// What hangs up when the gofer has ended.
    pub(super) fn gofer(&self) -> &[OwnedFd] {
        &self.gofer
    }

    /// Ends the sandbox: nothing can be had from its files any more.
    pub(super) fn abandon(&self) {
        let init = {
            let mut ends = self.ends.lock();
            ends.is_abandoned = true;
            ends.init
        };
        self.changed.notify_all();
        if let Some(init) = init {
            // It may have ended already.
            let _ = self.signal(SignalTarget::Process(init), Signal::SIGKILL.number());
            // Nothing of it runs on: the signal is there before it does.
            self.resume();
        }
    }

    /// The first process, once it was started.
    pub(super) fn first(&self) -> Option<i32> {
        self.ends.lock().init
    }

    /// Keeps the sandbox from ending, for a while, until the value is dropped.
    pub(super) fn farewell(&self) -> Farewell<'_> {
        self.ends.lock().farewells += 1;
        Farewell(self)
    }

    /// Waits for a process that a request started to end.
    pub(super) fn wait(&self, pid: i32) -> Result<(ExitStatus, Farewell<'_>), ControlError> {
        let mut ends = self.ends.lock();
        if !ends.statuses.contains_key(&pid) {
            return Err(ControlError::NoProcess { pid });
        }
        ends.farewells += 1;
        let farewell = Farewell(self);
        loop {
            if let Some(Some(status)) = ends.statuses.get(&pid) {
                return Ok((*status, farewell));
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
        let groups = targets(&tree, target);
        if groups.is_empty() {
            let (SignalTarget::Process(pid)
            | SignalTarget::ProcessGroup(pid)
            | SignalTarget::Foreground(pid)) = target
            else {
                return Ok(false);
            };
            return Err(ControlError::NoProcess { pid });
        }
        // Not from a process of the guest: it ends the first process, too.
        let info = SigInfo::new(signal, si_code::SI_KERNEL);
        // A full queue of real-time signals is the guest's affair.
        let post = |group: &Arc<ThreadGroup>| group.post_with_others(&tree, signal, info).ok();
        let posted: Vec<_> = groups.iter().filter_map(post).collect();
        drop(tree);
        posted.into_iter().for_each(Posted::announce);
        let init = self.ends.lock().init;
        Ok(groups.iter().any(|group| Some(group.pid().0) == init))
    }

    /// True for a change of the terminal's size that the guest made itself.
    fn is_old_news(&self, target: SignalTarget) -> bool {
        let SignalTarget::Foreground(pid) = target else { return false };
        let terminal = self.kernel().tree().process(Tid(pid)).and_then(|process| process.session.terminal());
        terminal.is_some_and(|terminal| !host::take_size_change(&*terminal))
    }

    /// The processes.
    pub(super) fn processes(&self) -> Vec<ProcessInfo> {
        let clocks = self.kernel().clocks();
        let (now, real_ns) = (clocks.monotonic(), clocks.realtime_ns());
        let tree = self.kernel().tree();
        let living = tree.processes().filter(|process| process.exit.is_none());
        living
            .map(|process| {
                let age_ns = now.since(process.group.start_time());
                let (user_ns, system_ns) = process.group.cpu_times();
                ProcessInfo {
                    uid: process.leader.creds().uid.0,
                    pid: process.group.pid().0,
                    ppid: process.parent.map_or(0, |parent| parent.0),
                    threads: u32::try_from(process.group.threads().len()).unwrap_or(u32::MAX),
                    start_secs: real_ns.saturating_sub(age_ns) / 1_000_000_000,
                    cpu_ms: (user_ns + system_ns) / 1_000_000,
                    command: String::from_utf8_lossy(&process.leader.comm()).into_owned(),
                }
            })
            .collect()
    }

    /// What the guest uses.
    pub(super) fn stats(&self) -> Stats {
        let memory_bytes = self.kernel().memory_file().in_use();
        let tree = self.kernel().tree();
        let times = tree.processes().map(|process| process.group.cpu_times());
        let (user_ns, system_ns) =
            times.fold((0, 0), |sum, (user_ns, system_ns)| (sum.0 + user_ns, sum.1 + system_ns));
        Stats {
            user_ns,
            system_ns,
            memory_bytes,
            processes: tree.processes().filter(|process| process.exit.is_none()).count() as u64,
        }
    }

    /// Starts to record packets to the file that came along.
    pub(super) fn capture(&self, fds: Vec<OwnedFd>, snap_len: u32) -> Result<(), ControlError> {
        if self.network == NetworkKind::Host {
            return Err(not_now("record packets of the host's network (use its own tools)"));
        }
        let file = fds.into_iter().next().ok_or_else(|| not_now("record packets without a file"))?;
        let mut capture = self.capture.lock();
        if capture.is_some() {
            return Err(not_now("record packets twice at a time"));
        }
        let started = Capture::start(self.kernel().clone(), self.stack.clone(), file, snap_len);
        *capture = Some(started.map_err(|error| failed("record packets", &error))?);
        Ok(())
    }

    /// Ends the recording, if there is one.
    pub(super) fn end_capture(&self) -> CaptureEnd {
        let capture = self.capture.lock().take();
        capture.map_or_else(CaptureEnd::default, Capture::end)
    }

    /// What the network counted, all that is not zero.
    pub(super) fn counters(&self) -> Vec<(String, u64)> {
        let of_stack = self.stack.stats();
        let mut counters: Vec<_> = of_stack.entries().map(|(name, value)| (name.to_owned(), value)).collect();
        for nic in self.stack.nics() {
            counters.extend(nic.stats.entries().map(|(name, value)| (format!("{}.{name}", nic.name), value)));
        }
        counters.retain(|(_, value)| *value != 0);
        counters
    }

    /// Stops guest code.
    pub(super) fn pause(&self) -> Result<(), ControlError> {
        self.kernel().freeze().map_err(|error| failed("stop guest code", &error))
    }

    /// Lets guest code go on.
    pub(super) fn resume(&self) {
        self.kernel().thaw();
    }

    /// Waits for the first process to end, and for every command that has to be told.
    pub(super) fn wait_for_end(&self) -> ExitStatus {
        let init = {
            let mut ends = self.ends.lock();
            loop {
                if let Some(init) = ends.init {
                    break init;
                }
                if ends.is_abandoned {
                    return ExitStatus::Signal(Signal::SIGKILL.number());
                }
                self.changed.wait(&mut ends);
            }
        };
        let status = self.record_end(Tid(init));
        let mut ends = self.ends.lock();
        while ends.farewells > 0 {
            // A command that does not read its answer must not keep a dead sandbox.
            if self.changed.wait_for(&mut ends, FAREWELL_LIMIT).timed_out() {
                break;
            }
        }
        status
    }
}

/// How long the end of a sandbox waits for commands to be told of it.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// How long killed processes get to let go of what they hold.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// The processes that a signal is for.
fn targets(tree: &ProcessTree, target: SignalTarget) -> Vec<Arc<ThreadGroup>> {
    match target {
        SignalTarget::All => tree.processes().map(|process| process.group.clone()).collect(),
        SignalTarget::Process(pid) => {
            tree.process(Tid(pid)).map(|process| process.group.clone()).into_iter().collect()
        }
        SignalTarget::ProcessGroup(pgid) => {
            tree.group_members(Tid(pgid)).map(|process| process.group.clone()).collect()
        }
        SignalTarget::Foreground(pid) => {
            let Some(process) = tree.process(Tid(pid)) else {
                return Vec::new();
            };
            let foreground = process.session.terminal().and_then(|terminal| host::foreground(&*terminal));
            let pgid = foreground.unwrap_or(process.pgid);
            tree.group_members(pgid).map(|process| process.group.clone()).collect()
        }
    }
}

fn take(fds: &[DonatedFd]) -> Result<Vec<OwnedFd>, ControlError> {
    let mut taken = Vec::new();
    for fd in fds {
        taken.push(inherited::take(fd.0).map_err(|error| failed("take an inherited descriptor", &error))?);
    }
    Ok(taken)
}

fn not_now(request: &str) -> ControlError {
    ControlError::NotNow { request: request.to_owned() }
}
