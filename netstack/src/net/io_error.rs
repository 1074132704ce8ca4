//! The errors of sockets as [`std::io::Error`], for the layers that implement `std::io`'s traits.
//!
//! The original error is the source of the `io::Error`, so that `get_ref` and `downcast` give it back.

use std::io::{Error, ErrorKind};

use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, MembershipError, RecvError, SendError, ShutdownError,
    SocketError,
};

/// An error that may mean "not yet".
pub(crate) trait Transient: Into<Error> {
    /// Tells whether the operation is to be tried again once the socket is ready.
    fn is_would_block(&self) -> bool;
}

impl Transient for AcceptError {
    fn is_would_block(&self) -> bool {
        matches!(self, Self::WouldBlock)
    }
}

impl Transient for SendError {
    fn is_would_block(&self) -> bool {
        matches!(self, Self::WouldBlock)
    }
}

impl Transient for RecvError {
    fn is_would_block(&self) -> bool {
        matches!(self, Self::WouldBlock)
    }
}

impl From<SocketError> for Error {
    fn from(error: SocketError) -> Self {
        Self::new(kind_of_socket_error(error), error)
    }
}

fn kind_of_socket_error(error: SocketError) -> ErrorKind {
    match error {
        SocketError::ConnectionRefused => ErrorKind::ConnectionRefused,
        SocketError::ConnectionReset => ErrorKind::ConnectionReset,
        SocketError::BrokenPipe => ErrorKind::BrokenPipe,
        SocketError::ConnectionAborted => ErrorKind::ConnectionAborted,
        SocketError::TimedOut => ErrorKind::TimedOut,
        SocketError::HostUnreachable => ErrorKind::HostUnreachable,
        SocketError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
        SocketError::NetworkDown => ErrorKind::NetworkDown,
        SocketError::Prohibited => ErrorKind::PermissionDenied,
        SocketError::MessageTooLong => ErrorKind::InvalidInput,
        SocketError::ProtocolUnreachable | SocketError::ParameterProblem => ErrorKind::Other,
    }
}

impl From<BindError> for Error {
    fn from(error: BindError) -> Self {
        let kind = match error {
            BindError::AddressInUse => ErrorKind::AddrInUse,
            BindError::AddressNotAvailable | BindError::NoFreePort => ErrorKind::AddrNotAvailable,
            BindError::FamilyMismatch | BindError::AlreadyBound => ErrorKind::InvalidInput,
            BindError::NoSuchNic => ErrorKind::NotFound,
        };
        Self::new(kind, error)
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Self {
        let kind = match error {
            ListenError::AddressInUse => ErrorKind::AddrInUse,
            ListenError::NoFreePort => ErrorKind::AddrNotAvailable,
            ListenError::InvalidState => ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<AcceptError> for Error {
    fn from(error: AcceptError) -> Self {
        let kind = match error {
            AcceptError::WouldBlock => ErrorKind::WouldBlock,
            AcceptError::NotListening => ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        let kind = match error {
            ConnectError::AlreadyConnecting => ErrorKind::WouldBlock,
            ConnectError::AlreadyConnected
            | ConnectError::InvalidState
            | ConnectError::FamilyMismatch
            | ConnectError::InvalidAddress => ErrorKind::InvalidInput,
            ConnectError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
            ConnectError::AddressNotAvailable | ConnectError::NoFreePort => ErrorKind::AddrNotAvailable,
            ConnectError::AddressInUse => ErrorKind::AddrInUse,
            ConnectError::BroadcastNotPermitted => ErrorKind::PermissionDenied,
            ConnectError::Pending(cause) => return cause.into(),
        };
        Self::new(kind, error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::WouldBlock => ErrorKind::WouldBlock,
            SendError::NotConnected => ErrorKind::NotConnected,
            SendError::Shutdown => ErrorKind::BrokenPipe,
            SendError::MessageTooLong | SendError::FamilyMismatch | SendError::Invalid => {
                ErrorKind::InvalidInput
            }
            SendError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
            SendError::HostUnreachable => ErrorKind::HostUnreachable,
            SendError::AddressNotAvailable | SendError::NoFreePort => ErrorKind::AddrNotAvailable,
            SendError::BroadcastNotPermitted | SendError::Filtered => ErrorKind::PermissionDenied,
            SendError::NoBufferSpace => ErrorKind::OutOfMemory,
            SendError::NetworkDown => ErrorKind::NetworkDown,
            SendError::Fault(_) => ErrorKind::Other,
            SendError::Pending(cause) => return cause.into(),
        };
        Self::new(kind, error)
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        let kind = match error {
            RecvError::WouldBlock => ErrorKind::WouldBlock,
            RecvError::NotConnected => ErrorKind::NotConnected,
            RecvError::Fault(_) => ErrorKind::Other,
            RecvError::Pending(cause) => return cause.into(),
        };
        Self::new(kind, error)
    }
}

impl From<ShutdownError> for Error {
    fn from(error: ShutdownError) -> Self {
        let kind = match error {
            ShutdownError::NotConnected => ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

impl From<MembershipError> for Error {
    fn from(error: MembershipError) -> Self {
        Self::new(ErrorKind::InvalidInput, error)
    }
}
