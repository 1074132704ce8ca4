//! A UDP socket for tasks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::sync::Mutex;

use super::interest::Interest;
use crate::options::{Datagram, Family, RecvFlags, SendMeta};
use crate::stack::Stack;
use crate::wait::Readiness;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: crate::UdpSocket,
    receiving: Mutex<Interest>,
    sending: Mutex<Interest>,
}

impl UdpSocket {
    /// Binds to a local address; port zero picks a port.
    pub fn bind(stack: &Stack, address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let socket = crate::UdpSocket::new(stack, family);
        socket.bind(address)?;
        Ok(Self::from_socket(socket))
    }

    /// Wraps a socket, for those that set more than this type offers.
    pub fn from_socket(socket: crate::UdpSocket) -> Self {
        let (receiving, sending) = (Interest::new(Readiness::IN), Interest::new(Readiness::OUT));
        Self { socket, receiving: Mutex::new(receiving), sending: Mutex::new(sending) }
    }

    /// Sets the peer of [`send`](Self::send) and receives from it alone. Never waits.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        Ok(self.socket.connect(peer)?)
    }

    /// Sends a datagram to an address.
    pub async fn send_to(&self, data: &[u8], destination: SocketAddr) -> io::Result<usize> {
        let meta = SendMeta { to: Some(destination), ..SendMeta::default() };
        poll_fn(|context| self.poll_send(context, data, &meta)).await
    }

    /// Sends a datagram to the peer.
    pub async fn send(&self, data: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_send(context, data, &SendMeta::default())).await
    }

    /// Receives a datagram; its length, cut to the buffer's, and its sender.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let datagram = poll_fn(|context| self.poll_recv(context, buffer)).await?;
        Ok((datagram.copied, datagram.from))
    }

    /// Receives a datagram; its length, cut to the buffer's.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_from(buffer).await?.0)
    }

    /// Sends with everything that one datagram can override.
    pub fn poll_send(&self, context: &Context<'_>, data: &[u8], meta: &SendMeta) -> Poll<io::Result<usize>> {
        let send = || self.socket.try_send(&mut &*data, meta);
        self.sending.lock().poll(context, self.socket.wait_queue(), send)
    }

    /// Receives a datagram with all that is known about it.
    pub fn poll_recv(&self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Datagram>> {
        let receive = || self.socket.try_recv(&mut &mut *buffer, RecvFlags::default());
        self.receiving.lock().poll(context, self.socket.wait_queue(), receive)
    }

    /// Our address.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// The socket below, with everything that this type does not offer.
    pub fn socket(&self) -> &crate::UdpSocket {
        &self.socket
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let queue = self.socket.wait_queue();
        self.receiving.get_mut().end(queue);
        self.sending.get_mut().end(queue);
    }
}
