//! What rules look at.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use netstack_wire::ip::Protocol;
use netstack_wire::tcp::TcpFlags;

use crate::MacAddr;
use crate::cidr::IpCidr;
use crate::conntrack::{ConnState, ConnStatus};
use crate::route::MarkMatch;

use super::measure::{CarriedTest, ConnLimit, ContentTest, TimeTest};

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The source address (`-s`).
    Source(IpCidr),
    /// The destination address (`-d`).
    Destination(IpCidr),
    /// The source address under a mask with holes.
    MaskedSource(IpAddr, IpAddr),
    /// The destination address under a mask with holes.
    MaskedDestination(IpAddr, IpAddr),
    /// The source address is in the range (`-m iprange --src-range`).
    SourceRange(RangeInclusive<IpAddr>),
    /// The destination address is in the range (`-m iprange --dst-range`).
    DestinationRange(RangeInclusive<IpAddr>),
    /// The name of the NIC it came in through; a final `+` stands for anything (`-i`).
    InputNic(String),
    /// The name of the NIC it leaves through (`-o`).
    OutputNic(String),
    /// The transport protocol (`-p`).
    Protocol(Protocol),
    /// A fragment other than the first (`-f`).
    LaterFragment,
    /// The source port is in one of the ranges (`--sport`, `-m multiport --sports`).
    SourcePort(Vec<RangeInclusive<u16>>),
    /// The destination port is (`--dport`, `-m multiport --dports`).
    DestinationPort(Vec<RangeInclusive<u16>>),
    /// One of the two is (`-m multiport --ports`).
    EitherPort(Vec<RangeInclusive<u16>>),
    /// Of the flags in `mask`, exactly those in `set` are set (`--tcp-flags`).
    TcpFlags {
        /// The flags to look at.
        mask: TcpFlags,
        /// Those of them that must be set.
        set: TcpFlags,
    },
    /// The segment has an option of this kind (`--tcp-option`).
    TcpOption(u8),
    /// The MSS that a SYN announces is in the range (`-m tcpmss`).
    Mss(RangeInclusive<u16>),
    /// The ICMP type, and the codes (`--icmp-type`, `--icmpv6-type`).
    Icmp {
        /// The type.
        kind: u8,
        /// The codes.
        codes: RangeInclusive<u8>,
    },
    /// What the packet is to its flow (`-m conntrack --ctstate`). Any of these.
    State(ConnState),
    /// What its flow is (`-m conntrack`). Packets without a flow fail.
    Flow(ConnTest),
    /// The mark of its flow (`-m connmark`).
    ConnMark(MarkMatch),
    /// The firewall mark (`-m mark`).
    Mark(MarkMatch),
    /// Who sent it: [`SocketOptions::owner`](crate::options::SocketOptions) (`-m owner`).
    Owner(OwnerTest),
    /// What an address is to this stack (`-m addrtype`).
    AddressKind {
        /// Which address.
        side: Side,
        /// Any of these.
        kinds: AddressKinds,
        /// Only the NIC's own addresses count: of the one the packet came in through, or leaves through.
        limited_to: Option<Side>,
    },
    /// Whom the packet is for, on the link (`-m pkttype`).
    Kind(PacketKind),
    /// The Ethernet address it came from (`-m mac`).
    SourceMac(MacAddr),
    /// The length of the packet is in the range (`-m length`).
    Length(RangeInclusive<u16>),
    /// The bits of the type of service or traffic class (`-m tos`, `-m dscp`).
    Tos {
        /// The bits.
        value: u8,
        /// Which bits to look at.
        mask: u8,
    },
    /// The TTL or hop limit is in the range (`-m ttl`, `-m hl`).
    Ttl(RangeInclusive<u8>),
    /// Passes at most this often (`-m limit`).
    Limit {
        /// The time in which one more packet passes.
        interval: Duration,
        /// How many pass at once after a time of silence.
        burst: u32,
    },
    /// The same, for each address, port or both (`-m hashlimit`).
    HashLimit(HashLimit),
    /// Some of the packets (`-m statistic`).
    Statistic(StatisticMode),
    /// Passes until so many bytes have passed (`-m quota`).
    Quota(u64),
    /// Remembers addresses and looks them up (`-m recent`).
    Recent(RecentTest),
    /// Numbers computed from the packet's bytes are in ranges (`-m u32`). All of these.
    U32(Vec<U32Test>),
    /// A text is in the packet (`-m string`).
    Content(ContentTest),
    /// How many connections somebody has (`-m connlimit`). Packets without a flow fail.
    ConnLimit(ConnLimit),
    /// How much its flow has carried (`-m connbytes`). Packets without a flow fail.
    Carried(CarriedTest),
    /// There is a socket that the packet is for (`-m socket`). Only where packets arrive or are for this stack.
    Socket(SocketTest),
    /// What time it is (`-m time`).
    Time(TimeTest),
}

/// One of a packet's two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The source, or where it came in.
    Source,
    /// The destination, or where it leaves.
    Destination,
}

