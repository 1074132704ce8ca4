//! What a machine reports to its shell: events to turn into wake-ups, verdicts to count.

use netstack_wire::seq::SeqNum;

/// The report on one input. Machines never call out; the shell acts on this after it has dropped its lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Outcome {
    /// What happened to the segment.
    pub verdict: Verdict,
    /// What changed for the user and the shell.
    pub events: Events,
}

/// What happened to a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verdict {
    /// It was used, at least in part.
    #[default]
    Accepted,
    /// It was dropped, perhaps with an ACK or RST to send (see [`Events::TRANSMIT`]).
    Dropped(DropReason),
    /// A SYN hit a TIME-WAIT connection that may be replaced (RFC 9293 section 3.6.1, RFC 6191): the connection is now
    /// closed, and the shell passes the segment on to the listener with an initial sequence number beyond this one.
    Reincarnate {
        /// A lower bound for the new connection's initial sequence number.
        isn_above: SeqNum,
    },
}

bitflags::bitflags! {
    /// Changes that one input caused. Hints: readiness itself is computed from state.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Events: u16 {
        /// More to read: data or the end of the stream.
        const READABLE = 1 << 0;
        /// Room in the send queue.
        const WRITABLE = 1 << 1;
        /// The handshake is complete.
        const CONNECTED = 1 << 2;
        /// The peer's FIN came (RDHUP).
        const READ_CLOSED = 1 << 3;
        /// The connection failed; `Connection::close_reason` says why.
        const ERROR = 1 << 4;
        /// Urgent data was announced, or has come (SIGURG).
        const URGENT = 1 << 5;
        /// `poll_transmit` has something to give.
        const TRANSMIT = 1 << 6;
        /// The machine entered TIME-WAIT: its heavy state is gone, only the flow and a deadline are left.
        const TIME_WAIT = 1 << 7;
        /// The machine entered CLOSED. After the pending transmits the shell may forget the flow.
        const CLOSED = 1 << 8;
        /// Bytes of the send queue were acknowledged (for linger and SIOCOUTQ waiters).
        const ACKED = 1 << 9;
        /// The shell has a time to tell of what was sent. No machine says this.
        const STAMPED = 1 << 10;
    }
}

/// Why a segment was dropped. Each one is a counter of the shell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DropReason {
    /// The sequence number is outside the window (RFC 9293 section 3.10.7.4, first check).
    OutOfWindow,
    /// The timestamp is older than the last one (RFC 7323 section 5, PAWS).
    PawsOld,
    /// Acknowledges something never sent (RFC 9293) or too old (RFC 5961 section 5).
    BadAck,
    /// Neither ACK, RST nor SYN is set, or a combination that no RFC gives a meaning.
    NoAck,
    /// A SYN in a synchronised state (RFC 5961 section 4).
    UnexpectedSyn,
    /// A RST whose sequence number is not exactly the next one (RFC 5961 section 3).
    InexactReset,
    /// Data for which the receive buffer has no room.
    NoBuffer,
    /// Everything in it had been received before.
    Duplicate,
    /// Data after both directions were closed: answered with RST (RFC 9293 section 3.6.1).
    DataAfterClose,
    /// A RST that TIME-WAIT ignores (RFC 1337).
    ResetInTimeWait,
    /// No connection: the machine is closed.
    Closed,
    /// Listener: the accept queue is full, SYN refused.
    ListenOverflowSyn,
    /// Listener: too many half-open connections and no cookies.
    ListenQueueFull,
    /// Listener: the accept queue is full, the final ACK is ignored until the peer repeats it.
    ListenOverflowAck,
    /// Listener: an ACK that is not a valid cookie.
    BadCookie,
    /// Listener: a segment that no listener expects (RST, FIN, SYN-ACK).
    ListenUnexpected,
    /// Listener: a bare final ACK while defer-accept waits for data.
    DeferAccept,
}

/// Why a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// Both directions ended in order.
    Done,
    /// The peer refused our SYN with a RST.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer reset the connection after its FIN (Linux reports EPIPE).
    ResetAfterFin,
    /// The user aborted it, or closed it with unread data.
    Aborted,
    /// Retransmissions, probes or keepalives went unanswered for too long.
    TimedOut,
    /// An ICMP error ended it (the handshake, or a hard error later).
    Unreachable(IcmpError),
}

/// The ICMP errors that matter to TCP, without their wire form (RFC 1122 section 4.2.3.9, RFC 5461).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IcmpError {
    /// Network unreachable.
    NetUnreachable,
    /// Host unreachable.
    HostUnreachable,
    /// Protocol unreachable.
    ProtocolUnreachable,
    /// Port unreachable.
    PortUnreachable,
    /// Administratively prohibited.
    Prohibited,
    /// Time exceeded in transit.
    TimeExceeded,
    /// Parameter problem.
    ParameterProblem,
}
