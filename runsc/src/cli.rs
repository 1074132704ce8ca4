//! The command line.
//!
//! Engines pass global flags before the verb. Flags that they are known to pass and that mean nothing here are
//! accepted and ignored by name, one by one; any other flag is an error.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use netstack_usernet::PortForward;
use sentry_hostio::fd_flags::{self, OnExec};
use sentry_hostio::inherited;
use thiserror::Error;

use crate::log;

/// An OCI runtime that runs containers on a kernel of its own.
#[derive(Debug, Parser)]
#[command(
    name = "runsc",
    version = VERSION,
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    // Engines put their own flags behind those that their user configured.
    args_override_self = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Printed behind the name. Engines read the word, the number and the line "spec".
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// Flags of every verb.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print the version
    #[arg(long, short = 'v', short_alias = 'V', action = ArgAction::Version)]
    version: Option<bool>,
    /// Directory of the containers' state
    #[arg(long)]
    pub(crate) root: Option<PathBuf>,
    /// Where the network comes from
    #[arg(long, value_enum, default_value_t = Network::Sandbox)]
    pub(crate) network: Network,
    /// What carries the sandbox's network: interfaces of the host, or sockets of a process without privilege. The
    /// default is interfaces for root and sockets for others
    #[arg(long, value_enum, value_name = "LINK")]
    pub(crate) network_link: Option<NetworkLink>,
    /// How guest code runs
    #[arg(long, value_enum, default_value_t = Platform::DEFAULT)]
    pub(crate) platform: Platform,
    /// Log steps, for people who look for a fault
    #[arg(long)]
    pub(crate) debug: bool,
    /// Where the debug log goes: a file, or a directory when it ends in "/"
    #[arg(long, value_name = "PATH")]
    pub(crate) debug_log: Option<String>,
    /// Log of errors, for engines
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Form of the log of errors
    #[arg(long, value_enum, default_value_t = log::Format::Text)]
    pub(crate) log_format: log::Format,
    /// Log the guest's system calls to the debug log
    #[arg(long)]
    pub(crate) strace: bool,
    /// Which system calls to log, comma-separated; all when empty
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) strace_syscalls: Vec<String>,
    /// Record the packets of the sandbox's network (pcapng), each with the reason if the stack discarded it, the process
    /// whose it is, and the state of its connection. "%ID%" in the name stands for the container
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap_log: Option<PathBuf>,
    /// Keep CAP_NET_RAW in containers
    #[arg(long)]
    pub(crate) net_raw: bool,
    /// Apply the system call filter of config.json (linux.seccomp) in the sandbox
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
        action = ArgAction::Set)]
    pub(crate) oci_seccomp: bool,
    /// Make no control groups
    #[arg(long)]
    pub(crate) ignore_cgroups: bool,
    /// Where changes of the root file system go: "none" or "root:memory"
    #[arg(long, value_name = "MODE", default_value = "none")]
    pub(crate) overlay2: Overlay,
    /// Whether the caller is an ordinary user; it has to be true
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) rootless: Option<bool>,
    /// For engines; only "false": files go through the gofer
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) directfs: Option<bool>,
    /// For engines: "slice:prefix:name" in cgroupsPath. Groups are made at that place without asking systemd
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) systemd_cgroup: Option<bool>,
}

/// Where the network comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// A stack of the sandbox's own
    Sandbox,
    /// The host's sockets
    Host,
    /// A loopback only
    None,
}

/// What carries the sandbox's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkLink {
    /// Interfaces of the host: a veth pair with NAT, or those of the container's network namespace
    Interface,
    /// A user-mode gateway over sockets of the host
    Usernet,
}

/// How guest code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    /// Trapping by seccomp
    Systrap,
    /// Trapping by ptrace
    Ptrace,
}

impl Platform {
    pub(crate) const DEFAULT: Self = Self::Systrap;
}

/// Where changes of the root file system go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlay {
    /// To the host.
    None,
    /// To memory, gone with the container.
    Memory,
}

