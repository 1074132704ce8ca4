//! The options of IPv4 in what answers a segment (RFC 1122 section 4.2.3.8; Linux's `tcp_v4_save_options`).

use std::sync::Arc;

use netstack_wire::ipv4::{self, options};

use crate::options::{Ipv4Options, SocketOptions};
use crate::tcp::{SegmentIn, SynHeaders};

/// The options that answer those of a segment.
pub(super) fn of_answer(segment: &SegmentIn) -> Option<Ipv4Options> {
    segment.headers.as_deref().and_then(answering)
}

/// The options that answer those of a packet; `None` if it has none that are answered.
pub(super) fn answering(headers: &SynHeaders) -> Option<Ipv4Options> {
    let ip = headers.bytes.get(headers.network_offset..)?;
    let first = *ip.first()?;
    if first >> 4 != 4 {
        return None;
    }
    let received = ip.get(ipv4::MIN_HEADER_LEN..usize::from(first & 0x0f) * 4)?;
    let (echoed, len) = options::to_echo(received);
    Ipv4Options::new(echoed.get(..len)?).filter(|echoed| !echoed.as_slice().is_empty())
}

/// A socket's options with those of IPv4 in place of its own: a listener's are for nothing that it sends.
pub(super) fn with(options: &Arc<SocketOptions>, ip_options: Option<Ipv4Options>) -> Arc<SocketOptions> {
    if options.ip_options == ip_options {
        return Arc::clone(options);
    }
    Arc::new(SocketOptions { ip_options, ..SocketOptions::clone(options) })
}
