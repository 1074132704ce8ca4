//! Terminals of which a test holds the end with the keys.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use sentry_hostio::{inherited, tty};

/// No step on a terminal should take longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A terminal and what was written to it.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    seen: Vec<u8>,
    /// Where the text begins that no [`Terminal::expect`] has found yet.
    at: usize,
    child: Option<Child>,
}

impl Terminal {
    /// Starts `command` as the leader of a session on a new terminal of 33 lines with 111 columns.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(command: &Command) -> Self {
        let (master, slave) = open_pair();
        let size = tty::WindowSize { rows: 33, columns: 111, ..tty::WindowSize::default() };
        tty::set_window_size(&master, size).expect("a size");
        let stdio = || Stdio::from(slave.try_clone().expect("a copy"));
        let mut leader = Command::new("setsid");
        leader.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            leader.env(name, value.unwrap_or_default());
        }
        leader.env("PS1", "$ ").env("TERM", "dumb").env_remove("PROMPT_COMMAND");
        let child = leader.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("setsid");
        Self { master, seen: Vec::new(), at: 0, child: Some(child) }
    }

    /// Takes the terminal that a runtime sends to the socket, as an engine does.
    ///
    /// # Panics
    /// When what comes is no descriptor of a terminal.
    #[must_use]
    #[track_caller]
    pub fn from_console_socket(socket: &UnixListener) -> Self {
        let (stream, _) = socket.accept().expect("a connection");
        let mut name = [0; 100];
        let mut room = nix::cmsg_space!([i32; 1]);
        let mut vec = [std::io::IoSliceMut::new(&mut name)];
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut vec, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)
                .expect("a message");
        let fd = message.cmsgs().expect("whole messages").find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let master: OwnedFd = inherited::take(fd.expect("a descriptor")).expect("an open one");
        assert!(tty::is_terminal(&master), "it is no terminal");
        Self { master: master.into(), seen: Vec::new(), at: 0, child: None }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[track_caller]
    pub fn send(&mut self, keys: &str) -> &mut Self {
        self.master.write_all(keys.as_bytes()).expect("write to the terminal");
        self
    }

    /// Has a shell run `program` in the foreground, and waits until it has the terminal: keys that follow are for it.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn run(&mut self, program: &str) -> &mut Self {
        // In quotes, so that the line itself does not look like what it writes.
        self.send(&format!("sh -c 'echo be\"\"gun; exec {program}'\n")).expect("begun\r\n")
    }

    /// Waits for `text` in what was not looked at yet.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> &mut Self {
        let end = Instant::now() + LIMIT;
        loop {
            let new = String::from_utf8_lossy(&self.seen[self.at..]).into_owned();
            if let Some(found) = new.find(text) {
                self.at += found + text.len();
                return self;
            }
            assert!(Instant::now() < end && self.read_some(), "no {text:?} in:\n{}", self.text());
        }
    }

    /// Changes the size of the window.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[track_caller]
    pub fn resize(&mut self, rows: u16, columns: u16) -> &mut Self {
        let size = tty::WindowSize { rows, columns, ..tty::WindowSize::default() };
        tty::set_window_size(&self.master, size).expect("resize");
        self
    }

    /// Waits a little: for keys that have to come while a program is at a certain point without saying so.
    pub fn pause(&mut self) -> &mut Self {
        std::thread::sleep(Duration::from_millis(300));
        self
    }

    /// Everything that was written.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).replace("\r\n", "\n")
    }

    /// Waits for the end of the program and of what is written, and gives its status.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn finish(&mut self) -> Option<i32> {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end && self.read_some() {}
        let mut child = self.child.take()?;
        while Instant::now() < end {
            if let Some(status) = child.try_wait().expect("wait") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        panic!("it does not end:\n{}", self.text());
    }

    /// Reads what comes within a moment; false at the end.
    fn read_some(&mut self) -> bool {
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&self.master), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(100_u8)).unwrap_or(0) == 0 {
            return true;
        }
        let mut buf = [0; 4096];
        // EIO: nobody has the other end any more.
        let n = self.master.read(&mut buf).unwrap_or(0);
        self.seen.extend_from_slice(&buf[..n]);
        n > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The hang-up ends the session; what ignores it is ended here.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Both ends of a new terminal, which no program has that another thread starts meanwhile, unlike those of openpty(3).
fn open_pair() -> (File, File) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a pseudo terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
    let name = ptsname_r(&master).expect("its name");
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(name)
        .expect("its end");
    (OwnedFd::from(master).into(), slave)
}

/// A console socket in `folder`.
///
/// # Panics
/// When it cannot be made.
#[must_use]
#[track_caller]
pub fn console_socket(folder: &Path) -> UnixListener {
    let path = folder.join("console.sock");
    // From an earlier terminal of the same test.
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(path).expect("a console socket")
}
