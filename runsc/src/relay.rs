//! A terminal of a process's own where no engine asks for one: `run` and `exec --tty` on the user's terminal.
//!
//! The command starts itself again. The second process leads a session on a new pseudo terminal, sends the other end
//! back, and does everything that the command is for; the first passes on what is typed and shown, the size of the
//! window and signals. So the guest's terminal is a console as one that an engine asked for, and the user's is as it was
//! afterwards.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sentry_hostio::channel::Channel;
use sentry_hostio::fd_flags::{self, OnExec};
use sentry_hostio::pidfd::PidFd;
use sentry_hostio::{inherited, privilege, tty};

use crate::failure;

/// Where the second process finds the socket for its terminal, and the size to give it: `FD:ROWS:COLUMNS`.
const VARIABLE: &str = "RUNSC_CONSOLE";

/// What the first process does not answer itself: the window's size it copies, the rest is for the guest.
const PASSED_ON: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGURG,
];

/// The first process, as the second sees it.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) channel: Channel,
    /// Lines and columns of the user's terminal.
    pub(crate) size: (u16, u16),
}

/// Whether the command is the first process and has a terminal to pass on.
pub(crate) fn is_possible() -> bool {
    !is_behind() && own_terminal().is_some()
}

/// Whether the command is the second process. The user's terminal, which it has for its errors, is the first one's.
pub(crate) fn is_behind() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// The socket for the terminal, in the second process.
pub(crate) fn console() -> Result<Option<Console>> {
    let Ok(text) = std::env::var(VARIABLE) else {
        return Ok(None);
    };
    let numbers: Vec<i32> = text.split(':').filter_map(|number| number.parse().ok()).collect();
    let &[fd, rows, columns] = numbers.as_slice() else {
        return Ok(None);
    };
    privilege::die_with_parent().context("bind to the process with the terminal")?;
    let channel = Channel::from(inherited::take(fd).context("take the terminal's socket")?);
    let cells = |cells: i32| u16::try_from(cells).unwrap_or(0);
    Ok(Some(Console { channel, size: (cells(rows), cells(columns)) }))
}

/// Starts the command again behind a terminal and passes on until it ends; its status is the result.
pub(crate) fn run() -> Result<ExitCode> {
    let terminal = own_terminal().context("no terminal")?;
    let (ours, theirs) = Channel::pair()?;
    let theirs = OwnedFd::from(theirs);
    fd_flags::set_on_exec(&theirs, OnExec::Keep)?;
    let size = tty::window_size(&terminal).unwrap_or_default();
    let mut child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, format!("{}:{}:{}", theirs.as_raw_fd(), size.rows, size.columns))
        .spawn()
        .context("start the process behind the terminal")?;
    drop(theirs);
    let master = ours.receive().ok().and_then(|message| message.fds.into_iter().next());
    // Without one it has ended, and has said why.
    if let Some(master) = master {
        Relay::new(&terminal, master, &child)?.run()?;
    }
    let status = child.wait().context("wait for the process behind the terminal")?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(failure::RUNTIME_FAILURE)))
}

/// The user's terminal: whichever standard stream is one.
fn own_terminal() -> Option<OwnedFd> {
    let copies = [
        io::stdin().as_fd().try_clone_to_owned(),
        io::stdout().as_fd().try_clone_to_owned(),
        io::stderr().as_fd().try_clone_to_owned(),
    ];
    copies.into_iter().filter_map(Result::ok).find(|fd| tty::is_terminal(fd))
}

/// What the first process holds while the second works.
struct Relay<'a> {
    terminal: &'a OwnedFd,
    /// Puts the attributes back when it is dropped.
    _raw: tty::Restore,
    master: File,
    output: File,
    child: PidFd,
    signals: SignalFd,
}

impl<'a> Relay<'a> {
    fn new(terminal: &'a OwnedFd, master: OwnedFd, child: &Child) -> Result<Self> {
        let child = PidFd::open(i32::try_from(child.id())?)?;
        let mut set: SigSet = PASSED_ON.into_iter().collect();
        set.add(Signal::SIGWINCH);
        // Before there is another thread, which would take them otherwise.
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let raw = tty::Restore::new(terminal.as_fd())?;
        raw.set_raw()?;
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { terminal, _raw: raw, master: master.into(), output, child, signals })
    }

    /// Until the second process has ended and what it wrote is shown.
    fn run(mut self) -> Result<()> {
        // A thread of its own: the guest may not read what is typed, and goes on writing. It ends with the process.
        let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut keys = self.master.try_clone()?;
        std::thread::spawn(move || io::copy(&mut input, &mut keys));
        // The size may have changed since it was asked for.
        self.copy_size();
        let mut is_shown = true;
        loop {
            let shown = if is_shown { PollFlags::POLLIN } else { PollFlags::empty() };
            let mut fds = [
                PollFd::new(self.master.as_fd(), shown),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.child.as_fd(), PollFlags::POLLIN),
            ];
            // The hang-up of a terminal that is not looked at any more must not spin.
            let from = usize::from(!is_shown);
            match poll(&mut fds[from..], PollTimeout::NONE) {
                Err(nix::Error::EINTR) => continue,
                outcome => outcome?,
            };
            let has = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            let (has_output, signalled, ended) = (is_shown && has(&fds[0]), has(&fds[1]), has(&fds[2]));
            if has_output {
                is_shown = self.show();
            }
            while signalled && let Some(info) = self.signals.read_signal()? {
                self.pass_on(info.ssi_signo);
            }
            if ended {
                self.show_rest();
                return Ok(());
            }
        }
    }

    /// Shows what there is; false at the end.
    fn show(&mut self) -> bool {
        let mut bytes = [0; 4096];
        // EIO: nobody has the other end any more.
        let Ok(n) = self.master.read(&mut bytes) else { return false };
        n > 0 && self.output.write_all(&bytes[..n]).is_ok()
    }

    /// Shows what was written before the end. Somebody else may have the terminal and go on.
    fn show_rest(&mut self) {
        for _ in 0..REST_READS {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1)) || !self.show() {
                return;
            }
        }
    }

    fn copy_size(&self) {
        if let Ok(size) = tty::window_size(self.terminal) {
            // The other end may be gone.
            let _ = tty::set_window_size(&self.master, size);
        }
    }

    fn pass_on(&self, number: u32) {
        let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
        match signal {
            Some(Signal::SIGWINCH) => self.copy_size(),
            // It may have ended.
            Some(signal) => drop(self.child.signal(Some(signal))),
            None => {}
        }
    }
}

/// Reads of what a terminal holds at most (`N_TTY_BUF_SIZE` and the flip buffers behind it).
const REST_READS: usize = 64;
