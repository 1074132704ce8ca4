//! C programs against the shared library: compiled with the host's compiler, linked, run, and judged by their exit code.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration_tests::{Need, Netns, Running, require};

/// The folder that cargo puts the shared library into when it is built for a test: that of the test.
fn library_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().to_owned()
}

/// Compiles `source` into a program in `folder`.
#[track_caller]
fn compile(source: &str, folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = library_folder();
    let mut compiler = compiler(source, folder);
    compiler.arg("-I").arg(root.join("include")).arg("-L").arg(&libraries);
    compiler.args(["-lnetstack_capi", "-lpthread"]).arg(format!("-Wl,-rpath,{}", libraries.display()));
    compiled(compiler, folder)
}

fn compiler(source: &str, folder: &Path) -> Command {
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-o"]);
    compiler.arg(folder.join("program")).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
    compiler
}

#[track_caller]
fn compiled(mut compiler: Command, folder: &Path) -> PathBuf {
    let compiled = compiler.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    folder.join("program")
}

#[track_caller]
fn run(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    execute(&compile(&format!("tests/c/{name}.c"), folder.path()));
}

/// Runs a program with the host's system calls in place of the library's functions.
#[track_caller]
fn run_natively(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = compiler(&format!("tests/c/{name}.c"), folder.path());
    compiler.arg("-DNATIVE");
    execute(&compiled(compiler, folder.path()));
}

#[track_caller]
fn execute(program: &Path) {
    let ran = Command::new("timeout").arg("60").arg(program).output().unwrap();
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

#[test]
fn groups_are_joined_and_their_sources_filtered() {
    run("multicast");
}

#[test]
fn flags_and_readiness_are_those_of_linux() {
    run("flags");
}

#[test]
fn control_messages_and_error_queues_are_those_of_linux() {
    run_natively("messages");
    run("messages");
}

#[test]
fn packet_sockets_send_and_receive_frames() {
    run("packet");
}

#[test]
fn a_forwarder_decides_about_connections_datagrams_and_pings() {
    run("forward");
}

/// The example against the host's kernel.
#[test]
fn a_page_is_fetched_over_a_tap() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let folder = tempfile::tempdir().unwrap();
    let program = compile("examples/http_get.c", folder.path());
    let host = Netns::new();
    host.ip(&["tuntap", "add", "tap0", "mode", "tap"]);
    host.ip(&["addr", "add", "10.0.0.1/24", "dev", "tap0"]);
    host.ip(&["link", "set", "tap0", "up"]);
    let listener = host.inside(|| TcpListener::bind("10.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let page = "HTTP/1.0 200 OK\r\n\r\n".to_owned() + &"it works ".repeat(100_000);
    let answer = page.clone();
    let server = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        (peer.ip().to_string(), String::from_utf8(request).unwrap())
    });
    let mut command = host.command(&program);
    command.args(["tap:tap0", "10.0.0.2/24", "10.0.0.1", "10.0.0.1", &port, "/index"]);
    let fetched = Running::start(&mut command).finish(LIMIT).ok();
    assert!(fetched.out() == page, "{} bytes", fetched.stdout.len());
    let (peer, request) = server.join().unwrap();
    assert_eq!((peer.as_str(), request.lines().next()), ("10.0.0.2", Some("GET /index HTTP/1.0")));
}

const LIMIT: Duration = Duration::from_secs(30);
