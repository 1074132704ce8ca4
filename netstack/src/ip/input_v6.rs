//! IPv6 input with its extension headers (RFC 8200 section 4).

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use netstack_wire::ip::{ParseError, Protocol};
use netstack_wire::ipv6::{self, Extension, Extensions, FragmentRepr, Ipv6Repr, UnknownOption};
use netstack_wire::{icmpv6, tcp, udp};

use crate::ip::icmp_error::{self, IcmpReason};
use crate::ip::multicast_forward::{self, Locally};
use crate::ip::reassembly::{Fragment, FragmentKey, Progress};
use crate::ip::{Cast, IpMeta, Rx, filtered, forward, kept};
use crate::options::Family;
use crate::packet::{AddressedTo, Packet};
use crate::route::RuleList;

/// Takes a packet whose IPv6 header is at its `l3_offset`.
pub(super) fn input(rx: &mut Rx<'_>, mut packet: Packet) {
    let counters = &rx.core.counters;
    rx.tally.in_receives += 1;
    let start = usize::from(packet.meta.l3_offset);
    if !packet.make_contiguous(start, ipv6::HEADER_LEN) {
        return counters.ip_in_truncated.increment();
    }
    let Ok(repr) = Ipv6Repr::parse_unchecked(packet.contiguous(start)) else {
        return counters.ip_in_header_errors.increment();
    };
    let end = start + ipv6::HEADER_LEN + usize::from(repr.payload_len);
    if packet.len() < end {
        return counters.ip_in_truncated.increment();
    }
    packet.truncate(end);
    if is_martian(rx, repr.source, repr.destination) {
        return counters.ip_in_martians.increment();
    }
    if rx.core.filter.is_active(Family::V6) {
        return filtered::input_v6(rx, &repr, packet);
    }
    let group = IpAddr::V6(repr.destination);
    if multicast_forward::concerns(rx, group, &packet) {
        let is_member = rx.interface.is_member(group);
        if multicast_forward::input(rx, &packet, None, is_member) == Locally::Yes {
            return after_header(rx, Cast::Multicast, &repr, packet);
        }
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
    after_header(rx, cast, &repr, packet);
}

/// Whether nobody can have sent this from where it says, to where it says.
pub(super) fn is_martian(rx: &Rx<'_>, source: Ipv6Addr, destination: Ipv6Addr) -> bool {
    // RFC 4942 section 2.2: on a link, an IPv4-mapped address is somebody who wants to pass for an IPv4 host.
    source.is_multicast()
        || source.to_ipv4_mapped().is_some()
        || (!rx.is_looped
            && !rx.interface.is_loopback()
            && (source.is_loopback() || destination.is_loopback()))
}

/// How many a packet to `destination` is for, if it is for us.
pub(super) fn classify(rx: &Rx<'_>, destination: Ipv6Addr) -> Option<Cast> {
    let address = IpAddr::V6(destination);
    if destination.is_multicast() {
        let is_wanted = destination == ipv6::ALL_NODES || rx.interface.is_member(address);
        return is_wanted.then_some(Cast::Multicast);
    }
    if let Some(local) = rx.topology.local_address(address) {
        // A link-local address is ours on its own link only.
        let is_here = !destination.is_unicast_link_local() || local.nic == rx.interface.id;
        return (is_here || rx.is_looped).then_some(Cast::Unicast);
    }
    // A link-local address that is not ours is a neighbour's.
    let is_forwarded = !destination.is_unicast_link_local() && !destination.is_unspecified();
    (rx.takes_for_others() && is_forwarded).then_some(Cast::Unicast)
}

/// Delivers a packet that rules let through, with its IP header at the front.
pub(super) fn deliver_whole(rx: &mut Rx<'_>, cast: Cast, packet: Packet) {
    let Ok(repr) = Ipv6Repr::parse_unchecked(packet.contiguous(0)) else {
        return rx.core.counters.ip_in_header_errors.increment();
    };
    after_header(rx, cast, &repr, packet);
}

/// Walks the extension headers and delivers. Also entered with a reassembled packet.
fn after_header(rx: &mut Rx<'_>, cast: Cast, repr: &Ipv6Repr, mut packet: Packet) {
    let start = usize::from(packet.meta.l3_offset);
    let mut ip = IpMeta {
        source: IpAddr::V6(repr.source),
        destination: IpAddr::V6(repr.destination),
        protocol: repr.next_header,
        ttl: repr.hop_limit,
        tos: repr.traffic_class,
        flow_label: repr.flow_label,
        nic: rx.interface.id,
        cast,
        offset: start + ipv6::HEADER_LEN,
        len: usize::from(repr.payload_len),
        arrival: packet.meta.arrival.unwrap_or(rx.now),
    };
    if repr.next_header.is_extension() {
        // Rare, so copying the packet if the headers are not in one piece is fine.
        if !packet.make_contiguous(start, packet.len() - start) {
            return rx.core.counters.ip_in_truncated.increment();
        }
        match walk(rx, &ip, repr, &packet) {
            Walk::Transport { protocol, offset } => {
                ip.len -= offset;
                ip.offset += offset;
                ip.protocol = protocol;
            }
            Walk::Fragment { extension_offset, header } => {
                if let Some((whole, packet)) = collect(rx, repr, packet, extension_offset, header) {
                    after_header(rx, cast, &whole, packet);
                }
                return;
            }
            Walk::Dropped => return,
        }
    }
    if let Some(packet) = rx.transport(&ip, packet) {
        rx.core.counters.ip_in_unknown_protos.increment();
        let pointer = next_header_position(packet.contiguous(start), repr, ip.protocol);
        icmp_error::reject(rx, &ip, &packet, IcmpReason::UnknownNextHeader { pointer });
    }
}

enum Walk {
    Transport { protocol: Protocol, offset: usize },
    Fragment { extension_offset: usize, header: FragmentRepr },
    Dropped,
}

fn walk(rx: &mut Rx<'_>, ip: &IpMeta, repr: &Ipv6Repr, packet: &Packet) -> Walk {
    let start = usize::from(packet.meta.l3_offset);
    let chain = packet.contiguous(start + ipv6::HEADER_LEN);
    let mut extensions = Extensions::new(repr.next_header, chain);
    // Where the type of the header is announced.
    let mut announced = ipv6::NEXT_HEADER_OFFSET;
    for extension in extensions.by_ref() {
        let Ok(extension) = extension else {
            rx.core.counters.ip_in_truncated.increment();
            return Walk::Dropped;
        };
        // RFC 8200 section 4.1: hop-by-hop options "must immediately follow the IPv6 header".
        if extension.kind == Protocol::HOP_BY_HOP && extension.offset != 0 {
            rx.core.counters.ip_in_header_errors.increment();
            let pointer = u32::try_from(announced).unwrap_or(u32::MAX);
            icmp_error::reject(rx, ip, packet, IcmpReason::UnknownNextHeader { pointer });
            return Walk::Dropped;
        }
        announced = ipv6::HEADER_LEN + extension.offset;
        match check(&extension) {
            Verdict::Next => {}
            Verdict::Fragment(header) => {
                return Walk::Fragment { extension_offset: extension.offset, header };
            }
            Verdict::Drop => {
                rx.core.counters.ip_in_header_errors.increment();
                return Walk::Dropped;
            }
            Verdict::Report { reason, even_to_groups } => {
                rx.core.counters.ip_in_header_errors.increment();
                if even_to_groups || ip.cast == Cast::Unicast {
                    icmp_error::reject(rx, ip, packet, reason);
                }
                return Walk::Dropped;
            }
        }
    }
    Walk::Transport { protocol: extensions.next_header(), offset: extensions.offset() }
}

/// What an extension header means for the packet.
pub(super) enum Verdict {
    Next,
    Fragment(FragmentRepr),
    Drop,
    Report { reason: IcmpReason, even_to_groups: bool },
}

fn check(extension: &Extension<'_>) -> Verdict {
    let position = |offset: usize| position_of(extension, offset);
    match extension.kind {
        Protocol::HOP_BY_HOP | Protocol::DESTINATION_OPTIONS => check_options(extension),
        // RFC 8200 section 4.4: an unknown type is ignored with no segments left, otherwise reported. RFC 5095
        // deprecated the only type that hosts ever forwarded for.
        Protocol::ROUTING if extension.bytes[3] == 0 => Verdict::Next,
        Protocol::ROUTING => Verdict::Report {
            reason: IcmpReason::ErroneousHeader { pointer: position(2) },
            even_to_groups: false,
        },
        Protocol::FRAGMENT => match FragmentRepr::parse(extension.bytes) {
            // RFC 6946: an atomic fragment is processed alone.
            Some(header) if header.offset == 0 && !header.more => Verdict::Next,
            Some(header) => Verdict::Fragment(header),
            None => Verdict::Drop,
        },
        _ => Verdict::Next,
    }
}

/// Where a byte of an extension header is in the packet.
fn position_of(extension: &Extension<'_>, offset: usize) -> u32 {
    u32::try_from(ipv6::HEADER_LEN + extension.offset + offset).unwrap_or(u32::MAX)
}

/// RFC 8200 section 4.2.
pub(super) fn check_options(extension: &Extension<'_>) -> Verdict {
    for option in ipv6::options(extension.bytes) {
        let (offset, kind) = match option {
            Ok((offset, kind, _)) => (offset, kind),
            Err(ParseError::Truncated | ParseError::Malformed | ParseError::BadChecksum) => {
                return Verdict::Drop;
            }
        };
        if kind == ipv6::OPTION_ROUTER_ALERT {
            continue;
        }
        let reason = IcmpReason::UnknownOption { pointer: position_of(extension, offset) };
        match UnknownOption::of(kind) {
            UnknownOption::Skip => {}
            UnknownOption::Discard => return Verdict::Drop,
            UnknownOption::DiscardAndReport => return Verdict::Report { reason, even_to_groups: true },
            UnknownOption::DiscardAndReportUnicast => {
                return Verdict::Report { reason, even_to_groups: false };
            }
        }
    }
    Verdict::Next
}

/// Where the header says that `protocol` comes next.
fn next_header_position(packet: &[u8], repr: &Ipv6Repr, protocol: Protocol) -> u32 {
    let mut position = ipv6::NEXT_HEADER_OFFSET;
    if repr.next_header != protocol {
        let chain = packet.get(ipv6::HEADER_LEN..).unwrap_or_default();
        let last = Extensions::new(repr.next_header, chain).filter_map(Result::ok).last();
        position = last.map_or(position, |extension| ipv6::HEADER_LEN + extension.offset);
    }
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// What RFC 8200 section 4.5 wants the sender of a fragment told.
fn nonsense(packet: &Packet, extension_offset: usize, header: FragmentRepr) -> Option<IcmpReason> {
    let at = usize::from(packet.meta.l3_offset) + ipv6::HEADER_LEN + extension_offset;
    let data = packet.contiguous(at).get(ipv6::FRAGMENT_HEADER_LEN..).unwrap_or_default();
    // "If the length of a fragment [...] is not a multiple of 8 octets and the M flag of that fragment is 1 [...]
    // pointing to the Payload Length field of the fragment packet."
    if header.more && !data.len().is_multiple_of(8) {
        return Some(IcmpReason::ErroneousHeader { pointer: PAYLOAD_LENGTH_POINTER });
    }
    // "If the length and offset of a fragment are such that the Payload Length of the packet reassembled from that
    // fragment would exceed 65,535 octets [...] pointing to the Fragment Offset field."
    let total = extension_offset + usize::from(header.offset) + data.len();
    if total > usize::from(u16::MAX) {
        let field = ipv6::HEADER_LEN + extension_offset + FRAGMENT_OFFSET_FIELD;
        return Some(IcmpReason::ErroneousHeader { pointer: u32::try_from(field).unwrap_or(u32::MAX) });
    }
    // "If the first fragment does not include all headers through an Upper-Layer header, then that fragment should be
    // discarded and an ICMP Parameter Problem, Code 3, message should be sent [...] with the Pointer field set to zero."
    let is_whole = header.offset != 0 || has_whole_chain(header.next_header, data);
    (!is_whole).then_some(IcmpReason::IncompleteChain)
}

/// Whether all headers are there, that of the transport included.
fn has_whole_chain(first: Protocol, data: &[u8]) -> bool {
    let mut extensions = Extensions::new(first, data);
    if extensions.by_ref().any(|extension| extension.is_err()) {
        return false;
    }
    let transport = data.len().saturating_sub(extensions.offset());
    transport
        >= match extensions.next_header() {
            Protocol::TCP => tcp::MIN_HEADER_LEN,
            Protocol::UDP => udp::HEADER_LEN,
            Protocol::ICMPV6 => icmpv6::HEADER_LEN,
            Protocol::NO_NEXT => 0,
            _ => 1,
        }
}

/// Keeps a fragment; returns the packet when all are there.
pub(super) fn collect(
    rx: &mut Rx<'_>,
    repr: &Ipv6Repr,
    packet: Packet,
    extension_offset: usize,
    header: FragmentRepr,
) -> Option<(Ipv6Repr, Packet)> {
    rx.core.counters.ip_reasm_requests.increment();
    if let Some(reason) = nonsense(&packet, extension_offset, header) {
        match reason {
            IcmpReason::IncompleteChain => rx.core.counters.ip_in_header_errors.increment(),
            _ => rx.core.counters.ip_reasm_fails.increment(),
        }
        if packet.meta.addressed_to == AddressedTo::Host && !repr.destination.is_multicast() {
            let mut quoted = packet;
            quoted.trim_front(usize::from(quoted.meta.l3_offset));
            let (to, from) = (repr.source.into(), Some(repr.destination.into()));
            icmp_error::report(rx.core, &quoted.to_bytes(), to, from, reason, rx.outbox);
        }
        return None;
    }
    let start = usize::from(packet.meta.l3_offset);
    let unfragmentable = ipv6::HEADER_LEN + extension_offset;
    // The header that announces the fragment header announces what follows it instead.
    let mut headers = packet.get(start, unfragmentable).map(<[u8]>::to_vec).unwrap_or_default();
    let position = next_header_position(&headers, repr, Protocol::FRAGMENT);
    if let Some(field) = usize::try_from(position).ok().and_then(|position| headers.get_mut(position)) {
        *field = header.next_header.0;
    }
    let (arrival, tags) = (packet.meta.arrival, packet.meta.tags());
    let carried = packet.meta.carried.clone();
    let mut payload = packet.clone();
    payload.trim_front(start + unfragmentable + ipv6::FRAGMENT_HEADER_LEN);
    let fragment = Fragment {
        offset: usize::from(header.offset),
        more: header.more,
        data: payload.to_bytes(),
        header: Bytes::from(headers),
    };
    let key = FragmentKey {
        source: IpAddr::V6(repr.source),
        destination: IpAddr::V6(repr.destination),
        protocol: Protocol::FRAGMENT,
        ident: header.ident,
    };
    match rx.core.reassembly_v6.add(rx.core, rx.now, key, fragment) {
        Progress::Pending => None,
        Progress::Overlap | Progress::Invalid => {
            rx.core.counters.ip_reasm_fails.increment();
            None
        }
        Progress::Complete { header, data } => {
            let payload_len = header.len() - ipv6::HEADER_LEN + data.len();
            let Ok(payload_len) = u16::try_from(payload_len) else {
                rx.core.counters.ip_reasm_fails.increment();
                return None;
            };
            let first = Ipv6Repr::parse_unchecked(&header).ok()?;
            rx.core.counters.ip_reasm_oks.increment();
            let whole = Ipv6Repr { payload_len, ..first };
            let mut bytes = Vec::with_capacity(header.len() + data.len());
            bytes.extend_from_slice(&header);
            whole.emit(&mut bytes);
            bytes.extend_from_slice(&data);
            let mut packet = Packet::from_frame(bytes.into());
            packet.meta.arrival = arrival;
            // All fragments of one packet carry the same.
            packet.meta.carried = carried;
            (packet.meta.mark, packet.meta.priority) = tags;
            packet.meta.was_fragmented = true;
            Some((whole, packet))
        }
    }
}

/// Where the payload length is in an IPv6 header.
const PAYLOAD_LENGTH_POINTER: u32 = 4;
/// Where the offset is in a fragment header.
const FRAGMENT_OFFSET_FIELD: usize = 2;
