//! Neighbour discovery for IPv6 (RFC 4861): answers for our addresses, asks for others, and detects duplicates of ours
//! (RFC 4862 section 5.4).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use netstack_wire::ethernet::{EtherType, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv6::{self, Ipv6Repr};
use netstack_wire::ndp::NdpRepr;

use crate::interface::Interface;
use crate::ip::{IpMeta, Rx, advertise, autoconf, edge, icmp, redirect, source};
use crate::neighbour::Advertisement;
use crate::nic::AddressState;
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// Takes a neighbour-discovery message.
pub(super) fn input(rx: &mut Rx<'_>, ip: &IpMeta, message: &Bytes) {
    // RFC 4861 sections 6.1 and 7.1: "The IP Hop Limit field has a value of 255, i.e., the packet could not possibly
    // have been forwarded by a router."
    let repr = NdpRepr::parse(message).filter(|repr| ip.ttl == HOP_LIMIT && may_come_so(repr, ip));
    match repr {
        Some(NdpRepr::NeighbourSolicitation { target, source_mac }) => {
            solicited(rx, ip, target, source_mac);
        }
        Some(NdpRepr::NeighbourAdvertisement { target, target_mac, is_solicited, is_override, .. }) => {
            if rx.topology.any_address(IpAddr::V6(target)).is_some() {
                let (core, interface) = (rx.core, rx.interface);
                return core.on_duplicate_address(interface, IpAddr::V6(target), rx.outbox);
            }
            let Some(mac) = target_mac.filter(|mac| mac.is_unicast()) else { return };
            let advertisement = Advertisement { mac, is_solicited, is_override };
            let (core, interface) = (rx.core, rx.interface);
            interface.neighbours.on_advertisement(
                core,
                interface,
                IpAddr::V6(target),
                advertisement,
                rx.outbox,
            );
        }
        Some(NdpRepr::Redirect { target, destination, target_mac, .. }) => {
            redirected(rx, ip, target, destination, target_mac);
        }
        Some(NdpRepr::RouterAdvertisement(advertisement)) => {
            autoconf::on_advertisement(rx, ip.source, &advertisement);
        }
        Some(NdpRepr::RouterSolicitation { source_mac }) => advertise::on_solicitation(rx, ip, source_mac),
        None => rx.core.counters.icmp_in_errors.increment(),
    }
}

/// The addresses that RFC 4861 sections 7.1.1 and 7.1.2 want looked at.
fn may_come_so(repr: &NdpRepr, ip: &IpMeta) -> bool {
    match repr {
        NdpRepr::NeighbourSolicitation { target, source_mac } if ip.source.is_unspecified() => {
            // "If the IP source address is the unspecified address, the IP destination address is a solicited-node
            // multicast address" and "there is no source link-layer address option in the message."
            source_mac.is_none() && ip.destination == IpAddr::V6(ipv6::solicited_node(*target))
        }
        // "If the IP Destination Address is a multicast address the Solicited flag is zero."
        NdpRepr::NeighbourAdvertisement { is_solicited, .. } => {
            !(*is_solicited && ip.destination.is_multicast())
        }
        _ => true,
    }
}

/// RFC 4861 section 8.3.
fn redirected(
    rx: &mut Rx<'_>,
    ip: &IpMeta,
    target: Ipv6Addr,
    destination: Ipv6Addr,
    target_mac: Option<MacAddr>,
) {
    // RFC 4861 section 8.1: "IP Source Address is a link-local address."
    if !matches!(ip.source, IpAddr::V6(source) if source.is_unicast_link_local()) {
        return rx.core.counters.icmp_in_errors.increment();
    }
    redirect::follow_v6(rx, ip.source, target, destination);
    if let Some(mac) = target_mac.filter(|mac| mac.is_unicast()) {
        let (core, interface) = (rx.core, rx.interface);
        let advertisement = Advertisement { mac, is_solicited: false, is_override: true };
        let address = IpAddr::V6(target);
        interface.neighbours.on_advertisement(core, interface, address, advertisement, rx.outbox);
    }
}

/// RFC 4861 section 7.2.3.
fn solicited(rx: &mut Rx<'_>, ip: &IpMeta, target: Ipv6Addr, source_mac: Option<MacAddr>) {
    let local = rx.topology.any_address(IpAddr::V6(target)).filter(|local| local.nic == rx.interface.id);
    let (Some(local), Some(own)) = (local, rx.interface.mac()) else { return };
    let is_detection = ip.source == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if local.state == AddressState::Tentative {
        if is_detection {
            // Somebody else tries to get the same address.
            let (core, interface) = (rx.core, rx.interface);
            core.on_duplicate_address(interface, IpAddr::V6(target), rx.outbox);
        }
        return;
    }
    if !local.state.is_usable() {
        return;
    }
    if let (false, Some(mac)) = (is_detection, source_mac) {
        let (core, interface) = (rx.core, rx.interface);
        interface.neighbours.on_solicitation(core, interface, ip.source, mac, rx.outbox);
    }
    let is_router = rx.topology.nics.get(&rx.interface.id).is_some_and(|entry| entry.options.forwards_v6);
    let reply = NdpRepr::NeighbourAdvertisement {
        target,
        target_mac: Some(own),
        is_router,
        is_solicited: !is_detection,
        is_override: true,
    };
    let (to, station) = match (ip.source, source_mac) {
        (IpAddr::V6(source), Some(mac)) if !is_detection => (source, mac),
        // Without its station address the asker is answered through its group, which it listens to.
        (IpAddr::V6(source), None) if !is_detection => {
            (source, MacAddr::of_multicast_v6(ipv6::solicited_node(source)))
        }
        _ => (ipv6::ALL_NODES, MacAddr::of_multicast_v6(ipv6::ALL_NODES)),
    };
    send(rx.interface, target, to, station, &reply, rx.outbox);
}

