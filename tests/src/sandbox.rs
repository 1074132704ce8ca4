//! Running programs in the sandbox.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

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

/// How to start `runsc do`.
#[derive(Debug, Default)]
pub struct Sandbox<'a> {
    netns: Option<&'a Netns>,
    global: Vec<String>,
    options: Vec<String>,
}

impl<'a> Sandbox<'a> {
    /// A sandbox with only a loopback interface.
    #[must_use]
    pub fn new() -> Self {
        Self { netns: None, global: vec!["--network=none".into()], options: Vec::new() }
    }

    /// A sandbox whose veth's host end is in `netns`. The sandbox has address `ip`, the host end the next one.
    #[must_use]
    pub fn on(netns: &'a Netns, ip: &str) -> Self {
        Self {
            netns: Some(netns),
            global: vec!["--network=sandbox".into()],
            options: vec![format!("--ip={ip}")],
        }
    }

    /// A sandbox that uses the sockets of `netns`.
    #[must_use]
    pub fn sharing(netns: &'a Netns) -> Self {
        Self { netns: Some(netns), global: vec!["--network=host".into()], options: Vec::new() }
    }

    /// Adds a global flag, such as `--platform=ptrace`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.global.push(flag.into());
        self
    }

    /// The command line that runs `program` with `args` in the sandbox.
    #[must_use]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = match self.netns {
            Some(netns) => netns.command(runsc()),
            None => Command::new(runsc()),
        };
        command.args(&self.global).arg("do").args(&self.options).arg("--").arg(program).args(args);
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

/// Runs `script` natively and in the sandbox and checks that output, errors and status are the same.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn assert_same(script: &str) {
    let native = Running::start(Command::new("bash").args(["-c", script])).finish(LIMIT);
    let sandboxed = Sandbox::new().sh(script);
    assert_eq!(sandboxed.out(), native.out(), "standard output of {script}; its errors: {}", sandboxed.err());
    assert_eq!(sandboxed.err(), native.err(), "standard error of {script}");
    assert_eq!(sandboxed.status, native.status, "status of {script}");
}
