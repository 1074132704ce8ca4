//! What the machine knows of the path to the peer.

/// The path's properties, given at connection time and updated by `Connection::on_pmtu`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathInfo {
    /// The link's MTU less the IP header and the 20-byte TCP header: what we advertise as MSS.
    pub link_mss: u16,
    /// The same for the path MTU, where it is known to be smaller; otherwise equal.
    pub path_mss: u16,
}

impl PathInfo {
    /// A path whose MTU is that of the link.
    #[must_use]
    pub fn with_mss(mss: u16) -> Self {
        Self { link_mss: mss, path_mss: mss }
    }
}
