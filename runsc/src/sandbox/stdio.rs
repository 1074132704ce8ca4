//! Standard input, output and error of the first process, and terminals for engines.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sentry_hostio::channel::ChannelError;
use sentry_hostio::{privilege, tty};
use thiserror::Error;

use crate::relay;

/// Why a terminal could not be made or handed over.
#[derive(Debug, Error)]
pub(crate) enum StdioError {
    /// A standard descriptor could not be copied.
    #[error("copy standard descriptors: {0}")]
    Copy(io::Error),
    /// No pseudo terminal could be made.
    #[error("open a pseudo terminal: {0}")]
    Terminal(io::Error),
    /// The engine's socket did not take the terminal.
    #[error("console socket {path}: {source}")]
    ConsoleSocket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process with the user's terminal did not take ours.
    #[error("hand the terminal over: {0}")]
    Relay(ChannelError),
}

/// Who gets the other end of a terminal.
#[derive(Debug)]
pub(crate) enum Console {
    /// An engine, at this socket.
    Socket(PathBuf),
    /// The process that has the user's terminal.
    Relay(relay::Console),
}

/// Copies of the caller's own descriptors 0, 1 and 2.
pub(crate) fn own() -> Result<Vec<OwnedFd>, StdioError> {
    let copies = [
        io::stdin().as_fd().try_clone_to_owned(),
        io::stdout().as_fd().try_clone_to_owned(),
        io::stderr().as_fd().try_clone_to_owned(),
    ];
    copies.into_iter().collect::<io::Result<_>>().map_err(StdioError::Copy)
}

/// Who is told of the signals of a terminal's keys and passes them on to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// This process, which stays as long as the guest's.
    ToUs,
    /// The sandbox.
    ToSandbox,
}

/// Makes a pseudo terminal, sends its master to `console`, and gives the other end three times.
pub(crate) fn terminal(
    console: &Console,
    size: Option<(u16, u16)>,
    keys: Keys,
) -> Result<Vec<OwnedFd>, StdioError> {
    let own_size = match console {
        Console::Socket(_) => None,
        Console::Relay(relay) => Some(relay.size),
    };
    let size = size.or(own_size).map(|(rows, columns)| nix::pty::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    });
    let pair = nix::pty::openpty(size.as_ref(), None).map_err(|error| StdioError::Terminal(error.into()))?;
    match console {
        Console::Socket(path) => send_master(path, &pair.master)
            .map_err(|source| StdioError::ConsoleSocket { path: path.clone(), source })?,
        Console::Relay(relay) => {
            relay.channel.send(b"terminal", &[pair.master.as_fd()]).map_err(StdioError::Relay)?;
        }
    }
    if keys == Keys::ToUs {
        // The leader of a process group, as a shell starts commands, cannot leave its terminal for another. It gets
        // the signals of its own one.
        let _ = privilege::new_session().and_then(|()| tty::take_control(pair.slave.as_raw_fd()));
    }
    let copy = || pair.slave.try_clone().map_err(StdioError::Copy);
    Ok(vec![copy()?, copy()?, copy()?])
}

/// The message is the terminal's name; the descriptor comes with it.
fn send_master(socket: &Path, master: &OwnedFd) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let name = nix::unistd::ttyname(master)
        .map_or_else(|_| b"/dev/ptmx".to_vec(), |path| path.into_os_string().into_encoded_bytes());
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&name)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
