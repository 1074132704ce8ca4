//! Packet sockets (`packet(7)`).

mod membership;
mod ring;
mod socket;

pub(crate) use ring::Version;
pub use socket::PacketSocket;
pub(crate) use socket::hardware_type;
