//! Containers as engines make them: bundles, network namespaces, consoles, further processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::{
    Bundle, Finished, Need, Netns, Running, Terminal, console_socket, require, wait_until,
};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

#[track_caller]
fn run(command: &mut Command) -> Finished {
    Running::start(command).finish(LIMIT)
}

/// Two namespaces joined by a veth pair: the container's end is `eth0` with 10.66.0.2 and an MTU of 1400.
fn joined() -> (Netns, Netns) {
    let (container, peer) = (Netns::new(), Netns::new());
    container.veth(("eth0", "10.66.0.2/24"), &peer, ("peer0", "10.66.0.1/24"));
    container.ip(&["link", "set", "eth0", "mtu", "1400"]);
    container.ip(&["route", "add", "default", "via", "10.66.0.1"]);
    container.ip(&["route", "add", "10.99.0.0/16", "via", "10.66.0.9"]);
    (container, peer)
}

fn use_namespace(bundle: &Bundle, netns: &Netns) {
    bundle.change(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
            if namespace["type"] == "network" {
                namespace["path"] = netns.path().into();
            }
        }
    });
}

#[test]
fn a_network_namespace_moves_in_and_back_out() {
    require!(Need::Root, Need::Program("busybox"), Need::Program("ping"), Need::Program("curl"));
    let (netns, peer) = joined();
    let served = tempfile::tempdir().expect("a folder");
    fs::write(served.path().join("page"), "from outside\n").expect("write");
    let folder = served.path().to_str().expect("UTF-8");
    let _server =
        Running::start(peer.command("busybox").args(["httpd", "-f", "-p", "10.66.0.1:80", "-h", folder]));
    let script = "ip addr show eth0; ip route; mkdir /tmp/w; echo from inside > /tmp/w/page; \
        printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | nc -w 5 10.66.0.1 80 | tail -1; exec httpd -f -p 80 -h /tmp/w";
    let mut bundle = Bundle::new(&["sh", "-c", &format!("({script}) > /tmp/out 2>&1")]);
    bundle.change(|config| config["root"]["readonly"] = false.into());
    use_namespace(&bundle, &netns);
    let addresses = || run(netns.command("ip").args(["-o", "-4", "addr", "show", "eth0"])).ok().out();
    let before = addresses();
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    assert!(!addresses().contains("10.66.0.2"), "the host's stack still has the address");
    wait_until("the server inside", LIMIT, || {
        let got = run(peer.command("curl").args(["-sS", "-m", "5", "http://10.66.0.2/page"]));
        got.out() == "from inside\n"
    });
    run(peer.command("ping").args(["-c", "2", "-W", "5", "10.66.0.2"])).ok();
    let inside = fs::read_to_string(bundle.rootfs().join("tmp/out")).expect("what it wrote");
    for text in
        ["10.66.0.2/24", "mtu 1400", "default via 10.66.0.1", "10.99.0.0/16 via 10.66.0.9", "from outside"]
    {
        assert!(inside.contains(text), "{text} in:\n{inside}");
    }
    let _ = bundle.global(&["delete", "--force", "c"]).ok();
    assert_eq!(addresses(), before, "the address is not back");
    let routes = run(netns.command("ip").arg("route")).ok().out();
    assert!(
        routes.contains("default via 10.66.0.1") && routes.contains("10.99.0.0/16 via 10.66.0.9"),
        "{routes}"
    );
}

