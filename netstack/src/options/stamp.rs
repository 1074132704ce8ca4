//! When datagrams were sent, told to their socket (`SO_TIMESTAMPING`).

use bytes::Bytes;

use crate::time::Instant;

/// Which times of a datagram its socket wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StampRequest {
    /// When it was handed to the way out (`SOF_TIMESTAMPING_TX_SCHED`).
    pub scheduled: bool,
    /// When it left for the link (`SOF_TIMESTAMPING_TX_SOFTWARE`).
    pub sent: bool,
    /// Tells it from others (`SOF_TIMESTAMPING_OPT_ID`).
    pub id: u32,
    /// Gives the packet with the time, not only the time (without `SOF_TIMESTAMPING_OPT_TSONLY`).
    pub with_packet: bool,
}

/// Which time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampKind {
    /// The datagram was handed to the way out.
    Scheduled,
    /// It left for the link.
    Sent,
}

/// A time of a datagram that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentStamp {
    /// Which time.
    pub kind: StampKind,
    /// That of the [`StampRequest`].
    pub id: u32,
    /// When.
    pub at: Instant,
    /// The packet with its headers, those of Ethernet included, if it was wanted. What the link fills in is zero.
    pub packet: Bytes,
}
