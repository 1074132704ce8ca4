//! The one place where the network stack's errors become errno values. Every `match` names all variants.

use netstack::error::{
    AcceptError, BindError, ConfigError, ConnectError, ListenError, MembershipError, RecvError, SendError,
    ShutdownError, SocketError,
};

use crate::errno::Errno;

/// The errno that Linux gives for an error of the stack.
pub trait ToErrno {
    /// The errno.
    fn to_errno(&self) -> Errno;
}

impl ToErrno for SocketError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::ConnectionRefused => Errno::ECONNREFUSED,
            Self::ConnectionReset => Errno::ECONNRESET,
            Self::BrokenPipe => Errno::EPIPE,
            Self::ConnectionAborted => Errno::ECONNABORTED,
            Self::TimedOut => Errno::ETIMEDOUT,
            Self::HostUnreachable => Errno::EHOSTUNREACH,
            Self::NetworkUnreachable => Errno::ENETUNREACH,
            Self::ProtocolUnreachable => Errno::ENOPROTOOPT,
            Self::MessageTooLong => Errno::EMSGSIZE,
            // ICMPv6 "administratively prohibited" (icmpv6_err_convert).
            Self::Prohibited => Errno::EACCES,
            Self::ParameterProblem => Errno::EPROTO,
            Self::NetworkDown => Errno::ENETDOWN,
        }
    }
}

impl ToErrno for BindError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::AddressInUse | Self::NoFreePort => Errno::EADDRINUSE,
            Self::AddressNotAvailable => Errno::EADDRNOTAVAIL,
            Self::FamilyMismatch => Errno::EAFNOSUPPORT,
            Self::AlreadyBound => Errno::EINVAL,
            Self::NoSuchNic => Errno::ENODEV,
        }
    }
}

impl ToErrno for ListenError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::AddressInUse | Self::NoFreePort => Errno::EADDRINUSE,
            Self::InvalidState => Errno::EINVAL,
        }
    }
}

impl ToErrno for AcceptError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::WouldBlock => Errno::EAGAIN,
            Self::NotListening => Errno::EINVAL,
        }
    }
}

impl ToErrno for ConnectError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::AlreadyConnecting => Errno::EALREADY,
            // Connecting a listening socket gives EISCONN, too (observed).
            Self::AlreadyConnected | Self::InvalidState => Errno::EISCONN,
            Self::FamilyMismatch => Errno::EAFNOSUPPORT,
            Self::NetworkUnreachable | Self::InvalidAddress => Errno::ENETUNREACH,
            Self::AddressNotAvailable => Errno::EADDRNOTAVAIL,
            // inet_autobind
            Self::NoFreePort => Errno::EAGAIN,
            Self::AddressInUse => Errno::EADDRINUSE,
            Self::BroadcastNotPermitted => Errno::EACCES,
            Self::Pending(error) => error.to_errno(),
        }
    }
}

impl ToErrno for SendError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::WouldBlock => Errno::EAGAIN,
            // TCP says EPIPE here; its caller knows (observed: send on a new TCP socket).
            Self::NotConnected => Errno::EDESTADDRREQ,
            Self::Shutdown => Errno::EPIPE,
            Self::MessageTooLong => Errno::EMSGSIZE,
            Self::NetworkUnreachable => Errno::ENETUNREACH,
            Self::HostUnreachable => Errno::EHOSTUNREACH,
            Self::AddressNotAvailable => Errno::EADDRNOTAVAIL,
            // inet_autobind
            Self::NoFreePort => Errno::EAGAIN,
            Self::BroadcastNotPermitted => Errno::EACCES,
            Self::FamilyMismatch => Errno::EAFNOSUPPORT,
            Self::Invalid => Errno::EINVAL,
            Self::NoBufferSpace => Errno::ENOBUFS,
            Self::NetworkDown => Errno::ENETDOWN,
            Self::Filtered => Errno::EPERM,
            Self::Fault(_) => Errno::EFAULT,
            Self::Pending(error) => error.to_errno(),
        }
    }
}

impl ToErrno for RecvError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::WouldBlock => Errno::EAGAIN,
            Self::NotConnected => Errno::ENOTCONN,
            Self::Fault(_) => Errno::EFAULT,
            Self::Pending(error) => error.to_errno(),
        }
    }
}

impl ToErrno for ShutdownError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::NotConnected => Errno::ENOTCONN,
        }
    }
}

impl ToErrno for MembershipError {
    fn to_errno(&self) -> Errno {
        match self {
            Self::NotMulticast => Errno::EINVAL,
            Self::NoSuchNic => Errno::ENODEV,
            Self::AlreadyMember => Errno::EADDRINUSE,
            Self::NotMember | Self::SourceExists | Self::NoSuchSource => Errno::EADDRNOTAVAIL,
            Self::InvalidSource | Self::WrongMode => Errno::EINVAL,
            Self::TooMany => Errno::ENOBUFS,
        }
    }
}

impl ToErrno for ConfigError {
    /// As rtnetlink answers.
    fn to_errno(&self) -> Errno {
        match self {
            Self::NoSuchNic => Errno::ENODEV,
            Self::Exists => Errno::EEXIST,
            Self::NotFound => Errno::EADDRNOTAVAIL,
            Self::Invalid => Errno::EINVAL,
            Self::GatewayUnreachable => Errno::ENETUNREACH,
        }
    }
}

#[cfg(test)]
mod tests {
    use netstack::buffer::Fault;

    use super::*;