#[test]
fn the_hosts_sockets_are_those_of_the_named_namespace() {
    require!(Need::Root, Need::Program("busybox"));
    let (netns, _peer) = joined();
    let bundle = Bundle::new(&["ip", "-o", "addr", "show", "eth0"]);
    use_namespace(&bundle, &netns);
    let run_in = ["--network=host", "run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"];
    assert!(bundle.global(&run_in).ok().out().contains("10.66.0.2/24"));
    // Without a name the namespace is a new one, with its loopback up.
    let bundle = Bundle::new(&[
        "sh",
        "-c",
        "nc -l -p 9 < /etc/motd & \
        until nc -w 5 127.0.0.1 9; do kill -0 $! || exit; sleep 0.05; done",
    ]);
    fs::write(bundle.rootfs().join("etc/motd"), "over the loopback\n").expect("write");
    let run_in = ["--network=host", "run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"];
    let out = bundle.global(&run_in);
    // Its low ports belong to the sandbox's own user namespace, in which it has no capability.
    assert!(out.out() == "over the loopback\n" || out.err().contains("Permission denied"), "{out:?}");
}

#[test]
fn a_pause_stops_the_guest_without_its_notice() {
    require!(Need::Root, Need::Program("busybox"));
    let script = "exec > /v/said; trap 'echo continued' CONT; sleep 1000 & kill -STOP $!; echo $! > /v/stopped; \
                  while :; do echo step; sleep 0.005; done";
    let mut bundle = Bundle::new(&["sh", "-c", script]);
    let volume = tempfile::tempdir().expect("a folder");
    bundle.change(|config| {
        let mount = serde_json::json!({
            "destination": "/v", "type": "bind", "source": volume.path(), "options": ["bind", "rw"]
        });
        config["mounts"].as_array_mut().expect("mounts").push(mount);
    });
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    let said = || fs::read_to_string(volume.path().join("said")).unwrap_or_default();
    for _ in 0..30 {
        // A process that ends while others are held back, in a group of its own.
        let ended = bundle.global(&["exec", "c", "sh", "-c", "exit 5"]);
        assert_eq!(ended.status, 5, "{}", ended.err());
        let _ = bundle.global(&["pause", "c"]).ok();
        let before = said();
        assert_eq!(bundle.state("c")["status"], "paused");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(said(), before, "the guest ran on");
        let _ = bundle.global(&["resume", "c"]).ok();
        wait_until("it goes on", LIMIT, || said() != before);
    }
    let refused = bundle.global(&["resume", "c"]);
    assert!(refused.err().contains("running container cannot be resumed"), "{refused:?}");
    // What the guest has stopped itself is still stopped, and nobody was told to continue.
    let state = "read -r _ _ state _ < /proc/$(cat /v/stopped)/stat; echo $state";
    assert_eq!(bundle.global(&["exec", "c", "sh", "-c", state]).ok().out(), "T\n");
    assert!(!said().contains("continued"));
    // A paused container can be killed, and its end is seen.
    let _ = bundle.global(&["pause", "c"]).ok();
    let refused = bundle.global(&["exec", "c", "true"]);
    assert!(refused.err().contains("paused"), "{refused:?}");
    let _ = bundle.global(&["kill", "c", "KILL"]).ok();
    wait_until("it stops", LIMIT, || bundle.state("c")["status"] == "stopped");
    let _ = bundle.global(&["delete", "c"]).ok();
}

