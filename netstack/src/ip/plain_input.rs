//! The fast path of input: a frame with a TCP segment for us, from Ethernet to the connection in one go.
//!
//! Taken is a frame with all of these; any other goes through `input.rs`, `input_v4.rs`, `input_v6.rs` and the transport, which
//! treat this one just the same:
//! - one contiguous buffer (of a device, or the header buffer of a stack in this process) from an Ethernet or IP link,
//!   addressed to this station and not a super-segment;
//! - an IPv4 header without options, whole and with a right checksum, or an IPv6 header with no other behind it, between two
//!   unicast addresses of which the destination is ours;
//! - a TCP header that makes sense, and a right checksum, or one that nobody has to look at: the link vouches for it, or the
//!   sender, on this machine, has left it unfinished;
//! - no rules, packet sockets, raw sockets or programs of sockets that want to see it.
//!
//! A [`PlainSegment`] is then shown to its connection without taking it out of the frame; what the connection does not
//! expect, and all other segments, become values like those of the general path.
//!
//! A frame that comes alone from where packets between the same hosts were seen to come from before does not even look at the
//! addresses of the stack ([`take_single`]): nothing has changed since.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes};
use netstack_wire::ethernet::{self, EtherType, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{MIN_HEADER_LEN as TCP_LEN, TcpFlags, TcpOptions, TcpRepr, TcpView};
use netstack_wire::{checksum, ipv4, ipv6};

use crate::hint::{cold_path, likely, unlikely};
use crate::interface::Interface;
use crate::ip::{Cast, Rx, input_v4, input_v6, zone_of};
use crate::link::Medium;
use crate::nic::NicId;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::packet::{Checksum, Packet};
use crate::stack::Core;
use crate::tcp::{Flow, Payload, PlainSegment};
use crate::tcp_endpoint::{self, Single};

/// How a frame came.
pub(crate) struct Arrival {
    pub(crate) nic: NicId,
    /// To whom it is addressed.
    pub(crate) station: MacAddr,
    /// Its length.
    pub(crate) len: usize,
}

/// What the fast path found in an IP packet. It is made in place and looked at there: a move of addresses that were just written
/// waits until they are. What follows from them is here for the same reason.
struct Found<'a> {
    /// Its addresses are of one family.
    flow: Flow,
    /// The flow's hash in the table of connections.
    hash: u64,
    /// The addresses as words, added up, to be folded.
    address_sum: u64,
    tos: u8,
    /// The length of the IP header.
    header_len: usize,
    /// The TCP header and what follows.
    tcp: &'a [u8],
}

/// Takes the only frame of a batch if it is one of those and came a way that is known: to its connection where the segment is a
/// plain one, otherwise to the [stack](crate::ip::Ways). Otherwise nothing has happened.
#[inline]
pub(super) fn take_single(core: &Arc<Core>, nic: NicId, packet: &mut Packet, outbox: &mut Outbox) -> bool {
    let Some(frame) = frame_of(packet) else { return false };
    let Some((link, ip)) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>() else {
        cold_path();
        return false;
    };
    let &[a, b, c, d, e, f, .., t0, t1] = link;
    let family = match EtherType(u16::from_be_bytes([t0, t1])) {
        EtherType::IPV4 => Family::V4,
        EtherType::IPV6 => Family::V6,
        _ => {
            cold_path();
            return false;
        }
    };
    if is_watched(core, family) {
        return false;
    }
    let found = transport(core, family, ip, nic);
    let Some(found) = &found else { return false };
    let flow = &found.flow;
    let arrival = Arrival { nic, station: MacAddr([a, b, c, d, e, f]), len: frame.len() };
    let is_verified = packet.meta.checksum != Checksum::Plain;
    let mut has_none = false;
    let plain = plain_segment(found.tcp, found.tos);
    if let Some(segment) = &plain {
        if !is_verified && unlikely(!has_right_checksum(found)) {
            return false;
        }
        match tcp_endpoint::input_single(core, &arrival, (found.hash, flow), segment, outbox) {
            Single::Taken => return true,
            Single::Declined => {}
            Single::NoConnection => has_none = true,
        }
    }
    let tos = found.tos;
    let end = ethernet::HEADER_LEN + found.header_len + found.tcp.len();
    // A plain one was summed up before it was shown to its connection.
    let needs_sum = plain.is_none() && !is_verified;
    let check = || {
        let view = TcpView::new(found.tcp).ok().filter(|view| !has_headers_to_save(core, view))?;
        (!needs_sum || has_right_checksum(found))
            .then(|| (TcpRepr::parse(&view), found.tcp.len() - view.header_len()))
    };
    if !has_none && let Some(endpoint) = core.tcp.get_hashed(found.hash, flow) {
        // Flows of one host that are under way do not meet in the table of ways.
        let Some((repr, payload_len)) = check() else { return false };
        let payload = || payload_of(packet, end, payload_len);
        return endpoint.on_alone(core, &arrival, (tos, repr), payload, outbox);
    }
    if unlikely(tcp_endpoint::may_look_at_packets(core, flow)) {
        return false;
    }
    // What comes another way is not even summed up.
    let checked = core.ways.look_in(core, (flow.local_addr, flow.remote_addr), nic, |interface| {
        let checked = if arrival.is_for(interface) { check() } else { None }?;
        count(core, interface, arrival.len);
        Some(checked)
    });
    let Some((repr, payload_len)) = checked else { return false };
    let flow = *flow;
    let payload = payload_of(packet, end, payload_len);
    tcp_endpoint::input_unclaimed(core, nic, &flow, tos, repr, payload, outbox);
    true
}

