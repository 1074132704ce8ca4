//! Sockets: handles on the endpoints of a stack.
//!
//! No operation here waits. What cannot proceed answers `WouldBlock`; [`Readiness`](crate::wait::Readiness) says when to
//! try again and the socket's [`WaitQueue`](crate::wait::WaitQueue) tells about changes. Dropping a handle means "the
//! application is done": a TCP connection goes on in the background until its data is delivered.

mod copy_in;
mod datagram;
mod front;
mod membership;
mod packet;
pub(crate) mod ping;
pub(crate) mod raw;
mod tcp;
pub(crate) mod udp;

pub(crate) use copy_in::send_pool;
pub(crate) use datagram::{DatagramEndpoint, socket_addr};
pub use packet::{
    FanoutMode, Frame, FrameSink, LinkAddress, Offload, PacketMode, PacketSocket, PacketStats, ReceivedFrame,
    Taken,
};
pub(crate) use packet::{PacketSockets, frames_for_link};
pub use ping::PingSocket;
pub(crate) use raw::RawSockets;
pub use raw::{Icmp6Filter, RawInlet, RawSocket};
pub use tcp::{StreamSnapshot, StreamSnapshotError, TcpSocket};
pub use udp::UdpSocket;
