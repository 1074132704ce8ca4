//! Control of a running sandbox: requests and replies over a Unix socket.
//!
//! A connection carries one request at a time, each answered by one reply. [`Request::Wait`] keeps its connection
//! busy until the process ends; whoever wants to signal meanwhile opens another. Until then the sandbox may ask on it
//! with [`Reply::PassKeysOn`]. A request names the container that it is about; process ids are those of its PID namespace.

use std::os::fd::{BorrowedFd, OwnedFd};

use sentry_hostio::channel::{Channel, ChannelError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::boot::{JoinConfig, NetworkConfig, ProcessConfig};

/// What can be asked of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Reply [`Reply::Done`] once the sandbox is ready to start its first process, or the error.
    Ready,
    /// Makes a container that shares the sandbox, up to where it can be started. Along come a file for its
    /// [`ExitStatus`], the connections to its gofer, and the first process's descriptors 0, 1, 2, ...
    Join(Box<JoinConfig>),
    /// Makes this connection stand for a container that joined: when it hangs up, the container ends.
    Attend,
    /// Ends a container that joined, and forgets it; replies when its processes are gone. Nothing where there is none.
    Remove,
    /// Starts the first process; in the sandbox's first container after setting up the network, the sockets of whose links
    /// come along.
    Start(NetworkConfig),
    /// Starts another process; its descriptors 0, 1, 2, ... come along.
    Exec(Box<ProcessConfig>),
    /// Replies when the process has ended.
    Wait {
        /// The process.
        process: ProcessName,
    },
    /// Sends a signal; replies [`Reply::Signalled`].
    Signal {
        /// To whom.
        target: SignalTarget,
        /// Linux's number of the signal.
        signal: i32,
    },
    /// Answers [`Reply::PassKeysOn`]; has no reply itself.
    KeysPassedOn {
        /// Of the question.
        round: u64,
        /// How many signals there were.
        signals: usize,
    },
    /// Lists the processes.
    Processes,
    /// Counts what the guest uses.
    Stats,
    /// Stops the container's code.
    Pause,
    /// Goes on after [`Request::Pause`].
    Resume,
    /// Records packets to the file that comes along; [`Reply::Done`] when it has begun.
    Capture {
        /// Bytes of each packet that are kept.
        snap_len: u32,
        /// Whether the recording ends with the sandbox; otherwise with the connection.
        outlives_connection: bool,
    },
    /// Ends the recording that this connection began; replies [`Reply::Captured`].
    EndCapture,
    /// Asks for what the network stack counted; replies [`Reply::Counters`].
    Counters,
}

/// A request and the container that it is about, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressed {
    /// The name.
    pub container: String,
    /// What is asked.
    pub request: Request,
}

/// A process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessName {
    /// The container's first one.
    First,
    /// The one with this id.
    Id(i32),
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalTarget {
    /// One process.
    Process(ProcessName),
    /// Every process of the container.
    All,
    /// The foreground process group of the process's controlling terminal; the process itself when it has none.
    Foreground(ProcessName),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; there is nothing to tell.
    Done,
    /// The process was started.
    Started {
        /// Its id in the guest.
        pid: i32,
    },
    /// The signal was sent.
    Signalled {
        /// Whether the first process was among those it went to.
        reached_init: bool,
    },
    /// No answer to [`Request::Wait`] yet: a process is about to read from the terminal. The command shall pass on what
    /// signals of keys it has received, and then say so.
    PassKeysOn {
        /// Number of the question.
        round: u64,
    },
    /// The process ended.
    Exited(ExitStatus),
    /// The processes.
    Processes(Vec<ProcessInfo>),
    /// What the guest uses.
    Stats(Stats),
    /// The recording is over.
    Captured(CaptureEnd),
    /// Names and values of the network's counters: those of the stack, and `NIC.NAME` for those of a NIC.
    Counters(Vec<(String, u64)>),
    /// The request failed.
    Failed(ControlError),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The status as a shell shows it: 128 + n for signal n.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code & 0xff,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// One process of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: i32,
    /// Process id of the parent, 0 without one.
    pub ppid: i32,
    /// Number of threads.
    pub threads: u32,
    /// Start, in seconds since the epoch.
    pub start_secs: u64,
    /// CPU time used, in milliseconds.
    pub cpu_ms: u64,
    /// The command's name.
    pub command: String,
}

/// What the guest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time in guest code, in nanoseconds.
    pub user_ns: u64,
    /// CPU time in system calls, in nanoseconds.
    pub system_ns: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Number of processes.
    pub processes: u64,
}

/// How much was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CaptureEnd {
    /// Packets in the recording.
    pub packets: u64,
    /// Packets that came faster than they could be written.
    pub lost: u64,
}

/// Why a request failed, in words for the user and with the exit status that goes with them.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ControlError {
    /// The program does not exist (shell status 127).
    #[error("exec {program}: {reason}")]
    ProgramNotFound {
        /// As it was given.
        program: String,
        /// What exactly is missing.
        reason: String,
    },
    /// The program exists and cannot be run (shell status 126).
    #[error("exec {program}: {reason}")]
    ProgramNotRunnable {
        /// As it was given.
        program: String,
        /// Why.
        reason: String,
    },
    /// The sandbox could not be set up.
    #[error("{step}: {reason}")]
    SetUp {
        /// What was being done.
        step: String,
        /// Why it failed.
        reason: String,
    },
    /// There is no such process.
    #[error("no process {pid}")]
    NoProcess {
        /// The id that was asked for.
        pid: i32,
    },
    /// There is no such container in the sandbox.
    #[error("the sandbox has no container {name:?}")]
    NoContainer {
        /// The name that was asked for.
        name: String,
    },
    /// The request does not fit the sandbox's state.
    #[error("cannot {request} now")]
    NotNow {
        /// The request.
        request: String,
    },
}

impl ControlError {
    /// The exit status that a runtime gives for the error: 126 and 127 as shells do, 128 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::ProgramNotFound { .. } => 127,
            Self::ProgramNotRunnable { .. } => 126,
            Self::SetUp { .. } | Self::NoProcess { .. } | Self::NoContainer { .. } | Self::NotNow { .. } => {
                128
            }
        }
    }
}

/// Why a message could not be exchanged.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// The connection failed or ended.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The bytes are not a message.
    #[error("malformed control message")]
    Malformed(#[from] serde_json::Error),
}

/// Sends a request with the descriptors that belong to it.
///
/// # Errors
/// See [`ProtocolError`].
pub fn send_request(to: &Channel, request: &Addressed, fds: &[BorrowedFd<'_>]) -> Result<(), ProtocolError> {
    Ok(to.send(&serde_json::to_vec(request)?, fds)?)
}

/// Sends a reply.
///
/// # Errors
/// See [`ProtocolError`].
pub fn send_reply(to: &Channel, reply: &Reply) -> Result<(), ProtocolError> {
    Ok(to.send(&serde_json::to_vec(reply)?, &[])?)
}

/// Receives a request and the descriptors that came along.
///
/// # Errors
/// See [`ProtocolError`].
pub fn receive_request(from: &Channel) -> Result<(Addressed, Vec<OwnedFd>), ProtocolError> {
    receive(from)
}

/// Receives a reply.
///
/// # Errors
/// See [`ProtocolError`].
pub fn receive_reply(from: &Channel) -> Result<Reply, ProtocolError> {
    receive(from).map(|(reply, _)| reply)
}

fn receive<T: DeserializeOwned>(from: &Channel) -> Result<(T, Vec<OwnedFd>), ProtocolError> {
    let message = from.receive()?;
    Ok((serde_json::from_slice(&message.body)?, message.fds))
}
