#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![doc = include_str!("../README.md")]

mod addresses;
mod config;
mod dhcp;
mod dhcp_wire;
mod echo;
mod expiry;
mod filter;
mod flows;
mod gateway;
mod host;
mod port_forward;
mod ready;
mod relay;
mod router;
mod slab;
mod udp;

pub use config::{Config, HostLoopback, Network4, Network6, ParseForwardError, PortForward, Transport};
pub use filter::{FilterError, confine};
pub use gateway::{Gateway, GatewayError, Refused, Statistics};
pub use host::host_resolvers;
pub use port_forward::bind_forwards;
