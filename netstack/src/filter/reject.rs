//! Telling the sender of a rejected packet.

use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::ip::Protocol;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{CHECKSUM_OFFSET, TcpFlags, TcpOptions, TcpRepr, TcpView};

use super::rule::RejectWith;
use crate::cidr::family_of;
use crate::ip::flow_label;
use crate::ip::{
    Egress, Fragmenting, IcmpReason, IpOutput, Origin, RouteQuery, Transit, report_unfiltered,
    send_unfiltered,
};
use crate::outbox::Outbox;
use crate::packet::{Checksum, Packet};
use crate::route::PacketFacts;
use crate::stack::Core;

/// Answers a packet in the state it arrived in (before translation, so that the sender knows it).
pub(super) fn reject(core: &Arc<Core>, original: &Transit, with: RejectWith, outbox: &mut Outbox) {
    if with == RejectWith::TcpReset {
        return reset(core, original, outbox);
    }
    let Some(code) = with.code(family_of(original.source)) else { return };
    let quoted: Bytes = original.quote();
    let reason = IcmpReason::Unreachable { code };
    report_unfiltered(core, &quoted, original.source, Some(original.destination), reason, outbox);
}

/// RFC 9293 section 3.10.7.1: what a closed port answers.
fn reset(core: &Arc<Core>, original: &Transit, outbox: &mut Outbox) {
    let Ok(view) = TcpView::new(original.transport()) else { return };
    let segment = TcpRepr::parse(&view);
    if original.protocol != Protocol::TCP || segment.flags.contains(TcpFlags::RST) {
        return;
    }
    let counts =
        u32::from(segment.flags.contains(TcpFlags::SYN)) + u32::from(segment.flags.contains(TcpFlags::FIN));
    // A packet is at most 64 KiB long. A short payload may be in the head, behind the header.
    let len = (original.packet.len() - view.header_len()) as u32 + counts;
    let (seq, ack, flags) = match segment.flags.contains(TcpFlags::ACK) {
        true => (segment.ack, SeqNum(0), TcpFlags::RST),
        false => (SeqNum(0), segment.seq + len, TcpFlags::RST | TcpFlags::ACK),
    };
    let repr = TcpRepr {
        src_port: segment.dst_port,
        dst_port: segment.src_port,
        seq,
        ack,
        flags,
        window: 0,
        urgent: 0,
        options: TcpOptions::default(),
    };
    let mut packet = Packet::default();
    let _ = repr.emit(packet.push_header(repr.header_len()));
    // CHECKSUM_OFFSET is 16.
    packet.meta.checksum = Checksum::Partial { start: 0, offset: CHECKSUM_OFFSET as u16 };
    let (source, destination) = (original.destination, original.source);
    let query = RouteQuery { destination, source: Some(source), nic: None };
    let (protocol, source_port, destination_port) = (Protocol::TCP.0, repr.src_port, repr.dst_port);
    let facts = PacketFacts { protocol, source_port, destination_port, ..PacketFacts::default() };
    let Ok(mut egress) = Egress::resolve_for(core, query, Origin::of(facts)) else { return };
    let output = IpOutput {
        source,
        destination,
        protocol: Protocol::TCP,
        ttl: core.default_ttl(),
        tos: 0,
        flow_label: flow_label::automatic(core, source, destination, Protocol::TCP.0.into()),
        fragmenting: Fragmenting::Allowed,
        loops: false,
    };
    core.counters.tcp_out_rsts.increment();
    let _ = send_unfiltered(core, &mut egress, &output, packet, outbox);
}
