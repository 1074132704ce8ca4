#![forbid(unsafe_code)]
//! A from-scratch userspace TCP/IP stack: Ethernet to TCP, IPv4 and IPv6.

pub mod tcp;
pub mod time;
