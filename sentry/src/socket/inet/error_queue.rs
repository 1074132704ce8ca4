//! `MSG_ERRQUEUE`: ICMP errors with their details (`ip(7)` `IP_RECVERR`).

use std::net::{IpAddr, SocketAddr};

use netstack::options::{ErrorOrigin, Family, QueuedError};
use sentry_abi::inet::{
    IP_RECVERR, IPV6_RECVERR, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, SO_EE_ORIGIN_LOCAL, SockExtendedErr,
};
use sentry_abi::socket::{AF_UNSPEC, MsgFlags, SOL_IP, SOL_IPV6};
use smallvec::SmallVec;
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::io::IoDst;
use crate::socket::control::ControlMessage;
use crate::socket::inet::ToErrno;
use crate::socket::inet::address::encode;
use crate::socket::ops::Received;

/// The answer to a `recvmsg` with `MSG_ERRQUEUE`.
///
/// # Errors
/// `EFAULT`.
pub(super) fn deliver(family: Family, error: &QueuedError, dst: &mut dyn IoDst) -> Result<Received, Errno> {
    let want = error.payload.len().min(dst.remaining());
    let copied = if want == 0 { 0 } else { dst.put(&error.payload[..want])? };
    let mut flags = MsgFlags::ERRQUEUE;
    flags.set(MsgFlags::TRUNC, copied < error.payload.len());
    Ok(Received {
        copied,
        len: error.payload.len(),
        flags,
        from: encode(family, error.destination),
        control: vec![describe(family, error)],
    })
}

/// `struct sock_extended_err` followed by the offender's address.
fn describe(family: Family, error: &QueuedError) -> ControlMessage {
    let QueuedError { error: reason, origin, icmp_type, icmp_code, info, offender, .. } = error;
    let err = SockExtendedErr {
        errno: u32::from(reason.to_errno().code()),
        origin: match origin {
            ErrorOrigin::Local => SO_EE_ORIGIN_LOCAL,
            ErrorOrigin::Icmp4 => SO_EE_ORIGIN_ICMP,
            ErrorOrigin::Icmp6 => SO_EE_ORIGIN_ICMP6,
        },
        kind: *icmp_type,
        code: *icmp_code,
        pad: 0,
        info: *info,
        data: 0,
    };
    message(family, &err, *offender)
}

/// `struct sock_extended_err` followed by an address.
pub(super) fn message(family: Family, err: &SockExtendedErr, offender: Option<IpAddr>) -> ControlMessage {
    let mut data = SmallVec::from_slice(err.as_bytes());
    match offender {
        Some(address) => {
            let family = match address {
                IpAddr::V4(_) => family,
                IpAddr::V6(_) => Family::V6,
            };
            data.extend_from_slice(&encode(family, SocketAddr::new(address, 0)));
        }
        None => {
            // As long as an address of the family.
            let len = match family {
                Family::V4 => 16,
                Family::V6 => 28,
            };
            let mut nobody = [0; 28];
            nobody[..2].copy_from_slice(&AF_UNSPEC.to_ne_bytes());
            data.extend_from_slice(&nobody[..len]);
        }
    }
    match family {
        Family::V4 => ControlMessage::Bytes { level: SOL_IP, kind: IP_RECVERR, data },
        Family::V6 => ControlMessage::Bytes { level: SOL_IPV6, kind: IPV6_RECVERR, data },
    }
}
