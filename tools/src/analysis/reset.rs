//! Why a connection was reset, as far as the wire tells.

use std::fmt;

use serde::Serialize;

/// The likely reason of a RST segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ResetReason {
    /// It answers a SYN: nobody listens there.
    Refused,
    /// It answers a SYN-ACK: the side that connected knows nothing of it, or gave up.
    HandshakeRejected,
    /// Its sender had closed, and more data came.
    DataAfterClose,
    /// Its sender got no answer to retransmissions or probes.
    NoAnswer,
    /// Its sender had received data that it did not acknowledge: closed with unread data.
    UnreadData,
    /// It answers a segment of a connection that its sender does not have.
    NoSuchConnection,
    /// Its sender ended the connection on purpose.
    Aborted,
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::HandshakeRejected => "handshake rejected",
            Self::DataAfterClose => "data after close",
            Self::NoAnswer => "no answer",
            Self::UnreadData => "data left unread",
            Self::NoSuchConnection => "no such connection",
            Self::Aborted => "aborted",
        })
    }
}

/// What is known when a RST is seen.
pub(super) struct Evidence {
    /// What its sender had sent before.
    pub(super) sent: Before,
    /// What the other side had sent.
    pub(super) received: Before,
    /// The sender's copies of data, or probes, since the other side was last heard.
    pub(super) unanswered: u32,
    /// The other side sent data beyond what the sender acknowledged.
    pub(super) has_unacknowledged_data: bool,
}

/// What a side had sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// Nothing but the SYN.
    Syn,
    Open,
    Closed,
}

impl ResetReason {
    pub(super) fn judge(evidence: &Evidence) -> Self {
        let Evidence { sent, received, unanswered, has_unacknowledged_data } = evidence;
        match (sent, received) {
            (Before::Nothing, Before::Syn) => Self::Refused,
            (Before::Nothing, _) => Self::NoSuchConnection,
            _ if *unanswered >= PATIENCE => Self::NoAnswer,
            (Before::Syn, Before::Syn) => Self::HandshakeRejected,
            (Before::Closed, _) if *has_unacknowledged_data => Self::DataAfterClose,
            (_, _) if *has_unacknowledged_data => Self::UnreadData,
            _ => Self::Aborted,
        }
    }
}

/// Fewer copies are an ordinary loss.
const PATIENCE: u32 = 3;
