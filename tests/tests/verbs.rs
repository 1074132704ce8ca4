//! The verbs and flags that engines and people use, beyond a container's plain life: terminals, limits, descriptors.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::{Bundle, Finished, Need, Running, Terminal, require, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// A bundle with a container "c" that runs `args`.
#[track_caller]
fn started(args: &[&str], change: impl FnOnce(&mut Value)) -> Bundle {
    let mut bundle = Bundle::new(args);
    bundle.change(|config| {
        config["mounts"].as_array_mut().expect("mounts").push(json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]
        }));
        change(config);
    });
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    bundle
}

#[track_caller]
fn fails(out: &Finished, status: i32, text: &str) {
    assert_eq!(out.status, status, "{}", out.err());
    assert!(out.err().lines().count() == 1 && out.err().contains(text), "{}", out.err());
}

#[test]
fn version_is_what_engines_read() {
    let bundle = Bundle::new(&["true"]);
    for flag in ["--version", "-v"] {
        let out = bundle.global(&[flag]).ok().out();
        let lines: Vec<_> = out.lines().collect();
        // Docker splits at the word "version"; containerd wants the line with the specification's.
        let (name, number) = lines[0].split_once(" version ").expect("a version");
        assert_eq!(name, "runsc");
        assert!(number.split('.').count() == 3, "{out}");
        assert!(lines[1].starts_with("spec: 1."), "{out}");
    }
}

