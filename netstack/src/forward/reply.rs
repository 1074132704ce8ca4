//! What a forwarder sends: packets whose source is the address that somebody asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::icmpv4::{self, Icmpv4Message};
use netstack_wire::icmpv6::Icmpv6Message;
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::{self, Ipv4Repr};
use netstack_wire::ipv6::{self, Ipv6Repr};
use netstack_wire::tcp::TcpRepr;
use netstack_wire::udp::{self, UdpRepr};

use crate::error::SendError;
use crate::forward::Unreachable;
use crate::ip::icmp::fill_checksum;
use crate::ip::{
    Egress, Fragmenting, IcmpReason, IpOutput, OutputError, RouteQuery, flow_label, report, send, unmapped,
};
use crate::nic::NicId;
use crate::outbox::Outbox;
use crate::packet::{Body, Checksum, Packet};
use crate::stack::Core;
use crate::tcp::Flow;

pub(super) fn send_udp(
    core: &Arc<Core>,
    nic: NicId,
    from: SocketAddr,
    to: SocketAddr,
    payload: Bytes,
) -> Result<(), SendError> {
    let len = u16::try_from(udp::HEADER_LEN + payload.len()).map_err(|_| SendError::MessageTooLong)?;
    let mut packet = Packet::from_body(Body::from_iter([payload]));
    let header = UdpRepr { source_port: from.port(), destination_port: to.port(), len, checksum: 0 };
    header.emit(packet.push_header(udp::HEADER_LEN));
    // CHECKSUM_OFFSET is 6.
    packet.meta.checksum = Checksum::Partial { start: 0, offset: udp::CHECKSUM_OFFSET as u16 };
    transmit(core, nic, unmapped(from.ip()), unmapped(to.ip()), Protocol::UDP, packet)?;
    core.counters.udp_out_datagrams.increment();
    Ok(())
}

pub(super) fn send_echo_reply(
    core: &Arc<Core>,
    nic: NicId,
    from: IpAddr,
    to: IpAddr,
    (ident, sequence): (u16, u16),
    payload: Bytes,
) -> Result<(), SendError> {
    let mut packet = Packet::from_body(Body::from_iter([payload]));
    let header = packet.push_header(icmpv4::HEADER_LEN);
    let protocol = match to {
        IpAddr::V4(_) => {
            Icmpv4Message::EchoReply { ident, sequence }.emit(header);
            Protocol::ICMP
        }
        IpAddr::V6(_) => {
            Icmpv6Message::EchoReply { ident, sequence }.emit(header);
            Protocol::ICMPV6
        }
    };
    fill_checksum(&mut packet, from, to);
    transmit(core, nic, from, to, protocol, packet)?;
    core.counters.icmp_out_echo_replies.increment();
    Ok(())
}

fn transmit(
    core: &Arc<Core>,
    nic: NicId,
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    packet: Packet,
) -> Result<(), SendError> {
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(SendError::FamilyMismatch);
    }
    let query = RouteQuery { destination, source: Some(source), nic: Some(nic) };
    let mut egress = Egress::resolve(core, query)?;
    let output = IpOutput {
        source,
        destination,
        protocol,
        ttl: core.default_ttl(),
        tos: 0,
        flow_label: flow_label::automatic(core, source, destination, protocol.0.into()),
        fragmenting: Fragmenting::Allowed,
        loops: false,
    };
    let mut outbox = Outbox::default();
    let sent = send(core, &mut egress, &output, packet, &mut outbox);
    outbox.flush(core);
    sent.map_err(|error| match error {
        OutputError::TooLarge { .. } => SendError::MessageTooLong,
        OutputError::HostUnreachable => SendError::HostUnreachable,
        OutputError::NetworkDown => SendError::NetworkDown,
        OutputError::Filtered => SendError::Filtered,
    })
}

/// Tells the sender of a SYN that it leads nowhere.
pub(super) fn reject_syn(core: &Arc<Core>, flow: &Flow, syn: &TcpRepr, reason: Unreachable) {
    let mut header = vec![0; syn.header_len()];
    // The buffer is as long as the header.
    let _ = syn.emit(&mut header);
    reject_header(core, flow.remote_addr, flow.local_addr, Protocol::TCP, &header, reason);
}

/// Tells the sender of a datagram, which is not at hand any more, that it leads nowhere.
pub(super) fn reject_udp(core: &Arc<Core>, from: SocketAddr, to: SocketAddr, reason: Unreachable) {
    let mut bytes = [0; udp::HEADER_LEN];
    // HEADER_LEN is 8.
    let len = udp::HEADER_LEN as u16;
    UdpRepr { source_port: from.port(), destination_port: to.port(), len, checksum: 0 }.emit(&mut bytes);
    reject_header(core, unmapped(from.ip()), unmapped(to.ip()), Protocol::UDP, &bytes, reason);
}

/// Rejects a packet with its headers made anew: what its sender looks for in the quote are addresses, ports and the
/// sequence number (RFC 5927 section 4.1).
fn reject_header(
    core: &Arc<Core>,
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    header: &[u8],
    reason: Unreachable,
) {
    // A transport header has at most 60 bytes.
    let payload_len = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0; if source.is_ipv4() { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN }];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ipv4Repr::new(source, destination, protocol, payload_len).emit(&mut bytes);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Ipv6Repr::new(source, destination, protocol, payload_len).emit(&mut bytes);
        }
        // A packet has addresses of one family.
        _ => return,
    }
    bytes.extend_from_slice(header);
    reject(core, &bytes.into(), source, destination, reason);
}

/// Tells the sender of a packet that it leads nowhere. That a port is closed is said by the host that was asked for,
/// everything else by this stack as the router on the way.
pub(super) fn reject(core: &Arc<Core>, quoted: &Bytes, to: IpAddr, destination: IpAddr, reason: Unreachable) {
    let (from, reason) = match reason {
        Unreachable::Port => (Some(destination), IcmpReason::PortUnreachable),
        Unreachable::Host => (None, IcmpReason::HostUnreachable),
        Unreachable::Network => (None, IcmpReason::NetworkUnreachable),
        Unreachable::Prohibited => (None, IcmpReason::Prohibited),
    };
    let mut outbox = Outbox::default();
    report(core, quoted, to, from, reason, &mut outbox);
    outbox.flush(core);
}