    const SOCKET_ERRORS: [(SocketError, Errno); 12] = [
        (SocketError::BrokenPipe, Errno::EPIPE),
        (SocketError::ConnectionRefused, Errno::ECONNREFUSED),
        (SocketError::ConnectionReset, Errno::ECONNRESET),
        (SocketError::ConnectionAborted, Errno::ECONNABORTED),
        (SocketError::TimedOut, Errno::ETIMEDOUT),
        (SocketError::HostUnreachable, Errno::EHOSTUNREACH),
        (SocketError::NetworkUnreachable, Errno::ENETUNREACH),
        (SocketError::ProtocolUnreachable, Errno::ENOPROTOOPT),
        (SocketError::MessageTooLong, Errno::EMSGSIZE),
        (SocketError::Prohibited, Errno::EACCES),
        (SocketError::ParameterProblem, Errno::EPROTO),
        (SocketError::NetworkDown, Errno::ENETDOWN),
    ];

    #[track_caller]
    fn check<E: ToErrno + std::fmt::Debug>(rows: &[(E, Errno)]) {
        for (error, want) in rows {
            assert_eq!(error.to_errno(), *want, "{error:?}");
        }
    }

    #[test]
    fn every_error_has_its_errno() {
        check(&SOCKET_ERRORS);
        check(&[
            (BindError::AddressInUse, Errno::EADDRINUSE),
            (BindError::AddressNotAvailable, Errno::EADDRNOTAVAIL),
            (BindError::FamilyMismatch, Errno::EAFNOSUPPORT),
            (BindError::AlreadyBound, Errno::EINVAL),
            (BindError::NoFreePort, Errno::EADDRINUSE),
            (BindError::NoSuchNic, Errno::ENODEV),
        ]);
        check(&[
            (ListenError::AddressInUse, Errno::EADDRINUSE),
            (ListenError::InvalidState, Errno::EINVAL),
            (ListenError::NoFreePort, Errno::EADDRINUSE),
        ]);
        check(&[(AcceptError::WouldBlock, Errno::EAGAIN), (AcceptError::NotListening, Errno::EINVAL)]);
        check(&[
            (ConnectError::AlreadyConnecting, Errno::EALREADY),
            (ConnectError::AlreadyConnected, Errno::EISCONN),
            (ConnectError::InvalidState, Errno::EISCONN),
            (ConnectError::FamilyMismatch, Errno::EAFNOSUPPORT),
            (ConnectError::NetworkUnreachable, Errno::ENETUNREACH),
            (ConnectError::AddressNotAvailable, Errno::EADDRNOTAVAIL),
            (ConnectError::NoFreePort, Errno::EAGAIN),
            (ConnectError::AddressInUse, Errno::EADDRINUSE),
            (ConnectError::BroadcastNotPermitted, Errno::EACCES),
            (ConnectError::InvalidAddress, Errno::ENETUNREACH),
        ]);
        check(&[
            (SendError::WouldBlock, Errno::EAGAIN),
            (SendError::NotConnected, Errno::EDESTADDRREQ),
            (SendError::Shutdown, Errno::EPIPE),
            (SendError::MessageTooLong, Errno::EMSGSIZE),
            (SendError::NetworkUnreachable, Errno::ENETUNREACH),
            (SendError::HostUnreachable, Errno::EHOSTUNREACH),
            (SendError::AddressNotAvailable, Errno::EADDRNOTAVAIL),
            (SendError::NoFreePort, Errno::EAGAIN),
            (SendError::BroadcastNotPermitted, Errno::EACCES),
            (SendError::FamilyMismatch, Errno::EAFNOSUPPORT),
            (SendError::Invalid, Errno::EINVAL),
            (SendError::NoBufferSpace, Errno::ENOBUFS),
            (SendError::NetworkDown, Errno::ENETDOWN),
            (SendError::Filtered, Errno::EPERM),
            (SendError::Fault(Fault), Errno::EFAULT),
        ]);
        check(&[
            (RecvError::WouldBlock, Errno::EAGAIN),
            (RecvError::NotConnected, Errno::ENOTCONN),
            (RecvError::Fault(Fault), Errno::EFAULT),
        ]);
        check(&[(ShutdownError::NotConnected, Errno::ENOTCONN)]);
        check(&[
            (MembershipError::NotMulticast, Errno::EINVAL),
            (MembershipError::NoSuchNic, Errno::ENODEV),
            (MembershipError::AlreadyMember, Errno::EADDRINUSE),
            (MembershipError::NotMember, Errno::EADDRNOTAVAIL),
            (MembershipError::SourceExists, Errno::EADDRNOTAVAIL),
            (MembershipError::NoSuchSource, Errno::EADDRNOTAVAIL),
            (MembershipError::InvalidSource, Errno::EINVAL),
            (MembershipError::WrongMode, Errno::EINVAL),
            (MembershipError::TooMany, Errno::ENOBUFS),
        ]);
        check(&[
            (ConfigError::NoSuchNic, Errno::ENODEV),
            (ConfigError::Exists, Errno::EEXIST),
            (ConfigError::NotFound, Errno::EADDRNOTAVAIL),
            (ConfigError::Invalid, Errno::EINVAL),
            (ConfigError::GatewayUnreachable, Errno::ENETUNREACH),
        ]);
    }

    #[test]
    fn pending_errors_keep_their_errno_in_every_call() {
        for (error, want) in SOCKET_ERRORS {
            assert_eq!(ConnectError::Pending(error).to_errno(), want);
            assert_eq!(SendError::Pending(error).to_errno(), want);
            assert_eq!(RecvError::Pending(error).to_errno(), want);
        }
    }
}
