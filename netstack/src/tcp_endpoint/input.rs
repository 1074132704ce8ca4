//! TCP input: from IP packets to the machines.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{MIN_HEADER_LEN, TcpFlags, TcpRepr, TcpView};

use crate::bpf::{Subject, admits};
use crate::error::SocketError;
use crate::filter::AssignedSocket;
use crate::forward;
use crate::hint::unlikely;
use crate::ip::flow_label::{self, ConnectionLabel};
use crate::ip::icmp::{Notice, Quote, note_path_mtu};
use crate::ip::{Arrival, Cast, IpMeta, PathMtu, Rx, zone_of};
use crate::nic::NicId;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::packet::{AddressedTo, Checksum, Packet};
use crate::port_table::{Found, Target};
use crate::stack::Core;
use crate::tcp::{self, Ecn, Flow, IcmpError, Payload, PlainSegment, SegmentIn, SynHeaders};
use crate::tcp_endpoint::coalesce::{self, Held};
use crate::tcp_endpoint::transmit::send_labelled;
use crate::tcp_endpoint::{ListenEndpoint, TcpEndpoint, ip_options};

/// Takes a TCP segment for us.
pub(crate) fn input(rx: &mut Rx<'_>, ip: &IpMeta, mut packet: Packet) {
    let counters = &rx.core.counters;
    counters.tcp_in_segs.increment();
    // RFC 9293 section 3.9.2.3 (MUST-57): segments to groups and broadcasts are silently discarded.
    // RFC 1122 section 3.3.6 and Linux: so are those in frames to more than us. Nobody could be answered at `::`.
    let is_for_us = ip.cast == Cast::Unicast
        && packet.meta.addressed_to == AddressedTo::Host
        && !ip.source.is_unspecified();
    if !is_for_us || !packet.make_contiguous(ip.offset, MIN_HEADER_LEN) {
        if ip.cast == Cast::Assigned {
            return input_assigned(rx, ip, packet);
        }
        return counters.tcp_in_errs.increment();
    }
    input_whole(rx, ip, packet, None);
}

/// Takes a segment that rules have given to a listener.
#[cold]
#[inline(never)]
fn input_assigned(rx: &mut Rx<'_>, ip: &IpMeta, mut packet: Packet) {
    let is_for_us = packet.meta.addressed_to == AddressedTo::Host && !ip.source.is_unspecified();
    let Some(AssignedSocket::Listener(listener)) = packet.meta.assigned_socket().filter(|_| is_for_us) else {
        return rx.core.counters.tcp_in_errs.increment();
    };
    if !packet.make_contiguous(ip.offset, MIN_HEADER_LEN) {
        return rx.core.counters.tcp_in_errs.increment();
    }
    release_held(rx.core, rx.outbox);
    input_whole(rx, ip, packet, Some(listener));
}

