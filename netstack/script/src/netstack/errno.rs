//! The names that Linux has for the stack's errors.

use netstack::error::{
    AcceptError, BindError, ConnectError, ListenError, RecvError, SendError, ShutdownError, SocketError,
};

use crate::backend::Reply;

/// An error that has an errno.
pub(super) trait AsErrno {
    /// Its name.
    fn errno(&self) -> &'static str;
}

/// A failed call.
pub(super) fn error(name: &str) -> Reply {
    Reply::Error(name.to_owned())
}

impl AsErrno for SocketError {
    fn errno(&self) -> &'static str {
        match self {
            Self::ConnectionRefused => "ECONNREFUSED",
            Self::ConnectionReset => "ECONNRESET",
            Self::BrokenPipe => "EPIPE",
            Self::ConnectionAborted => "ECONNABORTED",
            Self::TimedOut => "ETIMEDOUT",
            Self::HostUnreachable => "EHOSTUNREACH",
            Self::NetworkUnreachable => "ENETUNREACH",
            Self::ProtocolUnreachable => "ENOPROTOOPT",
            Self::MessageTooLong => "EMSGSIZE",
            Self::Prohibited => "EACCES",
            Self::ParameterProblem => "EPROTO",
            Self::NetworkDown => "ENETDOWN",
        }
    }
}

impl AsErrno for BindError {
    fn errno(&self) -> &'static str {
        match self {
            Self::AddressInUse | Self::NoFreePort => "EADDRINUSE",
            Self::AddressNotAvailable => "EADDRNOTAVAIL",
            Self::FamilyMismatch => "EAFNOSUPPORT",
            Self::AlreadyBound => "EINVAL",
            Self::NoSuchNic => "ENODEV",
        }
    }
}

impl AsErrno for ListenError {
    fn errno(&self) -> &'static str {
        match self {
            Self::AddressInUse | Self::NoFreePort => "EADDRINUSE",
            Self::InvalidState => "EINVAL",
        }
    }
}

impl AsErrno for AcceptError {
    fn errno(&self) -> &'static str {
        match self {
            Self::WouldBlock => "EAGAIN",
            Self::NotListening => "EINVAL",
        }
    }
}

impl AsErrno for ConnectError {
    fn errno(&self) -> &'static str {
        match self {
            Self::AlreadyConnecting => "EALREADY",
            Self::AlreadyConnected | Self::InvalidState => "EISCONN",
            Self::FamilyMismatch => "EAFNOSUPPORT",
            Self::NetworkUnreachable | Self::InvalidAddress => "ENETUNREACH",
            Self::AddressNotAvailable => "EADDRNOTAVAIL",
            Self::NoFreePort => "EAGAIN",
            Self::AddressInUse => "EADDRINUSE",
            Self::BroadcastNotPermitted => "EACCES",
            Self::Pending(error) => error.errno(),
        }
    }
}

impl AsErrno for SendError {
    fn errno(&self) -> &'static str {
        match self {
            Self::WouldBlock => "EAGAIN",
            Self::NotConnected => "EDESTADDRREQ",
            Self::Shutdown => "EPIPE",
            Self::MessageTooLong => "EMSGSIZE",
            Self::NetworkUnreachable => "ENETUNREACH",
            Self::HostUnreachable => "EHOSTUNREACH",
            Self::AddressNotAvailable => "EADDRNOTAVAIL",
            Self::NoFreePort => "EAGAIN",
            Self::BroadcastNotPermitted => "EACCES",
            Self::FamilyMismatch => "EAFNOSUPPORT",
            Self::Invalid => "EINVAL",
            Self::NoBufferSpace => "ENOBUFS",
            Self::NetworkDown => "ENETDOWN",
            Self::Filtered => "EPERM",
            Self::Fault(_) => "EFAULT",
            Self::Pending(error) => error.errno(),
        }
    }
}

impl AsErrno for RecvError {
    fn errno(&self) -> &'static str {
        match self {
            Self::WouldBlock => "EAGAIN",
            Self::NotConnected => "ENOTCONN",
            Self::Fault(_) => "EFAULT",
            Self::Pending(error) => error.errno(),
        }
    }
}

impl AsErrno for ShutdownError {
    fn errno(&self) -> &'static str {
        match self {
            Self::NotConnected => "ENOTCONN",
        }
    }
}
