//! Containers that share a sandbox, as engines of Kubernetes make them for a pod.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration_tests::{Bundle, Need, Running, Terminal, console_socket, require, runsc, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// The container that keeps the pod, `p`, and a folder that all containers have at `/shared`. Its value goes last.
struct Pod {
    bundle: Bundle,
    shared: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        let shared = tempfile::tempdir().expect("a folder");
        fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        let mut pod = Self { bundle: Bundle::new(&["sleep", "1000"]), shared };
        pod.describe(&pod.bundle, "sandbox", |_| {});
        pod.bundle.create("p", &[]);
        let _ = pod.bundle.global(&["start", "p"]).ok();
        pod
    }

    /// A bundle for a container of the pod, which runs `script`.
    fn member(&self, script: &str) -> Bundle {
        self.changed(script, |_| {})
    }

    fn changed(&self, script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
        let bundle = Bundle::beside(&self.bundle, &["sh", "-c", script]);
        self.describe(&bundle, "container", change);
        bundle
    }

    /// As containerd does it.
    fn describe(&self, bundle: &Bundle, kind: &str, change: impl FnOnce(&mut Value)) {
        bundle.change(|config| {
            config["annotations"] =
                json!({ "io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": "p" });
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.push(json!({
                "destination": "/shared", "type": "bind", "source": self.shared.path(), "options": ["rbind", "rw"]
            }));
            change(config);
        });
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.shared.path().join(name)).unwrap_or_default()
    }

    #[track_caller]
    fn wait_for(&self, name: &str) -> String {
        wait_until(name, LIMIT, || !self.read(name).is_empty());
        self.read(name)
    }

    fn is_running(&self, id: &str) -> bool {
        self.bundle.state(id)["status"] == "running"
    }
}

/// Shares those of the pod's namespaces that engines share by default.
fn share(config: &mut Value, kinds: &[&str]) {
    for namespace in config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        if kinds.iter().any(|kind| namespace["type"] == *kind) {
            // What it leads to is the host's affair; that there is a path says that it is somebody else's.
            namespace["path"] = "/proc/self/ns/uts".into();
        }
    }
}

/// `runsc run` of a container of the pod.
fn run(bundle: &Bundle, id: &str) -> Running {
    let folder = bundle.dir().to_str().expect("UTF-8").to_owned();
    Running::start(&mut bundle.command(&["run", "--bundle", &folder, id]))
}

#[test]
fn containers_of_a_pod_share_the_network_and_little_else() {
    require!(Need::Root, Need::Program("busybox"));
    let pod = Pod::new();
    let script = "echo mine > /tmp/mine; mkdir /tmp/w; echo page > /tmp/w/page; httpd -p 8080 -h /tmp/w; \
        ls /tmp > /shared/tmp; readlink /proc/self/ns/net > /shared/one; sleep 1000";
    let mut one = pod.changed(script, |config| {
        config["root"]["readonly"] = false.into();
        config["hostname"] = "one".into();
    });
    one.create("one", &[]);
    assert_eq!(pod.bundle.state("one")["status"], "created");
    let _ = one.global(&["start", "one"]).ok();
    let net = pod.wait_for("one");
    assert!(pod.read("tmp").contains("mine"));

    let two = pod.member(
        "until wget -qO- http://127.0.0.1:8080/page; do sleep 0.1; done; ps; hostname; ls /tmp; readlink /proc/self/ns/net; exit 7",
    );
    let out = run(&two, "two").finish(LIMIT);
    assert_eq!(out.status, 7, "{out:?}");
    let text = out.out();
    assert!(text.contains("page\n") && text.contains(&net), "{text}");
    assert!(!text.contains("mine") && text.contains("\nrunsc\n") && !text.contains("sleep 1000"), "{text}");
    assert!(text.contains("    1 "), "its first process has another id: {text}");

    let listed = one.global(&["ps", "one"]).ok().out();
    assert!(listed.contains("httpd") && listed.contains("sleep"), "{listed}");
    let of_pod = one.global(&["ps", "p"]).ok().out();
    assert!(of_pod.contains("sleep") && !of_pod.contains("httpd"), "{of_pod}");
    let inside = one.global(&["exec", "one", "sh", "-c", "hostname; ps | grep -c httpd"]).ok().out();
    assert!(inside.starts_with("one\n"), "{inside}");
    let pid = one.global(&["exec", "one", "pidof", "httpd"]).ok().out();
    let _ = one.global(&["kill", "--pid", pid.trim(), "one", "KILL"]).ok();
    wait_until("its server is gone", LIMIT, || {
        !one.global(&["ps", "one"]).ok().out().contains("httpd") && pod.is_running("one")
    });
    let events = one.global(&["events", "--stats", "one"]).ok().out();
    let events: Value = serde_json::from_str(&events).expect("JSON");
    assert_eq!(events["data"]["pids"]["current"], 1, "{events}");
    let _ = one.global(&["kill", "one", "KILL"]).ok();
    wait_until("it has stopped", LIMIT, || pod.bundle.state("one")["status"] == "stopped");
    let waited = one.global(&["wait", "one"]).ok().out();
    assert!(waited.contains("137"), "{waited}");
    let _ = one.global(&["delete", "one"]).ok();
    assert!(pod.is_running("p"));
    // The name is free again.
    one.create("one", &[]);
    let _ = one.global(&["start", "one"]).ok();
    wait_until("it runs again", LIMIT, || pod.is_running("one"));
}

