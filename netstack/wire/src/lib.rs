#![forbid(unsafe_code)]
#![warn(missing_docs)]
//! Views and representations of the wire formats of Ethernet, ARP, IPv4, IPv6, ICMP, UDP and TCP.

pub mod ethernet;
pub mod seq;
pub mod tcp;
