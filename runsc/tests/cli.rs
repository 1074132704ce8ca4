//! The command as users and engines call it: bad input, isolation, life of a container, leftovers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// No command of these tests should take longer, in seconds.
const LIMIT: &str = "30";

struct Runtime {
    dir: tempfile::TempDir,
}

impl Runtime {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", LIMIT, env!("CARGO_BIN_EXE_runsc"), "--root"]).arg(self.root()).args(args);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a command of which the test needs the pid.
    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runsc"));
        let child = command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null()).spawn().unwrap();
        eventually("it runs", || self.succeeds(&["list"]).contains("running"));
        child
    }

    /// The id and the state of the only container.
    fn only_container(&self) -> (String, serde_json::Value) {
        let id = self.succeeds(&["list", "--quiet"]).trim().to_owned();
        let state = serde_json::from_str(&self.succeeds(&["state", &id])).unwrap();
        (id, state)
    }

    /// Runs a command that fails with `status` and one line that contains `text`.
    #[track_caller]
    fn fails(&self, args: &[&str], status: i32, text: &str) {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
        assert!(error.starts_with("runsc: ") && error.contains(text), "{args:?}: {error}");
        self.has_left_nothing();
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn has_left_nothing(&self) {
        let left = fs::read_dir(self.root()).map(Iterator::count).unwrap_or(0);
        assert_eq!(left, 0, "state directories");
    }

    /// A bundle with busybox that runs `script`.
    fn bundle(&self, script: &str) -> PathBuf {
        let bundle = self.dir.path().join("bundle");
        let bin = bundle.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "touch"] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        self.succeeds(&["spec", "--bundle", text(&bundle), "--", "sh", "-c", script]);
        let config = fs::read_to_string(bundle.join("config.json")).unwrap();
        let config = config.replace("\"terminal\": true", "\"terminal\": false");
        fs::write(bundle.join("config.json"), config).unwrap();
        bundle
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Says why a test is skipped.
fn is_there(what: &str, there: bool) -> bool {
    if !there {
        eprintln!("skipped: needs {what}");
    }
    there
}

fn is_root() -> bool {
    is_there("root", nix::unistd::geteuid().is_root())
}

fn has_busybox() -> bool {
    is_there("busybox-static", Path::new("/bin/busybox").exists())
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn bad_command_lines_are_one_line_and_128() {
    let runtime = Runtime::new();
    runtime.fails(&["frobnicate"], 128, "unrecognized subcommand 'frobnicate'");
    runtime.fails(&["--frobnicate", "list"], 128, "unexpected argument '--frobnicate'");
    runtime.fails(&["--platform=qemu", "list"], 128, "invalid value 'qemu'");
    runtime.fails(&["state"], 128, "<ID>");
    runtime.fails(&["state", "nope"], 128, "container \"nope\" does not exist");
    runtime.fails(&["state", "../x"], 128, "invalid container id");
    runtime.fails(&["kill", "nope", "NOSIG"], 128, "unknown signal \"NOSIG\"");
}

#[test]
fn bad_bundles_name_what_is_wrong() {
    let runtime = Runtime::new();
    let bundle = runtime.dir.path().join("b");
    let run = |expected: &str| runtime.fails(&["run", "--bundle", text(&bundle), "c"], 128, expected);
    run("No such file");
    fs::create_dir(&bundle).unwrap();
    run("config.json: No such file");
    let no_rootfs = r#"{"ociVersion":"1.0.2","process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"]},
        "root":{"path":"nope"}}"#;
    for (config, expected) in [
        ("{", "EOF while parsing"),
        (r#"{"ociVersion":"1.0.2","process":{"args":3}}"#, "process.args: invalid type"),
        (no_rootfs, "root.path"),
    ] {
        fs::write(bundle.join("config.json"), config).unwrap();
        run(expected);
    }
}

#[test]
fn exec_failures_have_the_statuses_of_a_shell() {
    if !is_root() {
        return;
    }
    let runtime = Runtime::new();
    let file = runtime.dir.path().join("file");
    fs::write(&file, "no program").unwrap();
    let run = |args: &[&str], status, expected: &str| {
        runtime.fails(&[&["--network=none", "do"], args].concat(), status, expected);
    };
    run(&["there-is-no-such-command"], 127, "not found");
    run(&["/there/is/none"], 127, "No such file");
    run(&[text(&file)], 126, "Permission denied");
    run(&["/"], 126, "Permission denied");
    run(&["--cwd=/there/is/none", "true"], 128, "/there/is/none");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    run(&[text(&file)], 126, "Exec format error");
}

#[test]
fn statuses_streams_and_changes_are_the_guests() {
    if !is_root() {
        return;
    }
    let runtime = Runtime::new();
    let marker = runtime.dir.path().join("marker");
    let script = format!("echo out; echo err >&2; echo x > {}; exit 42", marker.display());
    let output = runtime.run(&["--network=none", "do", "sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert!(!marker.exists(), "a change went to the host");
    runtime.has_left_nothing();
}

#[test]
fn short_programs_always_report_their_end() {
    if !is_root() {
        return;
    }
    let runtime = Runtime::new();
    for _ in 0..20 {
        runtime.succeeds(&["--network=none", "do", "true"]);
    }
}

#[test]
fn signals_reach_the_program() {
    if !is_root() {
        return;
    }
    let runtime = Runtime::new();
    let mut child = runtime.spawn(&["--network=none", "do", "sleep", "30"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGTERM));
    runtime.has_left_nothing();
}

#[test]
fn the_sandbox_process_has_nothing() {
    if !is_root() {
        return;
    }
    let runtime = Runtime::new();
    let mut child = runtime.spawn(&["--network=none", "do", "sleep", "30"]);
    let (id, state) = runtime.only_container();
    let pid = state["pid"].to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), ["65534"; 4]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("Seccomp:"), ["2"]);
    assert_eq!(fs::read_dir(format!("/proc/{pid}/root")).unwrap().count(), 0);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid), of("self"), "{namespace}");
    }
    runtime.succeeds(&["kill", &id, "KILL"]);
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGKILL));
    runtime.has_left_nothing();
}

