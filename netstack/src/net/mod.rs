//! Sockets that wait, in the shape of [`std::net`].
//!
//! A thin layer over the sockets in [`crate::socket`]: an operation is tried, and if it would block the calling thread
//! sleeps until the socket's wait queue notifies it. Time-outs, `nonblocking` mode and [`std::io`] traits work as in
//! the standard library; the stack is an argument where the standard library has the host's.
//!
//! Somebody else has to carry frames and timers meanwhile: a thread that calls [`Stack::deliver`](crate::Stack::deliver)
//! and a [`Driver`](crate::Driver), or the reader of a host link, which does both. A stack with a manual clock has
//! neither, so that waiting there waits forever.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! use netstack::net::{TcpListener, TcpStream};
//! use netstack::{Driver, Stack};
//!
//! # fn main() -> std::io::Result<()> {
//! let stack = Stack::builder().build();
//! let _timers = Driver::start(&stack)?;
//! let listener = TcpListener::bind(&stack, "127.0.0.1:80")?;
//! let server = std::thread::spawn(move || -> std::io::Result<()> {
//!     let (mut stream, _peer) = listener.accept()?;
//!     std::io::copy(&mut stream.clone(), &mut stream)?;
//!     Ok(())
//! });
//! let mut stream = TcpStream::connect(&stack, "127.0.0.1:80")?;
//! stream.write_all(b"hello")?;
//! stream.shutdown(std::net::Shutdown::Write)?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! assert_eq!(answer, "hello");
//! # server.join().unwrap()
//! # }
//! ```

mod block;
mod datagram;
mod io_error;
mod raw_socket;
mod tcp_listener;
mod tcp_stream;
mod udp_socket;

pub(crate) use io_error::Transient;
pub use raw_socket::RawSocket;
pub use tcp_listener::{Incoming, TcpListener};
pub use tcp_stream::TcpStream;
pub(crate) use tcp_stream::{connection_result, low_shutdown};
pub use udp_socket::UdpSocket;
