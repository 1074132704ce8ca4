//! Extension headers of IPv6 as guests give and get them (RFC 3542; Linux's `ip6_datagram_send_ctl` and
//! `ip6_datagram_recv_specific_ctl`).

use std::sync::Arc;

use netstack::options::{ExtensionHeader, Ipv6Extensions, ReceivedExtensions};
use netstack::wire::ip::Protocol;
use sentry_abi::inet::{
    IPV6_2292DSTOPTS, IPV6_2292HOPOPTS, IPV6_2292RTHDR, IPV6_DSTOPTS, IPV6_HOPOPTS, IPV6_RTHDR,
    IPV6_RTHDRDSTOPTS,
};
use sentry_abi::socket::SOL_IPV6;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::control::ControlMessage;
use crate::socket::inet::Receive;
use crate::task::{Capabilities, CurrentTask};

/// Sending options takes `CAP_NET_RAW` in the socket's namespace; a header that is not whole is an error of its own, found later.
///
/// # Errors
/// `EPERM`.
pub fn check_privilege(
    task: &CurrentTask,
    namespace: &NetNamespace,
    control: &[ControlMessage],
) -> Result<(), Errno> {
    let is_privileged = |message: &ControlMessage| match message {
        ControlMessage::Bytes { level: SOL_IPV6, kind, data } => {
            let has_options = matches!(
                *kind,
                IPV6_HOPOPTS | IPV6_2292HOPOPTS | IPV6_DSTOPTS | IPV6_2292DSTOPTS | IPV6_RTHDRDSTOPTS
            );
            has_options && ExtensionHeader::new(data).is_some()
        }
        ControlMessage::Process(_) => false,
        ControlMessage::Bytes { .. } | ControlMessage::Rights(_) | ControlMessage::Credentials(_) => false,
    };
    if control.iter().any(is_privileged) && !namespace.grants(&task.creds(), Capabilities::NET_RAW) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Adds the header of a control message.
///
/// # Errors
/// `EINVAL` for messages of other kinds, a header that is not whole, the second of a kind where Linux takes one, and routes: Linux
/// asks of a message's that all its segments are left, which the one type that it knows never has.
pub(super) fn apply(
    kind: i32,
    data: &[u8],
    extensions: &mut Option<Arc<Ipv6Extensions>>,
) -> Result<(), Errno> {
    let header = ExtensionHeader::new(data).ok_or(Errno::EINVAL)?;
    let all = Arc::make_mut(extensions.get_or_insert_default());
    let (place, is_single) = match kind {
        IPV6_HOPOPTS | IPV6_2292HOPOPTS => (&mut all.hop_by_hop, true),
        IPV6_2292DSTOPTS => (&mut all.destination, true),
        IPV6_DSTOPTS => (&mut all.destination, false),
        IPV6_RTHDRDSTOPTS => (&mut all.routing_destination, false),
        // Routes are among these.
        _ => return Err(Errno::EINVAL),
    };
    if is_single && place.is_some() {
        return Err(Errno::EINVAL);
    }
    *place = Some(header);
    Ok(())
}

/// A header for a socket to keep; none of no bytes (`ipv6_set_opt_hdr`).
///
/// # Errors
/// `EINVAL` for a length that headers do not have, or that is less than the header says.
pub fn parse(value: &[u8]) -> Result<Option<ExtensionHeader>, Errno> {
    if value.is_empty() {
        return Ok(None);
    }
    if !value.len().is_multiple_of(8) || value.len() > MAX_LEN {
        return Err(Errno::EINVAL);
    }
    ExtensionHeader::new(value).map(Some).ok_or(Errno::EINVAL)
}

/// Whether a route may be kept: one of type 4 whose list fits (`seg6_validate_srh`).
#[must_use]
pub fn is_route(header: &ExtensionHeader, value: &[u8]) -> bool {
    let &[_, len, kind, left, first, ..] = header.as_slice() else { return false };
    let entries = len / 2;
    kind == SEGMENT_ROUTING
        && value.len() == header.as_slice().len()
        && left <= first
        && first < entries
        // What is behind the list is a row of type, length and value.
        && has_whole_values(value.get(8 + (usize::from(first) + 1) * 16..).unwrap_or_default())
}

fn has_whole_values(mut rest: &[u8]) -> bool {
    while let Some((&kind, behind)) = rest.split_first() {
        let len = match kind {
            PAD1 => 1,
            _ => match behind.first() {
                Some(&len) => usize::from(len) + 2,
                None => return false,
            },
        };
        match rest.get(len..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    true
}

/// Adds the headers that a socket with the switches `wanted` is told.
pub(super) fn describe(wanted: Receive, received: &ReceivedExtensions, out: &mut Vec<ControlMessage>) {
    let numbers = [
        [
            (Receive::HOP_BY_HOP, Protocol::HOP_BY_HOP, IPV6_HOPOPTS),
            (Receive::ROUTING, Protocol::ROUTING, IPV6_RTHDR),
            (Receive::DESTINATION, Protocol::DESTINATION_OPTIONS, IPV6_DSTOPTS),
        ],
        [
            (Receive::HOP_BY_HOP_2292, Protocol::HOP_BY_HOP, IPV6_2292HOPOPTS),
            (Receive::ROUTING_2292, Protocol::ROUTING, IPV6_2292RTHDR),
            (Receive::DESTINATION_2292, Protocol::DESTINATION_OPTIONS, IPV6_2292DSTOPTS),
        ],
    ];
    for numbers in numbers {
        for (kind, bytes) in received.headers() {
            let number = numbers.iter().find(|(_, protocol, _)| protocol.0 == kind);
            if let Some((_, _, number)) = number.filter(|(switch, _, _)| wanted.contains(*switch)) {
                out.push(ControlMessage::value(SOL_IPV6, *number, bytes));
            }
        }
    }
}

/// `8 * 255` (`do_ipv6_setsockopt`).
const MAX_LEN: usize = 8 * 255;
/// The type of routing header of RFC 8754.
const SEGMENT_ROUTING: u8 = 4;
/// The one kind of value there without a length.
const PAD1: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_lists_that_fit() {
        let check = |value: &[u8]| parse(value).unwrap().is_some_and(|header| is_route(&header, value));
        let route = |head: [u8; 5], len: usize| {
            let mut value = head.to_vec();
            value.resize(len, 0);
            value
        };
        assert!(check(&route([0, 2, 4, 0, 0], 24)));
        assert!(check(&route([0, 4, 4, 1, 1], 40)));
        for bad in [[0, 2, 4, 1, 0], [0, 2, 4, 0, 1], [0, 2, 2, 0, 0], [0, 0, 4, 0, 0]] {
            assert!(!check(&route(bad, 24)), "{bad:?}");
        }
        let mut cut = route([0, 3, 4, 0, 0], 32);
        cut[24..26].copy_from_slice(&[5, 9]);
        assert!(!check(&cut));
        assert_eq!(parse(&[0; 12]), Err(Errno::EINVAL));
        assert_eq!(parse(&[]), Ok(None));
    }
}
