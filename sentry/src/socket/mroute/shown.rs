//! Routes of groups as netlink shows them.

use std::net::IpAddr;
use std::time::Duration;

use netstack::Stack;
use netstack::multicast_route::{RouteCounts, RouteInfo, Vif, VifId};
use netstack::options::Family;

use crate::socket::NetNamespace;
use crate::socket::inet::InetSocket;
use crate::socket::mroute::device::RegisterDevice;
use crate::socket::mroute::state::Active;
use crate::socket::netlink;

/// A route of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::socket) struct ShownRoute {
    pub(in crate::socket) table: u32,
    pub(in crate::socket) source: IpAddr,
    pub(in crate::socket) group: IpAddr,
    /// `None` while packets wait for it.
    pub(in crate::socket) way: Option<ShownWay>,
}

/// Where packets of a route come in and leave, by the numbers of interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::socket) struct ShownWay {
    pub(in crate::socket) parent: Option<u32>,
    pub(in crate::socket) outputs: Vec<(u32, u8)>,
    pub(in crate::socket) counts: RouteCounts,
    /// How long ago a packet came; zero if none did.
    pub(in crate::socket) idle: Duration,
}

impl ShownRoute {
    pub(super) fn new(stack: &Stack, table: u32, active: &Active, info: &RouteInfo) -> Self {
        let RouteInfo { route, counts, last_used } = info;
        let index_of = |id: VifId| match active.router.vif(id)?.vif {
            Vif::Nic(nic) => Some(nic.index()),
            Vif::Register => active.register.as_ref().map(RegisterDevice::index),
        };
        let outputs = route.outputs.iter().filter_map(|(id, threshold)| Some((index_of(id)?, threshold)));
        let way = ShownWay {
            parent: index_of(route.parent),
            outputs: outputs.collect(),
            counts: *counts,
            idle: last_used.map_or(Duration::ZERO, |last| stack.now().saturating_duration_since(last)),
        };
        Self { table, source: route.source, group: route.group, way: Some(way) }
    }
}

/// All routes of a family, or of one table: those that exist first.
pub(in crate::socket) fn all(
    namespace: &NetNamespace,
    family: Family,
    table: Option<u32>,
) -> Vec<ShownRoute> {
    let mut shown = Vec::new();
    namespace.multicast_routing().each(family, table, |number, active| {
        let mut routes = active.router.routes();
        routes.sort_by_key(|info| (info.route.group, info.route.source, info.route.parent));
        let resolved = routes.iter().map(|info| ShownRoute::new(namespace.stack(), number, active, info));
        shown.extend(resolved);
        let waiting = active.router.unresolved().into_iter();
        shown.extend(waiting.map(|(source, group)| ShownRoute { table: number, source, group, way: None }));
    });
    shown
}

/// The route of exactly that source and group.
pub(in crate::socket) fn one(
    namespace: &NetNamespace,
    family: Family,
    table: u32,
    source: IpAddr,
    group: IpAddr,
) -> Option<ShownRoute> {
    let mut found = None;
    namespace.multicast_routing().each(family, Some(table), |number, active| {
        let info = active.router.route(source, group);
        found = info.map(|info| ShownRoute::new(namespace.stack(), number, active, &info));
    });
    found
}

/// Ends what the socket began, and tells of its routes; whether it began anything.
pub(super) fn end(socket: &InetSocket) -> bool {
    let namespace = socket.namespace();
    let Some((number, active)) = namespace.multicast_routing().take(socket) else { return false };
    // As Linux, first the ways, then the routes.
    active.router.clear_vifs();
    for info in active.router.routes() {
        netlink::announce_multicast_gone(
            namespace,
            &ShownRoute::new(namespace.stack(), number, &active, &info),
        );
    }
    true
}

/// The socket is closed.
pub(in crate::socket) fn close(socket: &InetSocket) {
    end(socket);
    socket.namespace().multicast_routing().forget(socket);
}
