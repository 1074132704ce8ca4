//! Packets of a sandbox's network as the sandbox's own kernel records them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use integration_tests::{Bundle, Need, Running, Sandbox, require, wait_until};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(30);

/// The comments of a whole recording.
#[track_caller]
fn comments(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).expect("a recording");
    let (comments, read) = parse(&bytes);
    assert!(!bytes.is_empty() && read == bytes.len(), "whole blocks: {read} of {}", bytes.len());
    comments
}

/// The comments in the whole blocks of a recording, in order, and how long those are.
///
/// Blocks of pcapng: type, length, body, length; an enhanced packet's body is five words, the bytes, options.
#[track_caller]
fn parse(bytes: &[u8]) -> (Vec<String>, usize) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let (mut at, mut found) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        let (kind, end) = (word(at), at + word(at + 4));
        if end > bytes.len() {
            break;
        }
        assert!(at != 0 || kind == 0x0a0d_0d0a, "a section header");
        assert_eq!(word(end - 4), end - at, "a whole block");
        let mut option = at + 28 + word(at + 20).next_multiple_of(4);
        while kind == 6 && option + 4 < end {
            let (code, len) = (word(option) & 0xffff, word(option) >> 16);
            if code == 1 {
                found.push(String::from_utf8(bytes[option + 4..option + 4 + len].to_vec()).expect("text"));
            }
            option += 4 + len.next_multiple_of(4);
        }
        at = end;
    }
    (found, at)
}

#[test]
fn recording_names_reasons_processes_and_states() {
    require!(Need::Root, Need::Program("python3"));
    let folder = tempfile::tempdir().expect("a folder");
    let pattern = folder.path().join("all-%ID%.pcapng");
    let script = "
import socket
server = socket.create_server(('127.0.0.1', 80))
client = socket.create_connection(('127.0.0.1', 80))
server.accept()[0].close()
client.recv(1)
client.close()
try: socket.create_connection(('127.0.0.1', 81))
except ConnectionRefusedError: pass
open('/proc/self/comm', 'w').write('sender')
for _ in range(100):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 82))
";
    let flag = format!("--pcap-log={}", pattern.display());
    let sandbox = Sandbox::new().flag(&flag);
    let _ = sandbox.run("python3", &["-c", script]).ok();
    let files: Vec<_> = fs::read_dir(folder.path()).expect("a folder").filter_map(Result::ok).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert!(!file.file_name().to_string_lossy().contains('%'), "{file:?}");
    let comments = comments(&file.path());
    let has = |parts: &[&str]| comments.iter().any(|text| parts.iter().all(|part| text.contains(part)));
    for parts in [
        &["python3, from 1 python3", "state: ESTABLISHED"][..],
        &["process: 1 python3", "state: TIME-WAIT"],
        &["drop: tcp_no_ports", "process: none, from 1 python3"],
        &["drop: udp_no_ports"],
    ] {
        assert!(has(parts), "{parts:?} in {comments:#?}");
    }
    assert!(!has(&["drop:", "state: ESTABLISHED"]), "{comments:#?}");
    // Each has a socket of its own, which is closed by the time the packet is written down.
    let nameless = |text: &&String| text.contains("drop: udp_no_ports") && !text.contains("from 1 sender");
    assert_eq!(comments.iter().filter(nameless).count(), 0, "{comments:#?}");
}

#[test]
fn running_container_is_recorded_and_counted() {
    require!(Need::Root, Need::Program("busybox"));
    // A SYN for a port without a socket every 20 ms.
    let mut bundle = Bundle::new(&["sh", "-c", "while true; do nc 127.0.0.1 9; sleep 0.02; done"]);
    bundle.create("c", &[]);
    let _ = bundle.global(&["start", "c"]).ok();
    let file = bundle.dir().join("some.pcapng");
    let path = file.to_str().expect("UTF-8");
    let recorder =
        Running::start(&mut bundle.command(&["debug", "--capture", path, "--snap-len", "20", "c"]));
    // The recorder writes while we look.
    let drops = || {
        let bytes = fs::read(&file).unwrap_or_default();
        parse(&bytes).0.iter().any(|text| text.starts_with("drop: tcp_no_ports"))
    };
    wait_until("a packet is recorded", LIMIT, drops);
    let refused = bundle.global(&["debug", "--capture", "/dev/null", "c"]);
    assert!(refused.status == 128 && refused.err().contains("twice at a time"), "{}", refused.err());
    recorder.signal(Signal::SIGINT);
    let out = recorder.finish(LIMIT).ok();
    assert!(out.err().contains("packets recorded, 0 lost"), "{}", out.err());

    // Another one can follow, ends by itself, and with the sandbox.
    let _ = bundle.global(&["debug", "--capture", "/dev/null", "--seconds", "0", "c"]).ok();
    let counters = bundle.global(&["debug", "--counters", "c"]).ok().out();
    let count =
        |name: &str| counters.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    assert!(count("tcp_no_ports ") > Some(0) && count("lo.rx_packets ") > Some(0), "{counters}");
    fs::remove_file(&file).expect("remove");
    let recorder = Running::start(&mut bundle.command(&["debug", "--capture", path, "c"]));
    wait_until("a packet is recorded", LIMIT, drops);
    let _ = bundle.global(&["kill", "c", "KILL"]).ok();
    assert!(recorder.finish(LIMIT).ok().err().contains("the sandbox has ended"));
    assert!(!comments(&file).is_empty());
    let gone = bundle.global(&["debug", "--counters", "c"]);
    assert!(gone.status == 128 && gone.err().contains("stopped"), "{}", gone.err());
}

#[test]
fn what_cannot_be_recorded_says_so() {
    let bundle = Bundle::new(&["true"]);
    for (args, text) in [
        (&["--network=host", "--pcap-log=/dev/null", "do", "true"][..], "the packets of --network=host"),
        (&["--pcap-log=/none/file", "do", "true"], "--pcap-log /none/file: No such file"),
        (&["debug", "c"], "required"),
    ] {
        let out = bundle.global(args);
        assert!(out.status != 0 && out.err().contains(text), "{args:?}: {}", out.err());
    }
}
