//! Naming connections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Source and destination of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Endpoints {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Endpoints {
    pub(crate) fn new(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        Self { source: source.into(), destination: destination.into() }
    }

    /// The other direction.
    pub(crate) fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.source, self.destination)
    }
}