impl std::str::FromStr for Overlay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "root:memory" | "all:memory" => Ok(Self::Memory),
            _ => Err("it is one of none, root:memory, all:memory"),
        }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one command of the host in a sandbox
    Do(Do),
    /// Create a container and start it
    Run(Run),
    /// Create a container
    Create(Create),
    /// Start a created container
    Start(Id),
    /// Print a container's state
    State(Id),
    /// Send a signal to a container
    Kill(Kill),
    /// Delete a container
    Delete(Delete),
    /// List containers
    List(List),
    /// Run another process in a container
    Exec(Exec),
    /// List the processes of a container
    Ps(Ps),
    /// Write a config.json to start from
    Spec(Spec),
    /// Wait for a container to end and print its exit status
    Wait(Id),
    /// Print what a container uses
    Events(Events),
    /// Change the limits of a container
    Update(Update),
    /// Save a container's state (not supported)
    #[command(hide = true)]
    Checkpoint(Ignored),
    /// Restore a container from its saved state (not supported)
    #[command(hide = true)]
    Restore(Ignored),
    /// Stop all processes of a container
    Pause(Id),
    /// Let a paused container go on
    Resume(Id),
    /// Record the packets of a running container, or print what its network counted
    Debug(Debug),
    /// Print what this runtime supports of the OCI specification
    Features,
    /// Print help on a topic
    Help(Help),
    /// The sandbox process
    #[command(hide = true)]
    Boot,
    /// The file server process
    #[command(hide = true)]
    Gofer,
    /// The gateway process of --network-link=usernet
    #[command(hide = true)]
    Usernet,
    /// The process that stands for a container in another one's sandbox
    #[command(hide = true)]
    Attend,
}

impl Command {
    /// Takes what the caller's descriptors hold for the guest, to be called before any other is opened.
    pub(crate) fn take_descriptors(&mut self) -> Result<(), PreserveError> {
        match self {
            Self::Run(run) => run.create.preserve.take(),
            Self::Create(create) => create.preserve.take(),
            Self::Exec(exec) => exec.preserve.take(),
            _ => Ok(()),
        }
    }

    /// The verb, for the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Do(_) => "do",
            Self::Run(_) => "run",
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::State(_) => "state",
            Self::Kill(_) => "kill",
            Self::Delete(_) => "delete",
            Self::List(_) => "list",
            Self::Exec(_) => "exec",
            Self::Ps(_) => "ps",
            Self::Spec(_) => "spec",
            Self::Wait(_) => "wait",
            Self::Events(_) => "events",
            Self::Update(_) => "update",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Debug(_) => "debug",
            Self::Features => "features",
            Self::Help(_) => "help",
            Self::Boot => "boot",
            Self::Gofer => "gofer",
            Self::Usernet => "usernet",
            Self::Attend => "attend",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Do {
    /// Directory of the host that becomes the root
    #[arg(long, default_value = "/")]
    pub(crate) root: PathBuf,
    /// Working directory; the caller's by default
    #[arg(long)]
    pub(crate) cwd: Option<PathBuf>,
    /// Address of the sandbox; the host has the next one. A free network is chosen by default
    #[arg(long)]
    pub(crate) ip: Option<Ipv4Addr>,
    /// Print nothing about the sandbox
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Keep what is written in memory instead of writing it to the host's files
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
        action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) overlay: bool,
    /// Lead a port of the host into the sandbox; the address is 127.0.0.1 if left out
    #[arg(long, short, value_name = "[ADDRESS:]HOSTPORT:PORT[/udp]")]
    pub(crate) publish: Vec<PortForward>,
    /// Let the sandbox reach the host's loopback as the gateway's address (with --network-link=usernet)
    #[arg(long)]
    pub(crate) host_loopback: bool,
    /// Host directory to show, writable, as `SRC[:DST]`
    #[arg(long, short, value_name = "SRC[:DST]")]
    pub(crate) volume: Vec<String>,
    /// The command with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    /// The container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Directory of the bundle
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Socket that receives the terminal's master end
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    /// File for the pid of the sandbox
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) preserve: Preserve,
    /// For engines: the sandbox never pivots the host's root
    #[arg(long, hide = true)]
    pub(crate) no_pivot: bool,
    /// For engines: the guest has no keyrings of the host
    #[arg(long, hide = true)]
    pub(crate) no_new_keyring: bool,
    /// The container
    pub(crate) id: String,
}

/// Descriptors of the caller for the process.
#[derive(Debug, Args)]
pub(crate) struct Preserve {
    /// How many of the caller's descriptors behind the standard streams the process gets
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// Those, once taken.
    #[arg(skip)]
    fds: Vec<OwnedFd>,
}

impl Preserve {
    /// Takes the descriptors, to be called before any other is opened that could have their numbers.
    pub(crate) fn take(&mut self) -> Result<(), PreserveError> {
        for at in 0..self.preserve_fds {
            // Behind the standard streams.
            let number = i32::from(at) + 3;
            let fd = inherited::take(number).map_err(|source| PreserveError { number, source })?;
            self.fds.push(fd);
        }
        Ok(())
    }

    /// Lets a program that this one starts in its place have them, too.
    pub(crate) fn keep(&self) -> io::Result<()> {
        self.fds.iter().try_for_each(|fd| fd_flags::set_on_exec(fd, OnExec::Keep))
    }

    /// Copies of the descriptors.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        self.fds.iter().map(OwnedFd::try_clone).collect()
    }
}

