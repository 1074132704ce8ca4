//! What each operation can answer besides success: one closed enum per operation, in the network's own words.

use crate::buffer::Fault;

/// An error that happened to a socket outside of a call: it is kept until an operation or
/// `take_error` reports it, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SocketError {
    /// The peer answered with a reset during the handshake, or the port is unreachable (ICMP).
    #[error("connection refused")]
    ConnectionRefused,
    /// The peer reset the connection.
    #[error("connection reset by peer")]
    ConnectionReset,
    /// The peer reset the connection after the end of its stream: what was sent had no reader.
    #[error("broken pipe")]
    BrokenPipe,
    /// The connection was given up on this side.
    #[error("connection aborted")]
    ConnectionAborted,
    /// Nothing came back in time.
    #[error("timed out")]
    TimedOut,
    /// A router or the neighbour resolution says that the host cannot be reached.
    #[error("host unreachable")]
    HostUnreachable,
    /// A router says, or the routing table implies, that the network cannot be reached.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// The destination does not speak this protocol.
    #[error("protocol unreachable")]
    ProtocolUnreachable,
    /// The path does not carry packets of that size.
    #[error("message too long for the path")]
    MessageTooLong,
    /// A router refuses to carry the packet for administrative reasons.
    #[error("prohibited by the network")]
    Prohibited,
    /// A host or router found an error in the packet's header.
    #[error("parameter problem reported by the network")]
    ParameterProblem,
    /// The NIC the socket depends on went away or down.
    #[error("network is down")]
    NetworkDown,
}

/// Why there is no way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No route, or a rule says that there is none.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// No source address that could be used.
    #[error("no source address")]
    NoSource,
    /// The NIC that was asked for is down or gone.
    #[error("network is down")]
    NetworkDown,
    /// A route or rule swallows the packet.
    #[error("swallowed by a route")]
    Blackhole,
    /// A route says that the host is unreachable.
    #[error("host unreachable")]
    Unreachable,
    /// A route or rule prohibits it.
    #[error("prohibited by a route")]
    Prohibited,
}

/// Why a socket could not be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The address and port are taken.
    #[error("address in use")]
    AddressInUse,
    /// The address is not one of the stack's.
    #[error("address not available")]
    AddressNotAvailable,
    /// The address is of another family than the socket.
    #[error("address family does not match")]
    FamilyMismatch,
    /// The socket has an address already, or is past the point where it may get one.
    #[error("already bound")]
    AlreadyBound,
    /// No free port is left.
    #[error("no free port")]
    NoFreePort,
    /// There is no such NIC.
    #[error("no such interface")]
    NoSuchNic,
}

/// Why a socket could not listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Another socket listens there.
    #[error("address in use")]
    AddressInUse,
    /// The socket is connecting, connected or closed.
    #[error("not in a state to listen")]
    InvalidState,
    /// No free port is left.
    #[error("no free port")]
    NoFreePort,
}

/// Why no connection was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// None is waiting.
    #[error("would block")]
    WouldBlock,
    /// The socket does not listen.
    #[error("not listening")]
    NotListening,
}

/// Why a connection attempt did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A handshake is under way.
    #[error("already connecting")]
    AlreadyConnecting,
    /// The socket is connected.
    #[error("already connected")]
    AlreadyConnected,
    /// The socket listens, or was closed.
    #[error("not in a state to connect")]
    InvalidState,
    /// The address is of another family than the socket.
    #[error("address family does not match")]
    FamilyMismatch,
    /// No route leads there.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// There is no local address for the connection, or with TCP no port is left.
    #[error("no local address available")]
    AddressNotAvailable,
    /// No port or echo identifier is left for a socket that had none.
    #[error("no free port")]
    NoFreePort,
    /// The same connection exists already.
    #[error("address in use")]
    AddressInUse,
    /// The destination is a broadcast address and the socket has no permission for it.
    #[error("broadcast not permitted")]
    BroadcastNotPermitted,
    /// The destination cannot be connected to (a multicast group with TCP).
    #[error("address not connectable")]
    InvalidAddress,
    /// An earlier error is reported by this call.
    #[error(transparent)]
    Pending(#[from] SocketError),
}

