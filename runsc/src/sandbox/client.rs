//! A command's connection to a running sandbox.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use sentry::boot::{Addressed, ControlError, ProtocolError, Reply, Request, receive_reply, send_request};
use sentry_hostio::channel::{Channel, ChannelError};
use thiserror::Error;

/// Name of the control socket in a container's directory.
pub(crate) const SOCKET: &str = "control.sock";

/// Why a request did not get the reply it wants.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// The sandbox cannot be reached.
    #[error("connect to the sandbox: {0}")]
    Connect(std::io::Error),
    /// The sandbox ended instead of answering.
    #[error("the sandbox died")]
    Died,
    /// The connection failed.
    #[error("talk to the sandbox: {0}")]
    Protocol(ProtocolError),
    /// The sandbox refused.
    #[error(transparent)]
    Refused(#[from] ControlError),
    /// The sandbox answered another question.
    #[error("unexpected reply of the sandbox: {0:?}")]
    Unexpected(Box<Reply>),
}

impl From<ProtocolError> for ClientError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Channel(ChannelError::Closed) => Self::Died,
            other => Self::Protocol(other),
        }
    }
}

/// Where a container can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The directory with the socket of its sandbox.
    pub(crate) dir: PathBuf,
    /// Its id.
    pub(crate) container: String,
}

/// A connection about one container.
#[derive(Debug)]
pub(crate) struct Client {
    channel: Channel,
    container: String,
}

impl Client {
    /// Connects to the sandbox of a container.
    pub(crate) fn connect(to: &Address) -> Result<Self, ClientError> {
        let path = short_path(&to.dir).map_err(ClientError::Connect)?;
        let stream = UnixStream::connect(path.as_path()).map_err(ClientError::Connect)?;
        Ok(Self::new(Channel::new(stream), &to.container))
    }

    pub(crate) fn new(channel: Channel, container: &str) -> Self {
        Self { channel, container: container.to_owned() }
    }

    /// Sends a request without waiting for its reply.
    pub(crate) fn send(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let addressed = Addressed { container: self.container.clone(), request };
        send_request(&self.channel, &addressed, fds).map_err(ClientError::from)
    }

    /// Receives the reply to the request sent before.
    pub(crate) fn receive(&self) -> Result<Reply, ClientError> {
        match receive_reply(&self.channel)? {
            Reply::Failed(error) => Err(error.into()),
            reply => Ok(reply),
        }
    }

    /// Sends a request and receives its reply.
    pub(crate) fn call(&self, request: Request) -> Result<Reply, ClientError> {
        self.send(request, &[])?;
        self.receive()
    }

    /// Sends a request that has nothing to tell, with the descriptors that belong to it.
    pub(crate) fn command(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        self.send(request, fds)?;
        match self.receive()? {
            Reply::Done => Ok(()),
            other => Err(ClientError::Unexpected(Box::new(other))),
        }
    }
}

impl From<Client> for OwnedFd {
    fn from(client: Client) -> Self {
        client.channel.into()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// A path to the socket that is short whatever the state directory is called: unix(7) gives 108 bytes.
pub(crate) struct ShortPath {
    path: PathBuf,
    _dir: OwnedFd,
}

impl ShortPath {
    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }
}

pub(crate) fn short_path(dir: &Path) -> std::io::Result<ShortPath> {
    use std::os::fd::AsRawFd;
    let fd = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", fd.as_raw_fd()).into();
    Ok(ShortPath { path, _dir: fd })
}
