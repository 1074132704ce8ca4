//! What is measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use integration_tests::{Running, wait_until};

use crate::guest::{INSIDE, Network, Place, Programs, number};
use crate::row::Better;

/// What a measurement may use.
#[derive(Debug)]
pub struct Bench {
    /// The compiled programs.
    pub programs: Programs,
    /// The namespaces.
    pub network: Network,
}

/// One row: how to measure it once in a place.
pub struct Measurement {
    /// The row's name.
    pub name: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// Which way it is good.
    pub better: Better,
    /// Whether it has a native counterpart.
    pub has_native: bool,
    /// Measures once.
    pub once: Once,
}

/// Measures once in a place.
pub type Once = Box<dyn Fn(&Bench, &Place) -> anyhow::Result<f64>>;

const MICRO: &[&str] = &[
    "getpid",
    "getppid",
    "clock_gettime",
    "read1",
    "stat",
    "open_fstat_close",
    "futex_pingpong",
    "pipe_pingpong_threads",
    "pipe_pingpong_processes",
    "fork_wait",
    "fork_exec_wait",
    "thread_create_join",
    "map_touch_unmap",
    "page_fault",
];

/// Programs that do more than one thing, by the name of the row; `TREE` is a repository, `C` a program's source.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("find, /usr/share", &["find", "/usr/share", "-name", "x"]),
    ("git status, 5000 files", &["git", "-C", "TREE", "status"]),
    ("tar, the same tree", &["sh", "-c", "tar cf - TREE | cat"]),
    ("gcc, hello world", &["gcc", "-o", "/tmp/hello", "C"]),
    ("python3, imports", &["python3", "-c", "import json, asyncio, http.server, email"]),
    ("shell, 10 x /bin/true", &["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done"]),
];

/// All rows in the order of the table.
#[must_use]
pub fn all() -> Vec<Measurement> {
    let row = |name, unit, better, once| Measurement { name, unit, better, has_native: true, once };
    let mut rows = vec![row("start /bin/true", "ms", Better::Lower, Box::new(start_up))];
    rows.push(row("start /bin/true with network", "ms", Better::Lower, Box::new(start_up_with_network)));
    rows.push(Measurement {
        name: "idle sandbox, resident (PSS)",
        unit: "MiB",
        better: Better::Lower,
        has_native: false,
        once: Box::new(idle_memory),
    });
    for name in MICRO {
        let once = move |bench: &Bench, place: &Place| place.measure(&bench.programs.path("micro"), &[name]);
        rows.push(row(name, "ns", Better::Lower, Box::new(once)));
    }
    rows.push(row("sequential_read_64k", "ns", Better::Lower, Box::new(sequential_read)));
    rows.push(row("create_write_64k_unlink", "ns", Better::Lower, Box::new(create_write)));
    for (name, command) in PROGRAMS {
        let once = move |bench: &Bench, place: &Place| program(bench, place, command);
        rows.push(row(name, "ms", Better::Lower, Box::new(once)));
    }
    rows.push(row("tcp_round_trip_1_byte", "ns", Better::Lower, Box::new(|b, p| small_messages(b, p, "rr"))));
    rows.push(row("tcp_connections", "ns", Better::Lower, Box::new(|b, p| small_messages(b, p, "crr"))));
    rows.push(row("iperf3 tcp in", "Gbit/s", Better::Higher, Box::new(|b, p| iperf(b, p, &[]))));
    rows.push(row("iperf3 tcp out", "Gbit/s", Better::Higher, Box::new(|b, p| iperf(b, p, &["-R"]))));
    rows.push(row("redis GET", "1/s", Better::Higher, Box::new(redis_get)));
    rows
}

fn start_up(_: &Bench, place: &Place) -> anyhow::Result<f64> {
    let start = Instant::now();
    let done = Running::start(&mut place.command("/bin/true", &[])).finish(Duration::from_secs(20));
    ensure!(done.status == 0, "status {}: {}", done.status, done.err());
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn start_up_with_network(bench: &Bench, place: &Place) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut command = place.networked(&bench.network, "/bin/true", &[]);
    let done = Running::start(&mut command).finish(Duration::from_secs(20));
    ensure!(done.status == 0, "status {}: {}", done.status, done.err());
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The median of three runs in one sandbox, the first of which finds nothing in its caches.
fn program(bench: &Bench, place: &Place, command: &[&str]) -> anyhow::Result<f64> {
    let folder = bench.programs.folder();
    let (tree, source) = (folder.join("tree"), folder.join("hello.c"));
    if !tree.exists() {
        make_repository(&tree)?;
        fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n")?;
    }
    let (tree, source) = (tree.to_string_lossy(), source.to_string_lossy());
    let command = command.iter().map(|word| match *word {
        "C" => source.to_string(),
        word => word.replace("TREE", &tree),
    });
    let arguments: Vec<String> = std::iter::once("3".to_owned()).chain(command).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    place.measure(&bench.programs.path("timed"), &arguments)
}

/// A repository of git with 5000 small files in 50 folders.
fn make_repository(tree: &Path) -> anyhow::Result<()> {
    for file in 0..5000 {
        let folder = tree.join(format!("folder-{}", file / 100));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{file}.c")), format!("int number_{file};\n"))?;
    }
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    for verb in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "All"]] {
        let mut git = Command::new("git");
        let status =
            git.arg("-C").arg(tree).args(identity).args(verb).status().context("cannot start git")?;
        ensure!(status.success(), "git {}: {status}", verb[0]);
    }
    Ok(())
}

