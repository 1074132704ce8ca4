//! Asking where packets would go (`ip route get`).

use std::net::IpAddr;

use crate::nic::NicId;
use crate::route::{PacketFacts, Route};

/// A packet to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteLookup {
    /// Where to.
    pub destination: IpAddr,
    /// The source address, if it is fixed.
    pub source: Option<IpAddr>,
    /// The NIC that it has to leave through, as for a socket that is bound to one.
    pub output_nic: Option<NicId>,
    /// The NIC that it came through, for one that would be forwarded.
    pub input_nic: Option<NicId>,
    /// The firewall mark.
    pub mark: u32,
    /// What else rules may look at.
    pub packet: PacketFacts,
}

impl RouteLookup {
    /// A packet of this stack to `destination` of which nothing else is known.
    pub const fn to(destination: IpAddr) -> Self {
        let packet = PacketFacts { protocol: 0, source_port: 0, destination_port: 0, user: 0, tos: 0 };
        Self { destination, source: None, output_nic: None, input_nic: None, mark: 0, packet }
    }
}

/// Where a packet would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Through which NIC.
    pub nic: NicId,
    /// The router that it is handed to, if the destination is not on the link.
    pub gateway: Option<IpAddr>,
    /// The source address that it has, or would get.
    pub source: IpAddr,
    /// The largest packet that gets there, as far as is known.
    pub mtu: u32,
    /// Who receives it.
    pub cast: WayCast,
    /// The route that led to this. None for the stack's own addresses, and where a NIC was given that has no route.
    pub route: Option<Route>,
}

/// Who receives a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WayCast {
    /// One host.
    Unicast,
    /// All on the link.
    Broadcast,
    /// A group.
    Multicast,
    /// This stack.
    Local,
}
