//! What identifies one direction of a flow.

use std::net::IpAddr;

use netstack_wire::icmpv4::{self, Icmpv4Message};
use netstack_wire::icmpv6::{self, Icmpv6Message};
use netstack_wire::ip::Protocol;

/// Addresses, protocol and ports of one direction. For echoes the source's number is the identifier and the
/// destination's the type; for protocols without ports both are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) source_id: u16,
    pub(crate) destination_id: u16,
}

/// How a packet is tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identified {
    /// It belongs to a flow of its own.
    Flow(Tuple),
    /// It is an ICMP error: the flow is that of the packet in it.
    Error,
    /// It keeps the link going (neighbour discovery, memberships) and is not tracked.
    Link,
    /// It belongs to nothing.
    Invalid,
}

impl Tuple {
    /// Reads the tuple of a packet from its transport header, or of an embedded packet of which at least eight bytes are
    /// there.
    pub(crate) fn identify(
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
        transport: &[u8],
    ) -> Identified {
        let base = Self { source, destination, protocol, source_id: 0, destination_id: 0 };
        match protocol {
            Protocol::TCP | Protocol::UDP => match transport {
                &[a, b, c, d, _, _, _, _, ..] => Identified::Flow(Self {
                    source_id: u16::from_be_bytes([a, b]),
                    destination_id: u16::from_be_bytes([c, d]),
                    ..base
                }),
                _ => Identified::Invalid,
            },
            Protocol::ICMP if source.is_ipv4() => match transport {
                [kind, ..] if Icmpv4Message::is_error_kind(*kind) => Identified::Error,
                _ => base.echo(transport, &[ICMPV4_ECHO, ICMPV4_REPLY]),
            },
            Protocol::ICMPV6 if source.is_ipv6() => match transport {
                [kind, ..] if Icmpv6Message::is_error_kind(*kind) => Identified::Error,
                // Multicast listener discovery, router and neighbour discovery, MLDv2 reports.
                [130..=137 | 143, ..] => Identified::Link,
                _ => base.echo(transport, &[ICMPV6_ECHO, ICMPV6_REPLY]),
            },
            _ => Identified::Flow(base),
        }
    }

    fn echo(self, transport: &[u8], kinds: &[u8]) -> Identified {
        let &[kind, 0, _, _, a, b, _, _, ..] = transport else { return Identified::Invalid };
        if !kinds.contains(&kind) {
            return Identified::Invalid;
        }
        let source_id = u16::from_be_bytes([a, b]);
        Identified::Flow(Self { source_id, destination_id: u16::from(kind), ..self })
    }

    /// The tuple of the answers.
    pub(crate) fn inverted(self) -> Self {
        let Self { source, destination, protocol, source_id, destination_id } = self;
        let (source_id, destination_id) = match protocol {
            Protocol::ICMP | Protocol::ICMPV6 => (source_id, inverted_kind(destination_id)),
            _ => (destination_id, source_id),
        };
        Self { source: destination, destination: source, protocol, source_id, destination_id }
    }

    /// Whether the protocol has numbers that can be changed to tell flows apart.
    pub(crate) fn has_ids(&self) -> bool {
        matches!(self.protocol, Protocol::TCP | Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6)
    }

    /// Whether a first packet of this kind may begin a flow: of echoes, only requests.
    pub(crate) fn may_begin(&self) -> bool {
        let reply = match self.protocol {
            Protocol::ICMP => ICMPV4_REPLY,
            Protocol::ICMPV6 => ICMPV6_REPLY,
            _ => return true,
        };
        self.destination_id != u16::from(reply)
    }
}

fn inverted_kind(kind: u16) -> u16 {
    const PAIRS: [(u8, u8); 2] = [(ICMPV4_ECHO, ICMPV4_REPLY), (ICMPV6_ECHO, ICMPV6_REPLY)];
    for (a, b) in PAIRS {
        let (a, b) = (u16::from(a), u16::from(b));
        if kind == a {
            return b;
        }
        if kind == b {
            return a;
        }
    }
    kind
}

const ICMPV4_ECHO: u8 = Icmpv4Message::EchoRequest { ident: 0, sequence: 0 }.kind();
const ICMPV4_REPLY: u8 = Icmpv4Message::EchoReply { ident: 0, sequence: 0 }.kind();
const ICMPV6_ECHO: u8 = Icmpv6Message::EchoRequest { ident: 0, sequence: 0 }.kind();
const ICMPV6_REPLY: u8 = Icmpv6Message::EchoReply { ident: 0, sequence: 0 }.kind();
const _: () = assert!(icmpv4::HEADER_LEN == icmpv6::HEADER_LEN);
