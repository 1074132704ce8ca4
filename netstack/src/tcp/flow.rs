//! The four-tuple that names a connection.

use core::net::IpAddr;

/// A connection's addresses and ports, seen from this end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Flow {
    /// Our address.
    pub local_addr: IpAddr,
    /// The peer's address.
    pub remote_addr: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Tells apart equal link-local addresses of different links: the NIC's number there, otherwise zero.
    pub zone: u32,
}
