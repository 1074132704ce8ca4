//! Ping sockets: ICMP echo without privilege (Linux `socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)`).

use std::net::{IpAddr, SocketAddr};

use crate::buffer::{Sink, Source};
use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, MembershipError, RecvError, SendError, ShutdownError,
    SocketError,
};
use crate::nic::NicId;
use crate::options::{Datagram, Family, QueuedError, RecvFlags, SendMeta, Shutdown, SocketOptions};
use crate::stack::Stack;
use crate::wait::{Readiness, WaitQueue};

/// A ping socket. The port of its local address is the ICMP identifier.
///
/// What is sent is an echo request starting at its type byte; the identifier and checksum are filled in.
#[derive(Debug)]
pub struct PingSocket {}

impl PingSocket {
    /// Makes an unbound socket.
    pub fn new(stack: &Stack, family: Family) -> Self {
        todo!()
    }

    /// Binds to a local address; port zero picks one. An IPv6 scope id is a NIC's number.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        todo!()
    }

    /// Fixes the peer: only its datagrams (and errors) are received, and sends need no destination.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        todo!()
    }

    /// Undoes [`connect`](Self::connect).
    pub fn disconnect(&self) {
        todo!()
    }

    /// Sends all that is left of `data` as one datagram and returns its length.
    pub fn try_send(&self, data: &mut dyn Source, meta: &SendMeta) -> Result<usize, SendError> {
        todo!()
    }

    /// Receives one datagram; what exceeds the room is cut off.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<Datagram, RecvError> {
        todo!()
    }

    /// Shuts directions; needs a connected socket.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), ShutdownError> {
        todo!()
    }

    /// Takes the oldest entry of the error queue (`MSG_ERRQUEUE`).
    pub fn take_queued_error(&self) -> Option<QueuedError> {
        todo!()
    }

    /// The length of the next datagram, if there is one (`FIONREAD`).
    pub fn next_datagram_len(&self) -> Option<usize> {
        todo!()
    }

    /// The address and port of this end; unspecified parts are zero.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// The address and port of the other end, if connected.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        todo!()
    }

    /// What can be done now.
    pub fn readiness(&self) -> Readiness {
        todo!()
    }

    /// Where to wait for changes of the readiness.
    pub fn wait_queue(&self) -> &WaitQueue {
        todo!()
    }

    /// The options.
    pub fn options(&self) -> SocketOptions {
        todo!()
    }

    /// Changes options; the new ones take effect at once.
    pub fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        todo!()
    }

    /// Takes the pending error, if there is one (`SO_ERROR`).
    pub fn take_error(&self) -> Option<SocketError> {
        todo!()
    }
}
