//! What becomes of the routes and addresses of an interface that goes down or up, or loses its last address.

use std::net::IpAddr;
use std::sync::Arc;

use netstack::NicId;
use netstack::nic::NicInfo;
use netstack::route::Route;

use crate::socket::{NetNamespace, netlink};

/// An interface went down: its routes go, and its addresses of IPv6 (`fib_disable_ip`, `addrconf_ifdown`).
pub(super) fn went_down(namespace: &Arc<NetNamespace>, nic: &NicInfo) {
    forget(namespace, |route| route.nic == nic.id);
    for own in nic.addresses.iter().filter(|own| own.address().is_ipv6()) {
        // What fails was taken away by somebody else meanwhile.
        if namespace.stack().remove_address(nic.id, own.address()).is_ok() {
            netlink::announce_address_gone(namespace, nic.id, *own);
        }
    }
}

/// An interface went up: the networks of the addresses that it kept can be reached again (`fib_add_ifaddr`).
pub(super) fn went_up(namespace: &Arc<NetNamespace>, nic: &NicInfo) {
    for own in nic.addresses.iter().filter(|own| own.address().is_ipv4()) {
        let Some(metric) = own.route_metric else { continue };
        let route = Route::connected(own.network(), nic.id);
        // Another address may be in the same network.
        let _ = namespace.stack().add_route(Route { source: Some(own.address()), metric, ..route });
    }
}

/// An interface lost an address of IPv4. Without any it has no routes of it either (`fib_inetaddr_event`).
pub(in crate::socket) fn lost_address(namespace: &Arc<NetNamespace>, nic: NicId) {
    let has_address = |info: NicInfo| info.addresses.iter().any(|own| own.address().is_ipv4());
    if !namespace.stack().nic(nic).is_some_and(has_address) {
        let is_v4 = |route: &Route| matches!(route.destination.address(), IpAddr::V4(_));
        forget(namespace, |route| route.nic == nic && is_v4(route));
    }
}

/// Routes that lead nowhere belong to no interface, whatever the stack keeps them with.
fn forget(namespace: &NetNamespace, is_unwanted: impl Fn(&Route) -> bool) {
    namespace.stack().remove_routes(|route| is_unwanted(route) && !route.kind.leads_nowhere());
}
