//! Connection tracking: which packets belong together, what state their flow is in, and how its addresses are
//! translated.
//!
//! A flow has two tuples: the *original* one is what the opener's packets look like when they arrive, the *reply* one
//! what the answers look like when they arrive. Without translation one is the other turned round; translation is
//! nothing but another reply tuple. A packet of one direction leaves as the inverse of the other direction's tuple.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::sync::Mutex;
use netstack_wire::tcp::{TcpFlags, TcpRepr};

use crate::filter::AssignedSocket;
use crate::time::Instant;

mod table;
mod tcp;
mod tuple;

pub(crate) use table::{Confirmed, ConntrackCell};
pub use tcp::TcpState;
pub(crate) use tcp::{TcpTrack, Tracked};
pub(crate) use tuple::{Identified, Tuple};

/// The direction of a packet within its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// From who opened it.
    Original,
    /// From the other side.
    Reply,
}

impl Direction {
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Original => 0,
            Self::Reply => 1,
        }
    }
}

bitflags::bitflags! {
    /// What a flow is (iptables' `ctstatus`). The numbers are Linux's.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ConnStatus: u32 {
        /// It was expected because of another one.
        const EXPECTED = 1;
        /// Answers were seen.
        const SEEN_REPLY = 2;
        /// It is not dropped early.
        const ASSURED = 4;
        /// It is in the table.
        const CONFIRMED = 8;
        /// Its source is translated.
        const SNAT = 1 << 4;
        /// Its destination is translated.
        const DNAT = 1 << 5;
        /// It is decided how its source is translated.
        const SNAT_DONE = 1 << 7;
        /// It is decided how its destination is translated.
        const DNAT_DONE = 1 << 8;
    }
}

bitflags::bitflags! {
    /// What a packet is to its flow (iptables' `ctstate`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ConnState: u8 {
        /// The flow has seen packets in one direction only.
        const NEW = 1;
        /// The flow has seen packets in both directions.
        const ESTABLISHED = 2;
        /// It is an ICMP error about a flow.
        const RELATED = 4;
        /// It belongs to no flow and can begin none.
        const INVALID = 8;
        /// The raw table said not to track it.
        const UNTRACKED = 16;
        /// The flow's source is translated.
        const SNAT = 32;
        /// The flow's destination is translated.
        const DNAT = 64;
    }
}

/// A flow.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Relaxed: a number of its own.
    mark: AtomicU32,
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    /// By direction. The reply tuple changes only before the flow is confirmed.
    tuples: [Tuple; 2],
    protocol: ProtocolState,
    expires: Instant,
    has_reply: bool,
    is_assured: bool,
    is_confirmed: bool,
    has_source_mapping: bool,
    has_destination_mapping: bool,
    packets: [u64; 2],
    bytes: [u64; 2],
}

#[derive(Debug, Clone)]
enum ProtocolState {
    Tcp(TcpTrack),
    /// Since when, for the longer lifetime of what goes on for a while.
    Udp {
        since: Instant,
    },
    Echo,
    Other,
}

/// What a tracked packet is.
#[derive(Debug, Clone)]
pub(crate) struct Tracking {
    pub(crate) conn: Arc<Conn>,
    pub(crate) direction: Direction,
    /// The packet is an ICMP error about the flow.
    pub(crate) is_related: bool,
}

/// What was found out about a packet when it left, for when it comes back to ourselves (Linux's `skb->_nfct`).
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    /// `None` if it was not to be tracked.
    pub(crate) tracking: Option<Tracking>,
    /// The socket that it is for, whatever its destination.
    pub(crate) socket: Option<AssignedSocket>,
}

impl Carried {
    pub(crate) fn state(&self) -> ConnState {
        match &self.tracking {
            None => ConnState::UNTRACKED,
            Some(Tracking { is_related: true, .. }) => ConnState::RELATED,
            Some(Tracking { conn, direction, .. }) => conn.state(*direction),
        }
    }
}

/// A transport header as tracking needs it.
pub(crate) enum Transport<'a> {
    Tcp { segment: &'a TcpRepr, payload_len: u32 },
    Other,
}

/// One flow, for listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnInfo {
    /// What the opener's packets look like when they arrive: source and destination with ports.
    pub original: (std::net::SocketAddr, std::net::SocketAddr),
    /// What the answers look like when they arrive.
    pub reply: (std::net::SocketAddr, std::net::SocketAddr),
    /// The transport protocol.
    pub protocol: netstack_wire::ip::Protocol,
    /// The state, for TCP.
    pub tcp_state: Option<TcpState>,
    /// Answers were seen.
    pub has_reply: bool,
    /// It is not dropped early when the table is full.
    pub is_assured: bool,
    /// When it is forgotten unless packets come.
    pub expires: Instant,
    /// Packets per direction.
    pub packets: [u64; 2],
    /// Its mark.
    pub mark: u32,
    /// What it is.
    pub status: ConnStatus,
}

