//! Redirects: a router tells of a better first hop (RFC 792, RFC 4861 section 8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use netstack_wire::icmpv4::{self, Icmpv4Message};
use netstack_wire::ip::Protocol;
use netstack_wire::ndp::NdpRepr;

use crate::cidr::IpCidr;
use crate::ip::{
    Delivery, Egress, Fragmenting, IpOutput, RouteQuery, Rx, Transit, icmp, ndp, output, source,
};
use crate::packet::{Body, Packet};

/// Tells the sender of a forwarded packet about its next hop, if that is a neighbour of the sender.
pub(super) fn tell(rx: &mut Rx<'_>, egress: &Egress, transit: &Transit) {
    let on_link = |address: IpAddr| {
        rx.topology
            .routes
            .lookup(address)
            .next()
            .is_some_and(|route| route.gateway.is_none() && route.nic == rx.interface.id)
    };
    if !on_link(transit.source) || !on_link(egress.next_hop) || egress.delivery != Delivery::Unicast {
        return;
    }
    if !rx.core.icmp_limiter.allow(rx.now) {
        return rx.core.counters.icmp_out_rate_limited.increment();
    }
    rx.core.counters.icmp_out_redirects.increment();
    match (transit.source, egress.next_hop, transit.destination) {
        (IpAddr::V4(to), IpAddr::V4(gateway), _) => tell_v4(rx, to, gateway, transit),
        (IpAddr::V6(to), IpAddr::V6(target), IpAddr::V6(destination)) => {
            tell_v6(rx, to, target, destination, transit);
        }
        _ => {}
    }
}

fn tell_v4(rx: &mut Rx<'_>, to: Ipv4Addr, gateway: Ipv4Addr, transit: &Transit) {
    let query = RouteQuery { destination: IpAddr::V4(to), source: None, nic: Some(rx.interface.id) };
    let Ok(mut egress) = Egress::resolve(rx.core, query) else { return };
    let quoted = transit.quote();
    let quoted = quoted.slice(..quoted.len().min(QUOTED_V4));
    let mut packet = Packet::from_body(Body::from_iter([quoted]));
    // RFC 1812 section 5.2.7.2: "Routers MUST NOT generate Redirect messages containing code 0 or 2".
    let message = Icmpv4Message::Redirect { code: HOST_REDIRECT, gateway };
    message.emit(packet.push_header(icmpv4::HEADER_LEN));
    let source = egress.source;
    icmp::fill_checksum(&mut packet, source, IpAddr::V4(to));
    let output = IpOutput {
        source,
        destination: IpAddr::V4(to),
        protocol: Protocol::ICMP,
        ttl: rx.core.default_ttl(),
        tos: 0,
        flow_label: 0,
        fragmenting: Fragmenting::Allowed,
        loops: false,
    };
    let _ = output::send(rx.core, &mut egress, &output, packet, rx.outbox);
}

fn tell_v6(rx: &mut Rx<'_>, to: Ipv6Addr, target: Ipv6Addr, destination: Ipv6Addr, transit: &Transit) {
    let Some(entry) = rx.topology.nics.get(&rx.interface.id) else { return };
    // RFC 4861 section 8.1: "IP Source Address is a link-local address."
    let link_local = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    let source = match source::select(rx.topology, entry, link_local, link_local) {
        Some(IpAddr::V6(source)) if source.is_unicast_link_local() => source,
        _ => return,
    };
    // The asker is a neighbour whose packet just came, but its station may not be in the cache.
    let query = RouteQuery {
        destination: IpAddr::V6(to),
        source: Some(IpAddr::V6(source)),
        nic: Some(rx.interface.id),
    };
    let Ok(mut egress) = Egress::resolve(rx.core, query) else { return };
    let target_mac = rx.interface.neighbours.known_mac(IpAddr::V6(target));
    let quoted = transit.quote();
    let quoted = quoted[..quoted.len().min(QUOTED_V6)].to_vec();
    let message = NdpRepr::Redirect { target, destination, target_mac, quoted }.to_vec();
    let mut packet =
        Packet::from_body(Body::from_iter([Bytes::from(message[icmpv4::HEADER_LEN..].to_vec())]));
    packet.push_header(icmpv4::HEADER_LEN).copy_from_slice(&message[..icmpv4::HEADER_LEN]);
    icmp::fill_checksum(&mut packet, IpAddr::V6(source), IpAddr::V6(to));
    let output = IpOutput {
        source: IpAddr::V6(source),
        destination: IpAddr::V6(to),
        protocol: Protocol::ICMPV6,
        ttl: ndp::HOP_LIMIT,
        tos: 0,
        flow_label: 0,
        fragmenting: Fragmenting::Allowed,
        loops: false,
    };
    let _ = output::send(rx.core, &mut egress, &output, packet, rx.outbox);
}

