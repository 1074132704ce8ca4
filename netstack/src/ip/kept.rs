//! Packets for addresses that are not ours, but that a route of kind [`Local`](crate::route::RouteKind::Local) keeps here.

use std::net::IpAddr;

use crate::ip::{Egress, Origin, RouteQuery, Rx};

/// Whether a route keeps a packet with such addresses and mark, which came in here and is not for an address of ours.
pub(super) fn is_kept(rx: &Rx<'_>, source: IpAddr, destination: IpAddr, mark: u32) -> bool {
    if !rx.topology.routes.keeps_any() || destination.is_multicast() || destination.is_unspecified() {
        return false;
    }
    let query = RouteQuery { destination, source: Some(source), nic: None };
    let origin = Origin { mark, arrived_on: Some(rx.interface.id) };
    Egress::resolve_for(rx.core, query, origin).is_ok_and(|egress| egress.is_local())
}