impl Arrival {
    /// Whether the interface takes frames that are addressed like this.
    #[inline]
    pub(crate) fn is_for(&self, interface: &Interface) -> bool {
        likely(interface.medium() == Medium::Ethernet(self.station)) && likely(interface.is_up())
    }
}

/// Counts a frame with a segment for us.
#[inline]
pub(crate) fn count(core: &Core, interface: &Interface, len: usize) {
    let (of_nic, of_stack) = (interface.counters.lane(), core.counters.lane());
    of_nic.add(|it| &it.rx_packets, 1);
    of_nic.add(|it| &it.rx_bytes, len as u64);
    of_stack.add(|it| &it.ip_in_receives, 1);
    of_stack.add(|it| &it.ip_in_delivers, 1);
    of_stack.add(|it| &it.tcp_in_segs, 1);
}

/// Whether a listener may want to keep the headers, which only the general path hands on.
#[inline]
fn has_headers_to_save(core: &Core, view: &TcpView<'_>) -> bool {
    view.flags().contains(TcpFlags::SYN) && core.saves_syns.load(Ordering::Relaxed)
}

/// Takes a frame if it is one of those. Otherwise nothing has happened.
#[inline]
pub(super) fn take(rx: &mut Rx<'_>, packet: &mut Packet) -> bool {
    let Some((family, ip)) = ip_packet(rx, packet) else { return false };
    let found = transport(rx.core, family, ip, rx.interface.id);
    let Some(found) = &found else { return false };
    let is_verified =
        packet.meta.checksum != Checksum::Plain || rx.interface.capabilities().rx_checksum_trusted;
    if !is_verified && !has_right_checksum(found) {
        return false;
    }
    let Ok(view) = TcpView::new(found.tcp) else { return false };
    let Found { flow, tos, header_len, tcp, .. } = found;
    if !is_for_us(rx, flow) {
        return false;
    }
    if has_headers_to_save(rx.core, &view) {
        return false;
    }
    if let Some(segment) = plain_segment(tcp, *tos)
        && tcp_endpoint::input_plain(rx, flow, &segment)
    {
        rx.tally.in_receives += 1;
        rx.tally.in_delivers += 1;
        return true;
    }
    if unlikely(tcp_endpoint::may_look_at_packets(rx.core, flow))
        && tcp_endpoint::looks_at_packets(rx.core, flow)
    {
        return false;
    }
    rx.tally.in_receives += 1;
    rx.tally.in_delivers += 1;
    let (repr, payload_len) = (TcpRepr::parse(&view), tcp.len() - view.header_len());
    let link_len = if let Medium::Ethernet(_) = rx.interface.medium() { ethernet::HEADER_LEN } else { 0 };
    let end = link_len + header_len + tcp.len();
    let (flow, tos) = (*flow, *tos);
    let payload = payload_of(packet, end, payload_len);
    tcp_endpoint::input_checked(rx, flow, tos, repr, payload);
    true
}

/// The last `len` bytes before `end` of a frame in one buffer.
fn payload_of(packet: &mut Packet, end: usize, len: usize) -> Payload {
    if len == 0 {
        return Payload::new();
    }
    if packet.body().is_empty() {
        let bytes = &packet.head()[end - len..end];
        return if len <= Payload::SMALL {
            Payload::small(bytes)
        } else {
            Bytes::copy_from_slice(bytes).into()
        };
    }
    let mut frame = packet.take_first();
    frame.truncate(end);
    frame.advance(end - len);
    Payload::from(frame)
}

