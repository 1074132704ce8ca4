//! Packet sockets (`packet(7)`).

mod membership;
mod ring;
mod socket;
pub(in crate::socket) mod vnet_header;

pub(crate) use ring::Version;
pub use socket::PacketSocket;
pub(crate) use socket::hardware_type;
pub(crate) use vnet_header::VnetHeader;