#[test]
fn a_file_as_output_is_shared_with_programs_outside() {
    require!(Need::Root, Need::Program("busybox"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out");
    let out = fs::File::create(&path).expect("a file");
    let bundle = Bundle::new(&["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo inside; sleep 0.02; done"]);
    let mut command = bundle.command(&["run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"]);
    let mut inside = command.stdout(out.try_clone().expect("a copy")).spawn().expect("runsc");
    let mut written = 0;
    while inside.try_wait().expect("a status").is_none() {
        (&out).write_all(b"outside\n").expect("write");
        written += 1;
        std::thread::sleep(Duration::from_millis(7));
    }
    let text = fs::read_to_string(&path).expect("text");
    let count = |word: &str| text.lines().filter(|line| *line == word).count();
    assert_eq!((count("inside"), count("outside")), (8, written), "{text}");
}

#[test]
fn what_is_not_supported_says_so() {
    let bundle = Bundle::new(&["true"]);
    for args in [&["checkpoint", "--image-path", "/x", "c"][..], &["restore", "--detach", "c"]] {
        fails(&bundle.global(args), 128, "not supported");
    }
}

#[test]
fn the_debug_log_has_the_steps() {
    require!(Need::Root, Need::Program("busybox"));
    let bundle = Bundle::new(&["true"]);
    let folder = format!("{}/logs/", bundle.dir().display());
    fs::create_dir(&folder).expect("a folder");
    let _ = bundle.global(&["--network=none", "--debug", "--debug-log", &folder, "do", "true"]).ok();
    let logs: Vec<_> = fs::read_dir(&folder).expect("logs").filter_map(Result::ok).collect();
    let [log] = logs.as_slice() else { panic!("{logs:?}") };
    assert!(log.file_name().to_string_lossy().ends_with(".do.txt"), "{log:?}");
    let text = fs::read_to_string(log.path()).expect("the log");
    assert!(text.contains("is ready") && text.contains("\"do\", \"true\""), "{text}");
}

#[test]
fn limits_change_while_it_runs() {
    require!(Need::Root, Need::Program("busybox"));
    let group = format!("runsc-update-{}", std::process::id());
    let bundle = started(&["sleep", "60"], |config| {
        config["linux"]["cgroupsPath"] = format!("/{group}").into();
        config["linux"]["resources"] = json!({ "memory": { "limit": 300 << 20 } });
    });
    let limit = || {
        let stats = bundle.global(&["events", "--stats", "c"]).ok().out();
        let stats: Value = serde_json::from_str(&stats).expect("JSON");
        stats["data"]["memory"]["usage"]["limit"].as_u64()
    };
    if limit().is_none() {
        eprintln!("skipped: no memory controller");
        return;
    }
    assert_eq!(limit(), Some(300 << 20));
    let _ = bundle.global(&["update", "--memory", "400m", "--pids-limit", "70", "c"]).ok();
    assert_eq!(limit(), Some(400 << 20));
    let resources = json!({ "memory": { "limit": 500 << 20 } }).to_string();
    let mut command = bundle.command(&["update", "--resources", "-", "c"]);
    let _ = Running::start_with_input(&mut command, resources.into_bytes()).finish(LIMIT).ok();
    assert_eq!(limit(), Some(500 << 20));
    fails(&bundle.global(&["update", "--memory", "much", "c"]), 128, "a size is a number");
    let mut command = bundle.command(&["update", "-r", "-", "c"]);
    let input = r#"{"memory":{"limit":"x"}}"#.to_owned().into_bytes();
    fails(&Running::start_with_input(&mut command, input).finish(LIMIT), 128, "memory.limit");
    let _ = bundle.global(&["delete", "--force", "c"]).ok();
    let without = started(&["sleep", "60"], |_| {});
    fails(&without.global(&["update", "--memory", "1g", "c"]), 128, "no control group");
}

#[test]
fn exec_does_as_its_flags_say() {
    require!(Need::Root, Need::Program("busybox"));
    let bundle = started(&["sleep", "60"], |_| {});
    let out = bundle.global(&["exec", "--no-new-privs", "c", "grep", "NoNewPrivs", "/proc/self/status"]);
    assert_eq!(out.ok().out(), "NoNewPrivs:\t1\n");
    let capabilities = |flags: &[&str]| {
        let args = [&["exec"], flags, &["c", "grep", "CapEff", "/proc/self/status"]].concat();
        bundle.global(&args).ok().out()
    };
    assert_eq!(capabilities(&[]), "CapEff:\t0000000020000420\n");
    assert_eq!(capabilities(&["--cap", "CAP_SYS_TIME"]), "CapEff:\t0000000022000420\n");
    // A process section, and descriptors behind the standard streams.
    let file = bundle.dir().join("process.json");
    let process = json!({ "cwd": "/tmp", "user": { "uid": 7, "gid": 8 }, "args": ["sh", "-c", "id -u; pwd; cat <&3"],
        "env": ["PATH=/bin"] });
    fs::write(&file, process.to_string()).expect("write");
    let text = bundle.dir().join("three");
    fs::write(&text, "three\n").expect("write");
    let script = format!("exec \"$@\" 3< {}", text.display());
    let exec =
        bundle.command(&["exec", "--preserve-fds", "1", "--process", file.to_str().expect("UTF-8"), "c"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(exec.get_program()).args(exec.get_args());
    assert_eq!(Running::start(&mut shell).finish(LIMIT).ok().out(), "7\n/tmp\nthree\n");
    fails(&bundle.global(&["exec", "--preserve-fds", "2", "c", "true"]), 128, "--preserve-fds: descriptor");
    // Detached: the pid is that of a process of the host that ends when the guest's does.
    let (pid, inside) = (bundle.dir().join("pid"), bundle.dir().join("inside"));
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let mut detached = bundle.command(&[
        "exec",
        "--detach",
        "--pid-file",
        &path(&pid),
        "--internal-pid-file",
        &path(&inside),
        "c",
        "sleep",
        "60",
    ]);
    let null = Stdio::null;
    assert!(detached.stdin(null()).stdout(null()).stderr(null()).status().expect("runsc").success());
    let host_pid = fs::read_to_string(&pid).expect("a pid");
    assert!(fs::exists(format!("/proc/{host_pid}")).unwrap_or(false));
    let guest_pid = fs::read_to_string(&inside).expect("a pid");
    let _ = bundle.global(&["kill", "--pid", &guest_pid, "c", "KILL"]).ok();
    wait_until("it ends", LIMIT, || !fs::exists(format!("/proc/{host_pid}/fd/0")).unwrap_or(false));
    fails(&bundle.global(&["exec", "--tty", "--detach", "c", "true"]), 128, "needs --console-socket");
    fails(&bundle.global(&["exec", "c", "/tmp"]), 126, "Permission denied");
    fails(&bundle.global(&["exec", "c", "/there/is/none"]), 127, "No such file");
    fails(&bundle.global(&["exec", "--user", "nobody", "c", "true"]), 128, "not UID[:GID]");
    fails(&bundle.global(&["exec", "--cwd", "/there/is/none", "c", "true"]), 128, "/there/is/none");
}

/// Types into a shell on a terminal of its own, checks what a terminal has to do, and ends the shell with 9.
#[track_caller]
fn use_terminal(terminal: &mut Terminal) {
    terminal.expect("> ").send("tty; stty size\n").expect("/dev/pts/").expect("33 111\r\n").expect("> ");
    terminal.run("sleep 100").send("\x03").expect("> ");
    terminal.send("echo status $?\n").expect("status 130\r\n").expect("> ");
    terminal.run("cat > /dev/null").send("\x1a").expect("Stopped").expect("> ");
    terminal.resize(40, 90).send("until stty size | grep '40 90'; do sleep 0.05; done\n");
    terminal.expect("40 90\r\n").expect("> ");
    // The shell exits only once it knows that no job is stopped; it looks when it shows a prompt.
    terminal.send("kill -9 %1; while ps | grep -q '[c]at'; do sleep 0.05; done\n");
    terminal.expect("Killed").expect("> ").send("exit 9\n");
}

#[test]
fn exec_on_the_users_terminal_has_one_of_its_own() {
    require!(Need::Root, Need::Program("busybox"), Need::Program("setsid"));
    let bundle = started(&["sleep", "60"], |_| {});
    let mut terminal = Terminal::start(&bundle.command(&["exec", "--tty", "--env", "PS1=> ", "c", "sh"]));
    use_terminal(&mut terminal);
    assert_eq!(terminal.finish(), Some(9), "{}", terminal.text());
    let mut terminal = Terminal::start(&bundle.command(&["exec", "-t", "c", "nope"]));
    assert_eq!(terminal.finish(), Some(127), "{}", terminal.text());
    assert_eq!(terminal.text().lines().count(), 1, "{}", terminal.text());
    // What is written at the end is shown whole.
    let mut terminal = Terminal::start(&bundle.command(&["exec", "-t", "c", "seq", "5000"]));
    assert_eq!(terminal.finish(), Some(0));
    let text = terminal.text();
    assert!(text.ends_with("4999\n5000\n"), "{} bytes, {:?}", text.len(), text.lines().next_back());
    // And as it is, if the terminal takes it only after the process and the command behind its terminal have ended.
    let folder = tempfile::tempdir().expect("a folder");
    let pid_file = folder.path().join("pid");
    let file = pid_file.to_str().expect("a UTF-8 path");
    let mut terminal =
        Terminal::start(&bundle.command(&["exec", "-t", "--pid-file", file, "c", "seq", "4000"]));
    wait_until("the end behind the terminal", Duration::from_secs(20), || {
        let pid = fs::read_to_string(&pid_file).ok().and_then(|pid| pid.parse::<u32>().ok());
        // Nobody waits for it before all is shown.
        let has_ended =
            |pid| fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        pid.is_some_and(has_ended)
    });
    assert_eq!(terminal.finish(), Some(0));
    let expected: String = (1..=4000).map(|line| format!("{line}\n")).collect();
    let text = terminal.text();
    assert!(text == expected, "{} of {} bytes", text.len(), expected.len());
}

#[test]
fn run_on_the_users_terminal_has_one_of_its_own() {
    require!(Need::Root, Need::Program("busybox"), Need::Program("setsid"));
    let bundle = Bundle::new(&["sh"]);
    bundle.change(|config| {
        config["process"]["terminal"] = true.into();
        config["process"]["env"] = json!(["PATH=/bin", "PS1=> ", "TERM=dumb"]);
        config["mounts"].as_array_mut().expect("mounts").push(json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]
        }));
    });
    let dir = bundle.dir().to_str().expect("UTF-8");
    let mut terminal = Terminal::start(&bundle.command(&["run", "--bundle", dir, "c"]));
    use_terminal(&mut terminal);
    assert_eq!(terminal.finish(), Some(9), "{}", terminal.text());
    assert_eq!(bundle.global(&["list", "--quiet"]).ok().out(), "");
}