#[test]
fn a_pod_may_share_its_processes_and_names() {
    require!(Need::Root, Need::Program("busybox"));
    let pod = Pod::new();
    let shared = |config: &mut Value| share(config, &["pid", "uts", "ipc"]);
    let mut one = pod.changed("(sleep 2000; true) & hostname > /shared/name; sleep 3000", shared);
    one.create("one", &[]);
    let _ = one.global(&["start", "one"]).ok();
    let name = pod.wait_for("name");
    let two = pod.changed("hostname; ps", shared);
    let out = run(&two, "two").finish(LIMIT).ok().out();
    assert!(out.contains(&name) && out.contains("sleep 1000") && out.contains("sleep 3000"), "{out}");
    // What its first process leaves behind ends with the container all the same.
    let _ = one.global(&["kill", "one", "KILL"]).ok();
    wait_until("it has stopped", LIMIT, || pod.bundle.state("one")["status"] == "stopped");
    let three = pod.changed("ps", shared);
    let out = run(&three, "three").finish(LIMIT).ok().out();
    assert!(
        out.contains("sleep 1000") && !out.contains("sleep 2000") && !out.contains("sleep 3000"),
        "{out:?}"
    );
}

/// What one container does in a volume, and what the other finds of it. Linux says the same to two processes.
const ONE_SIDE: &str = r#"
import ctypes, fcntl, mmap, os, socket
os.chdir("/shared")
stream, datagram = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
stream.bind("stream"); stream.listen(); datagram.bind("datagram"); os.mkfifo("fifo")
whole, part = open("whole", "w"), open("part", "w")
fcntl.flock(whole, fcntl.LOCK_EX); fcntl.lockf(part, fcntl.LOCK_EX, 10, 5)
page = open("page", "w+b"); page.truncate(4096); memory = mmap.mmap(page.fileno(), 4096); memory[:5] = b"hello"
libc = ctypes.CDLL(None); watch = libc.inotify_init(); libc.inotify_add_watch(watch, b".", 0x100)
open("ready", "w").write("x")
connection, _ = stream.accept()
print(connection.recv(100), datagram.recv(100), open("fifo").read(), memory[:5])
seen = b""
while b"after" not in seen: seen += os.read(watch, 4096)
fcntl.flock(whole, fcntl.LOCK_UN); connection.send(b"done"); print(connection.recv(1))
"#;

const OTHER_SIDE: &str = r#"
import errno, fcntl, mmap, os, socket, time
os.chdir("/shared")
while not os.path.exists("ready"): time.sleep(0.02)
def outcome(call):
    try: call()
    except OSError as error: return errno.errorcode[error.errno]
    return "ok"
whole, part = open("whole", "r+"), open("part", "r+")
now = fcntl.LOCK_EX | fcntl.LOCK_NB
print(outcome(lambda: fcntl.flock(whole, now)), outcome(lambda: fcntl.lockf(part, now)), outcome(lambda: fcntl.lockf(part, now, 5, 0)))
page = open("page", "r+b"); memory = mmap.mmap(page.fileno(), 4096); print(memory[:5]); memory[:5] = b"HELLO"
stream = socket.socket(socket.AF_UNIX); stream.connect("stream"); stream.send(b"ping")
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"pong", "datagram")
open("fifo", "w").write("text")
open("after", "w")
print(stream.recv(100), outcome(lambda: fcntl.flock(whole, now)))
os.unlink("stream"); print(outcome(lambda: socket.socket(socket.AF_UNIX).connect("stream")))
open("stream", "w"); print(outcome(lambda: socket.socket(socket.AF_UNIX).connect("stream")))
"#;

