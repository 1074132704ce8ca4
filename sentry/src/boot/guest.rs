//! The running sandbox as requests see it: its kernel and network, and the containers that share them.

use std::collections::HashMap;
use std::fs::File as HostOsFile;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use netstack::Stack;
use netstack_host_links::Reader;
use parking_lot::{Condvar, Mutex};
use sentry_hostio::inherited;
use sentry_hostio::seqpacket::SeqPacket;
use sentry_platform::{MemoryFile, Prepared};

use crate::boot::capture::Capture;
use crate::boot::container::{Container, KILLED, Parts, not_now};
use crate::boot::mounts::Mounter;
use crate::boot::process::Surroundings;
use crate::boot::run::failed;
use crate::boot::{
    BootConfig, CaptureEnd, ContainerConfig, ControlError, DonatedFd, ExitStatus, NetworkConfig, NetworkKind,
    PlatformChoice, Stats, filter, keys, network,
};
use crate::errno::Errno;
use crate::fs::host::{self, KeySignals};
use crate::fs::proc::write_setting;
use crate::ipc::IpcNamespace;
use crate::kernel::{ContainerId, Kernel, KernelConfig, Namespaces, UtsNamespace};
use crate::socket::NetNamespace;
use crate::socket::proc_net::HostFiles;
use crate::vfs::FsContext;

/// Most threads of a sandbox (`kernel.threads-max` of a small machine).
const MAX_TASKS: usize = 16_384;

/// A sandbox.
pub(super) struct Guest {
    kernel: Arc<Kernel>,
    /// Settings of the network to change before the first process, by name.
    settings: Vec<(String, String)>,
    namespace: Arc<NetNamespace>,
    /// Keeps the network alive.
    reader: Mutex<Option<Reader>>,
    platform: PlatformChoice,
    network: NetworkKind,
    capture: Mutex<Option<Capture>>,
    name: String,
    /// The container that the sandbox was made for, and ends with.
    first: Arc<Container>,
    pub(super) members: Mutex<Members>,
    /// Requests that know of an end and have not told their command yet.
    farewells: Mutex<usize>,
    told: Condvar,
}

/// The containers that joined.
#[derive(Default)]
pub(super) struct Members {
    pub(super) by_name: HashMap<String, Arc<Container>>,
    /// The number of the last one.
    pub(super) last: u32,
}

