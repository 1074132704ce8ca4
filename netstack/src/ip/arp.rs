//! ARP: answers for our addresses, learns from those who ask, and asks (RFC 826, RFC 5227).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use netstack_wire::arp::{self, ArpRepr, Operation};
use netstack_wire::ethernet::{EtherType, MacAddr};

use crate::interface::Interface;
use crate::ip::edge;
use crate::ip::input::Rx;
use crate::neighbour::Advertisement;
use crate::nic::AddressState;
use crate::outbox::Outbox;
use crate::packet::{AddressedTo, Packet};
use crate::stack::Core;

/// Takes a frame with an ARP packet.
pub(super) fn input(rx: &mut Rx<'_>, packet: &Packet) {
    let start = usize::from(packet.meta.l3_offset);
    let mut bytes = [0; arp::PACKET_LEN];
    let len = packet.copy_to(start, &mut bytes);
    let (Some(repr), Some(own)) = (ArpRepr::parse(&bytes[..len]), rx.interface.mac()) else {
        return rx.interface.counters.rx_dropped_malformed.increment();
    };
    let (core, interface) = (rx.core, rx.interface);
    let target = IpAddr::V4(repr.target_ip);
    // Linux's default (arp_ignore 0): answers for any local address, on whichever NIC it is; loopback ones never.
    let is_for_us = !repr.target_ip.is_loopback() && rx.topology.local_address(target).is_some();
    let sender = IpAddr::V4(repr.sender_ip);
    let is_conflict = rx.topology.local_address(sender).is_some();
    look_for_conflict(rx, own, &repr);
    let can_learn = !repr.sender_ip.is_unspecified() && repr.sender_mac.is_unicast() && !is_conflict;
    match repr.operation {
        Operation::Request => {
            if is_for_us && can_learn {
                interface.neighbours.on_solicitation(core, interface, sender, repr.sender_mac, rx.outbox);
            } else if can_learn {
                announce(rx, &repr, false);
            }
            // Whoever claims an address of ours gets no answer there (as in Linux).
            if is_for_us && !is_conflict {
                let reply = ArpRepr {
                    operation: Operation::Reply,
                    sender_mac: own,
                    sender_ip: repr.target_ip,
                    target_mac: repr.sender_mac,
                    target_ip: repr.sender_ip,
                };
                send(interface, repr.sender_mac, &reply, rx.outbox);
            }
        }
        Operation::Reply if can_learn => {
            announce(rx, &repr, packet.meta.addressed_to == AddressedTo::Host);
        }
        Operation::Reply => {}
    }
}

/// RFC 5227 section 2.1.1: another station uses the address, or probes for it while we do; section 2.4 once it is ours.
fn look_for_conflict(rx: &mut Rx<'_>, own: MacAddr, repr: &ArpRepr) {
    if repr.sender_mac == own {
        return;
    }
    let is_probe = repr.operation == Operation::Request && repr.sender_ip.is_unspecified();
    let address = if is_probe { repr.target_ip } else { repr.sender_ip };
    let guard = rx.core.guards.lock().get(&(rx.interface.id, address)).cloned();
    let Some(guard) = guard else {
        let is_claimed = !is_probe && rx.topology.local_address(IpAddr::V4(address)).is_some();
        return if is_claimed {
            rx.core.counters.arp_conflicts.increment();
        };
    };
    let state = rx.topology.any_address(IpAddr::V4(address)).map(|local| local.state);
    // A probe for an address in use is answered like any question.
    if !is_probe || state == Some(AddressState::Tentative) {
        guard.on_conflict(rx.core, rx.interface, rx.outbox);
    }
}

/// Asks whether anybody has an address, without telling that we want it to those who keep caches.
pub(super) fn probe(interface: &Arc<Interface>, address: Ipv4Addr, outbox: &mut Outbox) {
    request(interface, Ipv4Addr::UNSPECIFIED, address, outbox);
}

/// Tells everybody that an address is ours.
pub(super) fn announce_own(interface: &Arc<Interface>, address: Ipv4Addr, outbox: &mut Outbox) {
    request(interface, address, address, outbox);
}

fn request(interface: &Arc<Interface>, sender_ip: Ipv4Addr, target_ip: Ipv4Addr, outbox: &mut Outbox) {
    let Some(sender_mac) = interface.mac() else { return };
    let target_mac = MacAddr::ZERO;
    let repr = ArpRepr { operation: Operation::Request, sender_mac, sender_ip, target_mac, target_ip };
    send(interface, MacAddr::BROADCAST, &repr, outbox);
}

/// Updates an entry that exists (RFC 826: "Merge_flag").
fn announce(rx: &mut Rx<'_>, repr: &ArpRepr, is_solicited: bool) {
    let advertisement = Advertisement { mac: repr.sender_mac, is_solicited, is_override: true };
    let sender = IpAddr::V4(repr.sender_ip);
    let (core, interface) = (rx.core, rx.interface);
    interface.neighbours.on_advertisement(core, interface, sender, advertisement, rx.outbox);
}

/// Asks who has an address.
pub(super) fn solicit(
    core: &Core,
    interface: &Arc<Interface>,
    target_ip: Ipv4Addr,
    station: Option<MacAddr>,
    outbox: &mut Outbox,
) {
    let Some(sender_mac) = interface.mac() else { return };
    let topology = core.topology.load();
    let addresses = topology.nics.get(&interface.id).map(|entry| &entry.addresses);
    let v4 = |own: &crate::nic::InterfaceAddress| match own.address() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let near = addresses.into_iter().flatten().filter(|own| own.network().contains(IpAddr::V4(target_ip)));
    let any = addresses.into_iter().flatten();
    let sender_ip = near.chain(any).find_map(v4).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let repr = ArpRepr {
        operation: Operation::Request,
        sender_mac,
        sender_ip,
        target_mac: MacAddr::ZERO,
        target_ip,
    };
    send(interface, station.unwrap_or(MacAddr::BROADCAST), &repr, outbox);
}

fn send(interface: &Arc<Interface>, to: MacAddr, repr: &ArpRepr, outbox: &mut Outbox) {
    let mut packet = Packet::default();
    repr.emit(packet.push_header(arp::PACKET_LEN));
    edge::send_frame(interface, to, EtherType::ARP, packet, outbox);
}
