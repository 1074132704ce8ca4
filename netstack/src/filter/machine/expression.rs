//! What rules of the machine are made of.

use std::sync::Arc;
use std::time::Duration;

use super::state::{CounterState, LastState, Object, QuotaState, RateState};
use super::{Register, SetId, Verdict};
use crate::conntrack::Direction;
use crate::filter::rule::{LogPrefix, Ports, RejectWith, Target};
use crate::filter::test::CompiledTest;

/// A step of a rule. Where one does not apply to a packet, the rule ends and the next one begins.
#[derive(Debug)]
pub enum Expression {
    /// Loads bytes of the packet.
    Load {
        /// Which.
        from: Payload,
        /// To where.
        to: Register,
    },
    /// Changes bytes of the packet, and with them the checksums that cover them.
    Store {
        /// Which.
        to: Payload,
        /// From where.
        from: Register,
    },
    /// Loads a part of an option or extension header, or whether there is one.
    LoadExtension {
        /// What kind of option.
        kind: ExtensionKind,
        /// Its number.
        number: u8,
        /// Where in it.
        offset: u8,
        /// How many bytes; only the presence (0 or 1) for `None`.
        len: Option<u8>,
        /// To where.
        to: Register,
    },
    /// Changes a part of a TCP option.
    StoreExtension {
        /// Its number.
        number: u8,
        /// Where in it.
        offset: u8,
        /// How many bytes: two or four.
        len: u8,
        /// From where.
        from: Register,
    },
    /// Loads what is known of the packet.
    Meta {
        /// What.
        field: MetaField,
        /// To where.
        to: Register,
    },
    /// Sets the packet's mark.
    SetMark(Register),
    /// Does nothing with a value: for what has no meaning here.
    Ignore(Register),
    /// Loads what is known of the flow.
    Flow {
        /// What.
        field: ConnField,
        /// In which direction, for what both have.
        direction: Option<FlowDirection>,
        /// To where.
        to: Register,
    },
    /// Sets the flow's mark.
    SetFlowMark(Register),
    /// Loads what is known of the route.
    Route {
        /// What.
        field: RouteField,
        /// To where.
        to: Register,
    },
    /// Asks the routing tables about an address.
    Fib {
        /// What to ask about.
        input: FibInput,
        /// What to know.
        result: FibResult,
        /// To where.
        to: Register,
    },
    /// Goes on if a register compares to bytes like that.
    Compare {
        /// Which register.
        register: Register,
        /// How.
        comparison: Comparison,
        /// To what.
        bytes: Vec<u8>,
    },
    /// Goes on if a register is in the range, or is not.
    Range {
        /// Which register.
        register: Register,
        /// The first and the last; both have one length.
        range: (Vec<u8>, Vec<u8>),
        /// Whether it must not be.
        is_inverted: bool,
    },
    /// Computes with bits.
    Bitwise {
        /// From where.
        from: Register,
        /// To where.
        to: Register,
        /// How many bytes.
        len: u8,
        /// What.
        op: BitwiseOp,
    },
    /// Swaps the bytes of each number: between the machine's order and the network's.
    SwapBytes {
        /// From where.
        from: Register,
        /// To where.
        to: Register,
        /// How many bytes.
        len: u8,
        /// How many make a number: 2, 4 or 8.
        size: u8,
    },
    /// Sets a register.
    Immediate {
        /// Which.
        to: Register,
        /// To what.
        bytes: Vec<u8>,
    },
    /// Decides.
    Verdict(Verdict),
    /// Goes on if the set has the key, or has it not.
    Lookup {
        /// Which set.
        set: SetId,
        /// Where the key is.
        key: Register,
        /// Where the value goes to.
        to: Option<Register>,
        /// Whether the set must not have it.
        is_inverted: bool,
    },
    /// Looks up a verdict, and follows it.
    VerdictMap {
        /// In which set.
        set: SetId,
        /// Where the key is.
        key: Register,
    },
    /// Adds to or removes from a set.
    Update(SetUpdate),
    /// Counts.
    Counter(Arc<CounterState>),
    /// Goes on until so many bytes have passed, or from then on.
    Quota(Arc<QuotaState>),
    /// Goes on at most this often, or if it is more often.
    Rate(Arc<RateState>),
    /// Notes when it ran last.
    Last(Arc<LastState>),
    /// Uses an object that other rules use as well.
    Object(Object),
    /// Uses the object that a set has for a key.
    ObjectMap {
        /// Which set.
        set: SetId,
        /// Where the key is.
        key: Register,
    },
    /// Translates the flow.
    Nat(NatRule),
    /// Gives the packet to a transparent socket; the rule ends if there is none.
    Proxy(ProxyRule),
    /// Loads what is known of the socket that the packet is for; the rule ends if there is none.
    Socket {
        /// What.
        field: SocketField,
        /// To where.
        to: Register,
    },
    /// Drops the packet and tells its sender.
    Reject(RejectRule),
    /// Writes a line.
    Log(LogRule),
    /// The packet is not tracked.
    NoTrack,
    /// A number that counts up, or is random.
    Number {
        /// To where.
        to: Register,
        /// Below this, from `offset` on.
        modulus: u32,
        /// What to add.
        offset: u32,
        /// What was counted; random for `None`.
        count: Option<Arc<std::sync::atomic::AtomicU32>>,
    },
    /// A test of the other kind of rules.
    Test(CompatTest),
    /// A target of the other kind of rules.
    Target(Target),
}

