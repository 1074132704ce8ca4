//! Membership reports, so that routers and snooping switches send groups our way: IGMPv3 (RFC 3376) and MLDv2 (RFC
//! 3810), each change reported once when it happens and all groups again when a querier asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use netstack_wire::checksum;
use netstack_wire::ethernet::{EtherType, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::{self, Ipv4Repr};
use netstack_wire::ipv6::{self, Ipv6Repr};

use crate::interface::Interface;
use crate::ip::{edge, icmp, source};
use crate::link::Medium;
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::stack::Core;

/// The stack itself becomes a member of a group on a NIC.
pub(crate) fn join_group(core: &Core, interface: &Arc<Interface>, group: IpAddr, outbox: &mut Outbox) {
    if interface.join(group) {
        report_joined(core, interface, group, outbox);
    }
}

/// The stack itself is no member of a group any more.
pub(crate) fn leave_group(core: &Core, interface: &Arc<Interface>, group: IpAddr, outbox: &mut Outbox) {
    if interface.leave(group) {
        report_left(core, interface, group, outbox);
    }
}

/// We joined a group on a NIC.
pub(crate) fn report_joined(core: &Core, interface: &Arc<Interface>, group: IpAddr, outbox: &mut Outbox) {
    report(core, interface, group, CHANGE_TO_EXCLUDE, outbox);
}

/// We left a group on a NIC.
pub(crate) fn report_left(core: &Core, interface: &Arc<Interface>, group: IpAddr, outbox: &mut Outbox) {
    report(core, interface, group, CHANGE_TO_INCLUDE, outbox);
}

/// A querier asks.
pub(crate) fn report_all(core: &Core, interface: &Arc<Interface>, is_v6: bool, outbox: &mut Outbox) {
    let groups: Vec<_> =
        interface.groups.read().keys().copied().filter(|group| group.is_ipv6() == is_v6).collect();
    for group in groups {
        report(core, interface, group, MODE_IS_EXCLUDE, outbox);
    }
}

fn report(core: &Core, interface: &Arc<Interface>, group: IpAddr, record: u8, outbox: &mut Outbox) {
    let Medium::Ethernet(_) = interface.medium else { return };
    match group {
        // RFC 3376 section 6: the all-systems group is never reported.
        IpAddr::V4(ALL_SYSTEMS) => {}
        IpAddr::V4(group) => report_v4(core, interface, group, record, outbox),
        // RFC 3810 section 6: nor all-nodes, nor groups that stay on the node or the link's reserved scope.
        IpAddr::V6(group) if group == ipv6::ALL_NODES || group.octets()[1] & 0xf < 2 => {}
        IpAddr::V6(group) => report_v6(core, interface, group, record, outbox),
    }
}

fn report_v4(core: &Core, interface: &Arc<Interface>, group: Ipv4Addr, record: u8, outbox: &mut Outbox) {
    let [a, b, c, d] = group.octets();
    let mut message = [0x22, 0, 0, 0, 0, 0, 0, 1, record, 0, 0, 0, a, b, c, d];
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let topology = core.topology.load();
    let addresses = topology.nics.get(&interface.id).map(|entry| &entry.addresses);
    let own = addresses.into_iter().flatten().find_map(|own| match own.address() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let header = Ipv4Repr {
        source: own.unwrap_or(Ipv4Addr::UNSPECIFIED),
        destination: ALL_IGMPV3_ROUTERS,
        protocol: Protocol::IGMP,
        ttl: 1,
        tos: 0xc0,
        ident: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options_len: 4,
        // The message has 16 bytes.
        payload_len: message.len() as u16,
    };
    let mut packet = Packet::from_body(Body::from_iter([bytes::Bytes::copy_from_slice(&message)]));
    let out = packet.push_header(header.header_len());
    // Router alert (RFC 2113).
    out[ipv4::MIN_HEADER_LEN..].copy_from_slice(&[0x94, 4, 0, 0]);
    header.emit(out);
    let station = MacAddr::of_multicast_v4(ALL_IGMPV3_ROUTERS);
    edge::send_frame(interface, station, EtherType::IPV4, packet, outbox);
}

fn report_v6(core: &Core, interface: &Arc<Interface>, group: Ipv6Addr, record: u8, outbox: &mut Outbox) {
    let mut message = vec![143, 0, 0, 0, 0, 0, 0, 1, record, 0, 0, 0];
    message.extend(group.octets());
    let topology = core.topology.load();
    let to = IpAddr::V6(ipv6::ALL_MLDV2_ROUTERS);
    // RFC 3810 section 5.2.13: a link-local source, or the unspecified address while there is none.
    let own = topology.nics.get(&interface.id).and_then(|entry| source::select(&topology, entry, to, to));
    let source = match own {
        Some(IpAddr::V6(address)) if address.is_unicast_link_local() => address,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let mut packet = Packet::default();
    packet.push_header(message.len()).copy_from_slice(&message);
    icmp::fill_checksum(&mut packet, IpAddr::V6(source), to);
    // Hop-by-hop with router alert (RFC 2711) and two bytes of padding.
    let alert = [Protocol::ICMPV6.0, 0, ipv6::OPTION_ROUTER_ALERT, 2, 0, 0, ipv6::OPTION_PADN, 0];
    packet.push_header(alert.len()).copy_from_slice(&alert);
    let header = Ipv6Repr {
        source,
        destination: ipv6::ALL_MLDV2_ROUTERS,
        next_header: Protocol::HOP_BY_HOP,
        hop_limit: 1,
        traffic_class: 0,
        flow_label: 0,
        // The message has 28 bytes.
        payload_len: (message.len() + alert.len()) as u16,
    };
    header.emit(packet.push_header(ipv6::HEADER_LEN));
    let station = MacAddr::of_multicast_v6(ipv6::ALL_MLDV2_ROUTERS);
    edge::send_frame(interface, station, EtherType::IPV6, packet, outbox);
}

/// RFC 3376 section 4.2.12, the same numbers in RFC 3810 section 5.2.12.
const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_INCLUDE: u8 = 3;
const CHANGE_TO_EXCLUDE: u8 = 4;
const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
