//! Network interfaces as the user of a stack sees them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use netstack_wire::ethernet::MacAddr;

use crate::cidr::IpCidr;
use crate::link::{Capabilities, Medium};
use crate::stats::NicStats;

/// Names a NIC within its stack. The numbers start at one and are not used again (they double as `ifindex`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicId(NonZeroU32);

impl NicId {
    /// Makes an id from its number; `None` for zero, which by convention means "any".
    pub const fn from_index(index: u32) -> Option<Self> {
        match NonZeroU32::new(index) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// The number.
    pub const fn index(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for NicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nic{}", self.0)
    }
}

impl fmt::Display for NicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A NIC at one moment.
#[derive(Debug, Clone)]
pub struct NicInfo {
    /// Its number.
    pub id: NicId,
    /// Its name, unique within the stack.
    pub name: String,
    /// What its link carries.
    pub medium: Medium,
    /// What its link does by itself.
    pub capabilities: Capabilities,
    /// The largest IP packet it sends.
    pub mtu: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Its addresses in the order they were added.
    pub addresses: Vec<InterfaceAddress>,
    /// How it behaves.
    pub options: NicOptions,
    /// What it counted.
    pub stats: NicStats,
}

impl NicInfo {
    /// The station address, on an Ethernet medium.
    pub fn mac(&self) -> Option<MacAddr> {
        match self.medium {
            Medium::Ethernet(mac) => Some(mac),
            Medium::Ip | Medium::Loopback => None,
        }
    }
}

/// How the network layer behaves on a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NicOptions {
    /// IPv4 packets that arrive here for somebody else are forwarded (`net.ipv4.conf.*.forwarding`).
    pub forwards_v4: bool,
    /// The same for IPv6; the NIC then is a router's (`net.ipv6.conf.*.forwarding`).
    pub forwards_v6: bool,
    /// Packets that leave where they came from tell their sender about the better way (`send_redirects`).
    pub sends_redirects: bool,
    /// Redirects are followed, unless the NIC forwards (`accept_redirects`).
    pub accepts_redirects: bool,
    /// Which sources are believed (`rp_filter`). Only packets to be forwarded are looked at.
    pub reverse_path: ReversePath,
}

impl Default for NicOptions {
    /// As Linux's.
    fn default() -> Self {
        Self {
            forwards_v4: false,
            forwards_v6: false,
            sends_redirects: true,
            accepts_redirects: true,
            reverse_path: ReversePath::Off,
        }
    }
}

/// Which sources of packets to be forwarded are believed (RFC 3704).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReversePath {
    /// All.
    Off,
    /// Those to which any route leads.
    Loose,
    /// Those to which the best route leads through the NIC that the packet came from.
    Strict,
}

/// An address of a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address and the network it is in.
    pub cidr: IpCidr,
    /// The node at the other end of a point-to-point link. The network then is the one that it is in.
    pub peer: Option<IpAddr>,
    /// A broadcast address besides those that follow from the network. The stack takes what comes for it.
    pub broadcast: Option<Ipv4Addr>,
    /// The metric of the route to the network; `None` for no such route (`noprefixroute` of `ip-address(8)`).
    pub route_metric: Option<u32>,
    /// Whether it may be used.
    pub state: AddressState,
    /// Where it comes from.
    pub origin: AddressOrigin,
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressOrigin {
    /// The user.
    Manual,
    /// Autoconfiguration, for the link itself.
    LinkLocal,
    /// Autoconfiguration, from an advertised prefix.
    Autoconf,
    /// The same, but the address changes (RFC 8981).
    Temporary,
}

impl InterfaceAddress {
    /// One that is used at once, with a route to its network.
    pub const fn new(cidr: IpCidr) -> Self {
        Self {
            cidr,
            peer: None,
            broadcast: None,
            route_metric: Some(0),
            state: AddressState::Preferred,
            origin: AddressOrigin::Manual,
        }
    }

    /// The network that can be reached without a router.
    pub fn network(&self) -> IpCidr {
        let peer = self.peer.and_then(|peer| IpCidr::new(peer, self.cidr.prefix_len()));
        peer.unwrap_or(self.cidr).network()
    }

    /// The address itself.
    pub fn address(&self) -> IpAddr {
        self.cidr.address()
    }
}

/// Whether an address may be used (RFC 4862 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressState {
    /// Duplicate detection runs; the address is not used yet.
    Tentative,
    /// In use.
    Preferred,
    /// In use, but not chosen for new connections.
    Deprecated,
    /// Somebody else has it; it is not used.
    Duplicated,
}

impl AddressState {
    /// Tells whether packets to the address are ours.
    pub fn is_usable(self) -> bool {
        match self {
            Self::Preferred | Self::Deprecated => true,
            Self::Tentative | Self::Duplicated => false,
        }
    }
}

/// A resolved or resolving neighbour, for listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourInfo {
    /// Its NIC.
    pub nic: NicId,
    /// Its address.
    pub address: IpAddr,
    /// Its station address, once known.
    pub mac: Option<MacAddr>,
    /// How sure we are.
    pub state: NeighbourState,
}

/// How sure we are of a neighbour's station address (RFC 4861 section 7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// Asked, no answer yet.
    Incomplete,
    /// Confirmed a short while ago.
    Reachable,
    /// Known, not confirmed lately; used until somebody sends.
    Stale,
    /// In use while waiting for a hint that it still answers.
    Delay,
    /// In use while asking it directly.
    Probe,
    /// Did not answer.
    Failed,
    /// Set by the user; never expires.
    Permanent,
}