#[test]
fn volumes_of_a_pod_have_one_set_of_locks_sockets_fifos_and_watches() {
    require!(Need::Root, Need::Program("busybox"), Need::File("/usr/bin/python3"));
    let pod = Pod::new();
    let python = |script: &str| {
        pod.changed("", |config| {
            let folders = ["/usr", "/lib", "/lib64"].map(|folder| {
                json!({ "destination": folder, "type": "bind", "source": folder, "options": ["rbind", "ro"] })
            });
            config["mounts"].as_array_mut().expect("mounts").extend(folders);
            config["process"]["args"] = json!(["/usr/bin/python3", "-c", script]);
        })
    };
    let (one, two) = (python(ONE_SIDE), python(OTHER_SIDE));
    let first = run(&one, "one");
    let other = run(&two, "two").finish(LIMIT).ok();
    assert_eq!(other.out(), "EAGAIN EAGAIN ok\nb'hello'\nb'done' ok\nENOENT\nECONNREFUSED\n", "{other:?}");
    let first = first.finish(LIMIT).ok();
    assert_eq!(first.out(), "b'ping' b'pong' text b'HELLO'\nb''\n", "{first:?}");
}

#[test]
fn a_paused_container_does_not_hold_the_others_up() {
    require!(Need::Root, Need::Program("busybox"));
    let pod = Pod::new();
    let counting = "i=0; while :; do i=$((i+1)); echo $i > /shared/ID; sleep 0.02; done";
    let (mut one, mut two) =
        (pod.member(&counting.replace("ID", "one")), pod.member(&counting.replace("ID", "two")));
    one.create("one", &[]);
    two.create("two", &[]);
    for id in ["one", "two"] {
        let _ = one.global(&["start", id]).ok();
        pod.wait_for(id);
    }
    let _ = one.global(&["pause", "one"]).ok();
    let (stands, goes) = (pod.read("one"), pod.read("two"));
    wait_until("the other goes on", LIMIT, || !["", &goes].contains(&&*pod.read("two")));
    assert_eq!(pod.read("one"), stands);
    let _ = one.global(&["resume", "one"]).ok();
    wait_until("it goes on", LIMIT, || !["", &stands].contains(&&*pod.read("one")));
}

/// The process that stands for a container of which `pid_file` tells, as a child of ours.
fn stands_for(bundle: &Bundle, pid_file: &Path) -> (Child, i32) {
    let folder = bundle.dir().to_str().expect("UTF-8").to_owned();
    let pid_file = pid_file.to_str().expect("UTF-8");
    let child = bundle
        .command(&["run", "--bundle", &folder, "--pid-file", pid_file, "one"])
        .stdout(Stdio::null())
        .spawn()
        .expect("runsc");
    wait_until("the pid", LIMIT, || fs::read_to_string(pid_file).is_ok_and(|pid| pid.parse::<i32>().is_ok()));
    (child, fs::read_to_string(pid_file).expect("a pid").parse().expect("a number"))
}

#[test]
fn a_container_ends_with_the_process_that_stands_for_it_and_with_the_pod() {
    require!(Need::Root, Need::Program("busybox"));
    let mut pod = Pod::new();
    let endless = "while :; do date +%s%N > /shared/alive; sleep 0.02; done";
    let one = pod.member(endless);
    let (mut child, pid) = stands_for(&one, &pod.bundle.dir().join("pid"));
    pod.wait_for("alive");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("kill");
    wait_until("nothing of it runs", LIMIT, || {
        let now = pod.read("alive");
        std::thread::sleep(Duration::from_millis(200));
        !now.is_empty() && pod.read("alive") == now
    });
    assert!(pod.is_running("p"));
    child.wait().expect("wait");
    let mut two = pod.member("sleep 1000");
    two.create("two", &[]);
    let _ = two.global(&["start", "two"]).ok();
    assert!(pod.is_running("two"));
    let _ = pod.bundle.global(&["kill", "p", "KILL"]).ok();
    wait_until("the others have ended", LIMIT, || pod.bundle.state("two")["status"] == "stopped");
    let waited = two.global(&["wait", "two"]).ok().out();
    assert!(waited.contains("137"), "{waited}");
    let _ = two.global(&["delete", "two"]).ok();
    let _ = pod.bundle.global(&["delete", "p"]).ok();
    // Without a sandbox there is nothing to join.
    let late = pod.member("true");
    let refused = run(&late, "late").finish(LIMIT);
    assert!(refused.err().contains("\"p\" does not exist"), "{refused:?}");
    pod.bundle.create("p", &[]);
    let refused = run(&late, "late").finish(LIMIT);
    assert!(refused.err().contains("container \"p\" is created, it has to run first"), "{refused:?}");
    late.change(|config| config["annotations"]["io.kubernetes.cri.sandbox-id"] = "".into());
    let refused = run(&late, "late").finish(LIMIT);
    assert!(refused.err().contains("io.kubernetes.cri.sandbox-id: missing"), "{refused:?}");
}

