//! Sending with extension headers of IPv6 that the application gave.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use netstack_wire::ip::Protocol;
use netstack_wire::ipv4;
use netstack_wire::ipv6::{self, FragmentRepr, Ipv6Repr};

use crate::filter;
use crate::ip::output::{begin_checksum, deliver, finish_checksum, v6};
use crate::ip::{Egress, Fragmenting, IpOutput, OutputError, Transit};
use crate::options::{Family, Ipv6Extensions};
use crate::outbox::Outbox;
use crate::packet::{Meta, Packet};
use crate::stack::Core;

/// Sends a transport packet behind extension headers.
#[cold]
pub(crate) fn send_with_extensions(
    core: &Arc<Core>,
    egress: &mut Egress,
    output: &IpOutput,
    extensions: &Ipv6Extensions,
    mut packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    if !egress.interface.is_up() {
        return Err(OutputError::NetworkDown);
    }
    let transport_len = packet.len();
    // RFC 8200 section 8.1: the pseudo-header has the final destination.
    begin_checksum(output.source, output.destination, output.protocol, &mut packet, transport_len);
    finish_checksum(output.protocol, &mut packet);
    // Headers may be longer than the room in front of packets, so all of it is copied.
    let mut content = Vec::new();
    let mut next = output.protocol;
    if let Some(options) = &extensions.destination {
        push(&mut content, options.as_slice(), next);
        next = Protocol::DESTINATION_OPTIONS;
    }
    packet.slices().for_each(|slice| content.extend_from_slice(slice));
    let last = v6(output.destination);
    let to = extensions.first_hop().unwrap_or(last);
    let way = Way { output, to, before: extensions.unfragmentable(last), meta: packet.meta };
    let total = ipv6::HEADER_LEN + way.before_len() + content.len();
    if total > ipv6::HEADER_LEN + ipv4::MAX_PACKET_LEN {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    core.counters.ip_out_requests.increment();
    let mtu = usize::try_from(egress.mtu).unwrap_or(usize::MAX);
    if total <= mtu {
        return way.send(core, egress, next, &[&content], outbox);
    }
    if output.fragmenting == Fragmenting::Forbidden {
        return Err(OutputError::TooLarge { mtu: egress.mtu });
    }
    way.send_fragments(core, egress, (&content, next), mtu, outbox)
}

/// What all fragments of a packet have.
struct Way<'a> {
    output: &'a IpOutput,
    /// Where the IP header says that it goes: with a route not to where it ends.
    to: Ipv6Addr,
    /// The headers that each fragment has.
    before: Vec<(Protocol, Vec<u8>)>,
    meta: Meta,
}

impl Way<'_> {
    fn before_len(&self) -> usize {
        self.before.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Sends what `next` begins behind all that comes before it.
    fn send(
        &self,
        core: &Arc<Core>,
        egress: &mut Egress,
        next: Protocol,
        content: &[&[u8]],
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        let followers = self.before.iter().skip(1).map(|(kind, _)| *kind).chain([next]);
        let mut bytes = vec![0; ipv6::HEADER_LEN];
        for ((_, header), next) in self.before.iter().zip(followers) {
            push(&mut bytes, header, next);
        }
        content.iter().for_each(|part| bytes.extend_from_slice(part));
        let repr = Ipv6Repr {
            source: v6(self.output.source),
            destination: self.to,
            next_header: self.before.first().map_or(next, |(kind, _)| *kind),
            hop_limit: self.output.ttl,
            traffic_class: self.output.tos,
            flow_label: self.output.flow_label,
            // Checked against the maximum before.
            payload_len: u16::try_from(bytes.len() - ipv6::HEADER_LEN).unwrap_or(u16::MAX),
        };
        repr.emit(&mut bytes);
        let mut packet = Packet::from_frame(bytes.into());
        packet.meta = self.meta.clone();
        if core.filter.is_active(Family::V6)
            && let Some(transit) = Transit::new(packet.clone())
        {
            return filter::output(core, egress, self.output.fragmenting, transit, outbox);
        }
        deliver(core, egress, IpAddr::V6(self.to), self.output.loops, packet, outbox)
    }

    /// RFC 8200 section 4.5: the fragment header is behind what routers look at.
    fn send_fragments(
        &self,
        core: &Arc<Core>,
        egress: &mut Egress,
        (content, next_header): (&[u8], Protocol),
        mtu: usize,
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        let overhead = ipv6::HEADER_LEN + self.before_len() + ipv6::FRAGMENT_HEADER_LEN;
        let room = mtu.saturating_sub(overhead) & !7;
        if room == 0 {
            return Err(OutputError::TooLarge { mtu: egress.mtu });
        }
        let ident = core.next_fragment_ident(self.output);
        core.counters.ip_frag_ok.increment();
        for offset in (0..content.len()).step_by(room) {
            let end = content.len().min(offset + room);
            let mut header = [0; ipv6::FRAGMENT_HEADER_LEN];
            // The whole packet is shorter than 64 KiB.
            let repr = FragmentRepr { next_header, offset: offset as u16, more: end < content.len(), ident };
            repr.emit(&mut header);
            core.counters.ip_frag_creates.increment();
            self.send(core, egress, Protocol::FRAGMENT, &[&header, &content[offset..end]], outbox)?;
        }
        Ok(())
    }
}

/// Appends a header that says that `next` follows.
fn push(bytes: &mut Vec<u8>, header: &[u8], next: Protocol) {
    let at = bytes.len();
    bytes.extend_from_slice(header);
    if let Some(first) = bytes.get_mut(at) {
        *first = next.0;
    }
}
