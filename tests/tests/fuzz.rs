//! Random system calls: `guest/fuzz/syscalls.c` in the sandbox, on each platform.
//!
//! A few seconds as nobody here. `FUZZ_SECONDS=600 FUZZ_SEED=7 FUZZ_USER=0` looks for more (CONTRIBUTING.md); best with a debug build of
//! `runsc`, whose arithmetic is checked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration_tests::{Need, Running, Sandbox, require};

const NOBODY: u64 = 65_534;

/// A setting of the environment.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

fn compile(folder: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/fuzz/syscalls.c");
    let program = folder.join("syscalls");
    let warnings = ["-Wall", "-Wextra", "-Werror"];
    let done = Command::new("cc")
        .args(["-O1", "-g", "-pthread"])
        .args(warnings)
        .arg("-o")
        .arg(&program)
        .arg(source)
        .output();
    let done = done.expect("cc starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    program
}

#[track_caller]
fn survives(platform: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path());
    let log = folder.path().join("log");
    let (seed, seconds) = (setting("FUZZ_SEED", 1), setting("FUZZ_SECONDS", 2));
    let sandbox = Sandbox::new()
        .flag(&format!("--platform={platform}"))
        .flag("--debug")
        .flag(&format!("--debug-log={}", log.display()));
    let words = [seed, seconds, 2, setting("FUZZ_USER", NOBODY)].map(|word| word.to_string());
    let args: Vec<_> = words.iter().map(String::as_str).collect();
    // What a killed process takes to die on a busy machine is in the program; this is for a sandbox that hangs.
    let limit = Duration::from_secs(seconds + 60);
    let mut command = sandbox.command(program.to_str().expect("a UTF-8 path"), &args);
    let finished = Running::start(&mut command).finish(limit);
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let said = format!("seed {seed}: {}{}{log}", finished.out(), finished.err());
    assert!(!said.contains("panic"), "{said}");
    assert_eq!(finished.status, 0, "{said}");
}

#[test]
fn systrap() {
    require!(Need::Root, Need::Program("cc"));
    survives("systrap");
}

#[test]
fn ptrace() {
    require!(Need::Root, Need::Program("cc"));
    survives("ptrace");
}

/// It would harm a machine.
#[test]
fn the_program_refuses_to_run_natively() {
    require!(Need::Program("cc"));
    let folder = tempfile::tempdir().expect("a folder");
    let refused =
        Running::start(Command::new(compile(folder.path())).args(["1", "1"])).finish(Duration::from_secs(60));
    assert_eq!((refused.status, refused.out()), (2, String::new()));
}