impl Conn {
    /// Begins a flow with its first packet; `None` if that cannot begin one.
    pub(crate) fn begin(now: Instant, tuple: Tuple, transport: &Transport<'_>, len: usize) -> Option<Self> {
        use netstack_wire::ip::Protocol;
        if !tuple.may_begin() {
            return None;
        }
        let protocol = match (tuple.protocol, transport) {
            (Protocol::TCP, Transport::Tcp { segment, payload_len }) => {
                ProtocolState::Tcp(TcpTrack::begin(segment, *payload_len)?)
            }
            (Protocol::TCP, Transport::Other) => return None,
            (Protocol::UDP, _) => ProtocolState::Udp { since: now },
            (Protocol::ICMP | Protocol::ICMPV6, _) => ProtocolState::Echo,
            _ => ProtocolState::Other,
        };
        let mut inner = Inner {
            tuples: [tuple, tuple.inverted()],
            protocol,
            expires: now,
            has_reply: false,
            is_assured: false,
            is_confirmed: false,
            has_source_mapping: false,
            has_destination_mapping: false,
            packets: [1, 0],
            // A packet is at most 64 KiB long.
            bytes: [len as u64, 0],
        };
        inner.expires = now + inner.lifetime(now);
        Some(Self { mark: AtomicU32::new(0), inner: Mutex::new(inner) })
    }

    /// A further packet, of `len` bytes.
    pub(crate) fn on_packet(
        &self,
        now: Instant,
        direction: Direction,
        transport: &Transport<'_>,
        len: usize,
    ) -> Tracked {
        let mut inner = self.inner.lock();
        if let (ProtocolState::Tcp(track), Transport::Tcp { segment, payload_len }) =
            (&mut inner.protocol, transport)
        {
            let tracked = track.on_segment(direction, segment, *payload_len);
            if tracked != Tracked::Valid {
                return tracked;
            }
            // As Linux: that is common, and would fill the table with what is no connection.
            if !inner.has_reply && segment.flags.contains(TcpFlags::RST) {
                return Tracked::Refused;
            }
        }
        inner.packets[direction.index()] += 1;
        // A packet is at most 64 KiB long.
        inner.bytes[direction.index()] += len as u64;
        inner.has_reply |= direction == Direction::Reply;
        inner.is_assured |= inner.has_reply
            && match &inner.protocol {
                ProtocolState::Tcp(track) => track.is_assured(),
                // As Linux: a stream is what goes on for more than two seconds.
                ProtocolState::Udp { since } => now >= *since + UDP_STREAM_AGE,
                ProtocolState::Echo | ProtocolState::Other => false,
            };
        inner.expires = now + inner.lifetime(now);
        Tracked::Valid
    }

    pub(crate) fn tuple(&self, direction: Direction) -> Tuple {
        self.inner.lock().tuples[direction.index()]
    }

    /// What a packet of `direction` looks like when it leaves.
    pub(crate) fn translated(&self, direction: Direction) -> Tuple {
        self.inner.lock().tuples[direction.opposite().index()].inverted()
    }

    /// Whether packets of this flow leave other than they came.
    pub(crate) fn is_translated(&self) -> bool {
        let inner = self.inner.lock();
        inner.tuples[0].inverted() != inner.tuples[1]
    }

    /// What a packet of `direction` is to the flow.
    pub(crate) fn state(&self, direction: Direction) -> ConnState {
        let inner = self.inner.lock();
        let mut state = match inner.has_reply || direction == Direction::Reply {
            true => ConnState::ESTABLISHED,
            false => ConnState::NEW,
        };
        let status = inner.status();
        state.set(ConnState::SNAT, status.contains(ConnStatus::SNAT));
        state.set(ConnState::DNAT, status.contains(ConnStatus::DNAT));
        state
    }

    /// Changes the reply tuple of a flow that is not confirmed yet.
    pub(crate) fn map(&self, side: Side, reply: Tuple) {
        let mut inner = self.inner.lock();
        if !inner.is_confirmed {
            inner.tuples[1] = reply;
        }
        match side {
            Side::Source => inner.has_source_mapping = true,
            Side::Destination => inner.has_destination_mapping = true,
        }
    }

