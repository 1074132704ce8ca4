//! What rules do.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Counts, and goes on with the next rule.
    Continue,
    /// The packet passes this table.
    Accept,
    /// The packet vanishes.
    Drop,
    /// The packet is dropped and its sender is told. Only in the filter table.
    Reject(RejectWith),
    /// Back to the rule after the jump; from a built-in chain, to its policy.
    Return,
    /// To a user's chain of the same table, and back.
    Jump(String),
    /// To a user's chain of the same table, and back to where this chain was jumped to from.
    Goto(String),
    /// Changes the firewall mark: clears the bits of `mask`, and then toggles those of `value`.
    Mark {
        /// The bits to toggle.
        value: u32,
        /// The bits to clear.
        mask: u32,
    },
    /// Changes the mark of the packet's flow, or takes it over.
    ConnMark(ConnMarkAction),
    /// Clears bits of the type of service or traffic class, and then toggles others. Only in the mangle table.
    Tos {
        /// The bits to toggle.
        value: u8,
        /// The bits to clear.
        mask: u8,
    },
    /// Changes the TTL or hop limit. Only in the mangle table.
    Ttl(TtlAction),
    /// Lowers the MSS that a SYN announces. Only where packets leave.
    Mss(MssTarget),
    /// Gives the packet to a transparent socket, and marks it. Only in the mangle table, where packets arrive, with a test for TCP or
    /// UDP. Packets that no such socket wants are dropped.
    Proxy(ProxyTarget),
    /// Writes a line about the packet ([`Stack::set_filter_log`](crate::Stack::set_filter_log)), and goes on.
    Log(LogPrefix),
    /// The packet is not tracked. Only in the raw table.
    NoTrack,
    /// Translates the source. Only in the nat table, where packets leave or are for this stack.
    SourceNat(NatRange),
    /// Translates the destination. Only in the nat table, where packets arrive or are made.
    DestinationNat(NatRange),
    /// Translates the network part of an address, and keeps the rest: the destination where packets arrive or are made, the
    /// source elsewhere. Only in the nat table.
    NetMap(RangeInclusive<IpAddr>),
    /// Translates the source to the address of the NIC that the packet leaves through.
    Masquerade {
        /// The ports to use, if not those that are free near the original.
        ports: Option<RangeInclusive<u16>>,
        /// How they are chosen.
        choice: Ports,
    },
    /// Translates the destination to this stack: the address of the NIC that the packet came in through.
    Redirect {
        /// The ports to use, if not the original.
        ports: Option<RangeInclusive<u16>>,
        /// How they are chosen.
        choice: Ports,
    },
}

/// The socket of a transparent proxy, which gets the first packets of flows to anywhere. A route of kind
/// [`Local`](crate::route::RouteKind::Local) has to keep the packets here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ProxyTarget {
    /// The address that it is bound to. Not set: that of the NIC the packet came in through.
    pub address: Option<IpAddr>,
    /// Its port; zero for the packet's own.
    pub port: u16,
    /// The bits of the packet's mark to toggle.
    pub mark: u32,
    /// The bits of the mark to clear before.
    pub mask: u32,
}

/// What to translate to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatRange {
    /// The addresses; flows of a host stay on one. Not set: the original.
    pub addresses: Option<RangeInclusive<IpAddr>>,
    /// The ports. Not set: the original one, unless it is taken.
    pub ports: Option<RangeInclusive<u16>>,
    /// How ports are chosen.
    pub choice: Ports,
}

/// How a port is chosen for a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Ports {
    /// The original one if it is free and allowed.
    #[default]
    Near,
    /// A random one (`--random`, `--random-fully`).
    Random,
    /// The one that is as far into the range as the original is from here.
    Offset(u16),
}

impl NatRange {
    /// A single address, with the original port if possible.
    pub fn to(address: IpAddr) -> Self {
        Self { addresses: Some(address..=address), ..Self::default() }
    }

    /// A single address and port.
    pub fn to_port(address: IpAddr, port: u16) -> Self {
        Self { addresses: Some(address..=address), ports: Some(port..=port), choice: Ports::Near }
    }
}

/// What is done with marks of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnMarkAction {
    /// Clears the bits of `mask` in the flow's mark, and then toggles those of `value`.
    Set {
        /// The bits to toggle.
        value: u32,
        /// The bits to clear.
        mask: u32,
    },
    /// Copies bits of the packet's mark to the flow's.
    Save {
        /// The bits of the packet's mark.
        packet_mask: u32,
        /// The bits of the flow's mark that they replace.
        flow_mask: u32,
    },
    /// Copies bits of the flow's mark to the packet's.
    Restore {
        /// The bits of the packet's mark that are replaced.
        packet_mask: u32,
        /// The bits of the flow's mark.
        flow_mask: u32,
    },
}

/// What is done with a TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TtlAction {
    /// Sets it.
    Set(u8),
    /// Raises it, to 255 at most.
    Increase(u8),
    /// Lowers it, to 0 at least.
    Decrease(u8),
}

/// What an announced MSS becomes; never more than it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MssTarget {
    /// This.
    Set(u16),
    /// What fits the way that the packet takes.
    ClampToPath,
}

/// What a logged line begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPrefix {
    /// How bad it is, as syslog(2) counts: 0 to 7.
    pub level: u8,
    /// The words before the packet.
    pub prefix: String,
}

/// What the sender of a rejected packet is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectWith {
    /// Port unreachable: the usual answer.
    PortUnreachable,
    /// Host unreachable; address unreachable in IPv6.
    HostUnreachable,
    /// Network unreachable; no route in IPv6.
    NetUnreachable,
    /// Protocol unreachable. Not in IPv6.
    ProtocolUnreachable,
    /// The network is prohibited. Not in IPv6.
    NetProhibited,
    /// The host is prohibited. Not in IPv6.
    HostProhibited,
    /// Communication is administratively prohibited.
    AdminProhibited,
    /// The source address failed a policy. Only in IPv6.
    PolicyFailed,
    /// The route is one that rejects. Only in IPv6.
    RejectRoute,
    /// A TCP reset. Only with a test for TCP.
    TcpReset,
}
