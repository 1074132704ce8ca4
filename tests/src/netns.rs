//! Network namespaces that a test makes and removes.

use std::ffi::OsStr;
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// A network namespace with its loopback up, deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one with a name that no other test has.
    ///
    /// # Panics
    /// When `ip netns add` fails.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let ns = Self { name };
        ns.ip(&["link", "set", "lo", "up"]);
        ns
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that an OCI bundle names.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command that runs `program` in this namespace.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` on a thread in this namespace; what it opens stays there.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or `work` panics.
    #[track_caller]
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let file = File::open(self.path()).unwrap_or_else(|e| panic!("{}: {e}", self.path()));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("{}: setns: {e}", self.name));
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip ARGS` in this namespace.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.name], args].concat());
    }

    /// Joins this namespace and `other` with a veth pair: `(interface, address/len)` of each end.
    ///
    /// # Panics
    /// When `ip` fails.
    #[track_caller]
    pub fn veth(&self, mine: (&str, &str), other: &Self, theirs: (&str, &str)) {
        self.ip(&["link", "add", mine.0, "type", "veth", "peer", "name", theirs.0, "netns", &other.name]);
        for (ns, (interface, address)) in [(self, mine), (other, theirs)] {
            ns.ip(&["addr", "add", address, "dev", interface]);
            ns.ip(&["link", "set", interface, "up"]);
        }
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Nothing better can be done when a test unwinds.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().unwrap_or_else(|e| panic!("cannot start ip: {e}"));
    assert!(out.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
}
