//! Fragmentation of what this stack sends (RFC 791 section 3.2, RFC 8200 section 4.5).

use std::net::IpAddr;
use std::sync::Arc;

use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::{self, Ipv4Repr};
use netstack_wire::ipv6::{self, FragmentRepr, Ipv6Repr};

use crate::ip::output::{deliver, v6};
use crate::ip::{Egress, IpOutput, OutputError};
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::stack::Core;

/// Sends a transport packet, its checksum finished, in fragments.
pub(super) fn send(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    let overhead = match output.destination {
        IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN + ipv6::FRAGMENT_HEADER_LEN,
    };
    let mtu = usize::try_from(egress.mtu).unwrap_or(usize::MAX);
    // All fragments but the last carry a multiple of eight bytes.
    let room = mtu.saturating_sub(overhead) & !7;
    if room == 0 {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    let ident = core.next_fragment_ident(output);
    let whole = packet.to_bytes();
    core.counters.ip_frag_ok.increment();
    let mut offset = 0;
    while offset < whole.len() {
        let len = room.min(whole.len() - offset);
        let mut fragment = Packet::from_body(Body::from_iter([whole.slice(offset..offset + len)]));
        fragment.meta = packet.meta.clone();
        let more = offset + len < whole.len();
        push_headers(output, &mut fragment, Piece { ident, offset, len, more });
        core.counters.ip_frag_creates.increment();
        deliver(core, egress, output.destination, output.loops, fragment, outbox)?;
        offset += len;
    }
    Ok(())
}

struct Piece {
    ident: u32,
    offset: usize,
    len: usize,
    more: bool,
}

fn push_headers(output: &IpOutput, fragment: &mut Packet, piece: Piece) {
    let Piece { ident, offset, len, more } = piece;
    // The whole packet is at most 65535 bytes long, so both fit.
    let (offset, len) = (offset as u16, len as u16);
    match (output.source, output.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let repr = Ipv4Repr {
                source,
                destination,
                protocol: output.protocol,
                ttl: output.ttl,
                tos: output.tos,
                // IPv4 has half of the bits.
                ident: (ident & 0xffff) as u16,
                dont_fragment: false,
                more_fragments: more,
                fragment_offset: offset,
                options_len: 0,
                payload_len: len,
            };
            repr.emit(fragment.push_header(ipv4::MIN_HEADER_LEN));
        }
        (source, destination) => {
            FragmentRepr { next_header: output.protocol, offset, more, ident }
                .emit(fragment.push_header(ipv6::FRAGMENT_HEADER_LEN));
            let repr = Ipv6Repr {
                source: v6(source),
                destination: v6(destination),
                next_header: Protocol::FRAGMENT,
                hop_limit: output.ttl,
                traffic_class: output.tos,
                flow_label: output.flow_label,
                payload_len: len.saturating_add(ipv6::FRAGMENT_HEADER_LEN as u16),
            };
            repr.emit(fragment.push_header(ipv6::HEADER_LEN));
        }
    }
}
