//! Signals of the guest's terminal, where the sandbox process is who the host's kernel sends them to.

use std::io;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::boot::SignalTarget;
use crate::boot::guest::Guest;

/// What the keys, a change of the size and the end of a terminal send (termios(3), ioctl_tty(2)).
const SIGNALS: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGWINCH, Signal::SIGHUP];

/// Stack of the thread, which calls nothing deep.
const STACK_BYTES: usize = 128 << 10;

/// Holds the signals back from every thread that is started from now on.
pub(super) fn hold() -> io::Result<()> {
    Ok(SIGNALS.into_iter().collect::<SigSet>().thread_block()?)
}

/// Passes them on to whoever is in the foreground of the first process's terminal.
pub(super) fn pass_on(guest: &Arc<Guest>) {
    let guest = Arc::downgrade(guest);
    let set: SigSet = SIGNALS.into_iter().collect();
    let work = move || {
        while let Ok(signal) = set.wait() {
            let Some(guest) = guest.upgrade() else { return };
            let Some(init) = guest.first() else { continue };
            let target = SignalTarget::Foreground(init);
            // Whoever has no process in the foreground has nobody to tell.
            let _ = guest.signal(target, signal as i32);
            if signal == Signal::SIGHUP {
                // tty_ioctl(4): the leader of the session is told, too.
                let _ = guest.signal(SignalTarget::Process(init), signal as i32);
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("keys".to_owned()).stack_size(STACK_BYTES).spawn(work) {
        tracing::error!("no thread for the signals of the terminal: {error}");
    }
}
