//! Input while there are rules: whole packets, past the hooks, to where they lead.

use std::net::IpAddr;
use std::sync::Arc;

use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::Ipv4Repr;
use netstack_wire::ipv6::{self, Extensions, FragmentRepr, Ipv6Repr};

use crate::conntrack::Carried;
use crate::filter::{self, AssignedSocket, Passage};
use crate::ip::multicast_forward::{self, Locally};
use crate::ip::{Cast, Rx, Transit, forward, input_v4, input_v6, kept};
use crate::packet::{AddressedTo, Packet};
use crate::route::RuleList;

/// Takes an IPv4 packet, checked by input.
pub(super) fn input_v4(rx: &mut Rx<'_>, repr: &Ipv4Repr, packet: Packet) {
    // Rules see whole packets, as Linux's do once connections are tracked.
    if !repr.is_fragment() {
        return whole(rx, packet, Fragments::None);
    }
    if let Some((_, packet)) = input_v4::collect(rx, repr, packet) {
        whole(rx, packet, Fragments::Some);
    }
}

/// Takes an IPv6 packet, checked by input.
pub(super) fn input_v6(rx: &mut Rx<'_>, repr: &Ipv6Repr, mut packet: Packet) {
    let Ok(fragment) = find_fragment(repr, &mut packet) else {
        return rx.core.counters.ip_in_truncated.increment();
    };
    match fragment {
        None => whole(rx, packet, Fragments::None),
        Some((offset, header)) => {
            if let Some((_, packet)) = input_v6::collect(rx, repr, packet, offset, header) {
                whole(rx, packet, Fragments::Some);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fragments {
    None,
    Some,
}

fn whole(rx: &mut Rx<'_>, packet: Packet, fragments: Fragments) {
    let addressed_to = packet.meta.addressed_to;
    let Some(mut transit) = Transit::new(packet) else {
        return rx.core.counters.ip_in_header_errors.increment();
    };
    transit.is_reassembled = fragments == Fragments::Some;
    let Some(passage) = filter::prerouting(rx, &mut transit) else { return };
    let group = transit.destination;
    if multicast_forward::concerns(rx, group, &transit.packet) {
        let is_member = rx.interface.is_member(group);
        let packet = transit.clone().into_packet();
        let locally = multicast_forward::input(rx, &packet, Some(passage.clone()), is_member);
        if locally == Locally::Yes {
            return deliver(rx, Cast::Multicast, transit, passage);
        }
        if !is_member {
            return;
        }
    }
    let cast = match transit.destination {
        IpAddr::V4(destination) => input_v4::classify(rx, destination),
        IpAddr::V6(destination) => input_v6::classify(rx, destination),
    };
    let is_kept = || {
        let facts = |rules: &RuleList| transit.facts(rules);
        kept::is_kept(rx, transit.source, transit.destination, transit.packet.meta.mark, facts)
    };
    let Some(cast) = cast.or_else(|| is_kept().then_some(Cast::Unicast)) else {
        // As Linux (`ip_forward`): what is for a socket of ours goes to nobody else.
        if passage.is_assigned() {
            return rx.core.counters.ip_in_not_ours.increment();
        }
        let options = rx.topology.nics.get(&rx.interface.id).map(|entry| entry.options).unwrap_or_default();
        let forwards = if transit.is_v4() { options.forwards_v4 } else { options.forwards_v6 };
        if !forwards || addressed_to != AddressedTo::Host {
            return rx.core.counters.ip_in_not_ours.increment();
        }
        return forward::forward(rx, &options, transit, Some(passage));
    };
    deliver(rx, cast, transit, passage);
}

/// Delivers a packet for us if the rules for that let it through.
fn deliver(rx: &mut Rx<'_>, cast: Cast, mut transit: Transit, mut passage: Passage) {
    if !filter::input(rx.core, &mut passage, &mut transit, rx.outbox) {
        return;
    }
    let is_v4 = transit.is_v4();
    let mut packet = transit.into_packet();
    let cast = match passage.take_assigned() {
        Some(socket @ (AssignedSocket::Listener(_) | AssignedSocket::Datagram(_)))
            if cast == Cast::Unicast =>
        {
            packet.meta.carried = Some(Arc::new(Carried { tracking: None, socket: Some(socket) }));
            Cast::Assigned
        }
        _ => cast,
    };
    match is_v4 {
        true => input_v4::deliver_whole(rx, cast, packet),
        false => input_v6::deliver_whole(rx, cast, packet),
    }
}

/// The fragment header of a packet that is a fragment, and where it is among the extension headers.
fn find_fragment(repr: &Ipv6Repr, packet: &mut Packet) -> Result<Option<(usize, FragmentRepr)>, ()> {
    if !repr.next_header.is_extension() {
        return Ok(None);
    }
    let start = usize::from(packet.meta.l3_offset);
    let len = packet.len().saturating_sub(start);
    if !packet.make_contiguous(start, len) {
        return Err(());
    }
    for extension in Extensions::new(repr.next_header, packet.contiguous(start + ipv6::HEADER_LEN)) {
        let extension = extension.map_err(|_| ())?;
        if extension.kind == Protocol::FRAGMENT {
            let header = FragmentRepr::parse(extension.bytes).ok_or(())?;
            // RFC 6946: an atomic fragment is whole.
            let is_atomic = header.offset == 0 && !header.more;
            return Ok((!is_atomic).then_some((extension.offset, header)));
        }
    }
    Ok(None)
}
