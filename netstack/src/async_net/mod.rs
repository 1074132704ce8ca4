//! Sockets whose operations are futures, for any executor.
//!
//! The counterpart of [`crate::net`] for programs that are written with `async`. Nothing here knows an executor: a future
//! that has to wait leaves its [`Waker`](std::task::Waker) with the socket's wait queue. One task may read and another
//! write at the same time; of two tasks that wait for the same direction the later one is woken.
//!
//! A future that is dropped before it is done has done nothing: `read`, `write`, `accept`, `recv` and `send` take or queue only
//! what they report, so that they can stand in a `select!`. `read_exact` and `write_all` are several of these, and tell nothing
//! of those that were done when they are dropped.
//!
//! With the feature `futures-io`, [`TcpStream`] implements `AsyncRead` and `AsyncWrite` of the `futures-io` crate; with the
//! feature `tokio`, those of tokio.
//!
//! ```
//! use netstack::async_net::TcpListener;
//!
//! async fn echo_once(listener: &TcpListener) -> std::io::Result<()> {
//!     let (stream, _peer) = listener.accept().await?;
//!     let mut buffer = [0; 4096];
//!     loop {
//!         match stream.read(&mut buffer).await? {
//!             0 => return Ok(()),
//!             count => stream.write_all(&buffer[..count]).await?,
//!         }
//!     }
//! }
//! ```

mod interest;
mod tcp_listener;
mod tcp_stream;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
mod traits;
mod udp_socket;

pub use tcp_listener::TcpListener;
pub use tcp_stream::TcpStream;
pub use udp_socket::UdpSocket;
