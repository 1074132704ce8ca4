//! What sandbox to start, before anything of it exists.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use sentry::boot::{
    BootConfig, ContainerConfig, DonatedFd, HostSettings, LinkConfig, MountConfig, MountFlags, MountKind,
    NetworkConfig, NetworkKind, OwnNamespaces, PlatformChoice, ProcessConfig, Request, RootConfig,
    RouteConfig, StraceConfig,
};
use sentry_hostio::spawn::Lifetime;

use serde::{Deserialize, Serialize};

use crate::bundle::{MountPlan, PlannedKind};
use crate::network::Donated;

/// The network namespace of the host in which the sandbox process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetNamespace {
    /// A new one.
    New,
    /// The caller's.
    Caller,
    /// The one that a file stands for.
    At(PathBuf),
}

/// Everything about a sandbox to be.
#[derive(Debug)]
pub(crate) struct SandboxPlan {
    /// The container that it is for.
    pub(crate) container: ContainerPlan,
    pub(crate) platform: PlatformChoice,
    pub(crate) network: NetworkKind,
    pub(crate) net_namespace: NetNamespace,
    /// Settings of the network by their names of sysctl(8).
    pub(crate) network_settings: Vec<(String, String)>,
    pub(crate) strace: Option<StraceConfig>,
    /// Where the packets of the network are recorded.
    pub(crate) capture: Option<OwnedFd>,
    /// Log the sandbox's steps.
    pub(crate) debug: bool,
}

/// What is a container's own, in whatever sandbox.
#[derive(Debug)]
pub(crate) struct ContainerPlan {
    pub(crate) id: String,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    /// Directory of the host that becomes the root.
    pub(crate) root: PathBuf,
    pub(crate) root_readonly: bool,
    pub(crate) root_propagation: MountFlags,
    /// Changes of the root stay in memory.
    pub(crate) memory_overlay: bool,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) init: ProcessConfig,
    /// Descriptors 0, 1, 2 of the first process.
    pub(crate) stdio: Vec<OwnedFd>,
    pub(crate) lifetime: Lifetime,
}

/// A container to be in a sandbox that runs.
#[derive(Debug)]
pub(crate) struct MemberPlan {
    pub(crate) container: ContainerPlan,
    pub(crate) own_namespaces: OwnNamespaces,
}

/// The sandbox's interfaces and routes, with open sockets.
#[derive(Debug, Default)]
pub(crate) struct NetworkPlan {
    pub(crate) links: Vec<Donated>,
    pub(crate) routes: Vec<RouteConfig>,
}

impl NetworkPlan {
    /// What goes into the request to start, and the descriptors that go with it.
    pub(crate) fn into_request(self) -> (Request, Vec<OwnedFd>) {
        let mut sockets = Vec::new();
        let links = self.links.into_iter().map(|link| {
            sockets.push(link.socket);
            LinkConfig {
                name: link.name,
                index: link.index,
                has_vnet_header: link.has_vnet_header,
                mac: link.mac,
                mtu: link.mtu,
                addresses: link.addresses,
            }
        });
        let config = NetworkConfig { links: links.collect(), routes: self.routes };
        (Request::Start(config), sockets)
    }
}

/// A directory or file of the host that the gofer shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Export {
    pub(crate) path: PathBuf,
    pub(crate) writable: bool,
}

/// Descriptors for a process to be, in the order of their numbers there.
#[derive(Debug)]
pub(crate) struct Donations(Vec<OwnedFd>);

impl Donations {
    /// Starts with what gets the lowest numbers.
    pub(crate) fn new(first: Vec<OwnedFd>) -> Self {
        Self(first)
    }

    pub(crate) fn add(&mut self, fd: OwnedFd) -> DonatedFd {
        self.0.push(fd);
        // A process cannot have more descriptors than fit.
        DonatedFd(i32::try_from(self.0.len() - 1).unwrap_or(i32::MAX))
    }

    pub(crate) fn into_fds(self) -> Vec<OwnedFd> {
        self.0
    }
}

impl ContainerPlan {
    /// What the gofer has to show: the root, then the bind mounts in their order.
    pub(crate) fn exports(&self) -> Vec<Export> {
        let root = Export { path: self.root.clone(), writable: !self.memory_overlay && !self.root_readonly };
        let binds = self.mounts.iter().filter_map(|mount| match &mount.kind {
            PlannedKind::Bind(path) => {
                Some(Export { path: path.clone(), writable: !mount.flags.contains(MountFlags::READ_ONLY) })
            }
            PlannedKind::Own(_) => None,
        });
        std::iter::once(root).chain(binds).collect()
    }

    /// What the sandbox process is told, and the descriptors of the first process.
    pub(super) fn into_config(self) -> (ContainerConfig, Vec<OwnedFd>) {
        // Numbered in the order of `exports`, where the root comes first.
        let mut bound = 0;
        let mut next_tree = || {
            bound += 1;
            bound
        };
        let root = RootConfig {
            tree: 0,
            memory_overlay: self.memory_overlay,
            readonly: self.root_readonly,
            propagation: self.root_propagation,
        };
        let mounts = self
            .mounts
            .into_iter()
            .map(|mount| MountConfig {
                destination: mount.destination,
                kind: match mount.kind {
                    PlannedKind::Own(kind) => kind,
                    PlannedKind::Bind(_) => MountKind::Bind { tree: next_tree() },
                },
                flags: mount.flags,
            })
            .collect();
        let config = ContainerConfig {
            hostname: self.hostname,
            domainname: self.domainname,
            root,
            mounts,
            masked_paths: self.masked_paths,
            readonly_paths: self.readonly_paths,
            init: self.init,
            is_attended: self.lifetime == Lifetime::Bound,
        };
        (config, self.stdio)
    }
}

impl SandboxPlan {
    /// Turns the plan into what the sandbox process reads; descriptors go to `donations`, `connections` are those to
    /// the gofer, `exit_status` is the file for the first process's.
    pub(crate) fn into_config(
        self,
        connections: Vec<OwnedFd>,
        exit_status: OwnedFd,
        donations: &mut Donations,
    ) -> BootConfig {
        let gofer = connections.into_iter().map(|fd| donations.add(fd)).collect();
        let (id, lifetime) = (self.container.id.clone(), self.container.lifetime);
        let (container, stdio) = self.container.into_config();
        BootConfig {
            id,
            platform: self.platform,
            network: self.network,
            network_settings: self.network_settings,
            gofer,
            container,
            stdio: stdio.into_iter().map(|fd| donations.add(fd)).collect(),
            exit_status: donations.add(exit_status),
            strace: self.strace,
            debug: self.debug,
            host: host_settings(),
            dies_with_parent: lifetime == Lifetime::Bound,
        }
    }
}

fn host_settings() -> HostSettings {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    HostSettings {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_bytes: memory_bytes().unwrap_or(1 << 30),
    }
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}
