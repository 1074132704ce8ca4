//! What cannot be run: one line, the status of a runtime, and nothing left behind. And guests that take too much.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::{Bundle, Finished, Need, Netns, Place, Running, require, runsc, wait_until};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the runtime in `netns` with a mark that its processes inherit, and checks that nothing of it is left.
#[track_caller]
fn traceless(netns: &Netns, state: &Path, args: &[&str]) -> Finished {
    traceless_as(Wrapper::default(), netns, state, args)
}

/// Programs by way of which the runtime is started.
#[derive(Debug, Default)]
struct Wrapper<'a> {
    /// Before the namespace is entered, which hides the control groups.
    outer: &'a [&'a str],
    /// In the namespace, which only root can enter.
    inner: &'a [&'a str],
}

/// As [`traceless`], by way of other programs.
#[track_caller]
fn traceless_as(wrapper: Wrapper<'_>, netns: &Netns, state: &Path, args: &[&str]) -> Finished {
    let mark = format!("RUST_TEST_MARK=test-{}-{:?}", std::process::id(), Instant::now());
    let mut command = Command::new("env");
    command
        .arg(&mark)
        .args(wrapper.outer)
        .args(["ip", "netns", "exec", netns.name()])
        .args(wrapper.inner)
        .arg(runsc())
        .arg("--root")
        .arg(state)
        .args(args);
    let finished = Running::start(&mut command).finish(LIMIT);
    wait_until("its processes end", Duration::from_secs(5), || !is_any_marked(&mark));
    assert_eq!(fs::read_dir(state).map(Iterator::count).unwrap_or(0), 0, "state directories");
    let links =
        Running::start(Command::new("ip").args(["-n", netns.name(), "-o", "link"])).finish(LIMIT).ok();
    assert!(!links.out().contains("ve-"), "interfaces: {}", links.out());
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(state.to_str().expect("UTF-8")), "mounts");
    finished
}

fn is_any_marked(mark: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    processes.into_iter().any(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    })
}

/// Rows of files that are no programs for this machine: name, contents, mode, status, what the line says.
fn bad_programs() -> Vec<(&'static str, Vec<u8>, u32, i32, &'static str)> {
    let program = fs::read("/bin/true").expect("/bin/true");
    let mut other_machine = program.clone();
    // e_machine: EM_AARCH64.
    other_machine[18..20].copy_from_slice(&183_u16.to_le_bytes());
    let mut no_interpreter = program.clone();
    let needle = b"/lib64/ld-linux";
    let at = no_interpreter.windows(needle.len()).position(|bytes| bytes == needle).expect("an interpreter");
    no_interpreter[at..at + 6].copy_from_slice(b"/lib9x");
    vec![
        ("text", b"no program\n".to_vec(), 0o755, 126, "Exec format error"),
        ("short", program[..30].to_vec(), 0o755, 126, "Exec format error"),
        ("machine", other_machine, 0o755, 126, "Exec format error"),
        ("loader", no_interpreter, 0o755, 127, "No such file"),
        ("script", b"#!/there/is/none\n".to_vec(), 0o755, 127, "No such file"),
        ("closed", program, 0o600, 126, "Permission denied"),
    ]
}

#[test]
fn programs_that_are_none() {
    require!(Need::Root, Need::Program("ip"));
    let netns = Netns::new();
    // Not in /tmp, which bundles have of their own.
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let state = folder.path().join("state");
    let mut rows: Vec<(PathBuf, i32, &str)> = vec![
        ("/there/is/none".into(), 127, "No such file"),
        ("there-is-no-such-command".into(), 127, "not found"),
        ("/etc".into(), 126, "Permission denied"),
    ];
    for (name, contents, mode, status, text) in bad_programs() {
        let path = folder.path().join(name);
        fs::write(&path, contents).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        rows.push((path, status, text));
    }
    for (path, status, text) in rows {
        let path = path.to_str().expect("UTF-8");
        let outside = traceless(&netns, &state, &["do", "--quiet", path]);
        let in_bundle = Place::Bundle.alone().run(path, &[]);
        for out in [outside, in_bundle] {
            assert_eq!(out.status, status, "{path}: {}", out.err());
            let line = out.err();
            assert!(
                line.starts_with("runsc: ") && line.contains(text) && line.lines().count() == 1,
                "{path}: {line}"
            );
        }
    }
}

