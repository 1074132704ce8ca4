//! The routing table: longest prefix first, then the lowest metric.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::cidr::IpCidr;
use crate::nic::NicId;
use crate::options::Family;

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
}

/// Who put a route into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteOrigin {
    /// It follows from an address of a NIC.
    Connected,
    /// The user.
    Static,
    /// A router advertisement.
    RouterAdvertisement,
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
        }
    }

    /// A route through a router.
    pub fn via(destination: IpCidr, gateway: IpAddr, nic: NicId) -> Self {
        Self { gateway: Some(gateway), origin: RouteOrigin::Static, ..Self::connected(destination, nic) }
    }
}

/// The routes of a stack. A value: changed by copying, published as a snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteTable {
    /// In the order they were added, for listing.
    routes: Vec<Route>,
    v4: Prefixes,
    v6: Prefixes,
}

/// Routes by masked address, per prefix length; lengths in use are listed longest first.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    lengths: Vec<u8>,
    networks: HashMap<IpCidrKey, Vec<Route>>,
}

type IpCidrKey = IpCidr;

impl RouteTable {
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Adds a route; false if there is one to the same network with the same NIC, gateway and metric.
    pub(crate) fn add(&mut self, route: Route) -> bool {
        let route = Route { destination: route.destination.network(), ..route };
        if self.routes.iter().any(|other| is_same_path(other, &route)) {
            return false;
        }
        self.routes.push(route);
        self.rebuild(route.destination.family());
        true
    }

    /// Removes the routes for which `is_unwanted` holds and returns how many there were.
    pub(crate) fn remove(&mut self, is_unwanted: impl Fn(&Route) -> bool) -> usize {
        let before = self.routes.len();
        self.routes.retain(|route| !is_unwanted(route));
        self.rebuild(Family::V4);
        self.rebuild(Family::V6);
        before - self.routes.len()
    }

    /// The routes to `destination`, best first. The caller takes the first whose NIC suits it.
    pub(crate) fn lookup(&self, destination: IpAddr) -> impl Iterator<Item = &Route> {
        let prefixes = match destination {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        prefixes.lengths.iter().flat_map(move |&length| {
            let key = IpCidr::new(destination, length).map(IpCidr::network);
            key.and_then(|key| prefixes.networks.get(&key)).into_iter().flatten()
        })
    }

    fn rebuild(&mut self, family: Family) {
        let mut prefixes = Prefixes::default();
        for route in self.routes.iter().filter(|route| route.destination.family() == family) {
            prefixes.networks.entry(route.destination).or_default().push(*route);
            prefixes.lengths.push(route.destination.prefix_len());
        }
        prefixes.lengths.sort_unstable_by(|a, b| b.cmp(a));
        prefixes.lengths.dedup();
        // The sort is stable: among equals the older route wins, as in Linux.
        prefixes.networks.values_mut().for_each(|routes| routes.sort_by_key(|route| route.metric));
        match family {
            Family::V4 => self.v4 = prefixes,
            Family::V6 => self.v6 = prefixes,
        }
    }
}

fn is_same_path(a: &Route, b: &Route) -> bool {
    (a.destination, a.nic, a.gateway, a.metric) == (b.destination, b.nic, b.gateway, b.metric)
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