#[test]
fn every_verb_with_the_arguments_of_an_engine() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"]);
    let pid_file = bundle.dir().join("pid");
    let pid_path = pid_file.to_str().expect("UTF-8").to_owned();
    bundle.create("c", &["--pid-file", &pid_path, "--no-pivot"]);
    let state = bundle.state("c");
    assert_eq!(state["status"], "created");
    assert_eq!(fs::read_to_string(&pid_file).expect("a pid"), state["pid"].to_string());
    let _ = bundle.global(&["--systemd-cgroup", "start", "c"]).ok();
    assert_eq!(bundle.state("c")["status"], "running");
    assert_eq!(
        bundle.global(&["ps", "--format", "json", "c"]).ok().out().trim(),
        format!("[{}]", state["pid"])
    );
    let stats: serde_json::Value =
        serde_json::from_str(&bundle.global(&["events", "--stats", "c"]).ok().out()).expect("JSON");
    assert!(stats["data"]["pids"]["current"].as_u64() >= Some(1), "{stats}");
    assert!(bundle.global(&["list"]).ok().out().contains("running"));
    let listed: serde_json::Value =
        serde_json::from_str(&bundle.global(&["list", "--format", "json"]).ok().out()).expect("JSON");
    assert_eq!(listed[0]["id"], "c");
    let _ = bundle.global(&["pause", "c"]).ok();
    assert_eq!(bundle.state("c")["status"], "paused");
    let _ = bundle.global(&["resume", "c"]).ok();
    let exec = bundle.global(&[
        "exec",
        "--env",
        "A=b",
        "--cwd",
        "/tmp",
        "--user",
        "5:6",
        "c",
        "sh",
        "-c",
        "echo $A $PWD $(id -u) $(id -g); exit 4",
    ]);
    assert_eq!((exec.status, exec.out().as_str()), (4, "b /tmp 5 6\n"), "{}", exec.err());
    let waiter = Running::start(&mut bundle.command(&["wait", "c"]));
    wait_until("it waits for the sandbox", LIMIT, || waiter.waits_on_a_socket());
    let _ = bundle.global(&["kill", "c", "TERM"]).ok();
    assert!(waiter.finish(LIMIT).out().contains('9'));
    wait_until("it stops", LIMIT, || bundle.state("c")["status"] == "stopped");
    let _ = bundle.global(&["kill", "--all", "c", "KILL"]).ok();
    let _ = bundle.global(&["delete", "c"]).ok();
    assert_eq!(bundle.global(&["state", "c"]).status, 128);
    let last = bundle.log().lines().last().unwrap_or_default().to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).expect("a JSON log");
    assert_eq!(
        (last["level"].as_str(), last["msg"].as_str()),
        (Some("error"), Some("container \"c\" does not exist"))
    );
    let features: serde_json::Value =
        serde_json::from_str(&bundle.global(&["features"]).ok().out()).expect("JSON");
    assert!(features["hooks"].as_array().is_some_and(|hooks| hooks.len() == 6));
}

#[test]
fn a_program_that_is_not_there_ends_the_container() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["nope"]);
    bundle.create("c", &[]);
    let start = bundle.global(&["start", "c"]);
    assert_eq!(start.status, 127);
    assert_eq!(start.err().lines().count(), 1, "{}", start.err());
    wait_until("it stops", LIMIT, || bundle.state("c")["status"] == "stopped");
    let _ = bundle.global(&["delete", "c"]).ok();
    let bad = bundle.global(&["create", "--frobnicate", "c"]);
    assert_eq!(bad.status, 128);
    assert!(bundle.log().lines().last().is_some_and(|line| line.contains("frobnicate")), "{}", bundle.log());
}

