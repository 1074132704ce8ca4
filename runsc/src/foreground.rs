//! Waiting for a guest's process in place of it: signals go in, the exit status comes out.

use std::io;
use std::os::fd::AsFd;

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use sentry::boot::{ExitStatus, ProcessName, Reply, Request, SignalTarget};
use sentry_hostio::tty;

use crate::relay;
use crate::sandbox::{Address, Client};

/// What a process of the user's session may be sent and passes on.
const FORWARDED: [Signal; 11] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGURG,
];

/// Holds the forwarded signals back for [`Foreground::attend`], and puts the terminal's attributes back at the end.
#[derive(Debug)]
pub(crate) struct Foreground {
    signals: SignalFd,
    _terminal: Option<tty::Restore>,
}

impl Foreground {
    /// Blocks the signals in the calling thread, to be called before any other thread exists.
    pub(crate) fn new() -> io::Result<Self> {
        let set: SigSet = FORWARDED.into_iter().collect();
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // The guest may leave the terminal in raw mode when it is killed. Where it has one of its own, the user's is not ours to set.
        let saved = if relay::is_behind() { None } else { tty::Restore::new(io::stdin().as_fd()).ok() };
        Ok(Self { signals, _terminal: saved })
    }

    /// Waits for a process to end over the connection `client`, which is busy until then, and passes signals on over
    /// `second`.
    pub(crate) fn attend(
        &self,
        client: &Client,
        second: &mut Signals,
        process: ProcessName,
    ) -> Result<ExitStatus> {
        client.send(Request::Wait { process }, &[])?;
        loop {
            let mut fds = [
                PollFd::new(client.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::Error::EINTR) => continue,
                outcome => outcome?,
            };
            let has = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            let (told, signalled) = (has(&fds[0]), has(&fds[1]));
            if signalled {
                self.pass_on(second, process)?;
            }
            if told {
                match client.receive()? {
                    Reply::Exited(status) => return Ok(status),
                    Reply::PassKeysOn { round } => {
                        // The kernel has sent the signal before it gave anybody what was typed next.
                        let signals = self.pass_on(second, process)?;
                        client.send(Request::KeysPassedOn { round, signals }, &[])?;
                    }
                    other => bail!("unexpected reply of the sandbox: {other:?}"),
                }
            }
        }
    }

    /// Passes on what signals there are, over `second`, and counts them.
    fn pass_on(&self, second: &mut Signals, process: ProcessName) -> Result<usize> {
        let mut count = 0;
        while let Some(info) = self.signals.read_signal()? {
            count += 1;
            // A sandbox that cannot be reached is ending, and the reply to the wait is under way.
            if let Some(client) = second.client() {
                forward(client, process, &info)?;
            }
        }
        Ok(count)
    }
}

/// How signals get to the sandbox.
#[derive(Debug)]
pub(crate) enum Signals {
    /// Over a connection to be made to this address, with the first signal.
    To(Address),
    /// Over this one.
    Over(Client),
}

impl Signals {
    fn client(&mut self) -> Option<&Client> {
        if let Self::To(address) = self {
            *self = Self::Over(Client::connect(address).ok()?);
        }
        match self {
            Self::Over(client) => Some(client),
            Self::To(_) => None,
        }
    }
}

/// Passes one signal on. A key press of the terminal is for the guest's foreground group, as it would be without a
/// sandbox in between; what another process sends to us is for the guest's process.
fn forward(client: &Client, process: ProcessName, info: &siginfo) -> Result<()> {
    let Ok(signal) = i32::try_from(info.ssi_signo)
        .map_err(|_| ())
        .and_then(|number| Signal::try_from(number).map_err(|_| ()))
    else {
        return Ok(());
    };
    let from_terminal = info.ssi_code == libc::SI_KERNEL;
    let target = match signal {
        Signal::SIGWINCH => SignalTarget::Foreground(process),
        _ if from_terminal => SignalTarget::Foreground(process),
        Signal::SIGTSTP | Signal::SIGCONT => SignalTarget::Foreground(process),
        _ => SignalTarget::Process(process),
    };
    let reply = client.call(Request::Signal { target, signal: signal as i32 });
    // Stopping the guest's only job gives the terminal back to the shell that started us.
    if signal == Signal::SIGTSTP && matches!(reply, Ok(Reply::Signalled { reached_init: true })) {
        raise(Signal::SIGSTOP)?;
    }
    // The process may be gone already; then the reply to the wait is under way.
    Ok(())
}
