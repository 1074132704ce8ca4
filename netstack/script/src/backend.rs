//! What runs a script: a stack with sockets, packets and a clock.

use std::net::IpAddr;
use std::time::Duration;

use crate::call::Call;
use crate::syntax::BackendName;
use crate::value::Value;

/// A socket of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// A call that has not returned yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u32);

/// A packet that the stack has sent.
#[derive(Debug, Clone)]
pub struct Captured {
    /// When, since the start of the script.
    pub at: Duration,
    /// Its bytes, from the IP header on.
    pub bytes: Vec<u8>,
}

/// What a call has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A number: zero for success, a count.
    Number(i64),
    /// Received bytes.
    Data(Vec<u8>),
    /// A new socket.
    Socket(SocketId),
    /// Names: events, states, algorithms.
    Name(String),
    /// An error by its name.
    Error(String),
}

/// How much earlier or later than written something may happen.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Earlier.
    pub early: Duration,
    /// Later.
    pub late: Duration,
    /// Later, per time waited, in percent.
    pub late_percent: u32,
}

/// How a stack is set up before the first event.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Settings by the names that Linux has under `/proc/sys/net`, without `net.ipv4.`.
    pub sysctls: Vec<(String, Value)>,
    /// Settings that only netstack has.
    pub config: Vec<(String, Value)>,
    /// The MTU of the link.
    pub mtu: u32,
    /// Whether sockets are of IPv6.
    pub is_v6: bool,
}

/// What both stacks are set to before a script's own settings, so that they start from the same.
pub(crate) const COMMON_SYSCTLS: [(&str, &str); 5] = [
    ("tcp_congestion_control", "reno"),
    ("tcp_rmem", "4096 131072 6291456"),
    ("tcp_wmem", "4096 16384 4194304"),
    ("tcp_ecn", "2"),
    ("tcp_timestamps", "1"),
];

impl Setup {
    /// The address of the stack under test.
    #[must_use]
    pub fn local(&self) -> IpAddr {
        if self.is_v6 { LOCAL_V6.into() } else { LOCAL_V4.into() }
    }

    /// The address of the script's peer.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        if self.is_v6 { PEER_V6.into() } else { PEER_V4.into() }
    }
}

/// A stack that a script drives.
pub trait Backend {
    /// Which one it is.
    fn name(&self) -> BackendName;

    /// What its clock and its load make of exact times.
    fn tolerance(&self) -> Tolerance;

    /// The time since the start of the script.
    fn now(&self) -> Duration;

    /// Lets time pass until `until`. Packets that are sent meanwhile wait in a queue.
    fn advance(&mut self, until: Duration);

    /// Takes the oldest packet out of the queue, after waiting for one until `until` at most.
    fn next_packet(&mut self, until: Duration) -> Option<Captured>;

    /// Gives a packet to the stack as if the link had brought it.
    fn inject(&mut self, bytes: &[u8]);

    /// Makes a call that does not wait.
    fn call(&mut self, call: &Call) -> Reply;

    /// Begins a call that may wait.
    fn start(&mut self, call: Call) -> Ticket;

    /// When such a call returned, and what it gave; `None` while it waits.
    fn finished(&mut self, ticket: Ticket) -> Option<(Duration, Reply)>;

    /// A figure of a connection by the name that `TCP_INFO` has for it, or `state`, `inq`, `outq`.
    fn info(&mut self, socket: SocketId, field: &str) -> Option<Value>;

    /// A counter by the name that Linux's `/proc/net/snmp` or `/proc/net/netstat` has for it.
    fn counter(&mut self, name: &str) -> Option<i64>;
}

/// TEST-NET-1 (RFC 5737): the stack under test.
const LOCAL_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);
/// TEST-NET-2: the peer.
const PEER_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 51, 100, 1);
/// The documentation prefix (RFC 3849).
const LOCAL_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const PEER_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1);