#[test]
fn consoles_go_over_the_socket_with_their_keys_and_sizes() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["sh"]);
    bundle.change(|config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = json!({ "height": 31, "width": 97 });
        config["process"]["env"] = json!(["PATH=/bin", "PS1=$ ", "TERM=dumb"]);
        config["mounts"].as_array_mut().expect("mounts").push(json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        }));
    });
    let socket = console_socket(bundle.dir());
    let socket_path = bundle.dir().join("console.sock").to_str().expect("UTF-8").to_owned();
    bundle.create("c", &["--console-socket", &socket_path]);
    let mut console = Terminal::from_console_socket(&socket);
    let _ = bundle.global(&["start", "c"]).ok();
    console.expect("$ ").send("tty; stty size\n").expect("/dev/pts/0").expect("31 97").expect("$ ");
    console.run("sleep 100").send("\x03").expect("$ ");
    console.send("echo status $?\n").expect("status 130").expect("$ ");
    console
        .resize(50, 90)
        .send("sh -c 'trap \"stty size; exit\" WINCH; echo be\"\"gun; while :; do sleep 0.1; done'\n");
    console.expect("begun\r\n").resize(51, 91).expect("51 91\r\n").expect("$ ");

    // A second process on a console of its own, as `docker exec -it` starts it.
    let process = json!({
        "terminal": true, "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": ["sh"],
        "env": ["PATH=/bin", "PS1=> ", "TERM=dumb"]
    });
    let file = bundle.dir().join("process.json");
    fs::write(&file, process.to_string()).expect("write");
    let pid_file = bundle.dir().join("exec-pid");
    let arguments = [
        "exec",
        "--process",
        file.to_str().expect("UTF-8"),
        "--console-socket",
        &socket_path,
        "--detach",
        "--pid-file",
        pid_file.to_str().expect("UTF-8"),
        "c",
    ];
    let null = std::process::Stdio::null;
    let mut exec =
        bundle.command(&arguments).stdin(null()).stdout(null()).stderr(null()).spawn().expect("runsc");
    let mut second = Terminal::from_console_socket(&socket);
    assert!(exec.wait().expect("wait").success(), "{}", bundle.log());
    let pid = fs::read_to_string(&pid_file).expect("a pid");
    second.expect("> ").send("tty\n").expect("/dev/pts/1").expect("> ");
    second.run("sleep 100").send("\x03").expect("> ").send("echo status $?\n").expect("status 130");
    second.resize(20, 40).send("stty size; exit\n").expect("20 40");
    let _ = second.finish();
    wait_until("the process that stands for it ends", LIMIT, || {
        !fs::exists(format!("/proc/{pid}/fd/0")).unwrap_or(false)
    });
    console.send("exit 3\n");
    let _ = console.finish();
    wait_until("it stops", LIMIT, || bundle.state("c")["status"] == "stopped");
}

#[test]
fn what_config_json_says_of_a_process_holds() {
    require!(Need::Root, Need::Program("busybox"));
    let script = "id -u; id -g; id -G; pwd; echo $V; ulimit -n; umask; hostname; cat /proc/self/oom_score_adj; \
        grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; cat /masked; ls /emptied; \
        echo x > /kept/file; echo x > /free/file; echo x > /bound/file; cat /bound/file; \
        echo x > /readonly/y; df /small | tail -1 | tr -s ' ' | cut -d' ' -f2; ls -d /dev/pts/ptmx /proc/1 /sys/class";
    let bundle = Bundle::new(&["sh", "-c", script]);
    let outside = tempfile::tempdir().expect("a folder");
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    for name in ["emptied", "kept", "free"] {
        fs::create_dir(bundle.rootfs().join(name)).expect("a folder");
        fs::set_permissions(bundle.rootfs().join(name), fs::Permissions::from_mode(0o777)).expect("chmod");
        fs::write(bundle.rootfs().join(name).join("old"), "").expect("write");
    }
    fs::write(bundle.rootfs().join("masked"), "secret").expect("write");
    bundle.change(|config| {
        let process = &mut config["process"];
        process["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 23 });
        process["cwd"] = "/tmp".into();
        process["env"] = json!(["PATH=/bin", "V=two words"]);
        process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 99 }]);
        process["capabilities"] = json!({ "bounding": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] });
        process["noNewPrivileges"] = true.into();
        process["oomScoreAdj"] = 333.into();
        config["hostname"] = "inside".into();
        config["root"]["readonly"] = false.into();
        config["linux"]["maskedPaths"] = json!(["/masked", "/emptied", "/there/is/none"]);
        config["linux"]["readonlyPaths"] = json!(["/kept"]);
        let path = outside.path().to_str().expect("UTF-8");
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(
            json!({ "destination": "/bound", "type": "bind", "source": path, "options": ["rbind", "rw"] }),
        );
        mounts.push(
            json!({ "destination": "/readonly", "type": "bind", "source": path, "options": ["bind", "ro"] }),
        );
        mounts.push(json!({ "destination": "/small", "type": "tmpfs", "options": ["size=1m", "mode=1777"] }));
        mounts.push(json!({ "destination": "/dev/pts", "type": "devpts", "options": ["newinstance"] }));
        mounts.push(json!({ "destination": "/dev/mqueue", "type": "mqueue" }));
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"] }));
    });
    let out = bundle.global(&["run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"]);
    let expected = "1000\n1001\n1001 7 8\n/tmp\ntwo words\n77\n0027\ninside\n333\n\
        CapEff:\t0000000000000020\nCapBnd:\t0000000000000021\nNoNewPrivs:\t1\n\
        x\n1024\n/dev/pts/ptmx\n/proc/1\n/sys/class\n";
    assert_eq!(out.out(), expected, "{}", out.err());
    for refused in ["/kept/file", "/readonly/y"] {
        assert!(
            out.err().contains(&format!("can't create {refused}: Read-only file system")),
            "{}",
            out.err()
        );
    }
    assert_eq!(fs::read_to_string(outside.path().join("file")).expect("the file"), "x\n");
    assert!(bundle.rootfs().join("free/file").exists() && !bundle.rootfs().join("kept/file").exists());
}

