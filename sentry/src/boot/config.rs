//! What the sandbox process is told when it starts.
//!
//! Written by the caller, which has read whatever format the user speaks, and read once by the sandbox. Host
//! files are named by the numbers under which the sandbox process inherits them, never by path: it has no paths.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The number of an inherited host descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DonatedFd(pub i32);

/// Everything the sandbox process needs to come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfig {
    /// The container's name.
    pub id: String,
    /// How guest code runs.
    pub platform: PlatformChoice,
    /// Where the network comes from.
    pub network: NetworkKind,
    /// Settings of that network to change before the first process: names as of sysctl(8), and values.
    pub network_settings: Vec<(String, String)>,
    /// Connections to the gofer, each for one request at a time.
    pub gofer: Vec<DonatedFd>,
    /// The container that the sandbox is made for.
    pub container: ContainerConfig,
    /// The first process's descriptors 0, 1, 2, ...
    pub stdio: Vec<DonatedFd>,
    /// A file for the [`ExitStatus`](crate::boot::ExitStatus) of the first process, as JSON: who comes when the sandbox
    /// is gone reads it there.
    pub exit_status: DonatedFd,
    /// Which system calls to log.
    pub strace: Option<StraceConfig>,
    /// Whether to log steps.
    pub debug: bool,
    /// Facts about the host that a process in an empty root cannot read itself.
    pub host: HostSettings,
    /// Whether the sandbox ends with the process that started it.
    pub dies_with_parent: bool,
}

/// What is each container's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Name of the machine as the guest sees it.
    pub hostname: String,
    /// NIS domain name as the guest sees it.
    pub domainname: String,
    /// The root file system.
    pub root: RootConfig,
    /// What is mounted on it, in order.
    pub mounts: Vec<MountConfig>,
    /// Paths that the guest finds empty.
    pub masked_paths: Vec<String>,
    /// Paths that the guest cannot change.
    pub readonly_paths: Vec<String>,
    /// The first process.
    pub init: ProcessConfig,
    /// Whether the command that starts the first process stays, and passes the signals of keys on.
    pub is_attended: bool,
}

/// A container that joins a sandbox which another one was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinConfig {
    /// What is its own.
    pub container: ContainerConfig,
    /// Which namespaces it does not share with the first container. Mounts are always its own, the network never is.
    pub own_namespaces: OwnNamespaces,
    /// How many of the descriptors that come along are connections to its gofer.
    pub gofer_connections: usize,
}

bitflags::bitflags! {
    /// Namespaces that a container has for itself (namespaces(7)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct OwnNamespaces: u32 {
        /// Process ids.
        const PID = 1;
        /// System V IPC and POSIX message queues.
        const IPC = 2;
        /// Names of the machine.
        const UTS = 4;
    }
}

/// How guest code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformChoice {
    /// Trapping by seccomp, with rewriting of hot call sites.
    Systrap,
    /// Trapping by ptrace.
    Ptrace,
}

/// Where the network comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkKind {
    /// The sandbox's own stack: a loopback, and the interfaces that come with the request to start.
    Sandbox,
    /// The host's sockets.
    Host,
    /// A loopback only.
    None,
}

/// Interfaces and routes of the sandbox's stack.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The interfaces. The packet socket of the n-th one is the n-th descriptor that comes along.
    pub links: Vec<LinkConfig>,
    /// Routes over them.
    pub routes: Vec<RouteConfig>,
}

/// One interface of the sandbox's stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkConfig {
    /// Its name.
    pub name: String,
    /// Number of the host device; routes refer to it.
    pub index: u32,
    /// Whether frames on the socket start with a virtio-net header.
    pub has_vnet_header: bool,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddress>,
}

