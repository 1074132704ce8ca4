//! What a socket family implements: the operations of `socket(2)`, none of which waits.

use std::any::Any;
use std::sync::Arc;

use sentry_abi::socket::{MsgFlags, Ucred};
use smallvec::SmallVec;

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::socket::FlightCharge;
use crate::socket::base::SocketBase;
use crate::socket::control::ControlMessage;
use crate::socket::host::HostSocket;
use crate::socket::inet::InetSocket;
use crate::socket::netlink::NetlinkSocket;
use crate::socket::packet::PacketSocket;
use crate::socket::unix::UnixSocket;
use crate::task::{CurrentTask, Task};
use crate::vfs::File;
use crate::wait::{Readiness, WaitQueue};

/// A socket address as bytes: the family, then what the family puts there.
pub type RawAddr = SmallVec<[u8; 32]>;

/// Which directions `shutdown(2)` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownHow {
    /// `SHUT_RD`.
    Read,
    /// `SHUT_WR`.
    Write,
    /// `SHUT_RDWR`.
    Both,
}

impl ShutdownHow {
    /// True where receiving ends.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// True where sending ends.
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

/// What goes with the bytes of a `sendmsg(2)`.
#[derive(Debug)]
pub struct SendRequest<'a> {
    /// The destination.
    pub to: Destination<'a>,
    /// `MSG_*`.
    pub flags: MsgFlags,
    /// The control messages.
    pub control: Vec<ControlMessage>,
    /// Who sends.
    pub sender: Ucred,
    /// What the files among the control messages count for their sender.
    pub in_flight: Option<Arc<FlightCharge>>,
    /// The sending task, for netlink: requests name namespaces by its descriptors.
    pub task: Option<Arc<Task>>,
}

/// Where a message goes.
#[derive(Debug, Clone)]
pub enum Destination<'a> {
    /// To the connected peer.
    Default,
    /// To an address as the guest gave it.
    Address(&'a [u8]),
    /// To a local socket that the system call layer found by its name.
    Socket(Arc<UnixSocket>),
}

/// How to receive.
#[derive(Debug, Clone, Copy)]
pub struct RecvRequest {
    /// `MSG_*`.
    pub flags: MsgFlags,
    /// The guest gave room for an address.
    pub wants_address: bool,
    /// The guest gave room for control messages; without it none need be made.
    pub wants_control: bool,
}

/// What was received.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes copied to the guest.
    pub copied: usize,
    /// Bytes that the message has; more than `copied` where it was cut.
    pub len: usize,
    /// `MSG_TRUNC`, `MSG_EOR`, `MSG_ERRQUEUE`, ... for `msg_flags`.
    pub flags: MsgFlags,
    /// The sender.
    pub from: RawAddr,
    /// Ancillary data.
    pub control: Vec<ControlMessage>,
}

/// A connection taken from a listening socket.
pub struct Accepted {
    /// Its socket.
    pub socket: Arc<dyn Socket>,
    /// The other end.
    pub peer: RawAddr,
}

/// A socket as its family, for options and system calls that belong to one.
pub enum Family<'a> {
    /// `AF_UNIX`.
    Unix(&'a UnixSocket),
    /// `AF_INET` and `AF_INET6`.
    Inet(&'a InetSocket),
    /// `AF_NETLINK`.
    Netlink(&'a NetlinkSocket),
    /// `AF_PACKET`.
    Packet(&'a PacketSocket),
    /// A socket of the host, of `AF_INET`, `AF_INET6` or `AF_NETLINK`.
    Host(&'a HostSocket),
}

/// A socket. Nothing here waits: what cannot go on returns `EAGAIN`, and the system call registers with
/// [`Socket::wait_queue`], tries again and sleeps.
pub trait Socket: Any + Send + Sync {
    /// Identity and generic options.
    fn base(&self) -> &SocketBase;

    /// The socket as its family.
    fn family(&self) -> Family<'_>;

    /// `bind(2)`.
    ///
    /// # Errors
    /// As the system call.
    fn bind(&self, task: &mut CurrentTask, address: &[u8]) -> Result<(), Errno>;

    /// `listen(2)`; the backlog is capped already.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for types without connections, `EINVAL` in the wrong state, `EADDRINUSE`.
    fn listen(&self, task: &mut CurrentTask, backlog: u32) -> Result<(), Errno> {
        let _ = (task, backlog);
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// `EAGAIN` when none waits, `EINVAL` when not listening, `EOPNOTSUPP`.
    fn try_accept(&self) -> Result<Accepted, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Connects, or begins to.
    ///
    /// # Errors
    /// `EINPROGRESS` when it goes on by itself and [`Socket::connect_result`] will tell; `EALREADY` when that is the
    /// case since earlier; `EAGAIN` when it has to be tried again once the socket is writable; else as `connect(2)`.
    fn connect(&self, task: &mut CurrentTask, address: &[u8]) -> Result<(), Errno>;

    /// A connection attempt is under way whose result nobody has asked for yet.
    fn is_connecting(&self) -> bool {
        false
    }

    /// How a connection attempt that was in progress ended.
    ///
    /// # Errors
    /// `EAGAIN` while it goes on; why it failed, once.
    fn connect_result(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// This end's address.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    fn local_address(&self) -> Result<RawAddr, Errno>;

    /// The other end's address.
    ///
    /// # Errors
    /// `ENOTCONN`; `EOPNOTSUPP`.
    fn peer_address(&self) -> Result<RawAddr, Errno>;

    /// Sends. A stream takes as much as it has room for, at least one byte; others all or nothing.
    ///
    /// # Errors
    /// As `sendmsg(2)`; `EAGAIN` without room.
    fn try_send(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno>;

    /// Receives: of a stream what is there, of others one message.
    ///
    /// # Errors
    /// As `recvmsg(2)`; `EAGAIN` when nothing is there.
    fn try_recv(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno>;

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// As the system call.
    fn shutdown(&self, how: ShutdownHow) -> Result<(), Errno>;

    /// `ioctl(2)` of this family; requests about interfaces are handled before, for all families.
    ///
    /// # Errors
    /// `ENOTTY`.
    fn ioctl(&self, task: &mut CurrentTask, file: &File, request: u32, arg: u64) -> SysResult {
        let _ = (task, file, request, arg);
        Err(Errno::ENOTTY.into())
    }

    /// Takes the pending error (`SO_ERROR`).
    fn take_error(&self) -> Option<Errno>;

    /// True while listening (`SO_ACCEPTCONN`).
    fn is_listening(&self) -> bool {
        false
    }

    /// What `poll(2)` would report.
    fn readiness(&self) -> Readiness;

    /// Where to wait for changes of the readiness.
    fn wait_queue(&self) -> &WaitQueue;

    /// The file is gone: nobody uses the socket any more.
    fn close(&self);
}
