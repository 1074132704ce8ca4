//! Socket options by name.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::Outcome;
use crate::value::{Value, bytes_of};

/// Declares options that are an `int`, and looks them up by name.
macro_rules! int_options {
    ($($level:ident { $($name:ident)* })*) => {
        /// One type per option, as `nix` wants it.
        mod ints {
            #![allow(non_camel_case_types, dead_code, reason = "the options keep the names that Linux gives them")]

            use super::numbers;
            use nix::libc;
            use nix::{getsockopt_impl, setsockopt_impl};

            $($(
                #[derive(Clone, Copy)]
                pub(super) struct $name;
                getsockopt_impl!($name, libc::$level, numbers::$name, i32, nix::sys::socket::sockopt::GetStruct<i32>);
                setsockopt_impl!($name, libc::$level, numbers::$name, i32, nix::sys::socket::sockopt::SetStruct<'_, i32>);
            )*)*
        }

        fn set_int(fd: &OwnedFd, name: &str, value: i32) -> Result<(), Errno> {
            match name {
                $($(stringify!($name) => setsockopt(fd, ints::$name, &value),)*)*
                _ => Err(Errno::ENOPROTOOPT),
            }
        }

        fn get_int(fd: &OwnedFd, name: &str) -> Result<i32, Errno> {
            match name {
                $($(stringify!($name) => getsockopt(fd, ints::$name),)*)*
                _ => Err(Errno::ENOPROTOOPT),
            }
        }
    };
}

/// The options' numbers: the C library's, and those that it does not have yet.
mod numbers {
    pub(super) use nix::libc::*;

    pub(super) const TCP_FASTOPEN_NO_COOKIE: c_int = 34;
    pub(super) const TCP_RTO_MAX_MS: c_int = 44;
    pub(super) const TCP_RTO_MIN_US: c_int = 45;
    pub(super) const TCP_DELACK_MAX_US: c_int = 46;
}

int_options! {
    IPPROTO_TCP {
        TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2
        TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_QUICKACK TCP_USER_TIMEOUT TCP_FASTOPEN TCP_FASTOPEN_CONNECT
        TCP_NOTSENT_LOWAT TCP_THIN_LINEAR_TIMEOUTS TCP_FASTOPEN_NO_COOKIE TCP_RTO_MAX_MS TCP_RTO_MIN_US TCP_DELACK_MAX_US
    }
    SOL_SOCKET {
        SO_REUSEADDR SO_REUSEPORT SO_KEEPALIVE SO_SNDBUF SO_RCVBUF SO_OOBINLINE SO_ERROR SO_ACCEPTCONN SO_RCVLOWAT
        SO_PRIORITY SO_MARK SO_MAX_PACING_RATE
    }
    IPPROTO_IP { IP_TTL IP_TOS IP_MTU_DISCOVER IP_RECVERR IP_MINTTL }
    IPPROTO_IPV6 { IPV6_UNICAST_HOPS IPV6_TCLASS IPV6_RECVERR IPV6_MINHOPCOUNT IPV6_AUTOFLOWLABEL }
}

/// Options that are bytes.
mod bytes {
    #![allow(non_camel_case_types, dead_code, reason = "the options keep the names that Linux gives them")]

    use std::ffi::OsString;

    use nix::sys::socket::sockopt::SetOsString;
    use nix::{libc, setsockopt_impl};

    #[derive(Clone, Copy)]
    pub(super) struct IP_OPTIONS;
    setsockopt_impl!(IP_OPTIONS, libc::IPPROTO_IP, libc::IP_OPTIONS, OsString, SetOsString<'_>);
    #[derive(Clone, Copy)]
    pub(super) struct IPV6_HOPOPTS;
    setsockopt_impl!(IPV6_HOPOPTS, libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS, OsString, SetOsString<'_>);
    #[derive(Clone, Copy)]
    pub(super) struct IPV6_RTHDR;
    setsockopt_impl!(IPV6_RTHDR, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, OsString, SetOsString<'_>);
    #[derive(Clone, Copy)]
    pub(super) struct IPV6_DSTOPTS;
    setsockopt_impl!(IPV6_DSTOPTS, libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, OsString, SetOsString<'_>);
}

/// The bytes that hexadecimal digits stand for.
fn raw(digits: &str) -> Result<OsString, Errno> {
    bytes_of(digits).map(OsString::from_vec).ok_or(Errno::EINVAL)
}

/// `setsockopt`.
pub(super) fn set(fd: &OwnedFd, name: &str, value: &Value) -> Result<Outcome, Errno> {
    match (name, value) {
        ("TCP_CONGESTION", Value::Name(name)) => {
            setsockopt(fd, sockopt::TcpCongestion, &OsString::from(name))?;
        }
        ("IP_OPTIONS", Value::Name(digits)) => setsockopt(fd, bytes::IP_OPTIONS, &raw(digits)?)?,
        ("IPV6_HOPOPTS", Value::Name(digits)) => setsockopt(fd, bytes::IPV6_HOPOPTS, &raw(digits)?)?,
        ("IPV6_RTHDR", Value::Name(digits)) => setsockopt(fd, bytes::IPV6_RTHDR, &raw(digits)?)?,
        ("IPV6_DSTOPTS", Value::Name(digits)) => setsockopt(fd, bytes::IPV6_DSTOPTS, &raw(digits)?)?,
        ("SO_LINGER", Value::Name(_)) => linger(fd, 0, 0)?,
        ("SO_LINGER", Value::Int(seconds)) => {
            linger(fd, 1, i32::try_from(*seconds).map_err(|_| Errno::EINVAL)?)?;
        }
        (name, Value::Int(number)) => {
            set_int(fd, name, i32::try_from(*number).map_err(|_| Errno::EINVAL)?)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(Outcome::Number(0))
}

fn linger(fd: &OwnedFd, l_onoff: i32, l_linger: i32) -> Result<(), Errno> {
    setsockopt(fd, sockopt::Linger, &libc::linger { l_onoff, l_linger })
}

/// `getsockopt`; `SO_ERROR` gives the error's name.
pub(super) fn get(fd: &OwnedFd, name: &str) -> Result<Outcome, Errno> {
    match name {
        "TCP_CONGESTION" => {
            let name = getsockopt(fd, sockopt::TcpCongestion)?;
            Ok(Outcome::Name(name.to_string_lossy().trim_end_matches('\0').to_owned()))
        }
        "SO_ERROR" => Ok(match get_int(fd, name)? {
            0 => Outcome::Number(0),
            number => Outcome::Name(format!("{:?}", Errno::from_raw(number))),
        }),
        // Seconds, or -1 if it is off.
        "SO_LINGER" => {
            let linger = getsockopt(fd, sockopt::Linger)?;
            Ok(Outcome::Number(if linger.l_onoff == 0 { -1 } else { linger.l_linger.into() }))
        }
        name => Ok(Outcome::Number(get_int(fd, name)?.into())),
    }
}
