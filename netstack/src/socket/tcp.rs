//! TCP sockets: one handle for the idle, the listening and the connected case, as BSD sockets have it.

use std::net::{IpAddr, SocketAddr};

use crate::buffer::{Sink, Source};
use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, MembershipError, RecvError, SendError, ShutdownError,
    SocketError,
};
use crate::nic::NicId;
use crate::options::{Datagram, Family, QueuedError, RecvFlags, SendMeta, Shutdown, SocketOptions};
use crate::stack::Stack;
use crate::tcp;
use crate::wait::{Readiness, WaitQueue};

/// A TCP socket.
#[derive(Debug)]
pub struct TcpSocket {}

impl TcpSocket {
    /// Makes an unbound socket.
    pub fn new(stack: &Stack, family: Family) -> Self {
        todo!()
    }

    /// Binds to a local address; port zero picks one. An IPv6 scope id is a NIC's number.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        todo!()
    }

    /// Starts to listen, or changes the backlog of a listening socket. An unbound socket gets a port.
    pub fn listen(&self, backlog: u32) -> Result<(), ListenError> {
        todo!()
    }

    /// Takes the oldest established connection and its peer.
    pub fn try_accept(&self) -> Result<(Self, SocketAddr), AcceptError> {
        todo!()
    }

    /// Starts a connection. Success means that the handshake is under way: the socket becomes writable when it is
    /// done, and [`take_error`](Self::take_error) tells if it failed. Calling again gives `AlreadyConnecting`, later
    /// `AlreadyConnected`.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        todo!()
    }

    /// Queues as much of `data` as fits and returns how much that was (never zero unless `data` is empty).
    pub fn try_send(&self, data: &mut dyn Source) -> Result<usize, SendError> {
        todo!()
    }

    /// Receives what is there, up to the room of `out`. Zero is the end of the stream.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<usize, RecvError> {
        todo!()
    }

    /// Shuts directions: `Write` queues a FIN behind the data, `Read` discards what comes later and sends nothing.
    /// On a listener, `Read` stops listening.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), ShutdownError> {
        todo!()
    }

    /// Closes in order; dropping the handle does the same. Unread data turns it into a reset.
    pub fn close(&self) {
        todo!()
    }

    /// Resets the connection (close with a linger time of zero).
    pub fn abort(&self) {
        todo!()
    }

    /// The state of the connection.
    pub fn state(&self) -> tcp::State {
        todo!()
    }

    /// The figures of the connection (`TCP_INFO`); `None` unless there is one.
    pub fn info(&self) -> Option<tcp::Info> {
        todo!()
    }

    /// The TCP options.
    pub fn tcp_options(&self) -> tcp::Options {
        todo!()
    }

    /// Changes TCP options; the new ones take effect at once where Linux's do.
    pub fn set_tcp_options(&self, change: impl FnOnce(&mut tcp::Options)) {
        todo!()
    }

    /// Acknowledge at once for a while, or go back to delayed ACKs (`TCP_QUICKACK`).
    pub fn set_quick_ack(&self, on: bool) {
        todo!()
    }

    /// Bytes that can be received without waiting (`FIONREAD`).
    pub fn recv_queue_len(&self) -> usize {
        todo!()
    }

    /// Bytes sent or queued and not acknowledged (`SIOCOUTQ`).
    pub fn send_queue_len(&self) -> usize {
        todo!()
    }

    /// Takes the oldest entry of the error queue (`MSG_ERRQUEUE`).
    pub fn take_queued_error(&self) -> Option<QueuedError> {
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