/// Why a connection attempt with data did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FastOpenError {
    /// As for a connection without data.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The application's memory could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a connection cannot go on in this stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Its addresses are of two families.
    #[error("address family does not match")]
    FamilyMismatch,
    /// The stack does not have its local address.
    #[error("no local address available")]
    AddressNotAvailable,
    /// No route leads to its other end.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// The same connection exists already.
    #[error("address in use")]
    AddressInUse,
}

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The send buffer is full, or the handshake is not done.
    #[error("would block")]
    WouldBlock,
    /// The socket was never connected and no destination was given.
    #[error("not connected")]
    NotConnected,
    /// Sending was shut down, or the connection is over.
    #[error("shut down for sending")]
    Shutdown,
    /// The datagram exceeds what the protocol, the socket or the path can carry.
    #[error("message too long")]
    MessageTooLong,
    /// No route leads there.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// The next hop did not answer.
    #[error("host unreachable")]
    HostUnreachable,
    /// The source address is not one of the stack's.
    #[error("address not available")]
    AddressNotAvailable,
    /// No port or echo identifier is left for a socket that had none.
    #[error("no free port")]
    NoFreePort,
    /// The destination is a broadcast address and the socket has no permission for it.
    #[error("broadcast not permitted")]
    BroadcastNotPermitted,
    /// The destination is of another family than the socket.
    #[error("address family does not match")]
    FamilyMismatch,
    /// The destination or a header supplied by the caller makes no sense.
    #[error("invalid destination or header")]
    Invalid,
    /// The link did not take the packet.
    #[error("no buffer space")]
    NoBufferSpace,
    /// The NIC is down or gone.
    #[error("network is down")]
    NetworkDown,
    /// The packet filter dropped it.
    #[error("dropped by the packet filter")]
    Filtered,
    /// The application's memory could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// An earlier error is reported by this call.
    #[error(transparent)]
    Pending(#[from] SocketError),
}

/// Why nothing was received. The end of a stream is not an error but zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// Nothing is there yet.
    #[error("would block")]
    WouldBlock,
    /// The socket was never connected.
    #[error("not connected")]
    NotConnected,
    /// The application's memory could not be written.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// An earlier error is reported by this call.
    #[error(transparent)]
    Pending(#[from] SocketError),
}

/// Why a shutdown did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownError {
    /// The socket is not connected.
    #[error("not connected")]
    NotConnected,
}

/// Why a multicast membership was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The address is not a multicast group of the socket's family.
    #[error("not a multicast group")]
    NotMulticast,
    /// There is no such NIC, or no route to choose one.
    #[error("no such interface")]
    NoSuchNic,
    /// The socket is a member already.
    #[error("already a member")]
    AlreadyMember,
    /// The socket is not a member.
    #[error("not a member")]
    NotMember,
    /// The source is no host of the group's family.
    #[error("not a source address")]
    InvalidSource,
    /// The membership names what is wanted, and the operation what is not, or the other way round.
    #[error("the membership filters the other way")]
    WrongMode,
    /// The source is in the membership's list already.
    #[error("source is listed already")]
    SourceExists,
    /// The source is not in the membership's list.
    #[error("source is not listed")]
    NoSuchSource,
    /// The socket has as many memberships, or the membership as many sources, as it may have.
    #[error("too many memberships")]
    TooMany,
}

/// Why a NIC, address, route or neighbour was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such NIC.
    #[error("no such interface")]
    NoSuchNic,
    /// It exists already.
    #[error("already exists")]
    Exists,
    /// There is no such address, route or neighbour.
    #[error("does not exist")]
    NotFound,
    /// A value is out of range (an MTU below the protocol's minimum, a prefix too long, an empty name).
    #[error("invalid value")]
    Invalid,
    /// A route's gateway is not on a directly connected network.
    #[error("gateway is not reachable")]
    GatewayUnreachable,
}

/// Why a packet socket did not join a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FanoutError {
    /// It is in one.
    #[error("already in a group")]
    AlreadyMember,
    /// The group picks its members otherwise, or they are bound otherwise.
    #[error("the group is of another kind")]
    OtherGroup,
    /// The group has as many members as it may have, or there are too many groups.
    #[error("no room in the group")]
    Full,
}
