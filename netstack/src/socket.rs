//! Sockets: handles on the endpoints of a stack.
//!
//! No operation here waits. What cannot proceed answers `WouldBlock`; [`Readiness`](crate::wait::Readiness) says when to
//! try again and the socket's [`WaitQueue`](crate::wait::WaitQueue) tells about changes. Dropping a handle means "the
//! application is done": a TCP connection goes on in the background until its data is delivered.

mod packet;
mod ping;
mod raw;
mod tcp;
mod udp;

pub use packet::{LinkAddress, PacketMode, PacketSocket, PacketStats, ReceivedFrame};
pub use ping::PingSocket;
pub use raw::{Icmp6Filter, RawSocket};
pub use tcp::TcpSocket;
pub use udp::UdpSocket;
