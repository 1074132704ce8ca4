//! Sockets of the host for guests that use the host's network (`--network=host`).
//!
//! Each internet socket of the guest is one socket of the host, non-blocking and owned by the sentry; waiting stays
//! with the guest's kernel. The host's kernel judges what the sentry may do, which has no privilege: ports below
//! `net.ipv4.ip_unprivileged_port_start` and raw sockets are refused by it, ping sockets where
//! `net.ipv4.ping_group_range` says so. Options, control messages and requests pass only where a list names them, and
//! the same lists make the sentry's system-call filter.

mod control;
mod interface;
mod netlink;
pub(crate) mod option;
mod socket;

use std::io;

use crate::errno::Errno;

pub(super) use interface::ioctl;
pub use socket::HostSocket;

/// The guest's errno for an error of the host's.
fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().and_then(Errno::from_code).unwrap_or(Errno::EIO)
}
