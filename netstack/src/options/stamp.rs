//! When datagrams and bytes of streams were sent, told to their socket (`SO_TIMESTAMPING`).

use bytes::Bytes;

use crate::time::Instant;

/// Which times of a datagram, or of the last byte of a write, its socket wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StampRequest {
    /// When it was handed to the way out (`SOF_TIMESTAMPING_TX_SCHED`).
    pub scheduled: bool,
    /// When it left for the link (`SOF_TIMESTAMPING_TX_SOFTWARE`).
    pub sent: bool,
    /// When the peer has acknowledged it, of streams (`SOF_TIMESTAMPING_TX_ACK`).
    pub acknowledged: bool,
    /// Tells it from others (`SOF_TIMESTAMPING_OPT_ID`). Streams count their bytes instead.
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
    /// The peer has acknowledged it.
    Acknowledged,
}

/// Which byte of a stream has the number zero in the times that are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampOrigin {
    /// The first that the peer has not acknowledged (`SOF_TIMESTAMPING_OPT_ID`).
    Unacknowledged,
    /// The next one that is written (with `SOF_TIMESTAMPING_OPT_ID_TCP`).
    Unwritten,
}

/// A time of a datagram that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentStamp {
    /// Which time.
    pub kind: StampKind,
    /// That of the [`StampRequest`]; of streams the number of the last byte, as [`StampOrigin`] says.
    pub id: u32,
    /// When.
    pub at: Instant,
    /// The packet with its headers, those of Ethernet included, if it was wanted. What the link fills in is zero. Of what was
    /// acknowledged, the payload that went with the byte.
    pub packet: Bytes,
}
