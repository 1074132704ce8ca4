//! The example programs, used as their documentation says, against the host's kernel and its programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use integration_tests::{Need, Netns, Running, require, wait_until};

const LIMIT: Duration = Duration::from_secs(30);
/// Held while an example is built.
static BUILDING: Mutex<()> = Mutex::new(());

/// The program of an example. Cargo builds those of a package with all its tests, but not with one test alone.
fn example(package: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let _building = BUILDING.lock();
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", package, "--example", name]);
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        assert!(build.status().unwrap().success());
    }
    program
}

fn host_links(name: &str) -> PathBuf {
    example("netstack-host-links", name)
}

/// A namespace with a tap or tun device.
fn host_with(kind: &str, address: &str) -> Netns {
    let host = Netns::new();
    host.ip(&["tuntap", "add", "t0", "mode", kind]);
    host.ip(&["addr", "add", address, "dev", "t0"]);
    host.ip(&["link", "set", "t0", "up"]);
    host.ip(&["link", "set", "lo", "up"]);
    host
}

/// A namespace with both ends of a veth pair, of which the kernel has one.
fn host_with_veth() -> Netns {
    let host = Netns::new();
    let station = ["address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "v1"];
    host.ip(&[&["link", "add", "v0"][..], &station].concat());
    host.ip(&["addr", "add", "10.9.0.1/24", "dev", "v0"]);
    host.ip(&["link", "set", "v0", "up"]);
    host.ip(&["link", "set", "v1", "up"]);
    host
}

#[track_caller]
fn assert_echoes(host: &Netns, link: &str) {
    let _server = Running::start(host.command(host_links("echo_server")).args([link, "10.9.0.2/24", "7"]));
    let mut stream = None;
    wait_until("the echo server listens", LIMIT, || {
        stream = host.inside(|| TcpStream::connect("10.9.0.2:7")).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"hello\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello\n");
}

#[test]
fn the_echo_server_answers_behind_a_tap() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    assert_echoes(&host_with("tap", "10.9.0.1/24"), "tap:t0");
}

#[test]
fn the_echo_server_answers_behind_a_veth_pair() {
    require!(Need::Root, Need::Program("ip"));
    assert_echoes(&host_with_veth(), "packet:v1");
}

#[test]
fn http_get_fetches_from_python() {
    require!(Need::Root, Need::Program("ip"), Need::Program("python3"), Need::File("/dev/net/tun"));
    let host = host_with("tap", "10.9.0.1/24");
    let folder = tempfile::tempdir().unwrap();
    let page = "a page\n".repeat(20_000);
    std::fs::write(folder.path().join("page"), &page).unwrap();
    let mut server = host.command("python3");
    server.args(["-m", "http.server", "--bind", "10.9.0.1", "8000"]).current_dir(folder.path());
    let _server = Running::start(&mut server);
    wait_until("python listens", LIMIT, || host.inside(|| TcpStream::connect("10.9.0.1:8000")).is_ok());
    let mut get = host.command(host_links("http_get"));
    get.args(["t0", "10.9.0.2/24", "http://10.9.0.1:8000/page"]);
    let fetched = Running::start(&mut get).finish(LIMIT).ok();
    assert!(fetched.out() == page, "{} bytes; {}", fetched.stdout.len(), fetched.err());
}

#[test]
fn the_generator_numbers_its_datagrams() {
    require!(Need::Root, Need::Program("ip"));
    let host = host_with_veth();
    let socket = host.inside(|| UdpSocket::bind("10.9.0.1:9")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut generator = host.command(host_links("packet_generator"));
    generator.args(["packet:v1", "02:00:00:00:00:01", "10.9.0.2:7000", "10.9.0.1:9"]);
    generator.args(["--size", "64", "--count", "100", "--rate", "10000"]);
    let generator = Running::start(&mut generator);
    let mut buffer = [0; 128];
    for number in 0..100_u64 {
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from.to_string(), "10.9.0.2:7000");
        assert_eq!(buffer[..8], number.to_be_bytes());
    }
    generator.finish(LIMIT).ok();
}

/// A SOCKS5 proxy that is itself what one reaches through it, on port 80.
fn serve_socks(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        let mut head = [0; 3 + 10];
        stream.read_exact(&mut head[..3]).unwrap();
        assert_eq!(head[..3], [5, 1, 0]);
        stream.write_all(&[5, 0]).unwrap();
        stream.read_exact(&mut head[3..]).unwrap();
        assert_eq!(head[3..11], [5, 1, 0, 1, 203, 0, 113, 5]);
        let is_open = head[11..] == [0, 80];
        stream.write_all(&[5, if is_open { 0 } else { 5 }, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        if is_open {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            (&stream).write_all(b"HTTP/1.0 200 OK\r\n\r\nthrough the proxy").unwrap();
        } else {
            break;
        }
    }
}

#[test]
fn curl_goes_through_a_proxy_that_it_knows_nothing_of() {
    require!(Need::Root, Need::Program("ip"), Need::Program("curl"), Need::File("/dev/net/tun"));
    let host = host_with("tun", "198.18.0.1/15");
    host.ip(&["route", "add", "203.0.113.0/24", "dev", "t0"]);
    let listener = host.inside(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || serve_socks(&listener));
    let _program = Running::start(host.command(host_links("tun_socks")).args(["t0", &proxy]));
    let curl =
        |url: &str| Running::start(host.command("curl").args(["-sS", "--max-time", "20", url])).finish(LIMIT);
    let mut first = None;
    wait_until("the way through the proxy", LIMIT, || {
        let got = curl("http://203.0.113.5/");
        let is_there = got.status == 0;
        first = Some(got);
        is_there
    });
    assert_eq!(first.unwrap().out(), "through the proxy");
    // What the proxy refuses is refused, and curl calls that 7.
    let refused = curl("http://203.0.113.5:81/");
    assert_eq!(refused.status, 7, "{}", refused.err());
    server.join().unwrap();
}

#[test]
fn a_tunnel_carries_a_question_and_its_answer() {
    require!(Need::Root, Need::Program("ip"));
    // A namespace only for its ports.
    let host = Netns::new();
    host.ip(&["link", "set", "lo", "up"]);
    let tunnel = example("netstack", "tunnel");
    let key = "0123456789abcdef".repeat(4);
    let ends = ["127.0.0.1:5001", "127.0.0.1:5002"];
    let mut server = host.command(&tunnel);
    let _server = Running::start(server.args([&key, ends[0], ends[1], "10.8.0.1/24", "serve"]));
    let mut ask = host.command(&tunnel);
    ask.args([&key, ends[1], ends[0], "10.8.0.2/24", "ask", "10.8.0.1", "hello"]);
    let answer = Running::start(&mut ask).finish(LIMIT).ok();
    assert_eq!(answer.out(), "HELLO\n");
}

#[test]
fn the_machine_alone_connects_and_closes() {
    let mut machine = Command::new(example("netstack", "tcp_machine"));
    let measured = Running::start(machine.arg("connect")).finish(LIMIT).ok();
    assert!(measured.out().contains("connect+close: "), "{}", measured.out());
}
