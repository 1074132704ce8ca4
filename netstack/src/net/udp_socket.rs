//! A UDP socket that waits.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::block::Waiting;
use super::datagram::{family_of, first_address, meta_to, receive, send};
use crate::error::SocketError;
use crate::nic::NicId;
use crate::options::{Datagram, RecvFlags, SendMeta};
use crate::stack::Stack;

/// A UDP socket, as [`std::net::UdpSocket`]. Clones are handles on the same socket.
///
/// A datagram that is longer than the buffer is truncated; [`recv_datagram`](Self::recv_datagram) tells its full length.
#[derive(Debug, Clone)]
pub struct UdpSocket {
    socket: Arc<crate::UdpSocket>,
    waiting: Arc<Waiting>,
}

impl UdpSocket {
    /// Binds to a local address; port zero picks a port.
    pub fn bind(stack: &Stack, address: impl ToSocketAddrs) -> io::Result<Self> {
        let address = first_address(address)?;
        let socket = crate::UdpSocket::new(stack, family_of(address));
        socket.bind(address)?;
        Ok(Self::from_socket(socket))
    }

    /// Wraps a socket, for those that set more than this type offers before they bind.
    pub fn from_socket(socket: crate::UdpSocket) -> Self {
        Self { socket: Arc::new(socket), waiting: Arc::default() }
    }

    /// Sets the peer of [`send`](Self::send) and receives from it alone.
    pub fn connect(&self, peer: impl ToSocketAddrs) -> io::Result<()> {
        Ok(self.socket.connect(first_address(peer)?)?)
    }

    /// Sends a datagram to an address.
    pub fn send_to(&self, data: &[u8], destination: impl ToSocketAddrs) -> io::Result<usize> {
        self.send_datagram(data, &meta_to(first_address(destination)?))
    }

    /// Sends a datagram to the peer.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_datagram(data, &SendMeta::default())
    }

    /// Sends with everything that one datagram can override, several datagrams in one call included
    /// ([`SendMeta::segment_size`]).
    pub fn send_datagram(&self, data: &[u8], meta: &SendMeta) -> io::Result<usize> {
        send(&*self.socket, &self.waiting, data, meta)
    }

    /// Receives a datagram; its length, cut to the buffer's, and its sender.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let datagram = self.recv_datagram(buffer)?;
        Ok((datagram.copied, datagram.from))
    }

    /// Receives a datagram; its length, cut to the buffer's.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_datagram(buffer)?.copied)
    }

    /// Receives a datagram with all that is known about it.
    pub fn recv_datagram(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        receive(&*self.socket, &self.waiting, buffer, RecvFlags::default())
    }

    /// Receives a datagram and leaves it in the queue.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let datagram = receive(&*self.socket, &self.waiting, buffer, RecvFlags::PEEK)?;
        Ok((datagram.copied, datagram.from))
    }

    /// Our address.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` without one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Whether datagrams may go to broadcast addresses.
    pub fn set_broadcast(&self, is_allowed: bool) {
        self.socket.set_options(|options| options.broadcast = is_allowed);
    }

    /// The TTL or hop limit of unicast datagrams.
    pub fn set_ttl(&self, ttl: u8) {
        self.socket.set_options(|options| {
            options.ttl = Some(ttl);
            options.hop_limit = Some(ttl);
        });
    }

    /// Receives what is sent to a group, on a NIC or on the one that the routes choose.
    pub fn join_multicast(&self, group: IpAddr, nic: Option<NicId>) -> io::Result<()> {
        Ok(self.socket.join_group(group, nic)?)
    }

    /// Ends what [`join_multicast`](Self::join_multicast) began.
    pub fn leave_multicast(&self, group: IpAddr, nic: Option<NicId>) -> io::Result<()> {
        Ok(self.socket.leave_group(group, nic)?)
    }

    /// How long receiving waits; `None` is forever.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero. Receiving then gives `TimedOut` (the standard library: `WouldBlock` on Unix).
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.waiting.set_read_timeout(timeout)
    }

    /// How long sending waits for room; `None` is forever.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.waiting.set_write_timeout(timeout)
    }

    /// How long receiving waits.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.waiting.read_timeout()
    }

    /// How long sending waits.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.waiting.write_timeout()
    }

    /// Whether operations answer `WouldBlock` rather than wait.
    pub fn set_nonblocking(&self, is_nonblocking: bool) {
        self.waiting.set_nonblocking(is_nonblocking);
    }

    /// Takes an error that the network reported, if nobody was told yet (`SO_ERROR`).
    pub fn take_error(&self) -> Option<SocketError> {
        self.socket.take_error()
    }

    /// The socket below, with everything that this type does not offer.
    pub fn socket(&self) -> &crate::UdpSocket {
        &self.socket
    }
}
