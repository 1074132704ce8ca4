#![forbid(unsafe_code)]
//! Views and representations of the wire formats of Ethernet, ARP, IPv4, IPv6, ICMP, UDP and TCP.

pub mod seq;
pub mod tcp;