#[test]
fn modes_of_files_of_the_host_change() {
    require!(Need::Root, Need::Program("busybox"));
    let script = "cd /bound; touch file; chmod 4600 file; chmod 700 .; mkdir folder; chmod 0 folder; mkfifo pipe; chmod 611 pipe; \
        ln -s file link; chmod 640 link; stat -c '%a %n' * .";
    let outside = tempfile::tempdir().expect("a folder");
    let bundle = Bundle::new(&["sh", "-c", script]);
    bundle.change(|config| {
        let path = outside.path().to_str().expect("UTF-8");
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(
            json!({ "destination": "/bound", "type": "bind", "source": path, "options": ["rbind", "rw"] }),
        );
    });
    let out = bundle.global(&["run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"]);
    assert_eq!(out.out(), "640 file\n0 folder\n777 link\n611 pipe\n700 .\n", "{}", out.err());
    for (name, mode) in [("file", 0o640), ("folder", 0), ("pipe", 0o611), ("", 0o700)] {
        let metadata = fs::metadata(outside.path().join(name)).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn filters_of_config_json_hold_for_the_container_and_what_is_run_in_it() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["sh", "-c", "while :; do sleep 0.05; done"]);
    bundle.change(|config| {
        config["root"]["readonly"] = false.into();
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                { "names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122 },
                { "names": ["kill"], "action": "SCMP_ACT_ERRNO",
                  "args": [{ "index": 1, "value": 10, "op": "SCMP_CMP_EQ" }] },
            ],
        });
    });
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    let script = "mkdir /tmp/b; kill -USR1 $$; kill -0 $$ && echo there; grep -E ^Seccomp: /proc/self/status";
    let out = bundle.global(&["exec", "c", "sh", "-c", script]);
    assert_eq!(out.out(), "there\nSeccomp:\t2\n", "{}", out.err());
    assert!(out.err().contains("'/tmp/b': Disk quota exceeded"), "{}", out.err());
    assert!(out.err().contains("can't kill pid") && out.err().contains("not permitted"), "{}", out.err());
    let _ = bundle.global(&["delete", "--force", "c"]).ok();
    bundle.change(|config| config["process"]["args"] = json!(["sh", "-c", "mkdir /tmp/a && echo made"]));
    let path = bundle.dir().to_str().expect("UTF-8");
    let out = bundle.global(&["--oci-seccomp=false", "run", "--bundle", path, "d"]);
    assert_eq!(out.out(), "made\n", "{}", out.err());
    let out = bundle.global(&["run", "--bundle", path, "e"]);
    assert!(out.err().contains("Disk quota exceeded"), "{}", out.err());
}

