//! Docker with this runtime: a daemon in namespaces of its own, an image of busybox.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::{Bundle, Finished, Need, Running, Terminal, require, runsc, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// A Docker daemon with an empty data directory, in mount, network and process namespaces of its own.
struct Docker {
    folder: tempfile::TempDir,
    _daemon: Running,
}

impl Docker {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = serde_json::json!({ "runtimes": { "runsc": {
            "path": runsc().canonicalize().expect("the runtime"), "runtimeArgs": ["--root", path("state")]
        } } });
        fs::write(folder.path().join("daemon.json"), config.to_string()).expect("write");
        let script = format!(
            "ip link set lo up; mount --make-rprivate /; mount -t tmpfs none /run; \
             exec dockerd --config-file {} --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs \
             --data-root {} --exec-root {} -p {} -H unix://{}",
            path("daemon.json"),
            path("data"),
            path("exec"),
            path("pid"),
            path("docker.sock")
        );
        // The processes of a namespace end with its first one, which ends with this test.
        let daemon = Running::start(Command::new("unshare").args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            &script,
        ]));
        let docker = Self { folder, _daemon: daemon };
        wait_until("the daemon", LIMIT, || docker.run(&["version"]).status == 0);
        docker
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.folder.path().join("docker.sock").display()))
            .args(args);
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Finished {
        Running::start(&mut self.command(args)).finish(LIMIT)
    }

    #[track_caller]
    fn sandboxed(&self, flags: &[&str], args: &[&str]) -> Finished {
        self.run(&[&["run", "--network=none", "--runtime=runsc"], flags, &["box"], args].concat())
    }

    #[track_caller]
    fn import(&self, rootfs: &Path) {
        let archive = self.folder.path().join("box.tar");
        let tar = Command::new("tar").arg("-C").arg(rootfs).arg("-cf").arg(&archive).arg(".").status();
        assert!(tar.expect("tar").success());
        let _ = self.run(&["import", &archive.display().to_string(), "box"]).ok();
    }
}

#[test]
fn containers_run_stop_and_go() {
    require!(Need::Root, Need::Program("dockerd"), Need::Program("docker"), Need::Program("busybox"));
    let bundle = Bundle::new(&["sh"]);
    let docker = Docker::start();
    docker.import(&bundle.rootfs());
    assert_eq!(docker.sandboxed(&["--rm"], &["echo", "hello"]).ok().out(), "hello\n");
    assert_eq!(docker.sandboxed(&["--rm"], &["sh", "-c", "exit 7"]).status, 7);
    assert_eq!(docker.sandboxed(&["--rm"], &["nope"]).status, 127);
    let volume = bundle.dir().display().to_string();
    let script =
        "trap 'echo bye; exit 3' TERM; echo started; echo out > /v/from-inside; while :; do sleep 0.05; done";
    let flags = ["-d", "--name", "long", "-v", &format!("{volume}:/v"), "--memory=64m", "--pids-limit=50"];
    let _ = docker.sandboxed(&flags, &["sh", "-c", script]).ok();
    wait_until("it starts", LIMIT, || docker.run(&["logs", "long"]).out() == "started\n");
    assert_eq!(fs::read_to_string(bundle.dir().join("from-inside")).expect("the file"), "out\n");
    let exec = docker.run(&[
        "exec",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "5:6",
        "long",
        "sh",
        "-c",
        "echo $A $PWD $(id -u); exit 5",
    ]);
    assert_eq!((exec.status, exec.out().as_str()), (5, "b /tmp 5\n"));
    std::thread::scope(|scope| {
        for code in 0..6 {
            let docker = &docker;
            scope.spawn(move || {
                let exec = docker.run(&["exec", "long", "sh", "-c", &format!("echo {code}; exit {code}")]);
                assert_eq!((exec.status, exec.out()), (code, format!("{code}\n")), "{}", exec.err());
            });
        }
    });
    let _ = docker.run(&["pause", "long"]).ok();
    let _ = docker.run(&["unpause", "long"]).ok();
    let _ = docker.run(&["stop", "-t", "20", "long"]).ok();
    assert_eq!(docker.run(&["logs", "long"]).out(), "started\nbye\n");
    assert_eq!(docker.run(&["inspect", "-f", "{{.State.ExitCode}}", "long"]).ok().out(), "3\n");
    let _ = docker.run(&["rm", "long"]).ok();

    let mut terminal = Terminal::start(&docker.command(&[
        "run",
        "--rm",
        "-it",
        "--network=none",
        "--runtime=runsc",
        "-e",
        "PS1=: ",
        "box",
        "sh",
    ]));
    terminal.expect(": ").send("tty\n").expect("/dev/pts/0").expect(": ");
    terminal.run("sleep 100").send("\x03").expect(": ").send("echo status $?\n").expect("status 130");
    terminal
        .expect(": ")
        .resize(44, 88)
        .send("until stty size | grep '44 88'; do sleep 0.05; done; exit 9\n");
    assert_eq!(terminal.finish(), Some(9), "{}", terminal.text());
    for round in 0..3 {
        let script = "trap 'exit 4' TERM; echo started; while :; do sleep 0.05; done";
        let _ = docker.sandboxed(&["-d", "--name", "again"], &["sh", "-c", script]).ok();
        wait_until("it starts", LIMIT, || docker.run(&["logs", "again"]).out() == "started\n");
        let _ = docker.run(&["stop", "-t", "20", "again"]).ok();
        let code = docker.run(&["inspect", "-f", "{{.State.ExitCode}}", "again"]).ok().out();
        assert_eq!(code, "4\n", "round {round}");
        let _ = docker.run(&["rm", "again"]).ok();
    }
    let left = fs::read_dir(docker.folder.path().join("state")).map(Iterator::count).unwrap_or(0);
    assert_eq!(left, 0, "state directories");
}
