//! Commands that come at the same time as the end of what they are for, and commands that are killed half-way.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use integration_tests::{Bundle, Finished, Need, Netns, Running, require, runsc, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);

/// Starts container "c" without waiting for it.
#[track_caller]
fn run_detached(bundle: &Bundle) {
    let mut command =
        bundle.command(&["run", "--detach", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"]);
    let null = Stdio::null;
    let status = command.stdin(null()).stdout(null()).stderr(null()).status().expect("runsc");
    assert!(status.success(), "{}", bundle.log());
}

#[test]
fn the_signal_that_ends_a_container_is_answered() {
    require!(Need::Root, Need::Program("busybox"));
    let bundle = Bundle::new(&["sleep", "60"]);
    for round in 0..10 {
        run_detached(&bundle);
        let kill = bundle.global(&["kill", "c", "KILL"]);
        assert_eq!((kill.status, kill.err()), (0, String::new()), "round {round}");
        // The same name is free at once after this, whatever is left of the container.
        let _ = bundle.global(&["delete", "--force", "c"]).ok();
    }
    assert_eq!(bundle.global(&["list", "--quiet"]).ok().out(), "");
}

#[test]
fn processes_and_questions_at_the_same_time() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["sleep", "60"]);
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    thread::scope(|scope| {
        for code in 0..16 {
            let bundle = &bundle;
            scope.spawn(move || {
                let out = bundle.global(&["exec", "c", "sh", "-c", &format!("echo {code}; exit {code}")]);
                assert_eq!((out.status, out.out()), (code, format!("{code}\n")), "{}", out.err());
            });
        }
        for question in [&["ps", "c"][..], &["list"], &["events", "--stats", "c"], &["state", "c"]] {
            let bundle = &bundle;
            scope.spawn(move || drop(bundle.global(question).ok()));
        }
    });
    assert_eq!(bundle.global(&["ps", "c"]).ok().out().lines().count(), 2);
}

/// Their status is that of a killed process, as for any other process of a PID namespace whose init ends.
#[test]
fn the_end_of_a_container_ends_its_other_processes() {
    require!(Need::Root, Need::Program("busybox"));
    let bundle = Bundle::new(&["sleep", "60"]);
    for _ in 0..3 {
        run_detached(&bundle);
        let started: Vec<_> =
            (0..4).map(|_| Running::start(&mut bundle.command(&["exec", "c", "sleep", "50"]))).collect();
        wait_until("all run", LIMIT, || {
            bundle.global(&["ps", "c"]).ok().out().lines().filter(|line| line.contains("sleep")).count() == 5
        });
        let _ = bundle.global(&["kill", "c", "KILL"]).ok();
        for exec in started {
            let Finished { status, stderr, .. } = exec.finish(LIMIT);
            assert_eq!((status, String::from_utf8_lossy(&stderr).as_ref()), (137, ""));
        }
        let _ = bundle.global(&["delete", "--force", "c"]).ok();
    }
}

/// What the host has that a sandbox with a network makes.
fn traces(netns: &Netns) -> String {
    let out = |program: &str, args: &[&str]| {
        let out = netns.command(program).args(args).output().expect(program);
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let links = out("ip", &["-br", "link"]);
    let names: Vec<_> = links.lines().filter_map(|line| line.split([' ', '@']).next()).collect();
    let tables = out("nft", &["list", "tables"]);
    let forwarding = out("cat", &["/proc/sys/net/ipv4/conf/up0/forwarding"]);
    format!("{names:?} {tables} {forwarding}")
}

#[test]
fn nothing_is_left_of_commands_that_run_beside_each_other() {
    require!(Need::Root, Need::Program("ip"), Need::Program("nft"));
    let (netns, outside) = (Netns::new(), Netns::new());
    netns.veth(("up0", "10.86.0.2/24"), &outside, ("peer0", "10.86.0.1/24"));
    netns.ip(&["route", "add", "default", "via", "10.86.0.1"]);
    let state = tempfile::tempdir().expect("a folder");
    let before = traces(&netns);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let mut command = netns.command(runsc());
                    command.arg("--root").arg(state.path()).args(["do", "--quiet", "--", "true"]);
                    let _ = Running::start(&mut command).finish(LIMIT).ok();
                }
            });
        }
    });
    assert_eq!(traces(&netns), before);
    assert_eq!(state.path().read_dir().expect("the folder").count(), 0);
}