#[test]
fn hooks_see_the_sandbox_and_groups_hold_it() {
    require!(Need::Root, Need::Program("busybox"), Need::Program("python3"));
    let mut bundle = Bundle::new(&["sleep", "30"]);
    let out = bundle.dir().join("hooks");
    let hook = |name: &str| {
        let script = format!(
            "python3 -c 'import json,os,sys; s=json.load(sys.stdin); p=s[\"pid\"]; \
             print(\"{name}\", s[\"status\"], os.path.exists(\"/proc/%d/ns/net\" % p) if p else None)' >> {}",
            out.display()
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/local/bin:/usr/bin:/bin"] }])
    };
    let group = format!("runsc-test-{}", std::process::id());
    bundle.change(|config| {
        config["hooks"] = json!({ "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "startContainer": hook("startContainer"),
            "poststart": hook("poststart"), "poststop": hook("poststop") });
        config["linux"]["cgroupsPath"] = format!("/{group}/c").into();
        config["linux"]["resources"] = json!({ "pids": { "limit": 100 } });
    });
    bundle.create("c", &[]);
    let pid = bundle.state("c")["pid"].clone();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("groups");
    let _ = bundle.global(&["start", "c"]).ok();
    let _ = bundle.global(&["delete", "--force", "c"]).ok();
    let lines = fs::read_to_string(&out).expect("what the hooks wrote");
    assert_eq!(
        lines,
        "prestart creating True\ncreateRuntime creating True\ncreateContainer creating True\n\
         startContainer created True\npoststart running True\npoststop stopped None\n"
    );
    // A host that lets us make no group is warned about in the log.
    assert!(groups.contains(&group) || bundle.log().contains("control group"), "{groups}\n{}", bundle.log());
    for controller in ["", "pids", "memory", "cpu"] {
        let path = Path::new("/sys/fs/cgroup").join(controller).join(&group);
        assert!(!path.join("c").exists(), "{} is left", path.display());
        // The parent is the engine's to remove.
        let _ = fs::remove_dir(path);
    }
}

#[test]
fn groups_are_removed_when_their_last_process_ends_a_little_later() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["sleep", "30"]);
    let group = format!("runsc-late-{}", std::process::id());
    bundle.change(|config| config["linux"]["cgroupsPath"] = format!("/{group}").into());
    bundle.create("c", &[]);
    let all = ["", "pids", "memory", "cpu"].map(|name| Path::new("/sys/fs/cgroup").join(name).join(&group));
    let mut last = Command::new("sleep").arg("30").spawn().expect("sleep");
    for path in all.iter().filter(|path| path.exists()) {
        fs::write(path.join("cgroup.procs"), last.id().to_string()).expect("a move");
    }
    let reaper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        last.kill().and_then(|()| last.wait())
    });
    let _ = bundle.global(&["delete", "--force", "c"]).ok();
    reaper.join().expect("no panic").expect("its end");
    for path in all {
        assert!(!path.exists(), "{} is left", path.display());
    }
}

#[test]
fn dynamic_programs_run_from_the_hosts_files() {
    require!(Need::Root, Need::Program("python3"), Need::Program("perl"), Need::Program("sqlite3"));
    let script = "echo bash $((6*7)); python3 -c 'import json, sqlite3; print(json.dumps([1, 2]))'; \
        perl -e 'print join(\",\", map { $_ * $_ } 1..4), \"\\n\"'; sqlite3 :memory: 'select 6 * 7'";
    let bundle = Bundle::new(&["/usr/bin/bash", "-c", script]);
    let folders = ["/usr", "/lib", "/lib64", "/etc"].map(|folder| {
        json!({ "destination": folder, "type": "bind", "source": folder, "options": ["rbind", "ro"] })
    });
    bundle.change(|config| {
        config["mounts"].as_array_mut().expect("mounts").extend(folders);
        config["process"]["env"] = json!(["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/"]);
    });
    let inside = bundle.global(&["run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"]).ok();
    let native = run(Command::new("bash").args(["-c", script])).ok();
    assert_eq!(inside.out(), native.out(), "{}", inside.err());
}