#[test]
fn a_program_that_is_missing_ends_only_its_container() {
    require!(Need::Root, Need::Program("busybox"));
    let pod = Pod::new();
    let one = pod.changed("", |config| config["process"]["args"] = json!(["/no/such/program"]));
    let refused = run(&one, "one").finish(LIMIT);
    assert_eq!(refused.status, 127, "{refused:?}");
    assert!(pod.is_running("p"));
    assert!(!one.global(&["list"]).ok().out().contains("one"));
}

#[test]
fn keys_reach_a_container_of_a_pod() {
    require!(Need::Root, Need::Program("busybox"));
    let pod = Pod::new();
    let mut one = pod.changed("", |config| {
        config["process"]["terminal"] = true.into();
        config["process"]["args"] = json!(["sh"]);
        config["process"]["env"] = json!(["PATH=/bin", "PS1=$ ", "TERM=dumb"]);
    });
    let socket = console_socket(one.dir());
    let path = one.dir().join("console.sock").to_str().expect("UTF-8").to_owned();
    one.create("one", &["--console-socket", &path]);
    let mut console = Terminal::from_console_socket(&socket);
    let _ = one.global(&["start", "one"]).ok();
    console.expect("$ ").run("sleep 100").send("\x03").expect("$ ");
    console.send("echo status $?\n").expect("status 130").expect("$ ");
    console.send("exit 3\n");
    let _ = console.finish();
    wait_until("it stops", LIMIT, || pod.bundle.state("one")["status"] == "stopped");
    let waited = one.global(&["wait", "one"]).ok().out();
    assert!(waited.contains('3'), "{waited}");
}

/// Podman with everything that it keeps in a folder of the test's.
struct Podman {
    folder: tempfile::TempDir,
}

impl Podman {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn command(&self, args: &[&str]) -> Command {
        let place = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("podman");
        command.env("XDG_RUNTIME_DIR", self.folder.path()).env("TMPDIR", self.folder.path());
        command.arg("--root").arg(place("store")).arg("--runroot").arg(place("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        command.arg("--tmpdir").arg(place("tmp")).arg("--runtime").arg(runsc());
        let state = format!("root={}", place("state").display());
        command.args(["--runtime-flag", &state]).args(args);
        command
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        Running::start(&mut self.command(args)).finish(LIMIT * 2).ok().out()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for args in [&["pod", "rm", "--force", "--time", "1", "p"][..], &["rm", "--force", "--all"]] {
            let _ = self.command(args).output();
        }
    }
}

#[test]
fn podman_runs_a_pod() {
    require!(Need::Root, Need::Program("busybox"), Need::Program("podman"));
    let podman = Podman::new();
    // The root of the image.
    let image = Bundle::new(&["true"]);
    let archive = image.dir().join("image.tar");
    let packed = Command::new("tar").arg("-C").arg(image.rootfs()).arg("-cf").arg(&archive).arg(".").status();
    assert!(packed.expect("tar").success());
    let _ = podman.ok(&["import", archive.to_str().expect("UTF-8"), "box:latest"]);
    let keep = ["--infra-image", "box:latest", "--infra-command", "/bin/sleep 1000"];
    let _ = podman.ok(&[&["pod", "create", "--name", "p", "--network", "none"], &keep[..]].concat());
    let serve = "mkdir /w; echo page > /w/page; exec httpd -f -p 8080 -h /w";
    let _ = podman.ok(&["run", "--detach", "--pod", "p", "--name", "web", "box", "sh", "-c", serve]);
    let ask = "until wget -qO- http://127.0.0.1:8080/page; do sleep 0.1; done; hostname; ps; exit 5";
    let client = Running::start(&mut podman.command(&["run", "--rm", "--pod", "p", "box", "sh", "-c", ask]));
    let client = client.finish(LIMIT * 2);
    assert_eq!(client.status, 5, "{client:?}");
    let out = client.out();
    assert!(out.starts_with("page\np\n") && !out.contains("httpd -f"), "{out:?}");
    assert!(podman.ok(&["exec", "web", "ps"]).contains("httpd -f"));
    let _ = podman.ok(&["kill", "--signal", "KILL", "web"]);
    wait_until("it has ended", LIMIT, || {
        podman.ok(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "web"]) == "exited 137\n"
    });
    let _ = podman.ok(&["pod", "stop", "--time", "1", "p"]);
    let _ = podman.ok(&["pod", "rm", "p"]);
}