/// Tests of the other kind of rules, with what they remember. All must pass.
#[derive(Debug)]
pub struct CompatTest(pub(super) Vec<CompiledTest>);

/// Bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// From where to count.
    pub base: PayloadBase,
    /// How far from there.
    pub offset: u32,
    /// How many.
    pub len: u8,
}

/// Where a header begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadBase {
    /// The Ethernet header; only to be read.
    Link,
    /// The IP header.
    Network,
    /// The transport header.
    Transport,
    /// What the transport carries; only to be read.
    Inner,
}

/// What kind of option or extension header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtensionKind {
    /// An IPv6 extension header.
    Ipv6,
    /// A TCP option.
    Tcp,
    /// An IPv4 option.
    Ipv4,
}

/// What is known of a packet. Numbers are in the machine's order unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaField {
    /// Its length.
    Length,
    /// The EtherType, in network order.
    Protocol,
    /// The queueing priority: always 0.
    Priority,
    /// The mark.
    Mark,
    /// The index of the NIC it came in through; 0 for none.
    InputIndex,
    /// The index of the NIC it leaves through.
    OutputIndex,
    /// The name of the NIC it came in through, in 16 bytes.
    InputName,
    /// The name of the NIC it leaves through.
    OutputName,
    /// The hardware type of the NIC it came in through.
    InputType,
    /// The hardware type of the NIC it leaves through.
    OutputType,
    /// The user of the socket that sent it.
    User,
    /// The group of the socket that sent it.
    Group,
    /// 2 for IPv4, 10 for IPv6.
    Family,
    /// The transport protocol.
    TransportProtocol,
    /// Whom it is for on the link: 0 a host, 1 all, 2 a group.
    PacketKind,
    /// A processor's number: always 0.
    Processor,
    /// The group of a NIC: always 0.
    InterfaceGroup,
    /// A random number.
    Random,
    /// Seconds of the day, or nanoseconds since 1970: the stack knows no calendar, and the rule ends.
    Calendar,
}

/// What is known of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnField {
    /// What the packet is to it, as a bit.
    State,
    /// 0 for the original direction, 1 for the other.
    Direction,
    /// What it is.
    Status,
    /// Its mark.
    Mark,
    /// In how many milliseconds it is forgotten.
    Expiration,
    /// The family.
    Family,
    /// The transport protocol.
    Protocol,
    /// The source address.
    Source,
    /// The destination address.
    Destination,
    /// The source port, in network order.
    SourcePort,
    /// The destination port.
    DestinationPort,
    /// Packets so far, of both directions unless one is given.
    Packets,
    /// Labels, zones and helpers: there are none, and all is zero.
    Nothing(u8),
}

/// A direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowDirection {
    /// From who opened it.
    Original,
    /// From the other side.
    Reply,
}