/// What goes wrong when a sandbox is there already.
#[test]
fn failures_half_way_leave_nothing() {
    require!(Need::Root, Need::Program("ip"), Need::Program("busybox"));
    let netns = Netns::new();
    let bundle = Bundle::new(&["echo", "ran"]);
    let state = bundle.dir().join("containers");
    let dir = bundle.dir().to_str().expect("UTF-8");
    let run = |args: &[&str], text: &str| {
        let out = traceless(&netns, &state, &[&["run", "--bundle", dir], args, &["c"]].concat());
        assert_eq!((out.status, out.out().as_str()), (128, ""), "{}", out.err());
        assert!(out.err().contains(text) && out.err().lines().count() == 1, "{}", out.err());
    };
    run(&["--pid-file", "/there/is/none/pid"], "/there/is/none/pid: No such file");
    run(&["--console-socket", "/there/is/none"], "--console-socket");
    bundle.change(|config| config["process"]["terminal"] = true.into());
    run(&["--console-socket", "/there/is/none"], "console socket /there/is/none: No such file");
    bundle.change(|config| {
        config["process"]["terminal"] = false.into();
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] });
    });
    run(&[], "createRuntime hook /bin/false");
    bundle.change(|config| config["hooks"] = json!({ "startContainer": [{ "path": "/bin/false" }] }));
    run(&[], "startContainer hook /bin/false");
    bundle.change(|config| {
        config["hooks"] = json!({});
        config["mounts"].as_array_mut().expect("mounts").push(json!({
            "destination": "/bound", "type": "bind", "source": "/there/is/none", "options": ["bind"]
        }));
    });
    run(&[], "/there/is/none");
}

#[test]
fn namespaces_and_directories_that_do_not_serve() {
    require!(Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("setpriv"));
    let netns = Netns::new();
    let bundle = Bundle::new(&["echo", "ran"]);
    let state = bundle.dir().join("containers");
    let name = |path: &str| {
        bundle.change(|config| config["linux"]["namespaces"] = json!([{ "type": "network", "path": path }]));
    };
    let run = ["run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"];
    name("/there/is/none");
    let out = traceless(&netns, &state, &run);
    assert_eq!(out.status, 128);
    assert!(
        out.err().contains("network namespace /there/is/none") && out.err().lines().count() == 1,
        "{}",
        out.err()
    );
    for (path, reason) in [("/etc/passwd", "Invalid argument"), ("/proc/self/ns/uts", "Invalid argument")] {
        name(path);
        let out = traceless(&netns, &state, &run);
        assert_eq!(out.status, 128, "{path}");
        let line = out.err();
        assert!(
            line.contains(&format!("network namespace {path}"))
                && line.contains(reason)
                && line.lines().count() == 1,
            "{line}"
        );
    }
    // One without interfaces is said, and no reason not to run.
    name(&netns.path());
    let out = traceless(&netns, &state, &run).ok();
    assert_eq!(out.out(), "ran\n");
    assert!(out.err().contains("no interface that is up") && out.err().lines().count() == 1, "{}", out.err());
    // A user who may not write the state directory.
    let closed = tempfile::tempdir().expect("a folder");
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(runsc());
    command.arg("--root").arg(closed.path().join("state")).args(["do", "true"]);
    let out = Running::start(&mut command).finish(LIMIT);
    assert_eq!(out.status, 128, "{}", out.err());
    assert!(out.err().contains("ermission denied"), "{}", out.err());
}