/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpAddress {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that name the network.
    pub prefix_len: u8,
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteConfig {
    /// Where to; prefix length 0 is the default route.
    pub destination: IpAddress,
    /// The next hop; `None` for a network on the link.
    pub gateway: Option<IpAddr>,
    /// The interface, by its [`LinkConfig::index`].
    pub link: u32,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootConfig {
    /// Which of the gofer's trees it is.
    pub tree: u32,
    /// Changes go to a layer in memory instead of the host.
    pub memory_overlay: bool,
    /// No changes at all.
    pub readonly: bool,
    /// How mount namespaces hear of its mounts: nothing, [`MountFlags::SHARED`] or [`MountFlags::UNBINDABLE`].
    pub propagation: MountFlags,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
    /// Where, an absolute path in the guest.
    pub destination: String,
    /// What.
    pub kind: MountKind,
    /// How.
    pub flags: MountFlags,
}

/// A kind of file system with what only it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// proc(5).
    Proc,
    /// sysfs(5).
    Sysfs,
    /// tmpfs(5) with its own options (`size=`, `mode=`, ...).
    Tmpfs {
        /// `name=value` pairs.
        options: Vec<String>,
    },
    /// Standard device nodes on a tmpfs.
    Dev,
    /// Pseudo terminals.
    Devpts {
        /// `name=value` pairs.
        options: Vec<String>,
    },
    /// POSIX message queues.
    Mqueue,
    /// Control groups, version 1 or 2.
    Cgroup,
    /// A host directory or file.
    Bind {
        /// Which of the gofer's trees it is.
        tree: u32,
    },
}

bitflags::bitflags! {
    /// Options that every mount has (mount(2)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// `ro`.
        const READ_ONLY = 1;
        /// `nosuid`.
        const NO_SUID = 2;
        /// `nodev`.
        const NO_DEV = 4;
        /// `noexec`.
        const NO_EXEC = 8;
        /// `noatime`.
        const NO_ATIME = 1024;
        /// `unbindable`: cannot be bound (`mount_namespaces(7)`).
        const UNBINDABLE = 1 << 17;
        /// `shared`: other mount namespaces hear of what is mounted there.
        const SHARED = 1 << 20;
    }
}

macro_rules! serialize_as_bits {
    ($flags:ty) => {
        impl Serialize for $flags {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.bits().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $flags {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bits = u32::deserialize(deserializer)?;
                Self::from_bits(bits).ok_or_else(|| serde::de::Error::custom("unknown flag"))
            }
        }
    };
}
serialize_as_bits!(MountFlags);
serialize_as_bits!(OwnNamespaces);

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessConfig {
    /// The program, looked up in `PATH` of `env` when it has no slash, and its arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// Who it runs as.
    pub user: UserConfig,
    /// What it may do.
    pub capabilities: CapabilitySets,
    /// What it may use; resources not named keep the kernel's defaults.
    pub limits: Vec<ResourceLimit>,
    /// Whether execve(2) cannot give it privilege.
    pub no_new_privileges: bool,
    /// What its system calls have to pass.
    pub filter: Option<FilterConfig>,
    /// Whether signals of the guest's processes end it as any other process, although it is the first.
    pub is_ordinary: bool,
    /// `oom_score_adj` of proc(5).
    pub oom_score_adj: i32,
    /// Whether the terminal among descriptors 0 to 2 becomes its controlling one.
    pub has_terminal: bool,
}

/// A filter of system calls (seccomp(2)).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilterConfig {
    /// The program.
    pub instructions: Vec<FilterInstruction>,
    /// Whether what it does other than allow calls is logged.
    pub is_logged: bool,
}

/// An instruction of classic BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of struct sock_filter")]
pub struct FilterInstruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// User and groups of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserConfig {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Mask of bits that new files do not get.
    pub umask: u32,
}

impl Default for UserConfig {
    fn default() -> Self {
        Self { uid: 0, gid: 0, additional_gids: Vec::new(), umask: 0o022 }
    }
}

/// The five capability sets, as bit masks by capability number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// The limit of what execve(2) can give.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// Kept over execve(2) by files that inherit them.
    pub inheritable: u64,
    /// Kept over execve(2) of plain files.
    pub ambient: u64,
}

/// A resource limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Linux's number of the resource.
    pub resource: u32,
    /// The enforced value.
    pub soft: u64,
    /// The ceiling.
    pub hard: u64,
}

/// Which system calls to log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StraceConfig {
    /// Names; empty for all.
    pub syscalls: Vec<String>,
}

/// Facts about the host that a process in an empty root cannot read itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostSettings {
    /// CPUs that the guest is shown.
    pub cpus: u32,
    /// Memory that the guest is shown, in bytes.
    pub memory_bytes: u64,
}