/// Takes a segment of which the shortest header is in one piece, for whom its flow says or for a listener.
#[inline(always)]
fn input_whole(rx: &mut Rx<'_>, ip: &IpMeta, mut packet: Packet, assigned: Option<Arc<ListenEndpoint>>) {
    let counters = &rx.core.counters;
    let header_len = usize::from(packet.contiguous(ip.offset)[12] >> 4) * 4;
    if header_len > ip.len || !packet.make_contiguous(ip.offset, header_len) {
        return counters.tcp_in_errs.increment();
    }
    if packet.meta.checksum == Checksum::Plain && !has_right_checksum(ip, &packet) {
        return counters.tcp_in_csum_errors.increment();
    }
    let Ok(view) = TcpView::new(packet.contiguous(ip.offset)) else {
        return counters.tcp_in_errs.increment();
    };
    let repr = TcpRepr::parse(&view);
    let flow = Flow {
        local_addr: ip.destination,
        remote_addr: ip.source,
        local_port: repr.dst_port,
        remote_port: repr.src_port,
        zone: zone_of(ip.source, ip.nic),
    };
    let merged = packet.meta.gso.map_or(1, |gso| {
        // A super-segment of at most 64 KiB has fewer than 2^16 parts.
        u16::try_from((ip.len - header_len).div_ceil(usize::from(gso.size.max(1)))).unwrap_or(u16::MAX).max(1)
    });
    if rx.core.filters_streams.load(Ordering::Relaxed)
        && !passes_filter(rx, ip, &flow, &mut packet, header_len, assigned.as_ref())
    {
        return;
    }
    let is_syn = repr.flags & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN;
    let is_kept = is_syn
        || unlikely(flow_label::reflects(rx.core, flow.remote_addr))
            && rx.core.tcp.get(&rx.core.secrets, &flow).is_none();
    let l3 = usize::from(packet.meta.l3_offset);
    let has_ip_options = flow.remote_addr.is_ipv4() && ip.offset > l3 + ipv4::MIN_HEADER_LEN;
    let headers = (has_ip_options || is_kept && rx.core.saves_syns.load(Ordering::Relaxed))
        .then(|| Arc::new(headers_of(&packet, ip.offset + header_len)));
    let payload = Payload::from(packet.into_payload(ip.offset + header_len));
    let true_size = payload.len_u32() + SEGMENT_OVERHEAD;
    let segment = SegmentIn { repr, payload, ecn: ecn_of(ip.tos), merged, true_size, headers };
    match assigned {
        None => input_segment(rx, flow, ip.nic, segment),
        Some(listener) => match find(rx.core, &flow, rx.outbox) {
            Some(endpoint) => endpoint.on_segment(rx.core, segment, rx.outbox),
            None => listener.on_segment(rx.core, &flow, segment, None, rx.outbox),
        },
    }
}

/// The first `len` bytes of a packet, with where its IP header begins.
#[cold]
fn headers_of(packet: &Packet, len: usize) -> SynHeaders {
    let bytes = packet.slices().flatten().copied().take(len).collect();
    SynHeaders { bytes, network_offset: usize::from(packet.meta.l3_offset).min(len) }
}

/// Takes a segment for us that was found in order: whole, alone, with a right checksum.
#[inline]
pub(crate) fn input_checked(rx: &mut Rx<'_>, flow: Flow, tos: u8, repr: TcpRepr, payload: Payload) {
    rx.core.counters.tcp_in_segs.increment();
    input_segment(rx, flow, rx.interface.id, segment_of(tos, repr, payload));
}

fn input_segment(rx: &mut Rx<'_>, flow: Flow, nic: NicId, mut segment: SegmentIn) {
    if let Some(held) = rx.outbox.held() {
        segment = match held.merge(&flow, segment) {
            Some(unmerged) => unmerged,
            None => return rx.core.counters.tcp_in_merged.increment(),
        };
        release_held(rx.core, rx.outbox);
    }
    // The last of its batch has nothing to wait for.
    if !rx.outbox.is_batch_over() && coalesce::can_grow(&segment) {
        *rx.outbox.held() = Some(Held { flow, nic, segment });
    } else {
        dispatch(rx.core, &flow, nic, segment, rx.outbox);
    }
}

/// What became of a segment that came alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Single {
    Taken,
    /// The connection does not expect it, or somebody is busy with it.
    Declined,
    NoConnection,
}

/// Gives the plain segment of the only frame of a batch to its connection, if that expects it and its packets were seen to
/// come this way before. Otherwise nothing has happened.
#[inline]
pub(crate) fn input_single(
    core: &Arc<Core>,
    arrival: &Arrival,
    (hash, flow): (u64, &Flow),
    segment: &PlainSegment<'_>,
    outbox: &mut Outbox,
) -> Single {
    let mut result = Single::NoConnection;
    let taken = core.tcp.look(hash, flow, |endpoint| {
        result = Single::Declined;
        endpoint.on_single(core, arrival, segment, outbox)
    });
    let Some(aftermath) = taken else { return result };
    // Outside of the table's lock.
    if let Some(aftermath) = aftermath {
        aftermath.perform(core);
    }
    Single::Taken
}

