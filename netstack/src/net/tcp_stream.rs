//! A TCP connection that waits.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::block::{Patience, Waiting, checked, retry, wait_for};
use super::datagram::family_of;
use crate::buffer::{Gather, Scatter, Sink, Source};
use crate::error::SocketError;
use crate::options::RecvFlags;
use crate::stack::Stack;
use crate::tcp::State;
use crate::wait::Readiness;

/// A TCP connection, as [`std::net::TcpStream`].
///
/// Clones are handles on the same connection. When the last one is dropped, the connection is closed in the background:
/// what was written is still delivered.
#[derive(Debug, Clone)]
pub struct TcpStream {
    socket: Arc<crate::TcpSocket>,
    waiting: Arc<Waiting>,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers, waiting as long as the stack retries the handshake.
    pub fn connect(stack: &Stack, address: impl ToSocketAddrs) -> io::Result<Self> {
        let mut failure = None;
        for address in address.to_socket_addrs()? {
            match Self::connect_to(stack, address, Patience::Forever) {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to")))
    }

    /// Connects to an address, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// `TimedOut` when the time is over, `InvalidInput` if it is zero; those of the handshake.
    pub fn connect_timeout(stack: &Stack, address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        let patience = checked(Some(timeout))?.map_or(Patience::Forever, Patience::Limited);
        Self::connect_to(stack, *address, patience)
    }

    fn connect_to(stack: &Stack, address: SocketAddr, patience: Patience) -> io::Result<Self> {
        let socket = crate::TcpSocket::new(stack, family_of(address));
        socket.connect(address)?;
        wait_for(socket.wait_queue(), Readiness::OUT, patience, || connection_result(&socket))?;
        Ok(Self::from_socket(socket))
    }

    /// Wraps a connected socket, for those that set more than this type offers before they connect.
    pub fn from_socket(socket: crate::TcpSocket) -> Self {
        Self { socket: Arc::new(socket), waiting: Arc::default() }
    }

    /// Our address.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Shuts down one direction or both. Writing ends with a FIN behind what was written.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(self.socket.shutdown(low_shutdown(how))?)
    }

    /// Receives without taking the data out of the queue.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(&mut &mut *buffer, RecvFlags::PEEK)
    }

    /// Sends small segments at once rather than wait for acknowledgments (`TCP_NODELAY`).
    pub fn set_nodelay(&self, is_on: bool) {
        self.socket.set_tcp_options(|options| options.no_delay = is_on);
    }

    /// Whether small segments are sent at once.
    pub fn nodelay(&self) -> bool {
        self.socket.tcp_options().no_delay
    }

    /// The TTL or hop limit of what is sent.
    pub fn set_ttl(&self, ttl: u8) {
        self.socket.set_options(|options| {
            options.ttl = Some(ttl);
            options.hop_limit = Some(ttl);
        });
    }

    /// How long reading waits; `None` is forever.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero. Reading then gives `TimedOut` (the standard library: `WouldBlock` on Unix).
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.waiting.set_read_timeout(timeout)
    }

    /// How long writing waits; `None` is forever.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.waiting.set_write_timeout(timeout)
    }

    /// How long reading waits.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.waiting.read_timeout()
    }

    /// How long writing waits.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.waiting.write_timeout()
    }

    /// Whether operations answer `WouldBlock` rather than wait.
    pub fn set_nonblocking(&self, is_nonblocking: bool) {
        self.waiting.set_nonblocking(is_nonblocking);
    }

    /// Takes the error that the connection failed with, if nobody was told yet (`SO_ERROR`).
    pub fn take_error(&self) -> Option<SocketError> {
        self.socket.take_error()
    }

    /// The socket below, with everything that this type does not offer.
    pub fn socket(&self) -> &crate::TcpSocket {
        &self.socket
    }

    fn receive(&self, out: &mut dyn Sink, flags: RecvFlags) -> io::Result<usize> {
        let patience = self.waiting.reading();
        let interest = Readiness::IN | Readiness::RDHUP;
        retry(self.socket.wait_queue(), interest, patience, || self.socket.try_recv(out, flags))
    }

    fn send(&self, data: &mut dyn Source) -> io::Result<usize> {
        let patience = self.waiting.writing();
        retry(self.socket.wait_queue(), Readiness::OUT, patience, || self.socket.try_send(data))
    }
}

impl Read for &TcpStream {
    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(&mut buffer, RecvFlags::default())
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive(&mut Scatter::new(buffers), RecvFlags::default())
    }
}

impl Write for &TcpStream {
    fn write(&mut self, mut data: &[u8]) -> io::Result<usize> {
        self.send(&mut data)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(&mut Gather::new(buffers))
    }

    /// Nothing is held back here; the stack sends by the rules of TCP.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self).write(data)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a handshake ended; `None` while it has not.
pub(crate) fn connection_result(socket: &crate::TcpSocket) -> Option<io::Result<()>> {
    match socket.state() {
        State::SynSent | State::SynReceived => None,
        // Without an error, somebody else has taken it from the same socket.
        State::Closed => Some(Err(socket.take_error().unwrap_or(SocketError::ConnectionAborted).into())),
        _ => Some(Ok(())),
    }
}

/// The standard library's word for the directions, in the stack's.
pub(crate) fn low_shutdown(how: Shutdown) -> crate::options::Shutdown {
    match how {
        Shutdown::Read => crate::options::Shutdown::Read,
        Shutdown::Write => crate::options::Shutdown::Write,
        Shutdown::Both => crate::options::Shutdown::Both,
    }
}