/// Keeps the sandbox from ending while a command is told about the end of a process.
pub(super) struct Farewell<'a>(&'a Guest);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        *self.0.farewells.lock() -= 1;
        self.0.told.notify_all();
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
            memory_file: memory,
            max_tasks: MAX_TASKS,
            strace: config.strace.is_some(),
        });
        let kernel = kernel.map_err(|error| failed("create the kernel", &error))?;
        if let Some(strace) = config.strace.as_ref().filter(|strace| !strace.syscalls.is_empty()) {
            kernel.trace_only(&strace.syscalls);
        }
        let stack = Stack::builder().build();
        let namespace = match config.network {
            NetworkKind::Host => NetNamespace::on_host(stack, host_files),
            NetworkKind::Sandbox | NetworkKind::None => NetNamespace::new(stack),
        };
        kernel.set_net_namespace(namespace.clone());
        let ContainerConfig { hostname, domainname, .. } = &config.container;
        let uts = UtsNamespace::new(hostname.as_bytes());
        if !domainname.is_empty() {
            uts.set_domainname(domainname.clone().into_bytes());
        }
        let namespaces = Namespaces::initial(uts, IpcNamespace::new(), Some(namespace.clone()));
        let exit_status = take(&[config.exit_status])?.into_iter().next().map(HostOsFile::from);
        let donated = Donated {
            gofer: take(&config.gofer)?,
            stdio: take(&config.stdio)?,
            exit_status: exit_status.ok_or_else(|| not_now("write the exit status"))?,
        };
        let first = build(&kernel, ContainerId::FIRST, config.container, namespaces, donated)?;
        Ok(Arc::new(Self {
            kernel,
            settings: config.network_settings,
            namespace,
            reader: Mutex::new(None),
            platform: config.platform,
            network: config.network,
            capture: Mutex::new(None),
            name: config.id,
            first,
            members: Mutex::default(),
            farewells: Mutex::default(),
            told: Condvar::new(),
        }))
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// The name of the first container.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The container that the sandbox was made for.
    pub(super) fn first(&self) -> &Arc<Container> {
        &self.first
    }

    /// The container called `name`.
    pub(super) fn container(&self, name: &str) -> Result<Arc<Container>, ControlError> {
        if name == self.name {
            return Ok(self.first.clone());
        }
        let member = self.members.lock().by_name.get(name).cloned();
        member.ok_or_else(|| ControlError::NoContainer { name: name.to_owned() })
    }

    /// Starts the first process of a container; in the first container after setting the network up. The command that asks
    /// for it passes on keys as `command`.
    pub(super) fn start(
        &self,
        container: &Arc<Container>,
        config: NetworkConfig,
        sockets: Vec<OwnedFd>,
        command: &Arc<dyn KeySignals>,
    ) -> Result<i32, ControlError> {
        if container.is_attended() {
            container.set_keys(command);
        }
        if !Arc::ptr_eq(container, &self.first) {
            let files = container.take_files()?;
            container.watch_first()?;
            return container.start(files);
        }
        let files = container.take_files()?;
        if !container.is_attended() {
            let keys =
                keys::pass_on(container).map_err(|error| failed("receive the terminal's keys", &error))?;
            host::set_keys(&files, &keys);
        }
        let reader = network::connect(self.namespace.stack(), config, sockets)
            .map_err(|error| failed("network", &error))?;
        *self.reader.lock() = Some(reader);
        self.change_settings()?;
        filter::confine(self.platform, self.network).map_err(|error| failed("system-call filter", &error))?;
        container.start(files)
    }

    fn change_settings(&self) -> Result<(), ControlError> {
        for (name, value) in &self.settings {
            match write_setting(&self.kernel, name, value) {
                Ok(()) => {}
                // Not every setting of Linux exists here.
                Err(Errno::ENOENT) => tracing::warn!("setting {name} is not known and left out"),
                Err(errno) => return Err(failed(&format!("set {name} to {value:?}"), &errno)),
            }
        }
        Ok(())
    }

    /// Keeps the sandbox from ending, for a while, until the value is dropped.
    pub(super) fn farewell(&self) -> Farewell<'_> {
        *self.farewells.lock() += 1;
        Farewell(self)
    }

    /// What a container uses. Memory is all of the sandbox's where the container is alone in it, otherwise what its
    /// processes have in their address spaces; what they share counts for each.
    pub(super) fn stats(&self, container: &Container) -> Stats {
        let is_alone = self.members.lock().by_name.is_empty();
        let tree = self.kernel.tree();
        let times = container.own(&tree).map(|process| process.group.cpu_times());
        let (user_ns, system_ns) =
            times.fold((0, 0), |sum, (user_ns, system_ns)| (sum.0 + user_ns, sum.1 + system_ns));
        let leaders: Vec<_> = container.living(&tree).map(|process| process.leader.clone()).collect();
        drop(tree);
        let memory_bytes = match is_alone {
            true => self.kernel.memory_file().in_use(),
            false => leaders.iter().filter_map(|task| task.mm()).map(|mm| mm.usage().resident).sum(),
        };
        Stats { user_ns, system_ns, memory_bytes, processes: leaders.len() as u64 }
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
        let started = Capture::start(self.kernel.clone(), self.namespace.clone(), file, snap_len);
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
        let of_stack = self.namespace.stack().stats();
        let mut counters: Vec<_> = of_stack.entries().map(|(name, value)| (name.to_owned(), value)).collect();
        for nic in self.namespace.stack().nics() {
            counters.extend(nic.stats.entries().map(|(name, value)| (format!("{}.{name}", nic.name), value)));
        }
        counters.retain(|(_, value)| *value != 0);
        counters
    }

    /// Waits for the first process to end, and for every command that has to be told.
    pub(super) fn wait_for_end(&self) -> ExitStatus {
        let status = self.first.settle_first(|| {
            network::drain(self.namespace.stack());
            // What was recorded is in the file before anybody is told.
            drop(self.capture.lock().take());
        });
        // Who waits for one that was never started is told as well.
        self.members.lock().by_name.values().for_each(|member| member.abandon());
        let Some(status) = status else {
            return KILLED;
        };
        let mut farewells = self.farewells.lock();
        while *farewells > 0 {
            // A command that does not read its answer must not keep a dead sandbox.
            if self.told.wait_for(&mut farewells, FAREWELL_LIMIT).timed_out() {
                break;
            }
        }
        status
    }
}

/// How long the end of a sandbox waits for commands to be told of it.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Descriptors that a container is made with.
pub(super) struct Donated {
    pub(super) gofer: Vec<OwnedFd>,
    /// The first process's descriptors 0, 1, 2, ...
    pub(super) stdio: Vec<OwnedFd>,
    pub(super) exit_status: HostOsFile,
}

/// Makes a container up to where its first process could be started.
pub(super) fn build(
    kernel: &Arc<Kernel>,
    container: ContainerId,
    config: ContainerConfig,
    namespaces: Arc<Namespaces>,
    donated: Donated,
) -> Result<Arc<Container>, ControlError> {
    let ContainerConfig {
        hostname: _,
        domainname: _,
        root,
        mounts,
        masked_paths,
        readonly_paths,
        init,
        is_attended,
    } = config;
    let Donated { gofer: connections, stdio, exit_status } = donated;
    let gofer = connections.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>();
    let gofer = gofer.map_err(|error| failed("copy the connections to the gofer", &error))?;
    let sockets = connections.into_iter().map(SeqPacket::from).collect();
    let mounter = Mounter::new(sockets, kernel.clone(), namespaces.clone());
    let mount_ns = mounter.root(&root, container).map_err(|error| failed("root file system", &error))?;
    mounter
        .mount_all(&mount_ns, &mounts)
        .and_then(|()| mounter.protect(&mount_ns, &root, &readonly_paths, &masked_paths))
        .map_err(|error| failed("file systems", &error))?;
    let files = host::import(stdio).map_err(|error| failed("standard streams", &error))?;
    let surroundings =
        Surroundings { kernel: kernel.clone(), fs: FsContext::new(mount_ns), namespaces, container };
    Ok(Container::new(Parts { surroundings, init, files, gofer, exit_status, is_attended }))
}

fn take(fds: &[DonatedFd]) -> Result<Vec<OwnedFd>, ControlError> {
    let mut taken = Vec::new();
    for fd in fds {
        taken.push(inherited::take(fd.0).map_err(|error| failed("take an inherited descriptor", &error))?);
    }
    Ok(taken)
}