/// A descriptor that was to be passed on is not open.
#[derive(Debug, Error)]
#[error("--preserve-fds: descriptor {number}: {source}")]
pub(crate) struct PreserveError {
    number: i32,
    source: io::Error,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Do not wait for the container to end
    #[arg(long, short)]
    pub(crate) detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Signal every process
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Signal this process
    #[arg(long)]
    pub(crate) pid: Option<i32>,
    /// The container
    pub(crate) id: String,
    /// Name or number of the signal
    #[arg(default_value = "TERM")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Kill the container when it still runs, and succeed when there is none
    #[arg(long, short)]
    pub(crate) force: bool,
    /// The container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print ids only
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Form of the list
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

/// Form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns
    #[value(alias = "text")]
    Table,
    /// JSON
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Working directory
    #[arg(long)]
    pub(crate) cwd: Option<String>,
    /// Variable to add to the environment, as NAME=VALUE
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// User and group ids
    #[arg(long, short, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Supplementary group ids
    #[arg(long, short = 'g', value_delimiter = ',')]
    pub(crate) additional_gids: Vec<u32>,
    /// Capability to add
    #[arg(long)]
    pub(crate) cap: Vec<String>,
    /// Bar the process from gaining privilege
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    #[command(flatten)]
    pub(crate) preserve: Preserve,
    /// Give the process a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Do not wait for the process to end
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// File with a process section of config.json
    #[arg(long, short)]
    pub(crate) process: Option<PathBuf>,
    /// File for the pid of a host process that lives as long as the process
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    /// File for the pid inside the container
    #[arg(long)]
    pub(crate) internal_pid_file: Option<PathBuf>,
    /// Socket that receives the terminal's master end
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    /// The container
    pub(crate) id: String,
    /// The command with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Form of the list
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// The container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// Directory of the bundle
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Working directory in the container
    #[arg(long, default_value = "/")]
    pub(crate) cwd: String,
    /// Network namespace to join
    #[arg(long)]
    pub(crate) netns: Option<String>,
    /// The command with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Print once and end
    #[arg(long)]
    pub(crate) stats: bool,
    /// Seconds between two lines
    #[arg(long, default_value_t = 5)]
    pub(crate) interval: u64,
    /// The container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Debug {
    /// Record packets like --pcap-log, until interrupted; "-" is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) capture: Option<PathBuf>,
    /// Stop to record after so many seconds
    #[arg(long, requires = "capture", value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
    /// Bytes of each packet that are recorded
    #[arg(long, default_value_t = MAX_SNAP_LEN, value_name = "BYTES")]
    pub(crate) snap_len: u32,
    /// Print the counters of the network stack that are not zero
    #[arg(long, required_unless_present = "capture")]
    pub(crate) counters: bool,
    /// The container
    pub(crate) id: String,
}

/// All of any packet, as tcpdump(8) has it.
pub(crate) const MAX_SNAP_LEN: u32 = 262_144;

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// File with the limits in the form of config.json's linux.resources, "-" for standard input; other flags do not
    /// count then
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Bytes of memory, with a unit as in 64m; -1 for no limit
    #[arg(long, short, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory: Option<Size>,
    /// Bytes of memory that are left to the container when memory is short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<Size>,
    /// Bytes of memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<Size>,
    /// Microseconds over which the quota counts
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds of CPU time in each period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Share of CPU time relative to others
    #[arg(long, value_name = "SHARES")]
    pub(crate) cpu_share: Option<u64>,
    /// Processors to use, as in 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Threads; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// The container
    pub(crate) id: String,
}

/// A number of bytes, negative for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) i64);

impl std::str::FromStr for Size {
    type Err = &'static str;

    /// As runc reads them: units are powers of 1024.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ERROR: &str = "a size is a number of bytes, or one with a unit: k, m, g, t";
        let lower = text.to_ascii_lowercase();
        let plain = lower.trim_end_matches('b').trim_end_matches('i');
        let shift = match plain.as_bytes().last() {
            Some(b'k') => 10,
            Some(b'm') => 20,
            Some(b'g') => 30,
            Some(b't') => 40,
            _ => 0,
        };
        let digits = if shift == 0 { plain } else { &plain[..plain.len() - 1] };
        let number: i64 = digits.parse().map_err(|_| ERROR)?;
        number.checked_mul(1 << shift).map(Self).ok_or(ERROR)
    }
}

/// Arguments that are taken and not looked at.
#[derive(Debug, Args)]
pub(crate) struct Ignored {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Help {
    /// What about
    #[arg(value_enum)]
    pub(crate) topic: Option<Topic>,
    /// How to print system calls
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    pub(crate) format: TableFormat,
}

/// How a table is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Columns for people
    Table,
    /// One JSON object a line
    Json,
    /// The page COMPAT.md
    Markdown,
}

/// What there is help on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topic {
    /// System calls and how far each is supported
    Syscalls,
    /// Ways of running guest code
    Platforms,
}
