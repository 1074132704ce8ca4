//! The one place where the stack's errors become Linux's error numbers.

use libc::c_int;
use netstack::error::{
    AcceptError, BindError, ConfigError, ConnectError, ListenError, MembershipError, RecvError, SendError,
    ShutdownError, SocketError,
};

/// A positive error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

/// The result of a C function: the value, or the negative error number.
pub(crate) fn answer(result: Result<c_int, Errno>) -> c_int {
    result.unwrap_or_else(|Errno(number)| -number)
}

/// The same for functions that return a count of bytes.
pub(crate) fn answer_count(result: Result<usize, Errno>) -> libc::ssize_t {
    match result {
        // Never above what one call can transfer.
        Ok(count) => libc::ssize_t::try_from(count).unwrap_or(libc::ssize_t::MAX),
        // An int fits.
        Err(Errno(number)) => -(number as libc::ssize_t),
    }
}

impl From<SocketError> for Errno {
    fn from(error: SocketError) -> Self {
        Self(match error {
            SocketError::ConnectionRefused => libc::ECONNREFUSED,
            SocketError::ConnectionReset => libc::ECONNRESET,
            SocketError::BrokenPipe => libc::EPIPE,
            SocketError::ConnectionAborted => libc::ECONNABORTED,
            SocketError::TimedOut => libc::ETIMEDOUT,
            SocketError::HostUnreachable => libc::EHOSTUNREACH,
            SocketError::NetworkUnreachable => libc::ENETUNREACH,
            SocketError::ProtocolUnreachable => libc::ENOPROTOOPT,
            SocketError::MessageTooLong => libc::EMSGSIZE,
            SocketError::Prohibited => libc::EACCES,
            SocketError::ParameterProblem => libc::EPROTO,
            SocketError::NetworkDown => libc::ENETDOWN,
        })
    }
}

impl From<BindError> for Errno {
    fn from(error: BindError) -> Self {
        Self(match error {
            BindError::AddressInUse | BindError::NoFreePort => libc::EADDRINUSE,
            BindError::AddressNotAvailable => libc::EADDRNOTAVAIL,
            BindError::FamilyMismatch => libc::EAFNOSUPPORT,
            BindError::AlreadyBound => libc::EINVAL,
            BindError::NoSuchNic => libc::ENODEV,
        })
    }
}

impl From<ListenError> for Errno {
    fn from(error: ListenError) -> Self {
        Self(match error {
            ListenError::AddressInUse | ListenError::NoFreePort => libc::EADDRINUSE,
            ListenError::InvalidState => libc::EINVAL,
        })
    }
}

impl From<AcceptError> for Errno {
    fn from(error: AcceptError) -> Self {
        Self(match error {
            AcceptError::WouldBlock => libc::EAGAIN,
            AcceptError::NotListening => libc::EINVAL,
        })
    }
}

impl From<ConnectError> for Errno {
    fn from(error: ConnectError) -> Self {
        Self(match error {
            ConnectError::AlreadyConnecting => libc::EALREADY,
            ConnectError::AlreadyConnected | ConnectError::InvalidState => libc::EISCONN,
            ConnectError::FamilyMismatch => libc::EAFNOSUPPORT,
            ConnectError::NetworkUnreachable | ConnectError::InvalidAddress => libc::ENETUNREACH,
            ConnectError::AddressNotAvailable => libc::EADDRNOTAVAIL,
            // inet_autobind
            ConnectError::NoFreePort => libc::EAGAIN,
            ConnectError::AddressInUse => libc::EADDRINUSE,
            ConnectError::BroadcastNotPermitted => libc::EACCES,
            ConnectError::Pending(error) => return error.into(),
        })
    }
}

impl From<SendError> for Errno {
    fn from(error: SendError) -> Self {
        Self(match error {
            SendError::WouldBlock => libc::EAGAIN,
            SendError::NotConnected => libc::ENOTCONN,
            SendError::Shutdown => libc::EPIPE,
            SendError::MessageTooLong => libc::EMSGSIZE,
            SendError::NetworkUnreachable => libc::ENETUNREACH,
            SendError::HostUnreachable => libc::EHOSTUNREACH,
            SendError::AddressNotAvailable => libc::EADDRNOTAVAIL,
            // inet_autobind
            SendError::NoFreePort => libc::EAGAIN,
            SendError::BroadcastNotPermitted => libc::EACCES,
            SendError::FamilyMismatch => libc::EAFNOSUPPORT,
            SendError::Invalid => libc::EINVAL,
            SendError::NoBufferSpace => libc::ENOBUFS,
            SendError::NetworkDown => libc::ENETDOWN,
            SendError::Filtered => libc::EPERM,
            SendError::Fault(_) => libc::EFAULT,
            SendError::Pending(error) => return error.into(),
        })
    }
}

impl From<RecvError> for Errno {
    fn from(error: RecvError) -> Self {
        Self(match error {
            RecvError::WouldBlock => libc::EAGAIN,
            RecvError::NotConnected => libc::ENOTCONN,
            RecvError::Fault(_) => libc::EFAULT,
            RecvError::Pending(error) => return error.into(),
        })
    }
}

impl From<ShutdownError> for Errno {
    fn from(error: ShutdownError) -> Self {
        match error {
            ShutdownError::NotConnected => Self(libc::ENOTCONN),
        }
    }
}

impl From<MembershipError> for Errno {
    fn from(error: MembershipError) -> Self {
        Self(match error {
            MembershipError::NotMulticast => libc::EINVAL,
            MembershipError::NoSuchNic => libc::ENODEV,
            MembershipError::AlreadyMember => libc::EADDRINUSE,
            MembershipError::NotMember | MembershipError::SourceExists | MembershipError::NoSuchSource => {
                libc::EADDRNOTAVAIL
            }
            MembershipError::InvalidSource | MembershipError::WrongMode => libc::EINVAL,
            MembershipError::TooMany => libc::ENOBUFS,
        })
    }
}

impl From<ConfigError> for Errno {
    fn from(error: ConfigError) -> Self {
        Self(match error {
            ConfigError::NoSuchNic => libc::ENODEV,
            ConfigError::Exists => libc::EEXIST,
            ConfigError::NotFound => libc::EADDRNOTAVAIL,
            ConfigError::Invalid => libc::EINVAL,
            ConfigError::GatewayUnreachable => libc::ENETUNREACH,
        })
    }
}
