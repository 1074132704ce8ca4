//! Where a benchmark runs: natively, in the sandbox, or under another runtime.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use integration_tests::{Netns, Running, runsc};

/// The benchmark programs, compiled for this run.
#[derive(Debug)]
pub struct Programs {
    folder: tempfile::TempDir,
}

impl Programs {
    /// Compiles `benches/guest/*.c` with the system's C compiler.
    ///
    /// # Errors
    /// When there is no compiler or it fails.
    pub fn compile() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["micro", "net", "timed"] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("guest/{name}.c"));
            let status = Command::new("cc")
                .args(["-O2", "-pthread", "-o"])
                .arg(folder.path().join(name))
                .arg(&source)
                .status()
                .context("cannot start cc")?;
            ensure!(status.success(), "cc {}: {status}", source.display());
        }
        Ok(Self { folder })
    }

    /// The path of program `name`.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// The folder of the programs, visible in every environment.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An environment to run programs in.
#[derive(Debug, Clone)]
pub enum Place {
    /// The host kernel.
    Native,
    /// A runtime with a `do` verb: ours, or the one to compare with.
    Runtime(PathBuf),
}

/// The address of the measured program's end of the network, and the peer's.
pub const INSIDE: &str = "10.78.0.2";
/// The peer's end: the address after [`INSIDE`].
const OUTSIDE: &str = "10.78.0.3";

impl Place {
    /// Our own runtime.
    #[must_use]
    pub fn sandbox() -> Self {
        Self::Runtime(runsc())
    }

    /// The command that runs `program` here without a network.
    #[must_use]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        match self {
            Self::Native => {
                let mut command = Command::new(program);
                command.args(args);
                command
            }
            Self::Runtime(runtime) => {
                let mut command = Command::new(runtime);
                command.args(["--network=none", "do", "--", program]).args(args);
                command
            }
        }
    }

    /// The command that runs `program` here at address [`INSIDE`], with the peer's end in `net`.
    #[must_use]
    pub fn networked(&self, net: &Network, program: &str, args: &[&str]) -> Command {
        match self {
            Self::Native => {
                let mut command = net.native.command(program);
                command.args(args);
                command
            }
            Self::Runtime(runtime) => {
                let mut command = net.sandbox_peer.command(OsString::from(runtime));
                command
                    .args(["--network=sandbox", "do", &format!("--ip={INSIDE}"), "--", program])
                    .args(args);
                command
            }
        }
    }

    /// The namespace in which the peer of [`Place::networked`] runs.
    #[must_use]
    pub fn peer<'a>(&self, net: &'a Network) -> &'a Netns {
        match self {
            Self::Native => &net.native_peer,
            Self::Runtime(_) => &net.sandbox_peer,
        }
    }

    /// Runs a program to its end and parses the number it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn measure(&self, program: &str, args: &[&str]) -> anyhow::Result<f64> {
        number(&mut self.command(program, args))
    }
}

/// Runs `command` and parses the number it prints.
///
/// # Errors
/// When it fails or prints something else.
pub fn number(command: &mut Command) -> anyhow::Result<f64> {
    let shown = format!("{command:?}");
    let done = Running::start(command).finish(Duration::from_secs(60));
    ensure!(done.status == 0, "{shown}: status {}: {}", done.status, done.err());
    done.out().trim().parse().with_context(|| format!("{shown} printed {:?}", done.out()))
}

/// The two networks of a run: a veth between two namespaces for native programs, and a namespace in which the
/// runtimes put the host end of theirs.
#[derive(Debug)]
pub struct Network {
    native: Netns,
    native_peer: Netns,
    sandbox_peer: Netns,
}

impl Network {
    /// Makes the namespaces and the native pair.
    #[must_use]
    pub fn new() -> Self {
        let (native, native_peer) = (Netns::new(), Netns::new());
        native.veth(("in", &format!("{INSIDE}/24")), &native_peer, ("out", &format!("{OUTSIDE}/24")));
        Self { native, native_peer, sandbox_peer: Netns::new() }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}
