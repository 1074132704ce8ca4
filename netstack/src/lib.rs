#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![doc = include_str!("../README.md")]

pub mod advertise;
pub mod async_net;
pub mod autoconf;
pub mod bpf;
pub mod buffer;
pub mod cidr;
mod clock;
mod conntrack;
mod driver;
pub mod error;
mod fast_open_cache;
pub mod filter;
mod flow_table;
pub mod forward;
pub mod gauges;
pub mod guide;
mod hint;
mod interface;
mod ip;
mod ip_config;
pub mod link;
pub mod monitor;
pub mod multicast;
pub mod multicast_route;
mod neighbour;
pub mod net;
pub mod nic;
pub mod options;
mod outbox;
pub mod packet;
mod plain_hash;
pub mod pool;
mod port_table;
mod port_users;
pub mod route;
mod secret;
pub mod socket;
mod stack;
pub mod stats;
mod sync;
pub mod tcp;
mod tcp_endpoint;
pub mod time;
mod timer;
mod topology;
pub mod wait;

pub use cidr::IpCidr;
pub use driver::Driver;
pub use forward::Forwarder;
pub use ip_config::{AutoFlowLabels, FlowLabels, IpConfig};
pub use netstack_wire as wire;
pub use netstack_wire::ethernet::MacAddr;
pub use nic::NicId;
pub use socket::{
    PacketSocket, PingSocket, RawSocket, StreamSnapshot, StreamSnapshotError, TcpSocket, UdpSocket,
};
pub use stack::{Stack, StackBuilder};
