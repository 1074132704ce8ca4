//! A TCP connection for tasks.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};

use crate::sync::Mutex;

use super::interest::Interest;
use crate::buffer::{Gather, Source};
use crate::net::{connection_result, low_shutdown};
use crate::options::{Family, RecvFlags};
use crate::stack::Stack;
use crate::wait::Readiness;

/// A TCP connection. Dropping it closes the connection in the background: what was written is still delivered.
#[derive(Debug)]
pub struct TcpStream {
    socket: crate::TcpSocket,
    reading: Mutex<Interest>,
    writing: Mutex<Interest>,
}

impl TcpStream {
    /// Connects to an address. Dropping the future gives the attempt up.
    pub async fn connect(stack: &Stack, address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let stream = Self::from_socket(crate::TcpSocket::new(stack, family));
        stream.socket.connect(address)?;
        poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    /// Wraps a connected or connecting socket, for those that set more than this type offers.
    pub fn from_socket(socket: crate::TcpSocket) -> Self {
        let reading = Interest::new(Readiness::IN | Readiness::RDHUP);
        Self { socket, reading: Mutex::new(reading), writing: Mutex::new(Interest::new(Readiness::OUT)) }
    }

    /// Ready once the handshake has ended, one way or the other.
    pub fn poll_connected(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let queue = self.socket.wait_queue();
        self.writing.lock().poll_option(context, queue, || connection_result(&self.socket))
    }

    /// Reads what is there, up to the length of `buffer`. Zero is the end of the stream.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, buffer)).await
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the stream ends first; those of the connection. How much was read by then is lost.
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    /// Queues what there is room for; zero only if `data` is empty.
    pub async fn write(&self, data: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_write(context, data)).await
    }

    /// Queues all of `data`.
    pub async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let count = self.write(data).await?;
            data = &data[count..];
        }
        Ok(())
    }

    /// What [`read`](Self::read) awaits.
    pub fn poll_read(&self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let receive = || self.socket.try_recv(&mut &mut *buffer, RecvFlags::default());
        self.reading.lock().poll(context, self.socket.wait_queue(), receive)
    }

    /// What [`write`](Self::write) awaits.
    pub fn poll_write(&self, context: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, &mut &*data)
    }

    /// [`poll_write`](Self::poll_write) from several slices.
    pub fn poll_write_vectored(
        &self,
        context: &Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, &mut Gather::new(slices))
    }

    fn poll_send(&self, context: &Context<'_>, data: &mut dyn Source) -> Poll<io::Result<usize>> {
        let send = || self.socket.try_send(data);
        self.writing.lock().poll(context, self.socket.wait_queue(), send)
    }

    /// Shuts down one direction or both; never waits.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(self.socket.shutdown(low_shutdown(how))?)
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

    /// The socket below, with everything that this type does not offer.
    pub fn socket(&self) -> &crate::TcpSocket {
        &self.socket
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let queue = self.socket.wait_queue();
        self.reading.get_mut().end(queue);
        self.writing.get_mut().end(queue);
    }
}