/// The bytes of a frame in one buffer.
#[inline]
fn frame_of(packet: &Packet) -> Option<&[u8]> {
    let frame = match (packet.head(), packet.body()) {
        ([], [frame]) => &frame[..],
        // From a stack of this process: all of it is in the header buffer.
        (frame, []) => frame,
        _ => {
            cold_path();
            return None;
        }
    };
    if likely(packet.meta.gso.is_none()) { Some(frame) } else { None }
}

/// Whether somebody besides the connections wants to see packets.
#[inline]
fn is_watched(core: &Core, family: Family) -> bool {
    unlikely(core.filter.is_active(family))
        || unlikely(!core.packet_sockets.is_empty())
        || unlikely(core.raw.is_any())
}

/// The IP packet of a frame for this station that nobody else wants to see.
#[inline]
fn ip_packet<'a>(rx: &Rx<'_>, packet: &'a Packet) -> Option<(Family, &'a [u8])> {
    let frame = frame_of(packet)?;
    let (family, ip) = match rx.interface.medium() {
        Medium::Ethernet(own) => {
            let (header, ip) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
            let family = match EtherType(u16::from_be_bytes([header[12], header[13]])) {
                EtherType::IPV4 => Family::V4,
                EtherType::IPV6 => Family::V6,
                _ => return None,
            };
            (header[..6] == own.0).then_some((family, ip))?
        }
        Medium::Ip => match frame.first()? >> 4 {
            4 => (Family::V4, frame),
            6 => (Family::V6, frame),
            _ => return None,
        },
        Medium::Loopback => return None,
    };
    (!is_watched(rx.core, family)).then_some((family, ip))
}

/// The addresses and the TCP segment of a whole IP packet with a right header of the shortest form.
#[inline(always)]
fn transport<'a>(core: &Core, family: Family, ip: &'a [u8], nic: NicId) -> Option<Found<'a>> {
    match family {
        Family::V4 => transport_v4(core, ip),
        Family::V6 => transport_v6(core, ip, nic),
    }
}

#[inline(always)]
fn transport_v4<'a>(core: &Core, ip: &'a [u8]) -> Option<Found<'a>> {
    let Some((header, rest)) = ip.split_first_chunk::<{ ipv4::MIN_HEADER_LEN }>() else {
        cold_path();
        return None;
    };
    let &[version, tos, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let is_whole = u16::from_be_bytes([f0, f1]) & !DONT_FRAGMENT == 0;
    if unlikely(version != VERSION_4) || unlikely(!is_whole) || unlikely(protocol != Protocol::TCP.0) {
        return None;
    }
    // In whatever order of bytes.
    let sum = header.as_chunks::<4>().0.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    if unlikely(checksum::fold(sum) != 0xffff) {
        return None;
    }
    // What is behind the packet is padding.
    let len = usize::from(u16::from_be_bytes([l0, l1])).wrapping_sub(ipv4::MIN_HEADER_LEN);
    let (tcp, (remote_port, local_port)) = segment_in(rest, len)?;
    let [source, destination] = [[s0, s1, s2, s3], [d0, d1, d2, d3]].map(u32::from_be_bytes);
    let flow = Flow {
        local_addr: IpAddr::V4(Ipv4Addr::from_bits(destination)),
        remote_addr: IpAddr::V4(Ipv4Addr::from_bits(source)),
        local_port,
        remote_port,
        zone: 0,
    };
    let hash = core.secrets.hash_flow_v4((destination, source), (local_port, remote_port), 0);
    let address_sum = checksum::wide_sum_of(&[source, destination]);
    Some(Found { flow, hash, address_sum, tos, header_len: ipv4::MIN_HEADER_LEN, tcp })
}

