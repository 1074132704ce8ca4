#![forbid(unsafe_code)]
#![warn(missing_docs)]
// The skeleton has bodies to come.
#![allow(unused)]
//! A from-scratch userspace TCP/IP stack: Ethernet to TCP, IPv4 and IPv6.

pub mod buffer;
pub mod cidr;
mod clock;
pub mod error;
mod interface;
pub mod link;
pub mod nic;
pub mod options;
pub mod packet;
pub mod route;
pub mod socket;
mod stack;
pub mod stats;
pub mod tcp;
pub mod time;
mod topology;
pub mod wait;

pub use cidr::IpCidr;
pub use netstack_wire as wire;
pub use nic::NicId;
pub use socket::{PacketSocket, PingSocket, RawSocket, TcpSocket, UdpSocket};
pub use stack::{Stack, StackBuilder};
