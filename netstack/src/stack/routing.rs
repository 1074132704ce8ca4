//! The control plane of routing: routes, rules and whether NICs forward.

use std::net::{IpAddr, Ipv6Addr};

use crate::cidr::IpCidr;
use crate::error::{ConfigError, RouteError};
use crate::ip::{self, Egress};
use crate::nic::{NicId, NicOptions};
use crate::options::Family;
use crate::outbox::Outbox;
use crate::route::{Route, RouteLookup, RouteOrigin, Rule, TableId, Way};
use crate::stack::Stack;
use crate::topology::Topology;

impl Stack {
    /// Adds a route. A gateway must be on a network that the NIC is connected to.
    pub fn add_route(&self, route: Route) -> Result<(), ConfigError> {
        self.core.topology.modify(|topology| {
            if !topology.nics.contains_key(&route.nic) {
                return Err(ConfigError::NoSuchNic);
            }
            if let Some(gateway) = route.gateway
                && !is_on_link(topology, route.nic, gateway)
            {
                return Err(ConfigError::GatewayUnreachable);
            }
            if topology.routes.add(route) { Ok(()) } else { Err(ConfigError::Exists) }
        })
    }

    /// Removes the routes of the main table to a network, through that gateway and NIC if they are given.
    pub fn remove_route(
        &self,
        destination: IpCidr,
        gateway: Option<IpAddr>,
        nic: Option<NicId>,
    ) -> Result<(), ConfigError> {
        self.remove_route_of(TableId::MAIN, destination, gateway, nic)
    }

    /// The same for any table.
    pub fn remove_route_of(
        &self,
        table: TableId,
        destination: IpCidr,
        gateway: Option<IpAddr>,
        nic: Option<NicId>,
    ) -> Result<(), ConfigError> {
        let destination = destination.network();
        self.core.topology.modify(|topology| {
            let removed = topology.routes.remove(|route| {
                route.table == table
                    && route.destination == destination
                    && (gateway.is_none() || route.gateway == gateway)
                    && nic.is_none_or(|nic| route.nic == nic)
            });
            if removed == 0 { Err(ConfigError::NotFound) } else { Ok(()) }
        })
    }

    /// Removes this route, and no other.
    pub fn remove_this_route(&self, route: &Route) -> Result<(), ConfigError> {
        self.core.topology.modify(|topology| match topology.routes.remove(|other| other == route) {
            0 => Err(ConfigError::NotFound),
            _ => Ok(()),
        })
    }

    /// Removes the routes for which `is_unwanted` holds and tells how many there were.
    pub fn remove_routes(&self, is_unwanted: impl Fn(&Route) -> bool) -> usize {
        let removed = self.core.topology.modify(|topology| match topology.routes.remove(is_unwanted) {
            // Nothing has changed.
            0 => Err(()),
            count => Ok(count),
        });
        removed.unwrap_or(0)
    }

    /// Tells where a packet would go now (`ip route get`): as for one that is sent, but nothing is.
    pub fn find_way(&self, lookup: &RouteLookup) -> Result<Way, RouteError> {
        Egress::ask(&self.core, lookup)
    }

    /// The routing table in the order the routes were added.
    pub fn routes(&self) -> Vec<Route> {
        self.core.topology.load().routes.routes().to_vec()
    }

    /// Adds a policy rule. One that goes to a priority not behind its own is [`ConfigError::Invalid`].
    pub fn add_rule(&self, rule: Rule) -> Result<(), ConfigError> {
        self.core.topology.modify(|topology| {
            let Topology { nics, rules, .. } = topology;
            rules.add(rule, |name| {
                nics.iter().find(|(_, entry)| &*entry.interface.name() == name).map(|(&id, _)| id)
            })
        })
    }

    /// Removes a policy rule.
    pub fn remove_rule(&self, rule: &Rule) -> Result<(), ConfigError> {
        self.core.topology.modify(|topology| match topology.rules.remove(rule) {
            true => Ok(()),
            false => Err(ConfigError::NotFound),
        })
    }

    /// Tells whether rules of a family can go on at a priority: whether one has it, be it one that every stack has.
    pub fn has_rule_at(&self, family: Family, priority: u32) -> bool {
        self.core.topology.load().rules.has_priority(family, priority)
    }

    /// The policy rules in the order they are tried. Those that every stack has are not among them: the stack's own
    /// addresses first, the main table at priority 32766 and the default table at 32767.
    pub fn rules(&self) -> Vec<Rule> {
        self.core.topology.load().rules.rules().to_vec()
    }

    /// Changes how the network layer behaves on a NIC.
    pub fn set_nic_options(
        &self,
        nic: NicId,
        change: impl FnOnce(&mut NicOptions),
    ) -> Result<(), ConfigError> {
        let mut router = (false, false);
        self.change_nic(nic, |entry| {
            let before = entry.options.forwards_v6;
            change(&mut entry.options);
            router = (before, entry.options.forwards_v6);
            Ok(())
        })?;
        let Some(interface) = self.core.topology.load().interface(nic).cloned() else { return Ok(()) };
        // RFC 4291 section 2.8: a router listens to the all-routers group.
        let mut outbox = Outbox::default();
        match router {
            (false, true) => ip::join_group(&self.core, &interface, ALL_ROUTERS, &mut outbox),
            (true, false) => ip::leave_group(&self.core, &interface, ALL_ROUTERS, &mut outbox),
            _ => {}
        }
        outbox.flush(&self.core);
        Ok(())
    }
}

/// A gateway must be reachable without another gateway; link-local ones always are.
fn is_on_link(topology: &Topology, nic: NicId, gateway: IpAddr) -> bool {
    if let IpAddr::V6(gateway) = gateway
        && gateway.is_unicast_link_local()
    {
        return true;
    }
    topology.routes.lookup(gateway).any(|route| {
        route.nic == nic && route.gateway.is_none() && route.origin != RouteOrigin::RouterAdvertisement
    })
}

/// The link-local group of all routers.
const ALL_ROUTERS: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2));