/// Takes the only segment of a batch whose way in is known: whole, with a right checksum, counted, for us, and for no connection.
pub(crate) fn input_unclaimed(
    core: &Arc<Core>,
    nic: NicId,
    flow: &Flow,
    tos: u8,
    repr: TcpRepr,
    payload: Payload,
    outbox: &mut Outbox,
) {
    outbox.begin_last();
    to_listener_on(core, flow, nic, segment_of(tos, repr, payload), None, outbox);
    outbox.end_batch();
}

/// A segment that was found in order: whole, alone, with a right checksum.
#[inline]
pub(super) fn segment_of(tos: u8, repr: TcpRepr, payload: Payload) -> SegmentIn {
    let true_size = payload.len_u32() + SEGMENT_OVERHEAD;
    SegmentIn { repr, payload, ecn: ecn_of(tos), merged: 1, true_size, headers: None }
}

/// Gives a plain segment whose checksum is right to its connection. False if there is none that expects it, or if it may
/// have to do with the segments around it: then nothing has happened.
#[inline]
pub(crate) fn input_plain(rx: &mut Rx<'_>, flow: &Flow, segment: &PlainSegment<'_>) -> bool {
    let may_be_joined = !segment.payload.is_empty() && !segment.is_pushed && !rx.outbox.is_batch_over();
    if may_be_joined || rx.outbox.held().is_some() {
        return false;
    }
    let is_taken = find(rx.core, flow, rx.outbox).is_some_and(|endpoint| endpoint.on_plain(rx, segment));
    if is_taken {
        rx.core.counters.tcp_in_segs.increment();
    }
    is_taken
}

/// Whether the stack has sockets that look at the packets of flows like this one, and not at their segments only.
#[inline]
pub(crate) fn may_look_at_packets(core: &Core, flow: &Flow) -> bool {
    core.filters_streams.load(Ordering::Relaxed) || flow_label::reflects(core, flow.remote_addr)
}

/// Whether the connection of a flow looks at packets. What belongs to none may be for a listener that does, or be answered
/// with its label.
#[cold]
pub(crate) fn looks_at_packets(core: &Core, flow: &Flow) -> bool {
    core.tcp.get(&core.secrets, flow).is_none_or(|endpoint| endpoint.looks_at_packets())
}

/// Shows a segment to the program of the socket that it is for, unless it comes from too far away.
#[cold]
fn passes_filter(
    rx: &Rx<'_>,
    ip: &IpMeta,
    flow: &Flow,
    packet: &mut Packet,
    header_len: usize,
    assigned: Option<&Arc<ListenEndpoint>>,
) -> bool {
    let core = rx.core;
    let (min_ttl, is_admitted) = if let Some(endpoint) = core.tcp.get(&core.secrets, flow) {
        let min_ttl = endpoint.min_ttl();
        let program = endpoint.filter().filter(|_| ip.ttl >= min_ttl);
        let admits = |program| admits(&program, rx, ip, packet, ip.offset, header_len);
        (min_ttl, program.is_none_or(admits))
    } else if let Some(listener) = assigned.cloned().or_else(|| find_listener(core, flow, ip.nic, None)) {
        let min_ttl = listener.min_ttl(flow);
        let is_near = ip.ttl >= min_ttl;
        (min_ttl, !is_near || listener.filter.admits(rx, ip, packet, ip.offset, header_len))
    } else {
        return true;
    };
    if ip.ttl < min_ttl {
        core.counters.tcp_min_ttl_drops.increment();
    } else if !is_admitted {
        core.counters.tcp_filtered.increment();
    }
    ip.ttl >= min_ttl && is_admitted
}

