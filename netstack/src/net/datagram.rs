//! What the datagram sockets have in common.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use super::block::{Waiting, retry};
use crate::error::{RecvError, SendError};
use crate::options::{Datagram, Family, RecvFlags, SendMeta};
use crate::wait::{Readiness, WaitQueue};

/// A socket of the stack that sends and receives datagrams.
pub(super) trait DatagramSocket {
    fn try_send(&self, data: &[u8], meta: &SendMeta) -> Result<usize, SendError>;
    fn try_recv(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Datagram, RecvError>;
    fn wait_queue(&self) -> &WaitQueue;
}

impl DatagramSocket for crate::UdpSocket {
    fn try_send(&self, mut data: &[u8], meta: &SendMeta) -> Result<usize, SendError> {
        self.try_send(&mut data, meta)
    }

    fn try_recv(&self, mut buffer: &mut [u8], flags: RecvFlags) -> Result<Datagram, RecvError> {
        self.try_recv(&mut buffer, flags)
    }

    fn wait_queue(&self) -> &WaitQueue {
        self.wait_queue()
    }
}

impl DatagramSocket for crate::RawSocket {
    fn try_send(&self, mut data: &[u8], meta: &SendMeta) -> Result<usize, SendError> {
        self.try_send(&mut data, meta)
    }

    fn try_recv(&self, mut buffer: &mut [u8], flags: RecvFlags) -> Result<Datagram, RecvError> {
        self.try_recv(&mut buffer, flags)
    }

    fn wait_queue(&self) -> &WaitQueue {
        self.wait_queue()
    }
}

/// Sends a datagram, waiting for room.
pub(super) fn send(
    socket: &impl DatagramSocket,
    waiting: &Waiting,
    data: &[u8],
    meta: &SendMeta,
) -> io::Result<usize> {
    retry(socket.wait_queue(), Readiness::OUT, waiting.writing(), || socket.try_send(data, meta))
}

/// Receives a datagram, waiting for one.
pub(super) fn receive(
    socket: &impl DatagramSocket,
    waiting: &Waiting,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Datagram> {
    retry(socket.wait_queue(), Readiness::IN, waiting.reading(), || socket.try_recv(buffer, flags))
}

/// Where a datagram goes, if not to the connected peer.
pub(super) fn meta_to(destination: SocketAddr) -> SendMeta {
    SendMeta { to: Some(destination), ..SendMeta::default() }
}

/// The family of the socket that an address needs.
pub(crate) fn family_of(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// The first address that a name stands for.
pub(crate) fn first_address(addresses: impl ToSocketAddrs) -> io::Result<SocketAddr> {
    let first = addresses.to_socket_addrs()?.next();
    first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address"))
}
