//! Signals of the keys of terminals: the host's kernel sends them to this process, or to a command that passes them on.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use parking_lot::Mutex;
use sentry_hostio::channel::Channel;

use crate::boot::container::Container;
use crate::boot::{Addressed, ProcessName, Reply, Request, SignalTarget, receive_request, send_reply};
use crate::fs::host::KeySignals;

/// What the keys, a change of the size and the end of a terminal send (termios(3), ioctl_tty(2)).
const SIGNALS: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGWINCH, Signal::SIGHUP];

/// Stack of the thread, which calls nothing deep.
const STACK_BYTES: usize = 128 << 10;

/// Holds the signals back from every thread that is started from now on.
pub(super) fn hold() -> io::Result<()> {
    Ok(SIGNALS.into_iter().collect::<SigSet>().thread_block()?)
}

/// Passes the signals that this process gets on to whoever is in the foreground of the terminal of the container's first
/// process.
pub(super) fn pass_on(container: &Arc<Container>) -> io::Result<Arc<dyn KeySignals>> {
    let set: SigSet = SIGNALS.into_iter().collect();
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let keys = Arc::new(OwnKeys {
        news: signals.as_fd().try_clone_to_owned()?,
        container: Arc::downgrade(container),
        signals: Mutex::new(signals),
    });
    let own = keys.clone();
    let work = move || {
        loop {
            let mut fds = [PollFd::new(own.news.as_fd(), PollFlags::POLLIN)];
            // EINTR is looked at as a signal that somebody else has taken.
            let _ = poll(&mut fds, PollTimeout::NONE);
            own.settle();
        }
    };
    thread::Builder::new().name("keys".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
    Ok(keys)
}

/// Signals that this process gets.
struct OwnKeys {
    /// To wait for.
    news: std::os::fd::OwnedFd,
    container: Weak<Container>,
    /// Locked until what was taken is sent.
    signals: Mutex<SignalFd>,
}

impl KeySignals for OwnKeys {
    fn settle(&self) -> usize {
        let signals = self.signals.lock();
        let mut count = 0;
        while let Ok(Some(info)) = signals.read_signal() {
            count += 1;
            let Some(container) = self.container.upgrade() else { continue };
            let Ok(signal) = i32::try_from(info.ssi_signo) else { continue };
            // Whoever has no process in the foreground has nobody to tell.
            let _ = container.signal(SignalTarget::Foreground(ProcessName::First), signal);
            if signal == Signal::SIGHUP as i32 {
                // tty_ioctl(4): the leader of the session is told, too.
                let _ = container.signal(SignalTarget::Process(ProcessName::First), signal);
            }
        }
        count
    }
}

/// How long a command gets to answer. One that does not is stopped, or hangs itself.
const PATIENCE: Duration = Duration::from_millis(300);

/// Signals that a command gets, which waits for a process on this connection.
pub(super) struct CommandKeys {
    channel: Channel,
    asking: Mutex<Asking>,
}

/// Who may write to the connection, and read from it.
struct Asking {
    /// Whether the command waits for a process, and can be asked.
    is_possible: bool,
    round: u64,
    /// The command owes an answer.
    is_late: bool,
}

impl CommandKeys {
    /// For the command at the other end of `channel`, which waits for nothing yet.
    pub(super) fn new(channel: Channel) -> Arc<Self> {
        let asking = Asking { is_possible: false, round: 0, is_late: false };
        Arc::new(Self { channel, asking: Mutex::new(asking) })
    }

    /// Runs `wait` while the command can be asked; nobody asks any more when it sees the end of that.
    pub(super) fn while_waiting<R>(&self, wait: impl FnOnce() -> R) -> R {
        self.asking.lock().is_possible = true;
        let result = wait();
        self.asking.lock().is_possible = false;
        result
    }

    fn ask(&self, asking: &mut Asking) -> Option<usize> {
        if asking.is_late && !self.has_answer(Duration::ZERO) {
            return None;
        }
        asking.round += 1;
        send_reply(&self.channel, &Reply::PassKeysOn { round: asking.round }).ok()?;
        asking.is_late = true;
        let end = Instant::now() + PATIENCE;
        while self.has_answer(end.saturating_duration_since(Instant::now())) {
            match receive_request(&self.channel) {
                Ok((Addressed { request: Request::KeysPassedOn { round, signals }, .. }, _))
                    if round == asking.round =>
                {
                    asking.is_late = false;
                    return Some(signals);
                }
                Ok((Addressed { request: Request::KeysPassedOn { .. }, .. }, _)) => {}
                // It is gone, or talks nonsense.
                _ => {
                    asking.is_possible = false;
                    return None;
                }
            }
        }
        None
    }

    fn has_answer(&self, within: Duration) -> bool {
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, timeout), Ok(1))
    }
}

impl KeySignals for CommandKeys {
    fn settle(&self) -> usize {
        let mut asking = self.asking.lock();
        if !asking.is_possible {
            return 0;
        }
        self.ask(&mut asking).unwrap_or(0)
    }
}
