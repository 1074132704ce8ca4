//! Source address selection: RFC 6724 section 5 for IPv6, the obvious for IPv4.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nic::{AddressOrigin, AddressState, InterfaceAddress};
use crate::topology::{NicEntry, Topology};

/// Picks the source address for packets that leave through `entry`.
pub(super) fn select(
    topology: &Topology,
    entry: &NicEntry,
    destination: IpAddr,
    next_hop: IpAddr,
) -> Option<IpAddr> {
    match destination {
        IpAddr::V4(_) => select_v4(topology, entry, next_hop).map(IpAddr::V4),
        IpAddr::V6(destination) => select_v6(topology, entry, destination).map(IpAddr::V6),
    }
}

/// The first address in the next hop's network, else the NIC's first, else another NIC's (the weak host model).
fn select_v4(topology: &Topology, entry: &NicEntry, next_hop: IpAddr) -> Option<Ipv4Addr> {
    let usable = |own: &&InterfaceAddress| own.state.is_usable();
    let v4 = |own: &InterfaceAddress| match own.address() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let neighbours = entry.addresses.iter().filter(usable).filter(|own| own.network().contains(next_hop));
    let on_nic = entry.addresses.iter().filter(usable);
    let elsewhere = topology.nics.values().filter(|other| !other.interface.is_loopback());
    let elsewhere = elsewhere.flat_map(|other| &other.addresses).filter(usable);
    neighbours.chain(on_nic).chain(elsewhere).find_map(v4)
}

fn select_v6(topology: &Topology, entry: &NicEntry, destination: Ipv6Addr) -> Option<Ipv6Addr> {
    let wanted = scope(destination);
    let candidates = topology.nics.values().flat_map(|other| {
        let is_outgoing = other.interface.id == entry.interface.id;
        other.addresses.iter().map(move |own| (own, is_outgoing))
    });
    let usable = candidates.filter_map(|(own, is_outgoing)| match own.address() {
        IpAddr::V6(address) if own.state.is_usable() => {
            // RFC 6724 section 4: for multicast and link-local destinations the candidates are those of the
            // outgoing interface.
            let is_allowed = is_outgoing || !(destination.is_multicast() || wanted <= LINK_LOCAL);
            is_allowed.then_some((own, address, is_outgoing))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    let best = usable.max_by_key(|&(own, address, is_outgoing)| {
        let own_scope = scope(address);
        // Rule 2: "If Scope(SA) < Scope(SB): If Scope(SA) < Scope(D), then prefer SB and otherwise prefer SA."
        let scope_rank =
            if own_scope >= wanted { (1, Reverse(own_scope)) } else { (0, Reverse(u8::MAX - own_scope)) };
        (
            address == destination,
            scope_rank,
            own.state == AddressState::Preferred,
            is_outgoing,
            // Rule 6: "Prefer matching label."
            label(address) == label(destination),
            // Rule 7: "Prefer temporary addresses."
            own.origin == AddressOrigin::Temporary,
            common_prefix_len(address, destination).min(own.cidr.prefix_len()),
        )
    });
    best.map(|(_, address, _)| address)
}

/// The label of the default policy table (RFC 6724 section 2.1).
fn label(address: Ipv6Addr) -> u8 {
    let [a, b, c, d, e, f, ..] = address.segments();
    match (a, b) {
        _ if address == Ipv6Addr::LOCALHOST => 0,
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => 4,
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0) => 3,
        (0x2001, 0) => 5,
        (0x2002, _) => 2,
        (0x3ffe, _) => 12,
        _ if a & 0xffc0 == 0xfec0 => 11,
        _ if a & 0xfe00 == 0xfc00 => 13,
        _ => 1,
    }
}

fn common_prefix_len(a: Ipv6Addr, b: Ipv6Addr) -> u8 {
    // At most 128.
    (a.to_bits() ^ b.to_bits()).leading_zeros() as u8
}

/// The scope of an address as multicast scope values (RFC 6724 section 3.1).
fn scope(address: Ipv6Addr) -> u8 {
    if address.is_multicast() {
        address.octets()[1] & 0x0f
    } else if address.is_unicast_link_local() || address.is_loopback() {
        LINK_LOCAL
    } else {
        GLOBAL
    }
}

const LINK_LOCAL: u8 = 2;
const GLOBAL: u8 = 14;