/// Gives the held segment to its connection.
#[inline]
pub(crate) fn release_held(core: &Arc<Core>, outbox: &mut Outbox) {
    // Taking nothing would move as many bytes as taking something.
    if outbox.held().is_none() {
        return;
    }
    if let Some(Held { flow, nic, segment }) = outbox.held().take() {
        dispatch(core, &flow, nic, segment, outbox);
    }
}

pub(super) fn dispatch(core: &Arc<Core>, flow: &Flow, nic: NicId, segment: SegmentIn, outbox: &mut Outbox) {
    match find(core, flow, outbox) {
        Some(endpoint) => endpoint.on_segment(core, segment, outbox),
        None => to_listener_on(core, flow, nic, segment, None, outbox),
    }
}

#[inline]
fn find(core: &Core, flow: &Flow, outbox: &mut Outbox) -> Option<Arc<TcpEndpoint>> {
    // Frames come in runs of one flow, so the last endpoint is the best guess.
    let guess = outbox.touched().last().filter(|endpoint| endpoint.flow == *flow).cloned();
    guess.or_else(|| core.tcp.get(&core.secrets, flow))
}

fn has_right_checksum(ip: &IpMeta, packet: &Packet) -> bool {
    // At most 64 KiB.
    let len = u32::try_from(ip.len).unwrap_or(u32::MAX);
    let mut total =
        Accumulator::new(checksum::pseudo_header(ip.source, ip.destination, Protocol::TCP.0, len));
    let mut skip = ip.offset;
    for piece in packet.slices() {
        let now = skip.min(piece.len());
        skip -= now;
        total.add(&piece[now..]);
    }
    total.is_valid()
}

fn ecn_of(tos: u8) -> Ecn {
    match tos & 3 {
        0 => Ecn::NotCapable,
        1 => Ecn::Capable1,
        2 => Ecn::Capable0,
        _ => Ecn::CongestionExperienced,
    }
}

/// Gives a segment without a connection to the listener for its address, or answers it with a reset.
pub(super) fn to_listener(
    core: &Arc<Core>,
    flow: &Flow,
    segment: SegmentIn,
    isn_above: Option<SeqNum>,
    outbox: &mut Outbox,
) {
    if let Some(listener) = core.filter.proxies.last_given(flow) {
        return listener.on_segment(core, flow, segment, isn_above, outbox);
    }
    let nic = core.topology.load().local_address(flow.local_addr).map(|local| local.nic);
    if let Some(nic) = nic.or_else(|| forward::nic_towards(core, flow.remote_addr)) {
        to_listener_on(core, flow, nic, segment, isn_above, outbox);
    }
}

fn to_listener_on(
    core: &Arc<Core>,
    flow: &Flow,
    nic: NicId,
    segment: SegmentIn,
    isn_above: Option<SeqNum>,
    outbox: &mut Outbox,
) {
    // The handshake of a proxy's connection is found by its flow alone, as a connection is.
    let begun = || {
        let has_rules = core.filter.is_any_active();
        if has_rules { core.filter.proxies.knowing(flow) } else { None }
    };
    match find_listener(core, flow, nic, Some(&segment)).or_else(begun) {
        Some(listener) => listener.on_segment(core, flow, segment, isn_above, outbox),
        None if forward::offer_syn(core, flow, nic, &segment, isn_above) => {}
        None => {
            core.counters.tcp_no_ports.increment();
            if let Some(reset) = tcp::reset_reply(&segment) {
                let label = ConnectionLabel::of_reset(core, segment.headers.as_deref());
                let ip_options = ip_options::of_answer(&segment);
                let options = SocketOptions { ip_options, ..SocketOptions::default() };
                send_labelled(core, flow, &options, label, reset, outbox);
            }
        }
    }
}

