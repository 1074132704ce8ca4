//! The names of the connection states (RFC 9293 section 3.3.2).

use core::fmt;

/// A state's name, for users and tables; the machine itself keeps its data per state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// A connection with both directions open.
    Established,
    /// SYN sent, waiting for SYN-ACK.
    SynSent,
    /// SYN seen and answered, waiting for its acknowledgment.
    SynReceived,
    /// Our FIN is sent or queued and not acknowledged; the peer's has not come.
    FinWait1,
    /// Our FIN is acknowledged; the peer's has not come.
    FinWait2,
    /// Both ends are done; old segments die out.
    TimeWait,
    /// No connection.
    Closed,
    /// The peer's FIN has come, ours is not queued.
    CloseWait,
    /// The peer's FIN has come and ours waits for its acknowledgment.
    LastAck,
    /// Waiting for connections.
    Listen,
    /// Both FINs crossed; ours waits for its acknowledgment.
    Closing,
}

/// As the RFC writes it: `SYN-SENT`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "CLOSED",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        })
    }
}
