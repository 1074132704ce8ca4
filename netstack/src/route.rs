//! Routing: tables with the longest prefix first, then the lowest metric; and the rules that choose among tables.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::cidr::IpCidr;
use crate::nic::NicId;
use crate::options::Family;

mod facts;
mod lookup;
mod rule;
mod selector;

pub use facts::PacketFacts;
pub use lookup::{RouteLookup, Way, WayCast};
pub(crate) use rule::{Found, RouteKey, RuleList};
pub use rule::{MarkMatch, Rule, RuleAction, RuleNic};
pub use selector::{PortMatch, TosMatch};

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network it leads to.
    pub destination: IpCidr,
    /// The router to hand packets to; `None` if the network is directly connected.
    pub gateway: Option<IpAddr>,
    /// The NIC to leave through.
    pub nic: NicId,
    /// Lower is better among routes to the same network.
    pub metric: u32,
    /// The source address to prefer.
    pub source: Option<IpAddr>,
    /// The path MTU to assume, if smaller than the NIC's.
    pub mtu: Option<u32>,
    /// Who put it there.
    pub origin: RouteOrigin,
    /// What happens to packets that it is found for.
    pub kind: RouteKind,
    /// The table it is in.
    pub table: TableId,
    /// Routes of one table to the same network with the same metric and weights above zero share the flows in
    /// proportion to them (RFC 2992). With zero the oldest takes all.
    pub weight: u8,
}

/// What happens to packets that a route is found for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// They leave through the NIC.
    Unicast,
    /// They are for this stack, as if it had the address (`ip route add local`): for proxies, and for whole networks.
    Local,
    /// They vanish silently.
    Blackhole,
    /// They are dropped and their sender is told that the host is unreachable.
    Unreachable,
    /// They are dropped and their sender is told that communication is prohibited.
    Prohibit,
}

impl RouteKind {
    /// Whether no packet gets anywhere by such a route.
    pub fn leads_nowhere(self) -> bool {
        match self {
            Self::Unicast | Self::Local => false,
            Self::Blackhole | Self::Unreachable | Self::Prohibit => true,
        }
    }
}

/// Names a routing table. Numbers as in Linux (`/etc/iproute2/rt_tables`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

impl TableId {
    /// Looked up last, and usually empty.
    pub const DEFAULT: Self = Self(253);
    /// The table that routes are put into unless told otherwise.
    pub const MAIN: Self = Self(254);
}

/// Who put a route into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteOrigin {
    /// It follows from an address of a NIC.
    Connected,
    /// The user.
    Static,
    /// A routing program, by its number (`/etc/iproute2/rt_protos`).
    Protocol(u8),
    /// A router advertisement.
    RouterAdvertisement,
    /// A redirect.
    Redirect,
}

impl Route {
    /// A route to a directly connected network.
    pub fn connected(destination: IpCidr, nic: NicId) -> Self {
        Self {
            destination: destination.network(),
            gateway: None,
            nic,
            metric: 0,
            source: None,
            mtu: None,
            origin: RouteOrigin::Connected,
            kind: RouteKind::Unicast,
            table: TableId::MAIN,
            weight: 0,
        }
    }

    /// A route that leads nowhere. The NIC is the one with which it goes away; the loopback NIC in most cases.
    pub fn rejecting(destination: IpCidr, kind: RouteKind, nic: NicId) -> Self {
        Self { kind, origin: RouteOrigin::Static, ..Self::connected(destination, nic) }
    }

    /// A route that keeps packets for a network here.
    pub fn local(destination: IpCidr, nic: NicId) -> Self {
        Self { kind: RouteKind::Local, origin: RouteOrigin::Static, ..Self::connected(destination, nic) }
    }

    /// A route through a router.
    pub fn via(destination: IpCidr, gateway: IpAddr, nic: NicId) -> Self {
        Self { gateway: Some(gateway), origin: RouteOrigin::Static, ..Self::connected(destination, nic) }
    }
}

/// The routes of a stack, in tables. A value: changed by copying, published as a snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteTable {
    /// In the order they were added, for listing.
    routes: Vec<Route>,
    tables: HashMap<TableId, Prefixes>,
    /// How many are of [`RouteKind::Local`].
    local: usize,
}

/// The routes of one table by masked address; prefix lengths in use are listed longest first, per family.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    networks: HashMap<IpCidr, Vec<Route>>,
}

impl RouteTable {
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Whether any route keeps packets for other addresses here.
    pub(crate) fn keeps_any(&self) -> bool {
        self.local > 0
    }

    /// Adds a route; false if there is one in the table to the same network with the same NIC, gateway and metric.
    pub(crate) fn add(&mut self, route: Route) -> bool {
        let route = Route { destination: route.destination.network(), ..route };
        if self.routes.iter().any(|other| is_same_path(other, &route)) {
            return false;
        }
        self.routes.push(route);
        self.local += usize::from(route.kind == RouteKind::Local);
        self.rebuild(route.table);
        true
    }

