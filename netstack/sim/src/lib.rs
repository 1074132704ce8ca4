#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![doc = include_str!("../README.md")]

mod end;
pub mod forge;
#[cfg(feature = "smoltcp")]
pub mod golden;
mod host;
mod link;
mod network;
mod puppet;
mod report;
mod rng;
#[cfg(feature = "smoltcp")]
mod smoltcp_host;
mod transfer;

pub use end::End;
pub use host::{Host, HostSpec};
pub use link::{LinkSpec, LinkStats, Loss, Order, TooLarge};
pub use network::{Network, NodeId, Way};
pub use puppet::Puppet;
pub use rng::Rng;
#[cfg(feature = "smoltcp")]
pub use smoltcp_host::{SmoltcpHost, SmoltcpSpec};
pub use transfer::{Transfer, TransferSpec, pattern_byte};
