//! Running programs in the sandbox: with `runsc do`, or as an OCI bundle whose root is the host's.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Finished, Netns, Running};

/// No program of these tests should take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The runtime under test: `$RUNSC`, or the release build of this workspace.
#[must_use]
pub fn runsc() -> PathBuf {
    std::env::var_os("RUNSC").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/runsc")),
        PathBuf::from,
    )
}

/// The two ways into a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `runsc do`.
    Do,
    /// `runsc run` on a bundle.
    Bundle,
}

impl Place {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Do, Self::Bundle];

    /// A sandbox with only a loopback interface.
    #[must_use]
    #[track_caller]
    pub fn alone<'a>(self) -> Sandbox<'a> {
        match self {
            Self::Do => Sandbox::new(),
            Self::Bundle => Sandbox::with_bundle(None, Layer::ReadOnly),
        }
    }

    /// A sandbox with address `ip`, whose neighbour at the next address is `netns`.
    #[must_use]
    #[track_caller]
    pub fn beside<'a>(self, netns: &'a Netns, ip: &str) -> Sandbox<'a> {
        match self {
            Self::Do => Sandbox::on(netns, ip),
            Self::Bundle => Sandbox::with_bundle(Some(joined(netns, ip)), Layer::Memory),
        }
    }
}

/// How to start `runsc`.
#[derive(Debug, Default)]
pub struct Sandbox<'a> {
    netns: Option<&'a Netns>,
    global: Vec<String>,
    options: Vec<String>,
    bundle: Option<HostBundle>,
}

impl<'a> Sandbox<'a> {
    /// `runsc do` with only a loopback interface.
    #[must_use]
    pub fn new() -> Self {
        Self { global: vec!["--network=none".into()], ..Self::default() }
    }

    /// `runsc do` whose veth's host end is in `netns`. The sandbox has address `ip`, the host end the next one.
    #[must_use]
    pub fn on(netns: &'a Netns, ip: &str) -> Self {
        Self {
            netns: Some(netns),
            global: vec!["--network=sandbox".into()],
            options: vec![format!("--ip={ip}")],
            bundle: None,
        }
    }

    /// A bundle that joins `netns`, with all its interfaces, and may configure its network.
    #[must_use]
    #[track_caller]
    pub fn administering(netns: Netns) -> Self {
        let mut sandbox = Self::with_bundle(Some(netns), Layer::Memory);
        if let Some(bundle) = &mut sandbox.bundle {
            bundle.capabilities.push("CAP_NET_ADMIN");
        }
        sandbox
    }

    /// `runsc do` that uses the sockets of `netns`.
    #[must_use]
    pub fn sharing(netns: &'a Netns) -> Self {
        Self { netns: Some(netns), global: vec!["--network=host".into()], ..Self::default() }
    }

    #[track_caller]
    fn with_bundle(netns: Option<Netns>, layer: Layer) -> Self {
        let network = if netns.is_some() { "sandbox" } else { "none" };
        let mut global = vec![format!("--network={network}"), "--net-raw".into()];
        if layer == Layer::Memory {
            global.push("--overlay2=root:memory".into());
        }
        Self { global, bundle: Some(HostBundle::new(netns, layer)), ..Self::default() }
    }

    /// Adds a global flag, such as `--platform=ptrace`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.global.push(flag.into());
        self
    }

    /// The command line that runs `program` with `args` in the sandbox. For a bundle it works as long as this value
    /// exists.
    ///
    /// # Panics
    /// When the bundle cannot be written.
    #[must_use]
    #[track_caller]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = match self.netns {
            Some(netns) => netns.command(runsc()),
            None => Command::new(runsc()),
        };
        command.args(&self.global);
        match &self.bundle {
            None => command.arg("do").args(&self.options).arg("--").arg(program).args(args),
            Some(bundle) => command.args(bundle.run(&[&[program], args].concat())),
        };
        command
    }

    /// Runs a program to its end.
    #[must_use]
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Finished {
        Running::start(&mut self.command(program, args)).finish(LIMIT)
    }

    /// Runs a shell script to its end.
    #[must_use]
    #[track_caller]
    pub fn sh(&self, script: &str) -> Finished {
        self.run("bash", &["-c", script])
    }
}

/// Runs `script` natively and in each kind of sandbox, and checks that output, errors and status are the same.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn assert_same(script: &str) {
    let native = Running::start(Command::new("bash").args(["-c", script])).finish(LIMIT);
    for place in Place::ALL {
        let sandboxed = place.alone().sh(script);
        assert_eq!(
            sandboxed.out(),
            native.out(),
            "{place:?}: standard output of {script}; its errors: {}",
            sandboxed.err()
        );
        assert_eq!(sandboxed.err(), native.err(), "{place:?}: standard error of {script}");
        assert_eq!(sandboxed.status, native.status, "{place:?}: status of {script}");
    }
}

/// Where a bundle's guests write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// Nowhere but in a tmpfs on /tmp.
    ReadOnly,
    /// Everywhere, into memory.
    Memory,
}

/// Bundles whose root is the host's.
#[derive(Debug)]
struct HostBundle {
    folder: tempfile::TempDir,
    netns: Option<Netns>,
    layer: Layer,
    capabilities: Vec<&'static str>,
    made: Cell<u32>,
}

impl HostBundle {
    #[track_caller]
    fn new(netns: Option<Netns>, layer: Layer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, netns, layer, capabilities: CAPABILITIES.to_vec(), made: Cell::new(0) }
    }

    /// Writes a bundle for `args` and gives what follows the global flags.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Vec<String> {
        let number = self.made.replace(self.made.get() + 1);
        let folder = self.folder.path().join(number.to_string());
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("config.json"), self.config(args).to_string()).expect("config.json");
        let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
        let state = text(&self.folder.path().join("state"));
        let words = ["--root", &state, "run", "--bundle", &text(&folder), &format!("c{number}")];
        words.map(str::to_owned).to_vec()
    }

    fn config(&self, args: &[&str]) -> Value {
        let env: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
        let mut network = json!({ "type": "network" });
        if let Some(netns) = &self.netns {
            network["path"] = netns.path().into();
        }
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }),
            json!({ "destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666"] }),
            json!({ "destination": "/dev/shm", "type": "tmpfs", "options": ["mode=1777"] }),
            json!({ "destination": "/sys", "type": "sysfs", "options": ["ro"] }),
        ];
        if self.layer == Layer::ReadOnly {
            mounts.push(json!({ "destination": "/tmp", "type": "tmpfs", "options": ["mode=1777"] }));
        }
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": args,
                "env": env,
                "cwd": "/",
                "capabilities": {
                    "bounding": self.capabilities,
                    "effective": self.capabilities,
                    "permitted": self.capabilities
                },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1_048_576 }],
            },
            "root": { "path": "/", "readonly": self.layer == Layer::ReadOnly },
            "mounts": mounts,
            "linux": { "namespaces": [
                { "type": "pid" }, network, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ] },
        })
    }
}

/// Those that Docker gives.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A namespace with address `ip` on `eth0`, whose other end is in `netns` at the next address.
#[track_caller]
fn joined(netns: &Netns, ip: &str) -> Netns {
    let address: std::net::Ipv4Addr = ip.parse().expect("an IPv4 address");
    let next = std::net::Ipv4Addr::from(u32::from(address) + 1).to_string();
    let inner = Netns::new();
    inner.veth(("eth0", &format!("{ip}/24")), netns, ("peer0", &format!("{next}/24")));
    inner.ip(&["route", "add", "default", "via", &next]);
    inner
}
