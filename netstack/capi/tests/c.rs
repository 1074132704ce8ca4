//! C programs against the shared library: compiled with the host's compiler, linked, run, and judged by their exit code.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that cargo puts the shared library into when it is built for a test: that of the test.
fn library_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().to_owned()
}

#[track_caller]
fn run(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(name);
    let libraries = library_folder();
    let compiled = Command::new("cc")
        .args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-o"])
        .arg(&program)
        .arg(root.join("tests/c").join(format!("{name}.c")))
        .arg("-I")
        .arg(root.join("include"))
        .arg("-L")
        .arg(&libraries)
        .args(["-lnetstack_capi", "-lpthread"])
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new("timeout").arg("60").arg(&program).output().unwrap();
    assert!(
        ran.status.success(),
        "{}: {}{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn two_stacks_with_manual_clocks_talk_through_injected_frames() {
    run("manual");
}

#[test]
fn threads_wait_for_one_another_over_loopback() {
    run("blocking");
}

#[test]
fn options_are_those_of_linux() {
    run("options");
}
