//! IPv4 input (RFC 791, RFC 1122 section 3.2.1).

use std::net::{IpAddr, Ipv4Addr};

use netstack_wire::checksum;
use netstack_wire::ip::ParseError;
use netstack_wire::ipv4::options::{self, OptionsError, Overflow, Stamp};
use netstack_wire::ipv4::{self, Ipv4Repr};

use crate::ip::icmp_error::{self, IcmpReason};
use crate::ip::reassembly::{Fragment, FragmentKey, Progress};
use crate::ip::{Cast, IpMeta, Rx, filtered, forward, kept, multicast_forward};
use crate::options::Family;
use crate::packet::{AddressedTo, Packet};
use crate::route::RuleList;
use crate::stack::Core;
use crate::topology::Topology;

/// Takes a packet whose IPv4 header is at its `l3_offset`.
pub(super) fn input(rx: &mut Rx<'_>, mut packet: Packet) {
    let counters = &rx.core.counters;
    rx.tally.in_receives += 1;
    let start = usize::from(packet.meta.l3_offset);
    let first = packet.contiguous(start).first().copied().unwrap_or_default();
    let header_len = usize::from(first & 0x0f) * 4;
    if !packet.make_contiguous(start, header_len.max(ipv4::MIN_HEADER_LEN)) {
        return counters.ip_in_truncated.increment();
    }
    let header = packet.contiguous(start);
    let parsed = Ipv4Repr::parse_unchecked(header).and_then(|repr| {
        let is_right = rx.is_looped
            || header.get(..repr.header_len()).is_some_and(|header| checksum::sum(header) == 0xffff);
        if is_right { Ok(repr) } else { Err(ParseError::BadChecksum) }
    });
    let repr = match parsed {
        Ok(repr) => repr,
        Err(ParseError::Truncated) => return counters.ip_in_truncated.increment(),
        Err(ParseError::Malformed) => return counters.ip_in_header_errors.increment(),
        Err(ParseError::BadChecksum) => return counters.ip_in_checksum_errors.increment(),
    };
    let end = start + repr.header_len() + usize::from(repr.payload_len);
    let len = packet.len();
    if len < end {
        return counters.ip_in_truncated.increment();
    }
    if len > end {
        packet.truncate(end);
    }
    let pair = (repr.source, repr.destination);
    if rx.last_v4 == Some(pair) && !repr.is_fragment() {
        return deliver(rx, Cast::Unicast, &repr, packet);
    }
    // RFC 1122 section 3.2.1.3: "must be silently discarded" for sources that are no single host.
    if is_martian(rx, repr.source, repr.destination) {
        return counters.ip_in_martians.increment();
    }
    if repr.options_len > 0 && !has_acceptable_options(rx, &repr, &packet) {
        return counters.ip_in_header_errors.increment();
    }
    if rx.core.filter.is_active(Family::V4) {
        return filtered::input_v4(rx, &repr, packet);
    }
    let group = IpAddr::V4(repr.destination);
    if multicast_forward::concerns(rx, group, &packet) {
        let is_member = rx.interface.is_member(group);
        multicast_forward::input(rx, &packet, None, is_member);
        if !is_member {
            return;
        }
    }
    let is_kept = || {
        let (source, destination) = (repr.source.into(), repr.destination.into());
        let facts = |rules: &RuleList| kept::facts_of(&packet, rules);
        kept::is_kept(rx, source, destination, packet.meta.mark, facts)
    };
    let cast = match classify(rx, repr.destination) {
        Some(cast) => cast,
        None if is_kept() => Cast::Unicast,
        None => return forward::input(rx, packet),
    };
    rx.last_v4 = (cast == Cast::Unicast).then_some(pair);
    if !repr.is_fragment() {
        return deliver(rx, cast, &repr, packet);
    }
    if let Some((whole, packet)) = collect(rx, &repr, packet) {
        deliver(rx, cast, &whole, packet);
    }
}

/// Addresses that never leave a host, and our own: somebody pretends to be us (RFC 1812 section 5.3.7; Linux without
/// `accept_local`).
fn is_impossible_on_links(rx: &Rx<'_>, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    // RFC 1122 section 3.2.1.3: "This host on this network" is "only used as a source address" by those that look for
    // one, who ask everybody (DHCP), and by those that look for members of groups.
    let is_nobody = source.is_unspecified() && !destination.is_broadcast() && !destination.is_multicast();
    source.is_loopback()
        || destination.is_loopback()
        || is_nobody
        || rx.topology.local_address(IpAddr::V4(source)).is_some()
}

/// Whether the options are well-formed and ask for nothing that we refuse; tells the sender what is not (RFC 1122
/// section 3.2.2.5).
fn has_acceptable_options(rx: &mut Rx<'_>, repr: &Ipv4Repr, packet: &Packet) -> bool {
    let start = usize::from(packet.meta.l3_offset);
    let Some(options) = packet.get(start + ipv4::MIN_HEADER_LEN, repr.options_len.into()) else {
        return false;
    };
    let offset = match options::check(options) {
        Ok(()) => return true,
        Err(OptionsError::Malformed { offset }) => offset,
        Err(OptionsError::SourceRouted) => return false,
    };
    if packet.meta.addressed_to == AddressedTo::Host && !repr.destination.is_multicast() {
        let mut quoted = packet.clone();
        quoted.trim_front(start);
        // The fixed header is 20 bytes long.
        let reason = IcmpReason::ErroneousHeader { pointer: u32::from(offset) + ipv4::MIN_HEADER_LEN as u32 };
        let from = Some(IpAddr::V4(repr.destination));
        icmp_error::report(rx.core, &quoted.to_bytes(), repr.source.into(), from, reason, rx.outbox);
    }
    false
}

