//! ICMP errors about tracked flows: whose they are, and what is translated in them (RFC 5508 section 4).

use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::icmpv4;

use super::rewrite;
use crate::conntrack::{Conn, Direction, Identified, Tuple};
use crate::ip::Transit;
use crate::ip::icmp::{fill_checksum, quoted_transport};
use crate::packet::{Body, Packet};
use crate::stack::Core;
use crate::time::Instant;

/// The flow that an ICMP error is about, and the direction of the packet it quotes.
pub(super) fn related(core: &Core, transit: &Transit, now: Instant) -> Option<(Arc<Conn>, Direction)> {
    let message = transit.packet.to_bytes();
    let tuple = quoted_tuple(message.get(icmpv4::HEADER_LEN..)?)?;
    // The quoted packet looks as it did after translation, which is the other direction's tuple turned round.
    let (conn, answers) = core.filter.conntrack.table.find(&tuple.inverted(), now)?;
    Some((conn, answers.opposite()))
}

/// Makes the quoted packet look as its sender knows it, and the error's addresses with it.
pub(super) fn translate(transit: &mut Transit, conn: &Conn, direction: Direction) {
    let mut message = transit.packet.to_bytes().to_vec();
    let Some((header, quoted)) = message.split_at_mut_checked(icmpv4::HEADER_LEN) else { return };
    let Some(seen) = quoted_tuple(quoted) else { return };
    let sent = conn.tuple(direction);
    if seen == sent {
        return;
    }
    let Some(transport) = quoted_transport(quoted).map(|quote| quote.bytes.len()) else { return };
    let transport_offset = quoted.len() - transport;
    rewrite::rewrite_quoted(quoted, transport_offset, sent.protocol, &sent);
    // An error from the far end itself comes from what the sender takes for the far end; one of a router on the way is
    // that router's.
    let source = if transit.source == seen.destination { sent.destination } else { transit.source };
    transit.set_addresses(source, sent.source);
    let mut packet = Packet::from_body(Body::from_iter([Bytes::copy_from_slice(quoted)]));
    packet.meta = transit.packet.meta.clone();
    packet.meta.checksum = crate::packet::Checksum::Plain;
    packet.push_header(header.len()).copy_from_slice(header);
    packet.head_mut()[icmpv4::CHECKSUM_OFFSET..icmpv4::CHECKSUM_OFFSET + 2].fill(0);
    fill_checksum(&mut packet, source, sent.source);
    transit.packet = packet;
}

pub(super) fn quoted_tuple(quoted: &[u8]) -> Option<Tuple> {
    let quote = quoted_transport(quoted)?;
    match Tuple::identify(quote.source, quote.destination, quote.protocol, quote.bytes) {
        Identified::Flow(tuple) => Some(tuple),
        Identified::Error | Identified::Link | Identified::Invalid => None,
    }
}
