//! `MSG_ERRQUEUE`: what went wrong with datagrams that were sent, with its details (`ip(7)`, `IP_RECVERR`).

use std::net::{IpAddr, SocketAddr};

use libc::sock_extended_err;
use netstack::buffer::Sink;
use netstack::options::{ErrorOrigin, Family, QueuedError};

use crate::address;
use crate::control::Encoder;
use crate::descriptor::{Socket, each};
use crate::errno::Errno;
use crate::transfer::{Outcome, copy_some};

/// Takes the oldest entry; never waits, as on Linux.
pub(crate) fn take(socket: &Socket, out: &mut dyn Sink) -> Result<Outcome, Errno> {
    let error = each!(&socket.kind, socket => socket.take_queued_error()).ok_or(Errno(libc::EAGAIN))?;
    Ok(Outcome::Error { copied: copy_some(&error.payload, out)?, error })
}

/// `struct sock_extended_err`, followed by the address of who said it.
pub(crate) fn describe(family: Family, error: &QueuedError, out: &mut Encoder) {
    let QueuedError { error: reason, origin, icmp_type, icmp_code, info, offender, .. } = error;
    let Errno(number) = Errno::from(*reason);
    let origin = match origin {
        ErrorOrigin::Local => libc::SO_EE_ORIGIN_LOCAL,
        ErrorOrigin::Icmp4 => libc::SO_EE_ORIGIN_ICMP,
        ErrorOrigin::Icmp6 => libc::SO_EE_ORIGIN_ICMP6,
    };
    let mut data = Vec::with_capacity(size_of::<sock_extended_err>() + MAX_ADDRESS);
    data.extend_from_slice(&number.to_ne_bytes());
    data.extend_from_slice(&[origin, *icmp_type, *icmp_code, 0]);
    data.extend_from_slice(&info.to_ne_bytes());
    // ee_data has a meaning for other origins only.
    data.extend_from_slice(&[0; 4]);
    match offender {
        Some(address) => {
            let address = match (family, address) {
                (Family::V6, IpAddr::V4(address)) => address.to_ipv6_mapped().into(),
                _ => *address,
            };
            let (encoded, len) = address::encode(SocketAddr::new(address, 0));
            data.extend_from_slice(&encoded[..len]);
        }
        // AF_UNSPEC is zero.
        None => data.extend_from_slice(&[0; size_of::<libc::sockaddr_in>()]),
    }
    match family {
        Family::V4 => out.put(libc::SOL_IP, libc::IP_RECVERR, &data),
        Family::V6 => out.put(libc::SOL_IPV6, libc::IPV6_RECVERR, &data),
    }
}

const MAX_ADDRESS: usize = size_of::<libc::sockaddr_in6>();