#[test]
fn a_killed_caller_leaves_nothing_that_the_next_start_does_not_sweep() {
    if !is_root() {
        return;
    }
    let runtime = Runtime::new();
    let mut child = runtime.spawn(&["do", "--quiet", "sleep", "30"]);
    let veth = format!("/sys/class/net/ve-{}", child.id());
    assert!(Path::new(&veth).exists());
    let (_, state) = runtime.only_container();
    let sandbox = format!("/proc/{}", state["pid"]);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the sandbox ends with its caller", || !Path::new(&sandbox).exists());
    runtime.succeeds(&["do", "--quiet", "true"]);
    runtime.has_left_nothing();
    eventually("the interface is gone", || !Path::new(&veth).exists());
}

#[test]
fn a_container_lives_from_create_to_delete() {
    if !is_root() || !has_busybox() {
        return;
    }
    let runtime = Runtime::new();
    let bundle = runtime.bundle("sleep 30");
    let created = Command::new(env!("CARGO_BIN_EXE_runsc"))
        .arg("--root")
        .arg(runtime.root())
        .args(["create", "--bundle", text(&bundle), "c"])
        // The container keeps these open.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(created.unwrap().success());
    let status = || runtime.only_container().1["status"].as_str().unwrap().to_owned();
    assert_eq!(status(), "created");
    runtime.succeeds(&["start", "c"]);
    assert_eq!(status(), "running");
    assert!(runtime.succeeds(&["ps", "c"]).contains("sleep"));
    let output = runtime.run(&["exec", "c", "sh", "-c", "echo inside; exit 4"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(4), b"inside\n".as_slice()));
    assert_eq!(runtime.run(&["exec", "c", "nope"]).status.code(), Some(127));
    assert_eq!(runtime.run(&["start", "c"]).status.code(), Some(128));
    assert_eq!(runtime.run(&["delete", "c"]).status.code(), Some(128));
    assert_eq!(runtime.run(&["create", "--bundle", text(&bundle), "c"]).status.code(), Some(128));
    runtime.succeeds(&["pause", "c"]);
    assert_eq!(status(), "paused");
    runtime.succeeds(&["resume", "c"]);
    runtime.succeeds(&["kill", "c", "KILL"]);
    eventually("it stops", || status() == "stopped");
    runtime.succeeds(&["delete", "c"]);
    runtime.has_left_nothing();
    runtime.succeeds(&["delete", "--force", "c"]);
}

#[test]
fn run_passes_the_status_on_and_keeps_a_read_only_root() {
    if !is_root() || !has_busybox() {
        return;
    }
    let runtime = Runtime::new();
    let bundle = runtime.bundle("touch /x 2>&- && exit 1; echo alone; exit 7");
    let output = runtime.run(&["run", "--bundle", text(&bundle), "c"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"alone\n".as_slice()));
    assert!(!bundle.join("rootfs/x").exists());
    runtime.has_left_nothing();
}
