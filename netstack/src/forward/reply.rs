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
use crate::ip::{Egress, Fragmenting, IcmpReason, IpOutput, OutputError, RouteQuery, report, send, unmapped};
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
        flow_label: 0,
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
    })
}

/// Tells the sender of a SYN that it leads nowhere, with the SYN's headers made anew: what the sender looks for in the
/// quote are addresses, ports and the sequence number (RFC 5927 section 4.1).
pub(super) fn reject_syn(core: &Arc<Core>, flow: &Flow, syn: &TcpRepr, reason: Unreachable) {
    let tcp_len = syn.header_len();
    // At most 60.
    let payload_len = tcp_len as u16;
    let (header_len, ttl) =
        (if flow.remote_addr.is_ipv4() { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN }, 64);
    let mut bytes = vec![0; header_len + tcp_len];
    match (flow.remote_addr, flow.local_addr) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4Repr {
            source,
            destination,
            protocol: Protocol::TCP,
            ttl,
            tos: 0,
            ident: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options_len: 0,
            payload_len,
        }
        .emit(&mut bytes),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6Repr {
            source,
            destination,
            next_header: Protocol::TCP,
            hop_limit: ttl,
            traffic_class: 0,
            flow_label: 0,
            payload_len,
        }
        .emit(&mut bytes),
        // A packet has addresses of one family.
        _ => return,
    }
    // The rest of the buffer is as long as the header says.
    let _ = syn.emit(&mut bytes[header_len..]);
    reject(core, &bytes.into(), flow.remote_addr, flow.local_addr, reason);
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