/// Follows an IPv4 redirect (RFC 1122 section 3.2.2.2): the quoted packet's destination is better reached through
/// `gateway`.
pub(super) fn follow_v4(rx: &mut Rx<'_>, from: IpAddr, gateway: Ipv4Addr, quoted: &[u8]) {
    let Some(quote) = icmp::quoted_transport(quoted) else {
        return rx.core.counters.icmp_in_errors.increment();
    };
    let options = rx.topology.nics.get(&rx.interface.id).map(|entry| entry.options).unwrap_or_default();
    let is_wanted = options.accepts_redirects && !options.forwards_v4;
    let is_neighbour = !gateway.is_multicast()
        && !rx.topology.is_broadcast(gateway)
        && rx.topology.local_address(IpAddr::V4(gateway)).is_none();
    if is_wanted && is_neighbour && rx.topology.local_address(quote.source).is_some() {
        follow(rx, from, IpAddr::V4(gateway), quote.destination);
    } else {
        rx.core.counters.icmp_in_redirects_ignored.increment();
    }
}

/// Follows an IPv6 redirect (RFC 4861 section 8.3), validated but for the current first hop.
pub(super) fn follow_v6(rx: &mut Rx<'_>, from: IpAddr, target: Ipv6Addr, destination: Ipv6Addr) {
    let options = rx.topology.nics.get(&rx.interface.id).map(|entry| entry.options).unwrap_or_default();
    // RFC 4861 section 8.1: the target is link-local for a router, or the destination itself.
    let is_sane = target.is_unicast_link_local() || target == destination;
    if options.accepts_redirects && !options.forwards_v6 && is_sane {
        follow(rx, from, IpAddr::V6(target), IpAddr::V6(destination));
    } else {
        rx.core.counters.icmp_in_redirects_ignored.increment();
    }
}

fn follow(rx: &mut Rx<'_>, from: IpAddr, target: IpAddr, destination: IpAddr) {
    let query = RouteQuery { destination, source: None, nic: None };
    // "The IP source address of the Redirect is the same as the current first-hop router".
    let is_current = Egress::resolve(rx.core, query)
        .is_ok_and(|egress| egress.next_hop == from && egress.interface.id == rx.interface.id);
    let on_link = target == destination
        || matches!(target, IpAddr::V6(target) if target.is_unicast_link_local())
        || rx
            .topology
            .routes
            .lookup(target)
            .next()
            .is_some_and(|route| route.gateway.is_none() && route.nic == rx.interface.id);
    if !is_current || !on_link {
        return rx.core.counters.icmp_in_redirects_ignored.increment();
    }
    let gateway = (target != destination).then_some(target);
    let destination = IpCidr::host(destination);
    rx.core.redirects.note(rx.core, rx.interface.id, destination, gateway, rx.now);
}

/// RFC 1812 section 5.2.7.2: a host redirect.
const HOST_REDIRECT: u8 = 1;
/// 576 bytes less the headers (RFC 1812 section 4.3.2.3).
const QUOTED_V4: usize = 576 - 28;
/// 1280 bytes less the headers and the options.
const QUOTED_V6: usize = 1280 - 40 - 40 - 8 - 8;
