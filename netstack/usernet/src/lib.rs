#![forbid(unsafe_code)]
#![warn(missing_docs)]
//! A user-mode gateway: a guest without any privilege on the host reaches the host's network.
//!
//! A second `netstack` terminates the guest's flows and carries them over ordinary host sockets: for each TCP
//! connection that the guest opens the gateway connects on its behalf, and answers the guest's SYN only when that has
//! succeeded. UDP flows have a table with timeouts, echo requests go through ping sockets. Half-closed connections,
//! resets and refusals are carried from side to side as what they are.
//!
//! [`Gateway`] is one thread with one epoll loop. Nothing is buffered beyond the TCP windows: what the host socket does
//! not take stays in the guest's connection, whose window closes, and what the guest does not take is not read.
//!
//! # The guest's network
//! [`Config::default`] is the layout that user-mode networks have had since slirp: the guest is 10.0.2.15 in
//! 10.0.2.0/24, the gateway 10.0.2.2, the name server 10.0.2.3; the same in fd00::/64. The gateway answers DHCP and
//! router solicitations, so that a guest configures itself, and forwards what comes for the name server to one of the
//! host's. The gateway's own address leads to the host's loopback if [`HostLoopback::Gateway`] says so.

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
