//! The edge towards the links: resolves the next hop, puts the link header on, and asks for neighbours.

use std::net::IpAddr;
use std::sync::Arc;

use netstack_wire::ethernet::{self, EtherType, EthernetRepr, MacAddr};
use netstack_wire::ip::Protocol;

use crate::interface::Interface;
use crate::ip::{Delivery, Egress, IpOutput, OutputError, arp, gso, icmp, ndp};
use crate::link::Medium;
use crate::neighbour::Resolution;
use crate::outbox::Outbox;
use crate::packet::{Checksum, Gso, GsoKind, Packet};
use crate::stack::Core;

/// Tells whether a super-segment of ours can go to the edge as it is: the link cuts it, or [`put`] does.
pub(super) fn can_segment(egress: &Egress, output: &IpOutput, packet: &Packet) -> bool {
    let Some(gso) = packet.meta.gso else { return true };
    let is_cut_here = gso.kind != GsoKind::Udp
        && egress.delivery == Delivery::Unicast
        && matches!(packet.meta.checksum, Checksum::Partial { .. })
        && fits_path(egress, output.header_len(), gso, packet);
    (is_cut_here || takes_segments(egress, output.header_len(), packet))
        && output.protocol != Protocol::NO_NEXT
}

/// Tells whether the link cuts a packet that gets an IP header of that length.
pub(super) fn takes_segments(egress: &Egress, header_len: usize, packet: &Packet) -> bool {
    let Some(gso) = packet.meta.gso else { return true };
    link_segments(&egress.interface, gso, packet.len() + header_len)
        && fits_path(egress, header_len, gso, packet)
}

/// Segments larger than the path carries cannot be cut by anybody.
fn fits_path(egress: &Egress, header_len: usize, gso: Gso, packet: &Packet) -> bool {
    header_len + packet.head().len() + usize::from(gso.size) <= to_usize(egress.mtu)
}

/// Tells whether the link cuts this super-segment of `len` bytes (from the IP header on) by itself.
fn link_segments(interface: &Interface, gso: Gso, len: usize) -> bool {
    let capabilities = &interface.capabilities();
    let limit = match gso.kind {
        GsoKind::Tcp4 => capabilities.gso_max_v4,
        GsoKind::Tcp6 => capabilities.gso_max_v6,
        GsoKind::Udp => capabilities.gso_max_udp,
    };
    len <= to_usize(limit)
}

/// Gives a complete frame to the link, cut up if the link cannot do that.
fn put(interface: &Arc<Interface>, packet: Packet, outbox: &mut Outbox) {
    let link_header = if let Medium::Ethernet(_) = interface.medium() { ethernet::HEADER_LEN } else { 0 };
    let needs_cutting = packet
        .meta
        .gso
        .is_some_and(|gso| !link_segments(interface, gso, packet.len().saturating_sub(link_header)));
    if !needs_cutting {
        return outbox.send(interface, packet);
    }
    for segment in gso::frames(packet, interface.capabilities().tx_checksum) {
        outbox.send(interface, segment);
    }
}

/// Sends an IP packet to its next hop.
pub(super) fn send(
    core: &Arc<Core>,
    egress: &mut Egress,
    destination: IpAddr,
    packet: Packet,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    match egress.interface.medium() {
        Medium::Ip => {
            put(&egress.interface, packet, outbox);
            return Ok(());
        }
        Medium::Loopback => {
            // A group or broadcast on the loopback NIC was looped already, if it is wanted at all.
            if egress.delivery == Delivery::Unicast {
                outbox.loop_back(egress.interface.id, packet);
            }
            return Ok(());
        }
        Medium::Ethernet(_) => {}
    }
    let station = match (egress.delivery, destination) {
        (Delivery::Broadcast, _) => Some(MacAddr::BROADCAST),
        (Delivery::Multicast, IpAddr::V4(group)) => Some(MacAddr::of_multicast_v4(group)),
        (Delivery::Multicast, IpAddr::V6(group)) => Some(MacAddr::of_multicast_v6(group)),
        (Delivery::Unicast | Delivery::Local(_), _) => None,
    };
    if let Some(station) = station {
        send_to_station(&egress.interface, station, packet, outbox);
        return Ok(());
    }
    let Some(neighbour) = egress.neighbour(core, outbox) else { return Ok(()) };
    if let Some(station) = neighbour.published_mac() {
        send_to_station(&egress.interface, station, packet, outbox);
        return Ok(());
    }
    let neighbour = Arc::clone(neighbour);
    match neighbour.resolve(core, &egress.interface, packet, outbox) {
        Resolution::Known(station, packet) => {
            send_to_station(&egress.interface, station, packet, outbox);
            Ok(())
        }
        Resolution::Queued => Ok(()),
        Resolution::Unreachable(packet) => {
            egress.interface.counters.tx_dropped_unresolved.increment();
            drop(packet);
            Err(OutputError::HostUnreachable)
        }
    }
}

/// Puts the Ethernet header on an IP packet (or leaves it out where the medium has none) and sends it.
pub(crate) fn send_to_station(
    interface: &Arc<Interface>,
    station: MacAddr,
    packet: Packet,
    outbox: &mut Outbox,
) {
    let ether_type = match packet.contiguous(0).first().map(|byte| byte >> 4) {
        Some(6) => EtherType::IPV6,
        _ => EtherType::IPV4,
    };
    send_frame(interface, station, ether_type, packet, outbox);
}

/// Puts the Ethernet header on a packet of any protocol and sends it.
pub(super) fn send_frame(
    interface: &Arc<Interface>,
    destination: MacAddr,
    ether_type: EtherType,
    mut packet: Packet,
    outbox: &mut Outbox,
) {
    if let Medium::Ethernet(source) = interface.medium() {
        let header = EthernetRepr { destination, source, ether_type };
        header.emit(packet.push_header(ethernet::HEADER_LEN));
    }
    put(interface, packet, outbox);
}

/// Asks for a neighbour: everybody, or the station that had the address last.
pub(crate) fn solicit(
    core: &Arc<Core>,
    interface: &Arc<Interface>,
    address: IpAddr,
    station: Option<MacAddr>,
    outbox: &mut Outbox,
) {
    interface.counters.neighbour_probes_sent.increment();
    match address {
        IpAddr::V4(address) => arp::solicit(core, interface, address, station, outbox),
        IpAddr::V6(address) => ndp::solicit(core, interface, address, station, outbox),
    }
}

/// A packet's next hop does not answer: tells the sender, as a router or our own network layer would.
pub(crate) fn report_unreachable_neighbour(
    core: &Arc<Core>,
    _interface: &Arc<Interface>,
    packet: Packet,
    outbox: &mut Outbox,
) {
    icmp::report_local(core, &packet, outbox);
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