    /// Whether it is decided how a side is translated.
    pub(crate) fn has_mapping(&self, side: Side) -> bool {
        let inner = self.inner.lock();
        inner.is_confirmed
            || match side {
                Side::Source => inner.has_source_mapping,
                Side::Destination => inner.has_destination_mapping,
            }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.inner.lock().is_confirmed
    }

    fn confirm(&self) -> [Tuple; 2] {
        let mut inner = self.inner.lock();
        inner.is_confirmed = true;
        inner.tuples
    }

    fn is_over(&self, now: Instant) -> bool {
        self.inner.lock().expires <= now
    }

    fn is_assured(&self) -> bool {
        self.inner.lock().is_assured
    }

    fn info(&self) -> ConnInfo {
        let inner = self.inner.lock();
        let ends = |tuple: Tuple| {
            let source = std::net::SocketAddr::new(tuple.source, tuple.source_id);
            (source, std::net::SocketAddr::new(tuple.destination, tuple.destination_id))
        };
        ConnInfo {
            original: ends(inner.tuples[0]),
            reply: ends(inner.tuples[1]),
            protocol: inner.tuples[0].protocol,
            tcp_state: match &inner.protocol {
                ProtocolState::Tcp(track) => Some(track.state()),
                _ => None,
            },
            has_reply: inner.has_reply,
            is_assured: inner.is_assured,
            expires: inner.expires,
            packets: inner.packets,
            mark: self.mark(),
            status: inner.status(),
        }
    }

    /// The flow's mark.
    pub(crate) fn mark(&self) -> u32 {
        self.mark.load(Ordering::Relaxed)
    }

    pub(crate) fn set_mark(&self, mark: u32) {
        self.mark.store(mark, Ordering::Relaxed);
    }

    /// What the flow is.
    pub(crate) fn status(&self) -> ConnStatus {
        self.inner.lock().status()
    }

    /// Packets in a direction.
    pub(crate) fn packets(&self, direction: Direction) -> u64 {
        self.inner.lock().packets[direction.index()]
    }

    /// Bytes of IP packets by direction.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        self.inner.lock().bytes
    }

    /// Whether it is a connection that is over.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.inner.lock().protocol {
            ProtocolState::Tcp(track) => matches!(track.state(), TcpState::TimeWait | TcpState::Closed),
            ProtocolState::Udp { .. } | ProtocolState::Echo | ProtocolState::Other => false,
        }
    }

    /// How long it is remembered if no packets come.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.inner.lock().expires.saturating_duration_since(now)
    }
}

impl Inner {
    fn status(&self) -> ConnStatus {
        let [original, reply] = self.tuples;
        let mut status = ConnStatus::empty();
        status.set(ConnStatus::SEEN_REPLY, self.has_reply);
        status.set(ConnStatus::ASSURED, self.is_assured);
        status.set(ConnStatus::CONFIRMED, self.is_confirmed);
        status.set(ConnStatus::SNAT, original.source != reply.destination || self.maps_id(Side::Source));
        status.set(ConnStatus::DNAT, original.destination != reply.source || self.maps_id(Side::Destination));
        status.set(ConnStatus::SNAT_DONE, self.has_source_mapping);
        status.set(ConnStatus::DNAT_DONE, self.has_destination_mapping);
        status
    }

    /// Whether only the number of a side is translated.
    fn maps_id(&self, side: Side) -> bool {
        let wanted = self.tuples[1].inverted();
        match side {
            Side::Source => self.tuples[0].source_id != wanted.source_id,
            Side::Destination => self.tuples[0].destination_id != wanted.destination_id,
        }
    }

    /// Linux's `nf_conntrack_*_timeout`.
    fn lifetime(&self, now: Instant) -> Duration {
        match &self.protocol {
            ProtocolState::Tcp(track) => track.lifetime(),
            ProtocolState::Udp { since } if self.has_reply && now >= *since + UDP_STREAM_AGE => {
                UDP_STREAM_LIFETIME
            }
            ProtocolState::Udp { .. } | ProtocolState::Echo => SHORT_LIFETIME,
            ProtocolState::Other => OTHER_LIFETIME,
        }
    }
}

/// Which of a packet's addresses is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

const UDP_STREAM_AGE: Duration = Duration::from_secs(2);
const UDP_STREAM_LIFETIME: Duration = Duration::from_secs(120);
const SHORT_LIFETIME: Duration = Duration::from_secs(30);
const OTHER_LIFETIME: Duration = Duration::from_secs(600);
