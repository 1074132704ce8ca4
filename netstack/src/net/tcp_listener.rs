//! A listening TCP socket that waits for connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::block::{Waiting, retry};
use super::datagram::{family_of, first_address};
use super::tcp_stream::TcpStream;
use crate::stack::Stack;
use crate::wait::Readiness;

/// A TCP socket server, as [`std::net::TcpListener`].
///
/// Clones are handles on the same listener; it stops listening when the last one is dropped, which resets connections
/// that nobody accepted.
#[derive(Debug, Clone)]
pub struct TcpListener {
    socket: Arc<crate::TcpSocket>,
    waiting: Arc<Waiting>,
}

impl TcpListener {
    /// Listens on a local address with the backlog that the standard library uses; port zero picks a port.
    ///
    /// The address may be shared with connections of an earlier listener (`SO_REUSEADDR`), as in the standard library.
    pub fn bind(stack: &Stack, address: impl std::net::ToSocketAddrs) -> io::Result<Self> {
        let address = first_address(address)?;
        let socket = crate::TcpSocket::new(stack, family_of(address));
        socket.set_options(|options| options.reuse_address = true);
        socket.bind(address)?;
        socket.listen(DEFAULT_BACKLOG)?;
        Ok(Self::from_socket(socket))
    }

    /// Wraps a socket that listens already, for those that set more than this type offers.
    pub fn from_socket(socket: crate::TcpSocket) -> Self {
        Self { socket: Arc::new(socket), waiting: Arc::default() }
    }

    /// Waits for a connection whose handshake is done, and returns it with its peer's address.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (queue, patience) = (self.socket.wait_queue(), self.waiting.reading());
        let (socket, peer) = retry(queue, Readiness::IN, patience, || self.socket.try_accept())?;
        Ok((TcpStream::from_socket(socket), peer))
    }

    /// An iterator over connections; it never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address that the listener is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// Whether [`accept`](Self::accept) answers `WouldBlock` rather than wait.
    pub fn set_nonblocking(&self, is_nonblocking: bool) {
        self.waiting.set_nonblocking(is_nonblocking);
    }

    /// How long [`accept`](Self::accept) waits; `None` is forever.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero.
    pub fn set_accept_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.waiting.set_read_timeout(timeout)
    }

    /// The socket below, with everything that this type does not offer.
    pub fn socket(&self) -> &crate::TcpSocket {
        &self.socket
    }
}

/// The connections of a listener. See [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _peer)| stream))
    }
}

/// The standard library's backlog on Linux.
pub(crate) const DEFAULT_BACKLOG: u32 = 128;
