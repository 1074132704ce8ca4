//! The stack against the host's kernel.

mod common;
mod crew;
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