    /// Removes the routes for which `is_unwanted` holds and returns how many there were.
    pub(crate) fn remove(&mut self, is_unwanted: impl Fn(&Route) -> bool) -> usize {
        let before = self.routes.len();
        let mut touched = Vec::new();
        self.routes.retain(|route| {
            let goes = is_unwanted(route);
            if goes && !touched.contains(&route.table) {
                touched.push(route.table);
            }
            !goes
        });
        self.local = self.routes.iter().filter(|route| route.kind == RouteKind::Local).count();
        touched.into_iter().for_each(|table| self.rebuild(table));
        before - self.routes.len()
    }

    /// The routes of the main table to `destination`, best first. The caller takes the first whose NIC suits it.
    pub(crate) fn lookup(&self, destination: IpAddr) -> impl Iterator<Item = &Route> {
        self.lookup_in(TableId::MAIN, destination)
    }

    /// The routes of a table to `destination`, best first.
    pub(crate) fn lookup_in(&self, table: TableId, destination: IpAddr) -> impl Iterator<Item = &Route> {
        self.tables.get(&table).into_iter().flat_map(move |prefixes| prefixes.lookup(destination))
    }

    /// The routes among which the flows that `route` was found for are shared, itself included.
    pub(crate) fn siblings<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Route> {
        let networks = self.tables.get(&route.table).map(|prefixes| &prefixes.networks);
        let equals = networks.and_then(|networks| networks.get(&route.destination)).into_iter().flatten();
        equals.filter(|other| other.weight > 0 && other.metric == route.metric)
    }

    fn rebuild(&mut self, table: TableId) {
        let mut prefixes = Prefixes::default();
        for route in self.routes.iter().filter(|route| route.table == table) {
            prefixes.networks.entry(route.destination).or_default().push(*route);
            prefixes.lengths_mut(route.destination.family()).push(route.destination.prefix_len());
        }
        for lengths in [&mut prefixes.lengths_v4, &mut prefixes.lengths_v6] {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        // The sort is stable: among equals the older route wins, as in Linux.
        prefixes.networks.values_mut().for_each(|routes| routes.sort_by_key(|route| route.metric));
        match prefixes.networks.is_empty() {
            true => self.tables.remove(&table),
            false => self.tables.insert(table, prefixes),
        };
    }
}

impl Prefixes {
    fn lookup(&self, destination: IpAddr) -> impl Iterator<Item = &Route> {
        let lengths = match destination {
            IpAddr::V4(_) => &self.lengths_v4,
            IpAddr::V6(_) => &self.lengths_v6,
        };
        lengths.iter().flat_map(move |&length| {
            let key = IpCidr::new(destination, length).map(IpCidr::network);
            key.and_then(|key| self.networks.get(&key)).into_iter().flatten()
        })
    }

    fn lengths_mut(&mut self, family: Family) -> &mut Vec<u8> {
        match family {
            Family::V4 => &mut self.lengths_v4,
            Family::V6 => &mut self.lengths_v6,
        }
    }
}

fn is_same_path(a: &Route, b: &Route) -> bool {
    (a.table, a.destination, a.nic, a.gateway, a.metric, a.kind)
        == (b.table, b.destination, b.nic, b.gateway, b.metric, b.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, u32, u32)]) -> RouteTable {
        let mut table = RouteTable::default();
        for &(destination, nic, metric) in rows {
            let route = Route::connected(destination.parse().unwrap(), NicId::from_index(nic).unwrap());
            assert!(table.add(Route { metric, ..route }), "{destination}");
        }
        table
    }

    #[track_caller]
    fn nics(table: &RouteTable, destination: &str) -> Vec<u32> {
        table.lookup(destination.parse().unwrap()).map(|route| route.nic.index()).collect()
    }

    #[test]
    fn longest_prefix_then_metric_then_age() {
        let table = table(&[
            ("0.0.0.0/0", 1, 0),
            ("10.0.0.0/8", 2, 10),
            ("10.0.0.0/8", 3, 5),
            ("10.0.0.0/8", 4, 5),
            ("10.1.0.0/16", 5, 100),
            ("::/0", 6, 0),
        ]);
        assert_eq!(nics(&table, "10.1.2.3"), [5, 3, 4, 2, 1]);
        assert_eq!(nics(&table, "10.2.2.3"), [3, 4, 2, 1]);
        assert_eq!(nics(&table, "192.0.2.1"), [1]);
        assert_eq!(nics(&table, "2001:db8::1"), [6]);
    }

    #[test]
    fn removed_routes_are_gone_and_duplicates_refused() {
        let mut table = table(&[("10.0.0.0/8", 1, 0), ("10.0.0.0/8", 2, 0)]);
        let duplicate = Route::connected("10.9.9.9/8".parse().unwrap(), NicId::from_index(1).unwrap());
        assert!(!table.add(duplicate));
        assert_eq!(table.remove(|route| route.nic.index() == 1), 1);
        assert_eq!(nics(&table, "10.1.1.1"), [2]);
    }
}