/// The proportional set size of the runtime's processes while the guest sleeps.
fn idle_memory(_: &Bench, place: &Place) -> anyhow::Result<f64> {
    let sandbox = Running::start(&mut place.command("/bin/sleep", &["20"]));
    sleep(Duration::from_millis(700));
    let kib: u64 = descendants(sandbox.pid().as_raw())?.into_iter().map(pss_kib).sum();
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of a few processes are far below 2^52")]
    Ok(kib as f64 / 1024.0)
}

fn descendants(root: i32) -> anyhow::Result<Vec<i32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // proc_pid_stat(5): the name is in parentheses and may contain anything; then state and parent.
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        parents.push((pid, parent.context("no parent in /proc/PID/stat")?));
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        at += 1;
    }
    Ok(found)
}

fn pss_kib(pid: i32) -> u64 {
    // A process that ended in between has no memory.
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    pss.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn sequential_read(bench: &Bench, place: &Place) -> anyhow::Result<f64> {
    let file = bench.programs.folder().join("data");
    if !file.exists() {
        fs::write(&file, vec![7; 64 << 20])?;
    }
    place.measure(&bench.programs.path("micro"), &["sequential_read_64k", &file.to_string_lossy()])
}

fn create_write(bench: &Bench, place: &Place) -> anyhow::Result<f64> {
    place.measure(&bench.programs.path("micro"), &["create_write_64k_unlink", "/tmp"])
}

/// Starts `server` in `place` and waits until its `port` answers its peer.
fn serve(bench: &Bench, place: &Place, program: &str, args: &[&str], port: &str) -> Running {
    let server = Running::start(&mut place.networked(&bench.network, program, args));
    let peer = place.peer(&bench.network);
    wait_until(&format!("{program} on port {port}"), Duration::from_secs(20), || {
        peer.command("nc").args(["-z", "-w", "1", INSIDE, port]).output().is_ok_and(|o| o.status.success())
    });
    server
}

fn small_messages(bench: &Bench, place: &Place, mode: &str) -> anyhow::Result<f64> {
    let net = bench.programs.path("net");
    let _server = serve(bench, place, &net, &["server", "9000"], "9000");
    number(place.peer(&bench.network).command(&net).args([mode, INSIDE, "9000", "2"]))
}

fn iperf(bench: &Bench, place: &Place, direction: &[&str]) -> anyhow::Result<f64> {
    let _server = serve(bench, place, "iperf3", &["-s"], "5201");
    let mut client = place.peer(&bench.network).command("iperf3");
    client.args(["-c", INSIDE, "-t", "3", "-J"]).args(direction);
    let done = Running::start(&mut client).finish(Duration::from_secs(30));
    ensure!(done.status == 0, "iperf3: {}", done.out());
    let report: serde_json::Value = serde_json::from_slice(&done.stdout)?;
    let rate =
        report["end"]["sum_received"]["bits_per_second"].as_f64().context("no rate in iperf3's report")?;
    Ok(rate / 1e9)
}

fn redis_get(bench: &Bench, place: &Place) -> anyhow::Result<f64> {
    let arguments = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
    let _server = serve(bench, place, "redis-server", &arguments, "6379");
    let mut client: Command = place.peer(&bench.network).command("redis-benchmark");
    client.args(["-h", INSIDE, "-n", "50000", "-c", "20", "-t", "get", "--csv"]);
    let done = Running::start(&mut client).finish(Duration::from_secs(60));
    ensure!(done.status == 0, "redis-benchmark: {}", done.err());
    let text = done.out();
    let line = text.lines().find(|l| l.starts_with("\"GET\"")).context("no GET row")?;
    let rate = line.split(',').nth(1).context("no rate in the GET row")?;
    rate.trim_matches('"').parse().context("the GET rate is not a number")
}
