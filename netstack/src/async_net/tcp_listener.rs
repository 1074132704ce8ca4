//! A listening TCP socket for tasks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::sync::Mutex;

use super::interest::Interest;
use super::tcp_stream::TcpStream;
use crate::net;
use crate::stack::Stack;
use crate::wait::Readiness;

/// A TCP socket server.
#[derive(Debug)]
pub struct TcpListener {
    listener: net::TcpListener,
    accepting: Mutex<Interest>,
}

impl TcpListener {
    /// Listens on a local address as [`net::TcpListener::bind`] does.
    pub fn bind(stack: &Stack, address: SocketAddr) -> io::Result<Self> {
        net::TcpListener::bind(stack, address).map(Self::from)
    }

    /// Waits for a connection whose handshake is done, and returns it with its peer's address.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// What [`accept`](Self::accept) awaits.
    pub fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let socket = self.listener.socket();
        let mut accepting = self.accepting.lock();
        let accepted = accepting.poll(context, socket.wait_queue(), || socket.try_accept());
        accepted.map_ok(|(socket, peer)| (TcpStream::from_socket(socket), peer))
    }

    /// The address that the listener is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The socket below, with everything that this type does not offer.
    pub fn socket(&self) -> &crate::TcpSocket {
        self.listener.socket()
    }
}

impl From<net::TcpListener> for TcpListener {
    fn from(listener: net::TcpListener) -> Self {
        Self { listener, accepting: Mutex::new(Interest::new(Readiness::IN)) }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.accepting.get_mut().end(self.listener.socket().wait_queue());
    }
}
