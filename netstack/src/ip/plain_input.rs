//! The fast path of input: a frame with a TCP segment over IPv4 for us, from Ethernet to the connection in one go.
//!
//! Taken is a frame with all of these; any other goes through `input.rs`, `input_v4.rs` and the transport, which treat this
//! one just the same:
//! - one contiguous buffer from an Ethernet or IP link, addressed to this station, with no unfinished checksum and not a
//!   super-segment;
//! - an IPv4 header without options, whole and with a right checksum, between two unicast addresses of which the
//!   destination is ours;
//! - a TCP header that makes sense, and a right checksum;
//! - no rules, packet sockets, raw sockets or programs of sockets that want to see it.
//!
//! A [`PlainSegment`] is then shown to its connection without taking it out of the frame; what the connection does not
//! expect, and all other segments, become values like those of the general path.
//!
//! A frame that comes alone from where its connection's packets were seen to come from before does not even look at the
//! addresses of the stack ([`take_single`]): nothing has changed since.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Buf;
use netstack_wire::checksum;
use netstack_wire::ethernet::{self, EtherType, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::MIN_HEADER_LEN as IP_LEN;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{MIN_HEADER_LEN as TCP_LEN, TcpFlags, TcpOptions, TcpRepr, TcpView};

use crate::ip::{Cast, Rx, input_v4};
use crate::link::Medium;
use crate::nic::NicId;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::packet::{Checksum, Packet};
use crate::stack::Core;
use crate::tcp::{Flow, Payload, PlainSegment};
use crate::tcp_endpoint;

/// How a frame came.
pub(crate) struct Arrival {
    pub(crate) nic: NicId,
    /// To whom it is addressed.
    pub(crate) station: MacAddr,
    /// Its length.
    pub(crate) len: usize,
}

/// What the fast path found in an IP packet.
struct Found<'a> {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    tos: u8,
    /// The TCP header and what follows.
    tcp: &'a [u8],
}

/// Takes the only frame of a batch if it is one of those with a plain segment, and its connection knows the way. Otherwise
/// nothing has happened.
#[inline]
pub(super) fn take_single(core: &Arc<Core>, nic: NicId, packet: &Packet, outbox: &mut Outbox) -> bool {
    let Some(frame) = frame_of(core, packet) else { return false };
    let Some((link, ip)) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>() else { return false };
    if link[12..] != EtherType::IPV4.0.to_be_bytes() {
        return false;
    }
    // Most of what is not plain shows it in its flags, before anything is summed up.
    if ip.get(IP_LEN + FLAGS_OFFSET).is_none_or(|flags| !is_plain(*flags)) {
        return false;
    }
    let Some(Found { source, destination, tos, tcp }) = transport(ip) else { return false };
    let (Some(segment), Ok(view)) = (plain_segment(tcp, tos), TcpView::new(tcp)) else { return false };
    if packet.meta.checksum != Checksum::Verified && !has_right_checksum(source, destination, tcp) {
        return false;
    }
    let flow = flow_of(source, destination, &view);
    let &[a, b, c, d, e, f, ..] = link;
    let arrival = Arrival { nic, station: MacAddr([a, b, c, d, e, f]), len: frame.len() };
    tcp_endpoint::input_single(core, &arrival, &flow, &segment, outbox)
}

fn flow_of(source: Ipv4Addr, destination: Ipv4Addr, view: &TcpView<'_>) -> Flow {
    Flow {
        local_addr: IpAddr::V4(destination),
        remote_addr: IpAddr::V4(source),
        local_port: view.dst_port(),
        remote_port: view.src_port(),
        zone: 0,
    }
}

/// Takes a frame if it is one of those. Otherwise nothing has happened.
#[inline]
pub(super) fn take(rx: &mut Rx<'_>, packet: &mut Packet) -> bool {
    let Some(found) = ip_packet(rx, packet).and_then(transport) else { return false };
    let Found { source, destination, tos, tcp } = found;
    let is_verified =
        packet.meta.checksum == Checksum::Verified || rx.interface.capabilities.rx_checksum_trusted;
    if !is_verified && !has_right_checksum(source, destination, tcp) {
        return false;
    }
    let Ok(view) = TcpView::new(tcp) else { return false };
    if !is_for_us(rx, source, destination) {
        return false;
    }
    let flow = flow_of(source, destination, &view);
    rx.tally.in_receives += 1;
    rx.tally.in_delivers += 1;
    if let Some(segment) = plain_segment(tcp, tos)
        && tcp_endpoint::input_plain(rx, &flow, &segment)
    {
        return true;
    }
    let (repr, payload_len) = (TcpRepr::parse(&view), tcp.len() - view.header_len());
    let end = packet_end(rx, found.tcp.len());
    let payload = payload_of(packet, end, payload_len);
    tcp_endpoint::input_checked(rx, flow, tos, repr, payload);
    true
}