/// Asks who has an address.
pub(super) fn solicit(
    core: &Core,
    interface: &Arc<Interface>,
    target: Ipv6Addr,
    station: Option<MacAddr>,
    outbox: &mut Outbox,
) {
    let topology = core.topology.load();
    let Some(entry) = topology.nics.get(&interface.id) else { return };
    let address = IpAddr::V6(target);
    let Some(IpAddr::V6(source)) = source::select(&topology, entry, address, address) else { return };
    let group = ipv6::solicited_node(target);
    let (to, mac) = match station {
        Some(mac) => (target, mac),
        None => (group, MacAddr::of_multicast_v6(group)),
    };
    let question = NdpRepr::NeighbourSolicitation { target, source_mac: interface.mac() };
    send(interface, source, to, mac, &question, outbox);
}

pub(super) fn send(
    interface: &Arc<Interface>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    station: MacAddr,
    repr: &NdpRepr,
    outbox: &mut Outbox,
) {
    let message = repr.to_vec();
    // At most a few hundred bytes.
    let payload_len = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut packet = Packet::default();
    packet.push_header(message.len()).copy_from_slice(&message);
    icmp::fill_checksum(&mut packet, IpAddr::V6(source), IpAddr::V6(destination));
    let header = Ipv6Repr {
        source,
        destination,
        next_header: Protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        flow_label: 0,
        payload_len,
    };
    header.emit(packet.push_header(ipv6::HEADER_LEN));
    packet.meta.is_link_control = true;
    edge::send_frame(interface, station, EtherType::IPV6, packet, outbox);
}

/// Tells everybody that an address is ours (RFC 4861 section 7.2.6).
pub(super) fn announce_own(interface: &Arc<Interface>, address: Ipv6Addr, outbox: &mut Outbox) {
    let announcement = NdpRepr::NeighbourAdvertisement {
        target: address,
        target_mac: interface.mac(),
        is_router: false,
        is_solicited: false,
        is_override: true,
    };
    let station = MacAddr::of_multicast_v6(ipv6::ALL_NODES);
    send(interface, address, ipv6::ALL_NODES, station, &announcement, outbox);
}

/// The group that must be joined for an address.
pub(crate) fn solicited_group(address: Ipv6Addr) -> IpAddr {
    IpAddr::V6(ipv6::solicited_node(address))
}

/// A running duplicate detection: one solicitation, then a second of silence.
pub(crate) struct Detection {
    interface: Weak<Interface>,
    address: Ipv6Addr,
    slot: TimerSlot,
    ends: Instant,
}

/// Starts duplicate detection for a tentative address. The caller keeps the result until it has ended.
pub(crate) fn begin_detection(
    core: &Arc<Core>,
    interface: &Arc<Interface>,
    address: Ipv6Addr,
    outbox: &mut Outbox,
) -> Arc<Detection> {
    let group = ipv6::solicited_node(address);
    let question = NdpRepr::NeighbourSolicitation { target: address, source_mac: None };
    let station = MacAddr::of_multicast_v6(group);
    send(interface, Ipv6Addr::UNSPECIFIED, group, station, &question, outbox);
    let ends = core.clock.now() + DETECTION_TIME;
    let detection = Arc::new(Detection {
        interface: Arc::downgrade(interface),
        address,
        slot: TimerSlot::default(),
        ends,
    });
    core.timers.arm(&detection, Some(ends));
    detection
}

impl Detection {
    pub(crate) fn address(&self) -> Ipv6Addr {
        self.address
    }

    pub(crate) fn is_for(&self, address: Ipv6Addr) -> bool {
        self.address == address
    }
}

impl TimerTarget for Detection {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        if now < self.ends {
            return core.timers.arm(&self, Some(self.ends));
        }
        let Some(interface) = self.interface.upgrade() else { return };
        if core.finish_detection(interface.id, IpAddr::V6(self.address)) {
            announce_own(&interface, self.address, outbox);
        }
    }
}

pub(super) const HOP_LIMIT: u8 = 255;
/// RFC 4862 section 5.1: DupAddrDetectTransmits 1, and RFC 4861's RETRANS_TIMER of one second after it.
const DETECTION_TIME: Duration = Duration::from_secs(1);