/// The listener for a flow. The program of a group sees the payload of the first segment; what follows is for the member
/// that has begun the handshake.
fn find_listener(
    core: &Core,
    flow: &Flow,
    nic: NicId,
    segment: Option<&SegmentIn>,
) -> Option<Arc<ListenEndpoint>> {
    let target = Target {
        local: flow.local_addr,
        local_port: flow.local_port,
        remote: flow.remote_addr,
        remote_port: flow.remote_port,
        nic,
    };
    let group = match core.tcp_ports.lookup(&target, || core.secrets.hash_flow(flow))? {
        Found::One(listener) => return Some(listener),
        Found::Group(group) => group,
    };
    let begun = group.members.iter().position(|member| member.knows(flow));
    let chosen = begun.or_else(|| {
        let packet = Packet::from_body(segment?.payload.clone().into_ranges());
        let subject = Subject::new(&packet, 0).with_secrets(&core.secrets);
        usize::try_from(group.program.run(&subject)).ok()
    });
    Some(group.pick(chosen))
}

/// An ICMP error, or a local one, about a segment of ours.
pub(crate) fn on_icmp(core: &Arc<Core>, quote: &Quote<'_>, notice: &Notice, outbox: &mut Outbox) -> bool {
    let &[s0, s1, d0, d1, n0, n1, n2, n3, ..] = quote.bytes else { return false };
    // Connections of a proxy have addresses that are nobody's here.
    let nic = core.topology.load().local_address(quote.source).map(|local| local.nic);
    let nic = nic.or_else(|| forward::nic_towards(core, quote.destination));
    let flow = Flow {
        local_addr: quote.source,
        remote_addr: quote.destination,
        local_port: u16::from_be_bytes([s0, s1]),
        remote_port: u16::from_be_bytes([d0, d1]),
        zone: nic.map_or(0, |nic| zone_of(quote.destination, nic)),
    };
    let Some(endpoint) = core.tcp.get(&core.secrets, &flow) else { return false };
    let seq = SeqNum(u32::from_be_bytes([n0, n1, n2, n3]));
    let now = core.clock.now();
    let told = PathMtu::told(flow.remote_addr, notice.info, &core.ip_config.read());
    let mut is_about_data = false;
    endpoint.with(core, outbox, |inner| {
        let outcome = match icmp_error(notice.error) {
            Some(error) => inner.machine.on_icmp_error(now, error, seq),
            None => {
                let Some(told) = told else { return };
                let headers = if flow.remote_addr.is_ipv4() { 40 } else { 60 };
                let mss = u16::try_from(told.mtu.saturating_sub(headers)).unwrap_or(u16::MAX);
                let outcome = inner.machine.on_pmtu(now, mss, Some(seq));
                if !matches!(outcome.verdict, tcp::Verdict::Dropped(_)) {
                    // What is sent again leaves when the lock is released, the way that is known then.
                    note_path_mtu(core, flow.remote_addr, told);
                }
                outcome
            }
        };
        is_about_data = !matches!(outcome.verdict, tcp::Verdict::Dropped(_));
        inner.note(outcome);
    });
    is_about_data
}

/// The machine's name for an error; `None` for the one about the path MTU.
fn icmp_error(error: SocketError) -> Option<IcmpError> {
    Some(match error {
        SocketError::MessageTooLong => return None,
        SocketError::NetworkUnreachable | SocketError::NetworkDown => IcmpError::NetUnreachable,
        SocketError::HostUnreachable | SocketError::TimedOut => IcmpError::HostUnreachable,
        SocketError::ProtocolUnreachable => IcmpError::ProtocolUnreachable,
        SocketError::ConnectionRefused
        | SocketError::ConnectionReset
        | SocketError::BrokenPipe
        | SocketError::ConnectionAborted => IcmpError::PortUnreachable,
        SocketError::Prohibited => IcmpError::Prohibited,
        SocketError::ParameterProblem => IcmpError::ParameterProblem,
    })
}

/// What a segment's bookkeeping costs beyond its payload.
const SEGMENT_OVERHEAD: u32 = 256;