/// Which flows pass. What is not set is not looked at; what is set in `inverted` must differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnTest {
    /// The transport protocol.
    pub protocol: Option<(Protocol, bool)>,
    /// The addresses and ports, of the original direction and then of the reply; `true` inverts.
    pub ends: [[EndTest; 2]; 2],
    /// Any of these; `true` inverts. No status at all is [`ConnStatus::empty`].
    pub status: Option<(ConnStatus, bool)>,
    /// In how many seconds it is forgotten.
    pub expires: Option<(RangeInclusive<u32>, bool)>,
    /// The packet is of the original direction.
    pub is_original: Option<bool>,
}

/// One end of a flow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndTest {
    /// The address; `true` inverts.
    pub address: Option<(IpCidr, bool)>,
    /// The port; `true` inverts.
    pub ports: Option<(RangeInclusive<u16>, bool)>,
}

/// Which sockets count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SocketTest {
    /// Only those that may have any address ([`transparent`](crate::options::SocketOptions)).
    pub transparent: bool,
    /// Also those that are bound to no address.
    pub even_anywhere: bool,
    /// The packet gets the socket's mark.
    pub takes_mark: bool,
}

/// Who may have sent a packet. A packet of no socket fails all that is set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnerTest {
    /// Some socket sent it (or none).
    pub exists: Option<bool>,
    /// The user; `true` inverts.
    pub users: Option<(RangeInclusive<u32>, bool)>,
    /// The group; `true` inverts.
    pub groups: Option<(RangeInclusive<u32>, bool)>,
}

bitflags::bitflags! {
    /// What an address is to a stack. The numbers are those of route types (rtnetlink(7)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct AddressKinds: u16 {
        /// Not specified at all.
        const UNSPECIFIED = 1;
        /// Some other host.
        const UNICAST = 1 << 1;
        /// The stack itself.
        const LOCAL = 1 << 2;
        /// Everybody on a link.
        const BROADCAST = 1 << 3;
        /// Any of several hosts.
        const ANYCAST = 1 << 4;
        /// A group.
        const MULTICAST = 1 << 5;
        /// A route drops it.
        const BLACKHOLE = 1 << 6;
        /// There is no way to it.
        const UNREACHABLE = 1 << 7;
        /// A route prohibits it.
        const PROHIBIT = 1 << 8;
    }
}

/// Whom a packet is for, on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// One host.
    Unicast,
    /// All.
    Broadcast,
    /// A group.
    Multicast,
}

/// Which packets a [`Test::Statistic`] lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticMode {
    /// This many of 2^31.
    Random(u32),
    /// One of `every + 1`, after the first `packet`.
    Nth {
        /// How many fail between two that pass.
        every: u32,
        /// Where to begin: 0 is the first.
        packet: u32,
    },
}

/// A limit for each source, destination or both.
#[derive(Debug, Clone, PartialEq)]
pub struct HashLimit {
    /// Rules with one name share what they have counted.
    pub name: String,
    /// What is limited.
    pub key: HashLimitKey,
    /// How many leading bits of the source address count.
    pub source_bits: u8,
    /// How many leading bits of the destination address count.
    pub destination_bits: u8,
    /// The time in which one more packet passes.
    pub interval: Duration,
    /// How many pass at once after a time of silence.
    pub burst: u32,
    /// When somebody is forgotten.
    pub expires: Duration,
    /// How many are remembered.
    pub max: usize,
}

bitflags::bitflags! {
    /// What tells flows apart in a [`HashLimit`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct HashLimitKey: u8 {
        /// The destination address.
        const DESTINATION = 1;
        /// The destination port.
        const DESTINATION_PORT = 2;
        /// The source address.
        const SOURCE = 4;
        /// The source port.
        const SOURCE_PORT = 8;
    }
}

/// A list of addresses that were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentTest {
    /// The list's name; rules share it.
    pub name: String,
    /// Which address.
    pub side: Side,
    /// Which of its bits count.
    pub mask: IpAddr,
    /// What to do.
    pub action: RecentAction,
    /// Only what was seen within this time counts.
    pub within: Option<Duration>,
    /// How often it must have been seen.
    pub hits: u32,
    /// The TTL must be what it was.
    pub same_ttl: bool,
}

/// What a [`RecentTest`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecentAction {
    /// Looks.
    Check,
    /// Enters the address, and passes.
    Set,
    /// Looks, and notes that it was seen again.
    Update,
    /// Removes it, and passes if it was there.
    Remove,
}

/// A number computed from a packet, and where it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct U32Test {
    /// From where in the packet to read four bytes at first.
    pub start: u32,
    /// What to do with the number then.
    pub steps: Vec<U32Step>,
    /// In one of these.
    pub ranges: Vec<RangeInclusive<u32>>,
}

/// A step of a [`U32Test`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum U32Step {
    /// Keeps some bits.
    And(u32),
    /// Shifts up.
    Left(u32),
    /// Shifts down.
    Right(u32),
    /// Moves by the number, and reads so many bytes further on.
    At(u32),
}