/// Delivers a packet that rules let through, with its IP header at the front.
pub(super) fn deliver_whole(rx: &mut Rx<'_>, cast: Cast, packet: Packet) {
    let Ok(repr) = Ipv4Repr::parse_unchecked(packet.contiguous(0)) else {
        return rx.core.counters.ip_in_header_errors.increment();
    };
    deliver(rx, cast, &repr, packet);
}

/// Whether no packet can have come this way with these addresses.
pub(super) fn is_martian(rx: &Rx<'_>, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    source.is_multicast()
        || rx.topology.is_broadcast(source)
        || destination.is_unspecified()
        || (!rx.is_looped && is_impossible_on_links(rx, source, destination))
}

/// How many a packet to `destination` is for, if it is for us.
pub(super) fn classify(rx: &Rx<'_>, destination: Ipv4Addr) -> Option<Cast> {
    if rx.topology.local_address(IpAddr::V4(destination)).is_some() {
        Some(Cast::Unicast)
    } else if rx.topology.is_broadcast(destination) {
        Some(Cast::Broadcast)
    } else if destination.is_multicast() && rx.interface.is_member(IpAddr::V4(destination)) {
        Some(Cast::Multicast)
    } else if rx.takes_for_others() && !destination.is_multicast() && !destination.is_unspecified() {
        Some(Cast::Unicast)
    } else {
        None
    }
}

/// Writes our address and the time into options that ask for them.
fn record_options(rx: &Rx<'_>, repr: &Ipv4Repr, packet: Packet) -> Packet {
    let start = usize::from(packet.meta.l3_offset);
    let (meta, mut bytes) = (packet.meta.clone(), packet.to_vec());
    let Some(header) = bytes.get_mut(start..start + repr.header_len()) else { return packet };
    let stamp = stamp(rx.core, rx.topology, repr.destination);
    if !options::record(&mut header[ipv4::MIN_HEADER_LEN..], &stamp, Overflow::Counted) {
        return packet;
    }
    repr.emit(header);
    let mut recorded = Packet::from_frame(bytes.into());
    recorded.meta = meta;
    recorded
}

/// What this stack writes into options as `address`.
pub(super) fn stamp<'a>(
    core: &Core,
    topology: &'a Topology,
    address: Ipv4Addr,
) -> Stamp<impl Fn(Ipv4Addr) -> bool + use<'a>> {
    let is_own = |own| topology.local_address(IpAddr::V4(own)).is_some();
    Stamp { address, time_address: address, time: core.clock.milliseconds_of_day(), is_own }
}

fn deliver(rx: &mut Rx<'_>, cast: Cast, repr: &Ipv4Repr, mut packet: Packet) {
    if repr.options_len > 0 && cast == Cast::Unicast {
        packet = record_options(rx, repr, packet);
    }
    let start = usize::from(packet.meta.l3_offset);
    let offset = start + repr.header_len();
    let ip = IpMeta {
        source: IpAddr::V4(repr.source),
        destination: IpAddr::V4(repr.destination),
        protocol: repr.protocol,
        ttl: repr.ttl,
        tos: repr.tos,
        flow_label: 0,
        nic: rx.interface.id,
        cast,
        offset,
        len: packet.len() - offset,
        arrival: packet.meta.arrival.unwrap_or(rx.now),
    };
    if let Some(packet) = rx.transport(&ip, packet) {
        rx.core.counters.ip_in_unknown_protos.increment();
        icmp_error::reject(rx, &ip, &packet, IcmpReason::ProtocolUnreachable);
    }
}

/// Keeps a fragment; returns the packet when all are there.
pub(super) fn collect(rx: &mut Rx<'_>, repr: &Ipv4Repr, packet: Packet) -> Option<(Ipv4Repr, Packet)> {
    rx.core.counters.ip_reasm_requests.increment();
    let start = usize::from(packet.meta.l3_offset);
    let header = packet.get(start, repr.header_len()).map(bytes::Bytes::copy_from_slice).unwrap_or_default();
    let (arrival, tags) = (packet.meta.arrival, packet.meta.tags());
    let carried = packet.meta.carried.clone();
    let mut payload = packet;
    payload.trim_front(start + repr.header_len());
    let fragment = Fragment {
        offset: usize::from(repr.fragment_offset),
        more: repr.more_fragments,
        data: payload.to_bytes(),
        header,
    };
    let key = FragmentKey {
        source: IpAddr::V4(repr.source),
        destination: IpAddr::V4(repr.destination),
        protocol: repr.protocol,
        ident: u32::from(repr.ident),
    };
    match rx.core.reassembly_v4.add(rx.core, rx.now, key, fragment) {
        Progress::Pending => None,
        Progress::Overlap | Progress::Invalid => {
            rx.core.counters.ip_reasm_fails.increment();
            None
        }
        Progress::Complete { header, data } => {
            let first = Ipv4Repr::parse_unchecked(&header).ok()?;
            let payload_len = u16::try_from(data.len()).ok()?;
            rx.core.counters.ip_reasm_oks.increment();
            let whole = Ipv4Repr { more_fragments: false, fragment_offset: 0, payload_len, ..first };
            let mut bytes = Vec::with_capacity(header.len() + data.len());
            bytes.extend_from_slice(&header);
            whole.emit(&mut bytes);
            bytes.extend_from_slice(&data);
            let mut packet = Packet::from_frame(bytes.into());
            // Its checksum is to be looked at: a link vouches only for what it saw whole.
            packet.meta.arrival = arrival;
            // All fragments of one packet carry the same.
            packet.meta.carried = carried;
            (packet.meta.mark, packet.meta.priority) = tags;
            Some((whole, packet))
        }
    }
}
