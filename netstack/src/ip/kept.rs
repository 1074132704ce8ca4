//! Packets for addresses that are not ours, but that a route of kind [`Local`](crate::route::RouteKind::Local) keeps here.

use std::net::IpAddr;

use crate::ip::{Egress, Origin, RouteQuery, Rx, Transit};
use crate::packet::Packet;
use crate::route::{PacketFacts, RuleList};

/// Whether a route keeps a packet with such addresses and mark, which came in here and is not for an address of ours. `packet`
/// is asked for the rest if there are such routes.
pub(super) fn is_kept(
    rx: &Rx<'_>,
    source: IpAddr,
    destination: IpAddr,
    mark: u32,
    packet: impl FnOnce(&RuleList) -> PacketFacts,
) -> bool {
    if !rx.topology.routes.keeps_any() || destination.is_multicast() || destination.is_unspecified() {
        return false;
    }
    let query = RouteQuery { destination, source: Some(source), nic: None };
    let origin = Origin { mark, arrived_on: Some(rx.interface.id), packet: packet(&rx.topology.rules) };
    Egress::resolve_for(rx.core, query, origin).is_ok_and(|egress| egress.is_local())
}

/// What rules may look at in a packet that came in, if any does.
pub(super) fn facts_of(packet: &Packet, rules: &RuleList) -> PacketFacts {
    let transit = rules.are_particular().then(|| Transit::new(packet.clone())).flatten();
    transit.map_or_else(PacketFacts::default, |transit| transit.facts(rules))
}
