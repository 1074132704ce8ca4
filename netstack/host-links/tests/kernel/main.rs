//! The stack against the host's kernel.

mod autoconf;
mod common;
mod crew;
mod iperf;
mod lifecycle;
mod multicast;
mod peer;
mod probe;
mod router;
mod scan;
mod services;
mod tool;
mod traffic;
mod udp;