#[test]
fn nothing_is_left_of_commands_that_are_killed_while_they_start() {
    require!(Need::Root, Need::Program("ip"), Need::Program("nft"));
    let (netns, outside) = (Netns::new(), Netns::new());
    netns.veth(("up0", "10.88.0.2/24"), &outside, ("peer0", "10.88.0.1/24"));
    netns.ip(&["route", "add", "default", "via", "10.88.0.1"]);
    let state = tempfile::tempdir().expect("a folder");
    let sandbox = |program: &[&str]| -> Command {
        let mut command = netns.command(runsc());
        command.arg("--root").arg(state.path()).args(["do", "--quiet", "--"]).args(program);
        command
    };
    let before = traces(&netns);
    for round in 0..12 {
        let mut command = sandbox(&["sleep", "60"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("ip");
        thread::sleep(Duration::from_millis(5 * round));
        child.kill().and_then(|()| child.wait()).expect("an end");
        // Everything that it started has the pipe.
        let mut pipe = child.stdout.take().expect("a pipe");
        let reader = thread::spawn(move || pipe.read_to_end(&mut Vec::new()));
        wait_until("its processes end", LIMIT, || reader.is_finished());
    }
    // The next one clears away what they left. What a killed one had begun may come even later.
    wait_until("everything is as it was", LIMIT, || {
        let _ = Running::start(&mut sandbox(&["true"])).finish(LIMIT).ok();
        traces(&netns) == before && state.path().read_dir().expect("the folder").count() == 0
    });
}

/// Natively as in the sandbox, a file that cannot be had any more is not what a program waits for without end.
#[test]
fn a_sandbox_ends_with_its_gofer() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["sleep", "60"]);
    let kill_gofer = |bundle: &Bundle| {
        let text = fs::read(bundle.dir().join("state/c/state.json")).expect("the state");
        let state: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let pid = state["gofer"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
        wait_until("the sandbox ends", LIMIT, || bundle.state("c")["status"] == "stopped");
    };
    for verb in [None, Some("start"), Some("pause")] {
        bundle.create("c", &[]);
        if verb.is_some() {
            let _ = bundle.global(&["start", "c"]).ok();
        }
        if verb == Some("pause") {
            let _ = bundle.global(&["pause", "c"]).ok();
        }
        kill_gofer(&bundle);
        let wait = bundle.global(&["wait", "c"]);
        match verb {
            None => assert_ne!(wait.status, 0),
            Some(_) => assert_eq!(wait.ok().out(), "{\"exitStatus\":137,\"id\":\"c\"}\n", "{verb:?}"),
        }
        let _ = bundle.global(&["delete", "c"]).ok();
    }
}

#[test]
fn a_status_can_be_waited_for_after_the_end() {
    require!(Need::Root, Need::Program("busybox"));
    let mut bundle = Bundle::new(&["sh", "-c", "exit 7"]);
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    wait_until("it ends", LIMIT, || bundle.state("c")["status"] == "stopped");
    assert_eq!(bundle.global(&["wait", "c"]).ok().out(), "{\"exitStatus\":7,\"id\":\"c\"}\n");
    let _ = bundle.global(&["delete", "c"]).ok();
}

#[test]
fn forwarding_stays_on_for_the_last_of_several_commands() {
    require!(Need::Root, Need::Program("ip"), Need::Program("nft"));
    let (netns, outside) = (Netns::new(), Netns::new());
    netns.veth(("up0", "10.87.0.2/24"), &outside, ("peer0", "10.87.0.1/24"));
    netns.ip(&["route", "add", "default", "via", "10.87.0.1"]);
    let state = tempfile::tempdir().expect("a folder");
    let before = traces(&netns);
    let is_on = || {
        let out = netns.command("cat").arg("/proc/sys/net/ipv4/conf/up0/forwarding").output().expect("cat");
        out.stdout == b"1\n"
    };
    // Each ends with its input.
    let start = || {
        let mut command = netns.command(runsc());
        command.arg("--root").arg(state.path()).args(["do", "--quiet", "--", "sh", "-c", "echo begun; cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ip");
        child.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 6]).expect("begun");
        child
    };
    let end = |mut child: Child| {
        drop(child.stdin.take());
        assert!(child.wait().expect("an end").success());
    };
    assert!(!is_on());
    let (first, second) = (start(), start());
    end(first);
    assert!(is_on(), "the second needs it");
    let mut killed = start();
    killed.kill().and_then(|()| killed.wait()).expect("an end");
    // Clears away what the killed one left.
    end(start());
    assert!(is_on(), "the second needs it still");
    end(second);
    wait_until("everything is as it was", LIMIT, || {
        traces(&netns) == before && state.path().read_dir().expect("the folder").count() == 0
    });
}
