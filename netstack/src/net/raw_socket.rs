//! A raw IP socket that waits.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::block::Waiting;
use super::datagram::{meta_to, receive, send};
use crate::options::{Datagram, Family, RecvFlags, SendMeta};
use crate::stack::Stack;

/// A raw socket for one IP protocol. Clones are handles on the same socket.
///
/// IPv4 packets are received with their header, IPv6 packets without (RFC 3542 section 3), as on Linux.
#[derive(Debug, Clone)]
pub struct RawSocket {
    socket: Arc<crate::RawSocket>,
    waiting: Arc<Waiting>,
}

impl RawSocket {
    /// Makes a socket that receives a protocol's packets, to any of our addresses.
    pub fn new(stack: &Stack, family: Family, protocol: u8) -> Self {
        Self::from_socket(crate::RawSocket::new(stack, family, protocol))
    }

    /// Wraps a socket, for those that set more than this type offers.
    pub fn from_socket(socket: crate::RawSocket) -> Self {
        Self { socket: Arc::new(socket), waiting: Arc::default() }
    }

    /// Receives what is sent to one of our addresses alone, and sends from it.
    pub fn bind(&self, address: IpAddr) -> io::Result<()> {
        Ok(self.socket.bind(SocketAddr::new(address, 0))?)
    }

    /// Sets the destination of [`send`](Self::send), and receives from there alone.
    pub fn connect(&self, peer: IpAddr) -> io::Result<()> {
        Ok(self.socket.connect(SocketAddr::new(peer, 0))?)
    }

    /// Sends a packet's payload to an address.
    pub fn send_to(&self, data: &[u8], destination: IpAddr) -> io::Result<usize> {
        send(&*self.socket, &self.waiting, data, &meta_to(SocketAddr::new(destination, 0)))
    }

    /// Sends a packet's payload to the peer.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        send(&*self.socket, &self.waiting, data, &SendMeta::default())
    }

    /// Receives a packet; its length, cut to the buffer's, and its sender.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, IpAddr)> {
        let datagram = self.recv_datagram(buffer)?;
        Ok((datagram.copied, datagram.from.ip()))
    }

    /// Receives a packet with all that is known about it.
    pub fn recv_datagram(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        receive(&*self.socket, &self.waiting, buffer, RecvFlags::default())
    }

    /// How long receiving waits; `None` is forever.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.waiting.set_read_timeout(timeout)
    }

    /// Whether operations answer `WouldBlock` rather than wait.
    pub fn set_nonblocking(&self, is_nonblocking: bool) {
        self.waiting.set_nonblocking(is_nonblocking);
    }

    /// The socket below, with everything that this type does not offer.
    pub fn socket(&self) -> &crate::RawSocket {
        &self.socket
    }
}
