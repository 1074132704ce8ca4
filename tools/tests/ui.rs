//! The interface under a pseudo terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use netstack_sim::{HostSpec, Network, Transfer, TransferSpec};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{self, LocalFlags};
use nix::unistd::Pid;

/// A transfer of so many bytes.
fn record(path: &Path, bytes: usize) {
    let mut network = Network::new(1);
    network.record(Box::new(File::create(path).unwrap())).unwrap();
    let (client, server) = (network.add_host(HostSpec::default()), network.add_host(HostSpec::default()));
    network.introduce();
    let mut transfer = Transfer::start(&mut network, client, server, TransferSpec::one_way(bytes));
    assert!(network.run_until(Duration::from_secs(600), |network| transfer.step(network)));
}

struct Session {
    child: Child,
    keys: File,
    /// Kept open, so that its settings can be looked at when the program is gone.
    terminal: OwnedFd,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Session {
    fn start(input: &Path, filter: &str) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_netcap"))
            .args(["ui".as_ref(), input.as_os_str(), filter.as_ref()])
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, terminal: pty.slave, output, screen: vt100::Parser::new(30, 120, 0) }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the text is on the screen.
    #[track_caller]
    fn expect(&mut self, wanted: &str) {
        self.wait(wanted, |screen| screen.contents().contains(wanted));
    }

    #[track_caller]
    fn wait(&mut self, what: &str, is_it: impl Fn(&vt100::Screen) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_it(self.screen.screen()) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("no {what}: {}", self.screen.screen().contents())
            };
            self.screen.process(&bytes);
        }
    }

    fn is_raw(&self) -> bool {
        !termios::tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    /// Waits until the program has ended; the terminal must be as it was.
    #[track_caller]
    fn finish(mut self) {
        self.wait("end", |screen| !screen.alternate_screen());
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "still running");
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
        assert!(!self.is_raw());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_user_looks_around_and_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcapng"));
    record(&input, 200_000);
    let mut session = Session::start(&input, "");
    session.expect("IPv4");
    assert!(session.is_raw() && session.screen.screen().alternate_screen());
    session.press("?");
    session.expect("Everywhere");
    session.press("q2");
    session.expect("protocol");
    session.press("c");
    session.expect("acknowledged");
    session.press("1ftcp.flags syn\r");
    session.expect("| 2 of ");
    session.press(&format!("w{}\r", output.display()));
    session.expect("wrote");
    assert!(output.metadata().unwrap().len() > 100);
    session.press("q");
    session.finish();
}

#[test]
fn a_signal_restores_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.pcap");
    record(&input, 1000);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut session = Session::start(&input, "tcp");
        session.expect("IPv4");
        let pid = Pid::from_raw(session.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
        session.finish();
    }
}

#[test]
fn without_a_terminal_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.pcap");
    record(&input, 1000);
    for (filter, wanted) in [("", "not a terminal"), ("tcp and", "at column")] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_netcap")).arg("ui").arg(&input).arg(filter).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(wanted), "{message}");
        assert!(output.stdout.is_empty());
    }
}

/// More than a slow machine takes.
const PATIENCE: Duration = Duration::from_secs(30);