#[inline]
fn transport_v6<'a>(core: &Core, ip: &'a [u8], nic: NicId) -> Option<Found<'a>> {
    let Some((header, rest)) = ip.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        cold_path();
        return None;
    };
    let (fixed, addresses) = header.split_first_chunk::<8>()?;
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let &[v0, v1, _, _, l0, l1, next, _] = fixed;
    if unlikely(v0 >> 4 != VERSION_6) || unlikely(next != Protocol::TCP.0) {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let (tcp, (remote_port, local_port)) = segment_in(rest, len)?;
    let (source, destination) = (Ipv6Addr::from(*source), *destination.first_chunk::<16>()?);
    let flow = Flow {
        local_addr: IpAddr::V6(Ipv6Addr::from(destination)),
        remote_addr: IpAddr::V6(source),
        local_port,
        remote_port,
        zone: zone_of(IpAddr::V6(source), nic),
    };
    let hash = core.secrets.hash_flow(&flow);
    let address_sum = checksum::wide_pseudo_header(flow.remote_addr, flow.local_addr, 0, 0);
    Some(Found { flow, hash, address_sum, tos: v0 << 4 | v1 >> 4, header_len: ipv6::HEADER_LEN, tcp })
}

/// The first `len` bytes, and the source and the destination port in them; `None` if there are not so many.
#[inline]
fn segment_in(rest: &[u8], len: usize) -> Option<(&[u8], (u16, u16))> {
    if let Some(tcp @ &[s0, s1, d0, d1, ..]) = rest.get(..len) {
        return Some((tcp, (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]))));
    }
    cold_path();
    None
}

#[inline(always)]
fn has_right_checksum(&Found { address_sum, tcp, .. }: &Found<'_>) -> bool {
    // From an IP packet, below 64 KiB.
    let pseudo = address_sum + tcp.len() as u64 + u64::from(Protocol::TCP.0);
    checksum::fold(pseudo + u64::from(checksum::sum(tcp))) == 0xffff
}

/// The segment, if there is nothing special about it.
#[inline]
fn plain_segment(tcp: &[u8], tos: u8) -> Option<PlainSegment<'_>> {
    let (header, rest) = tcp.split_first_chunk::<TCP_LEN>()?;
    let &[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = header;
    if !is_plain(flags) || unlikely(tos & ECN != 0) {
        return None;
    }
    let options = (usize::from(offset >> 4) * 4).wrapping_sub(TCP_LEN);
    let Some((options, payload)) = rest.split_at_checked(options) else {
        cold_path();
        return None;
    };
    let timestamps = match options {
        [] => None,
        options => Some(TcpOptions::only_timestamps(options)?),
    };
    (payload.len() <= PlainSegment::MAX_PAYLOAD).then(|| PlainSegment {
        seq: SeqNum(u32::from_be_bytes([s0, s1, s2, s3])),
        ack: SeqNum(u32::from_be_bytes([a0, a1, a2, a3])),
        window: u16::from_be_bytes([w0, w1]),
        is_pushed: flags & TcpFlags::PSH.bits() != 0,
        has_fin: flags & TcpFlags::FIN.bits() != 0,
        timestamps,
        payload,
    })
}

/// Whether TCP's flags are ACK and perhaps PSH or FIN.
#[inline]
fn is_plain(flags: u8) -> bool {
    flags & !TcpFlags::PSH.union(TcpFlags::FIN).bits() == TcpFlags::ACK.bits()
}

/// Whether both addresses are what they have to be, by the same rules as in `input_v4.rs` and `input_v6.rs`.
#[inline]
fn is_for_us(rx: &mut Rx<'_>, flow: &Flow) -> bool {
    match (flow.remote_addr, flow.local_addr) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let pair = (source, destination);
            if rx.last_v4 == Some(pair) {
                return true;
            }
            let is_ours = !input_v4::is_martian(rx, source, destination)
                && input_v4::classify(rx, destination) == Some(Cast::Unicast);
            if is_ours {
                rx.last_v4 = Some(pair);
                note_way_in(rx, flow);
            }
            is_ours
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let pair = (source, destination);
            if rx.last_v6 == Some(pair) {
                return true;
            }
            // Nobody could be answered at `::`.
            let is_ours = !input_v6::is_martian(rx, source, destination)
                && !source.is_unspecified()
                && input_v6::classify(rx, destination) == Some(Cast::Unicast);
            if is_ours {
                rx.last_v6 = Some(pair);
                note_way_in(rx, flow);
            }
            is_ours
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Remembers it for those who come alone.
fn note_way_in(rx: &Rx<'_>, flow: &Flow) {
    // An interface that takes everything may stop to do so.
    if !rx.interface.accepts_any() {
        rx.core.ways.note_way_in(flow.local_addr, flow.remote_addr, rx.interface, rx.generation);
    }
}

const VERSION_4: u8 = 0x45;
const VERSION_6: u8 = 6;
const ECN: u8 = 3;
const DONT_FRAGMENT: u16 = 0x4000;
