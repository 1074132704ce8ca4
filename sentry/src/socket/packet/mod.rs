//! Packet sockets (`packet(7)`): whole frames.

mod socket;

pub use socket::PacketSocket;
pub(crate) use socket::hardware_type;