/// Where an IP packet with that much behind its header ends in the frame.
fn packet_end(rx: &Rx<'_>, tcp_len: usize) -> usize {
    let link_len = if let Medium::Ethernet(_) = rx.interface.medium { ethernet::HEADER_LEN } else { 0 };
    link_len + IP_LEN + tcp_len
}

/// The last `len` bytes before `end` of a frame in one buffer.
fn payload_of(packet: &mut Packet, end: usize, len: usize) -> Payload {
    if len == 0 {
        return Payload::new();
    }
    let mut frame = packet.take_first();
    frame.truncate(end);
    frame.advance(end - len);
    Payload::from(frame)
}

/// The bytes of a frame in one buffer that nobody else wants to see.
#[inline]
fn frame_of<'a>(core: &Core, packet: &'a Packet) -> Option<&'a [u8]> {
    let is_watched = core.filter.is_active(Family::V4)
        || !core.packet_sockets.is_empty()
        || core.raw.is_any()
        || core.filters_streams.load(Ordering::Relaxed);
    let ([], [frame]) = (packet.head(), packet.body()) else { return None };
    let is_finished = packet.meta.gso.is_none() && !matches!(packet.meta.checksum, Checksum::Partial { .. });
    (is_finished && !is_watched).then_some(frame)
}

/// The IP packet of a frame for this station.
#[inline]
fn ip_packet<'a>(rx: &Rx<'_>, packet: &'a Packet) -> Option<&'a [u8]> {
    let frame = frame_of(rx.core, packet)?;
    match rx.interface.medium {
        Medium::Ethernet(own) => {
            let (header, ip) = frame.split_at_checked(ethernet::HEADER_LEN)?;
            let is_ours = header[..6] == own.0 && header[12..] == EtherType::IPV4.0.to_be_bytes();
            is_ours.then_some(ip)
        }
        Medium::Ip => Some(frame),
        Medium::Loopback => None,
    }
}

/// The addresses and the TCP segment of a whole IPv4 packet with a right header of the shortest form.
#[inline]
fn transport(ip: &[u8]) -> Option<Found<'_>> {
    let (header, rest) = ip.split_first_chunk::<IP_LEN>()?;
    let &[version, tos, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let is_whole = u16::from_be_bytes([f0, f1]) & !DONT_FRAGMENT == 0;
    if version != VERSION_4 || !is_whole || protocol != Protocol::TCP.0 {
        return None;
    }
    if checksum::sum(header) != 0xffff {
        return None;
    }
    // What is behind the packet is padding.
    let len = usize::from(u16::from_be_bytes([l0, l1])).checked_sub(IP_LEN)?;
    let (source, destination) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    Some(Found { source, destination, tos, tcp: rest.get(..len)? })
}

fn has_right_checksum(source: Ipv4Addr, destination: Ipv4Addr, tcp: &[u8]) -> bool {
    // From an IP packet, below 64 KiB.
    let len = u32::try_from(tcp.len()).unwrap_or(u32::MAX);
    let pseudo = checksum::pseudo_header(source.into(), destination.into(), Protocol::TCP.0, len);
    checksum::add(pseudo, checksum::sum(tcp)) == 0xffff
}

/// The segment, if there is nothing special about it.
#[inline]
fn plain_segment(tcp: &[u8], tos: u8) -> Option<PlainSegment<'_>> {
    let (header, rest) = tcp.split_first_chunk::<TCP_LEN>()?;
    let &[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = header;
    if !is_plain(flags) || tos & ECN != 0 {
        return None;
    }
    let options = (usize::from(offset >> 4) * 4).checked_sub(TCP_LEN)?;
    let (options, payload) = rest.split_at_checked(options)?;
    let timestamps = match options {
        [] => None,
        options => Some(TcpOptions::only_timestamps(options)?),
    };
    (payload.len() <= PlainSegment::MAX_PAYLOAD).then(|| PlainSegment {
        seq: SeqNum(u32::from_be_bytes([s0, s1, s2, s3])),
        ack: SeqNum(u32::from_be_bytes([a0, a1, a2, a3])),
        window: u16::from_be_bytes([w0, w1]),
        is_pushed: flags & TcpFlags::PSH.bits() != 0,
        timestamps,
        payload,
    })
}

/// Whether TCP's flags are ACK and perhaps PSH.
#[inline]
fn is_plain(flags: u8) -> bool {
    flags & !TcpFlags::PSH.bits() == TcpFlags::ACK.bits()
}

/// Whether both addresses are what they have to be, by the same rules as in `input_v4.rs`.
#[inline]
fn is_for_us(rx: &mut Rx<'_>, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    let pair = (source, destination);
    if rx.last_v4 == Some(pair) {
        return true;
    }
    let is_ours = !input_v4::is_martian(rx, source, destination)
        && input_v4::classify(rx, destination) == Some(Cast::Unicast);
    if is_ours {
        rx.last_v4 = Some(pair);
    }
    is_ours
}

/// Of the flags in a TCP header.
const FLAGS_OFFSET: usize = 13;
const VERSION_4: u8 = 0x45;
const ECN: u8 = 3;
const DONT_FRAGMENT: u16 = 0x4000;