impl From<FlowDirection> for Direction {
    fn from(direction: FlowDirection) -> Self {
        match direction {
            FlowDirection::Original => Self::Original,
            FlowDirection::Reply => Self::Reply,
        }
    }
}

/// What is known of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteField {
    /// The realm: always 0.
    Realm,
    /// The next hop, if it is an IPv4 address.
    NextHopV4,
    /// The next hop, if it is an IPv6 address.
    NextHopV6,
    /// The largest segment.
    Mss,
}

/// What to ask the routing tables about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FibInput {
    /// The source address, and not the destination.
    pub is_source: bool,
    /// The packet's mark counts.
    pub with_mark: bool,
    /// Only the NIC that the packet came in through counts.
    pub with_input: bool,
    /// Only the NIC that the packet leaves through counts.
    pub with_output: bool,
}

/// What to know of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FibResult {
    /// The index of the NIC that leads there.
    Index,
    /// Its name.
    Name,
    /// The type of the route.
    Kind,
    /// Whether there is a NIC that leads there.
    Presence,
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// Less, byte by byte.
    Less,
    /// Less or the same.
    LessOrEqual,
    /// More.
    Greater,
    /// More or the same.
    GreaterOrEqual,
}

/// A computation with bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BitwiseOp {
    /// Keeps the bits of the first, then toggles those of the second.
    MaskXor(Vec<u8>, Vec<u8>),
    /// Shifts.
    Shift(Shift, u32),
}

/// A direction to shift in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shift {
    /// Up.
    Left,
    /// Down.
    Right,
}

/// A change of a set.
#[derive(Debug)]
pub struct SetUpdate {
    /// Which set.
    pub set: SetId,
    /// What to do.
    pub kind: UpdateKind,
    /// Where the key is.
    pub key: Register,
    /// Where the value is.
    pub data: Option<Register>,
    /// When the element is forgotten; the set's own time for `None`.
    pub timeout: Option<Duration>,
    /// What a new element does for its packets, made anew for each.
    pub expressions: Vec<Expression>,
    /// Goes on if the element could not be entered.
    pub is_inverted: bool,
}

/// What a [`SetUpdate`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdateKind {
    /// Adds it if it is not there.
    Add,
    /// Adds it, or makes it young again.
    Update,
    /// Removes it.
    Delete,
}

/// Which families an expression or chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Both,
}

impl AddressFamily {
    /// Whether packets of IPv4, or otherwise IPv6, are among them.
    pub(in crate::filter) fn has(self, is_v4: bool) -> bool {
        match self {
            Self::V4 => is_v4,
            Self::V6 => !is_v4,
            Self::Both => true,
        }
    }
}

/// A translation.
#[derive(Debug, Clone, PartialEq)]
pub struct NatRule {
    /// What kind.
    pub kind: NatKind,
    /// Packets of which family.
    pub family: AddressFamily,
    /// Where the first and last address are.
    pub addresses: Option<(Register, Register)>,
    /// Where the first and last port are, in network order.
    pub ports: Option<(Register, Register)>,
    /// How ports are chosen.
    pub choice: Ports,
    /// Only the network part of the address is translated.
    pub keeps_host: bool,
}

/// What a [`NatRule`] translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatKind {
    /// The source.
    Source,
    /// The destination.
    Destination,
    /// The source, to the address of the NIC that the packet leaves through.
    Masquerade,
    /// The destination, to this stack.
    Redirect,
}

/// Which socket gets a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyRule {
    /// Packets of which family.
    pub family: AddressFamily,
    /// Where the address is that it is bound to; that of the NIC the packet came in through for `None`.
    pub address: Option<Register>,
    /// Where its port is, in network order; the packet's own for `None`.
    pub port: Option<Register>,
}

/// What is known of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketField {
    /// Whether it may have any address, in a byte.
    Transparent,
    /// Its mark.
    Mark,
    /// Whether it is bound to no address, in a byte.
    Wildcard,
}

/// How to reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectRule {
    /// With this, in the packet's family.
    With(RejectWith),
    /// With this to IPv4 packets and that to IPv6 packets.
    ByFamily(RejectWith, RejectWith),
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRule {
    /// A line.
    Line(LogPrefix),
    /// Nothing here: it is for a listener that there is not.
    Elsewhere,
}