#[test]
fn callers_without_permission() {
    require!(Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("setpriv"));
    let netns = Netns::new();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let as_nobody = |bundle: &Path| {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        let state = folder.path().join("state");
        let run = ["run", "--bundle", bundle.to_str().expect("UTF-8"), "c"];
        traceless_as(Wrapper { inner: &nobody, outer: &[] }, &netns, &state, &run)
    };
    // A bundle and a config.json that the caller cannot read.
    let bundle = Bundle::new(&["echo", "ran"]);
    fs::set_permissions(bundle.dir(), fs::Permissions::from_mode(0o700)).expect("chmod");
    let out = as_nobody(bundle.dir());
    assert_eq!(out.status, 128);
    assert!(out.err().contains("ermission denied") && out.err().lines().count() == 1, "{}", out.err());
    fs::set_permissions(bundle.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::set_permissions(bundle.dir().join("config.json"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let out = as_nobody(bundle.dir());
    assert_eq!(out.status, 128);
    let line = out.err();
    assert!(line.contains("config.json: Permission denied") && line.lines().count() == 1, "{line}");
    // A host on which there are no more namespaces.
    let none = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let limited = ["unshare", "--user", "--map-root-user", "sh", "-c", none, "sh"];
    let folder = tempfile::tempdir().expect("a folder");
    let args = ["--network=none", "do", "true"];
    let out =
        traceless_as(Wrapper { inner: &limited, outer: &[] }, &netns, &folder.path().join("state"), &args);
    assert_eq!(out.status, 128, "{}", out.err());
    assert!(out.err().starts_with("runsc: ") && out.err().lines().count() == 1, "{}", out.err());
}

/// Interfaces come over packet sockets: a host without tun devices does.
#[test]
fn no_tun_device_is_needed() {
    require!(Need::Root, Need::Program("ip"), Need::Program("unshare"));
    let netns = Netns::new();
    let folder = tempfile::tempdir().expect("a folder");
    let hide = "mount -t tmpfs none /dev/net 2> /dev/null || true; test ! -e /dev/net/tun && exec \"$@\"";
    let hidden = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    for link in ["--network-link=interface", "--network-link=usernet"] {
        let args = [link, "do", "--quiet", "ip", "-o", "link", "show", "eth0"];
        let out =
            traceless_as(Wrapper { inner: &hidden, outer: &[] }, &netns, &folder.path().join("state"), &args)
                .ok();
        assert!(out.out().contains("eth0"), "{link}: {}", out.out());
    }
}

/// A bundle with 256 MiB and 150 threads at most, in a control group of its own.
fn limited(script: &str) -> (Bundle, String) {
    let bundle = Bundle::new(&["sh", "-c", script]);
    let group = format!("runsc-limit-{}-{}", std::process::id(), script.len());
    bundle.change(|config| {
        config["linux"]["cgroupsPath"] = format!("/{group}").into();
        config["linux"]["resources"] = json!({
            "memory": { "limit": 256 << 20 }, "pids": { "limit": 150 }
        });
    });
    (bundle, group)
}

fn has_controllers() -> bool {
    ["memory", "pids"].iter().all(|name| Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists())
        || Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn a_guest_that_takes_all_memory_ends_alone() {
    require!(Need::Root, Need::Program("ip"), Need::Program("busybox"));
    if !has_controllers() {
        return;
    }
    let netns = Netns::new();
    // Files in memory are the sandbox's memory, as its heap is.
    let (bundle, _) = limited("dd if=/dev/zero of=/memory/file bs=1M count=1000; echo survived");
    bundle.change(|config| {
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/memory", "type": "tmpfs" }));
    });
    // Not in a namespace: "ip netns exec" hides the control groups.
    let out = bundle.global(&["run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"]);
    // The host's kernel ends the process of the group that holds the memory: the sandbox.
    assert_eq!((out.status, out.out().as_str()), (128, ""), "{}", out.err());
    assert_eq!(out.err(), "runsc: the sandbox died\n");
    let state = bundle.dir().join("state");
    let next = traceless(&netns, &state, &["--network=none", "do", "echo", "next"]).ok();
    assert_eq!(next.out(), "next\n");
}

/// A control group of the host with `bytes` of memory, removed with the value.
struct SmallHost(PathBuf);

impl SmallHost {
    /// `None` where the host lets us make none.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("runsc-small-{}", std::process::id());
        let (folder, file) = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            (Path::new("/sys/fs/cgroup").join(name), "memory.max")
        } else {
            (Path::new("/sys/fs/cgroup/memory").join(name), "memory.limit_in_bytes")
        };
        fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        fs::write(group.0.join(file), bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for SmallHost {
    fn drop(&mut self) {
        // Its processes have ended with the test's.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Without a limit of the container's own the host's memory is the limit: what the host's kernel ends then is a process
/// of the guest.
#[test]
fn a_guest_without_a_limit_that_takes_all_memory_is_killed_alone() {
    require!(Need::Root, Need::Program("ip"), Need::Program("python3"));
    let Some(host) = SmallHost::new(400 << 20) else {
        eprintln!("skipped: no memory controller");
        return;
    };
    let netns = Netns::new();
    let folder = tempfile::tempdir().expect("a folder");
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", host.0.display());
    let eat = "python3 -c 'b = []\nwhile True: b.append(bytearray(b\"x\" * (1 << 24)))'; echo status $?; echo alive";
    let args = ["--network=none", "do", "bash", "-c", eat];
    let wrapper = Wrapper { outer: &["sh", "-c", &enter, "sh"], inner: &[] };
    let out = traceless_as(wrapper, &netns, &folder.path().join("state"), &args).ok();
    assert_eq!(out.out(), "status 137\nalive\n", "{}", out.err());
}

/// A command of the user's, which is the first process of the sandbox, ends as it would without one.
#[test]
fn a_command_that_crashes_passes_its_signal_on() {
    require!(Need::Root, Need::Program("ip"), Need::Program("perl"));
    let netns = Netns::new();
    let folder = tempfile::tempdir().expect("a folder");
    for (script, status) in [
        ("kill -ABRT $$", 134),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("exec perl -e 'kill ABRT => $$; sleep 9'", 134),
        ("(kill -SEGV $BASHPID) 2> /dev/null; echo $?", 0),
    ] {
        let script = format!("ulimit -c 0; {script}");
        let args = ["--network=none", "do", "bash", "-c", &script];
        let out = traceless(&netns, &folder.path().join("state"), &args);
        let native = Running::start(Command::new("bash").args(["-c", &script])).finish(LIMIT);
        assert_eq!((out.status, out.status), (status, native.status), "{script}: {}", out.err());
        assert_eq!(out.out(), native.out(), "{script}");
    }
}

#[test]
fn a_guest_that_forks_without_end_takes_only_itself_down() {
    require!(Need::Root, Need::Program("ip"), Need::Program("busybox"));
    if !has_controllers() {
        return;
    }
    let netns = Netns::new();
    let (mut bundle, _) = limited("f() { f & f & wait; }; f 2> /dev/null");
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    std::thread::sleep(Duration::from_secs(2));
    let other =
        traceless(&netns, &bundle.dir().join("other"), &["--network=none", "do", "echo", "works"]).ok();
    assert_eq!(other.out(), "works\n");
    let _ = bundle.global(&["delete", "--force", "c"]).ok();
}

#[test]
fn a_guest_that_floods_the_network_takes_only_itself_down() {
    require!(Need::Root, Need::Program("ip"), Need::Program("python3"), Need::Program("ping"));
    let netns = Netns::new();
    let folder = tempfile::tempdir().expect("a folder");
    let flood = "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); end = time.time() + 2\n\
        while time.time() < end:\n try: s.sendto(b'x' * 1400, ('10.77.0.3', 9))\n except OSError: pass\nprint('flooded')";
    let out = traceless(
        &netns,
        &folder.path().join("state"),
        &["do", "--quiet", "--ip=10.77.0.2", "python3", "-c", flood],
    );
    assert_eq!(out.ok().out(), "flooded\n");
    let lo = Running::start(netns.command("ping").args(["-c", "1", "-W", "2", "127.0.0.1"])).finish(LIMIT);
    assert_eq!(lo.status, 0);
}
