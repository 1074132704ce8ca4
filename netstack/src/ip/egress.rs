//! Where a packet goes: the NIC, the next hop, the source address and the MTU.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::cidr::family_of;
use crate::error::{RouteError, SendError, SocketError};
use crate::interface::Interface;
use crate::ip::source;
use crate::link::Medium;
use crate::neighbour::Neighbour;
use crate::nic::{AddressState, NicId};
use crate::outbox::Outbox;
use crate::route::{
    Found, PacketFacts, Route, RouteKey, RouteKind, RouteLookup, RouteOrigin, RuleAction, Way, WayCast,
};
use crate::stack::Core;
use crate::topology::{LocalAddress, NicEntry, Topology};

/// A resolved way out. Endpoints keep it until [`is_current`](Self::is_current) says no.
#[derive(Clone)]
pub(crate) struct Egress {
    pub(crate) interface: Arc<Interface>,
    pub(crate) next_hop: IpAddr,
    /// The source address to use, unless the sender is bound to one.
    pub(crate) source: IpAddr,
    pub(crate) delivery: Delivery,
    /// The largest packet for the destination: of link, route and path.
    pub(crate) mtu: u32,
    /// Packets of that size may have to be fragmented on their way ([`PathMtu::is_locked`](crate::ip::PathMtu::is_locked)).
    pub(crate) is_mtu_locked: bool,
    /// The next hop's entry, once looked up.
    neighbour: Option<Arc<Neighbour>>,
    scope: Scope,
    generation: u64,
}

/// What a way holds for. One byte: each idle connection has a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Packets that go between the same ends with the same mark.
    Ends,
    /// Those; and packets of the flow come in through the same interface, with right addresses.
    BothDirections,
    /// Only packets that are alike in all that rules look at, which is more than addresses, NICs and marks.
    Kind,
}

/// How a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// To the next hop.
    Unicast,
    /// To everybody on the link.
    Broadcast,
    /// To a group on the link.
    Multicast,
    /// Not at all: the address is ours, on this NIC.
    Local(NicId),
}

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteQuery {
    pub(crate) destination: IpAddr,
    /// The source address, if it is fixed.
    pub(crate) source: Option<IpAddr>,
    /// The NIC, if it is fixed.
    pub(crate) nic: Option<NicId>,
}

/// What policy rules want to know about a packet besides its addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    /// The firewall mark.
    pub(crate) mark: u32,
    /// Where it arrived; not set for packets of our own.
    pub(crate) arrived_on: Option<NicId>,
    /// What else is known.
    pub(crate) packet: PacketFacts,
}

impl Origin {
    /// A packet of ours that has no mark.
    pub(crate) fn of(packet: PacketFacts) -> Self {
        Self { mark: 0, arrived_on: None, packet }
    }
}

impl From<RouteError> for SendError {
    /// As Linux's errors: a black hole is EINVAL, an unreachable route EHOSTUNREACH, a prohibited one EACCES.
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NetworkUnreachable => Self::NetworkUnreachable,
            RouteError::NoSource => Self::AddressNotAvailable,
            RouteError::NetworkDown => Self::NetworkDown,
            RouteError::Blackhole => Self::Invalid,
            RouteError::Unreachable => Self::HostUnreachable,
            RouteError::Prohibited => Self::Pending(SocketError::Prohibited),
        }
    }
}

impl Egress {
    /// Finds the way to a destination.
    pub(crate) fn resolve(core: &Core, query: RouteQuery) -> Result<Self, RouteError> {
        Self::resolve_for(core, query, Origin::default())
    }

    /// The same for a packet with a mark, or one that is forwarded.
    pub(crate) fn resolve_for(core: &Core, query: RouteQuery, origin: Origin) -> Result<Self, RouteError> {
        // Read before the snapshot: a change in between makes the result look stale, never current.
        let generation = core.topology.generation();
        let topology = core.topology.load();
        let query = RouteQuery { destination: specified(query.destination), ..query };
        let mut egress = find(core, &topology, query, origin, generation)?;
        if let Some(mtu) = core.pmtu.lookup(query.destination, core.clock.now()) {
            egress.is_mtu_locked = mtu.is_locked && mtu.mtu <= egress.mtu;
            egress.mtu = egress.mtu.min(mtu.mtu);
        }
        Ok(egress)
    }

    /// Tells where a packet would go.
    pub(crate) fn ask(core: &Core, lookup: &RouteLookup) -> Result<Way, RouteError> {
        let RouteLookup { destination, source, output_nic, input_nic, mark, packet } = *lookup;
        let query = RouteQuery { destination: specified(destination), source, nic: output_nic };
        let origin = Origin { mark, arrived_on: input_nic, packet };
        let way = Self::resolve_for(core, query, origin)?;
        let cast = match way.delivery {
            Delivery::Unicast => WayCast::Unicast,
            Delivery::Broadcast => WayCast::Broadcast,
            Delivery::Multicast => WayCast::Multicast,
            Delivery::Local(_) => WayCast::Local,
        };
        let topology = core.topology.load();
        // One of our addresses needs none.
        let is_own = cast == WayCast::Local && topology.local_address(query.destination).is_some();
        let route = if is_own { None } else { find_route(core, &topology, query, origin)?.copied() };
        let gateway = (way.next_hop != query.destination).then_some(way.next_hop);
        Ok(Way { nic: way.interface.id, gateway, source: way.source, mtu: way.mtu, cast, route })
    }

    /// Tells whether nothing has changed since this was resolved.
    pub(crate) fn is_current(&self, core: &Core) -> bool {
        self.generation == core.topology.generation()
    }

    /// A packet from the other end of the flow came through `interface` and was found to be for us, with the configuration
    /// of `generation`.
    #[inline]
    pub(crate) fn note_way_in(&mut self, interface: &Arc<Interface>, generation: u64) {
        self.set_way_in(self.generation == generation && Arc::ptr_eq(&self.interface, interface));
    }

    /// The same was seen for another way between the same ends.
    pub(crate) fn inherit_way_in(&mut self, other: &Self) {
        self.set_way_in(other.scope == Scope::BothDirections && self.is_same_way(other));
    }

    #[inline]
    fn set_way_in(&mut self, is_way_in: bool) {
        if self.scope != Scope::Kind {
            self.scope = if is_way_in { Scope::BothDirections } else { Scope::Ends };
        }
    }

    /// Rules look at more than addresses, NICs and marks: other packets between the same ends may have another way.
    #[inline]
    pub(crate) fn is_particular(&self) -> bool {
        self.scope == Scope::Kind
    }

    /// Looks for the next hop's entry if it has none, without beginning to ask for it. Says whether it has found one.
    #[inline]
    pub(crate) fn learn_neighbour(&mut self) -> bool {
        if self.neighbour.as_ref().is_some_and(|neighbour| !neighbour.is_retired()) {
            return false;
        }
        let Medium::Ethernet(_) = self.interface.medium() else { return false };
        self.neighbour = self.interface.neighbours.find(self.next_hop);
        self.neighbour.is_some()
    }

    /// Takes over the next hop's entry.
    pub(crate) fn share_neighbour(&mut self, other: &Self) {
        if self.is_same_way(other) {
            self.neighbour.clone_from(&other.neighbour);
        }
    }

    /// Whether another one was found with the same configuration and leads to the same next hop.
    pub(crate) fn is_same_way(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.next_hop == other.next_hop
            && Arc::ptr_eq(&self.interface, &other.interface)
    }

    /// Whether that was seen with the configuration of `generation`.
    pub(crate) fn was_way_in(&self, generation: u64) -> bool {
        self.scope == Scope::BothDirections && self.generation == generation
    }

    /// Whether that was seen for `nic`, and nothing has changed since.
    #[inline]
    pub(crate) fn is_way_in(&self, core: &Core, nic: NicId) -> bool {
        self.scope == Scope::BothDirections && self.interface.id == nic && self.is_current(core)
    }

    /// The next hop's entry; `None` where nothing is resolved.
    #[inline]
    pub(crate) fn neighbour(&mut self, core: &Arc<Core>, outbox: &mut Outbox) -> Option<&Arc<Neighbour>> {
        let Medium::Ethernet(_) = self.interface.medium() else { return None };
        if self.neighbour.as_ref().is_none_or(|neighbour| neighbour.is_retired()) {
            self.look_up_neighbour(core, outbox);
        }
        self.neighbour.as_ref()
    }

    #[cold]
    #[inline(never)]
    fn look_up_neighbour(&mut self, core: &Arc<Core>, outbox: &mut Outbox) {
        let cache = &self.interface.neighbours;
        self.neighbour = Some(cache.lookup_or_begin(core, &self.interface, self.next_hop, outbox));
    }

    /// An address of the NIC, for packets to `destination` that shall seem to come from us.
    pub(crate) fn own_address(&self, core: &Core, destination: IpAddr) -> Option<IpAddr> {
        let topology = core.topology.load();
        let entry = topology.nics.get(&self.interface.id)?;
        source::select(&topology, entry, destination, self.next_hop)
    }

    /// The TTL or hop limit of packets for which nobody asked for another: what a router said, or the stack's.
    pub(crate) fn default_ttl(&self, core: &Core) -> u8 {
        self.interface.default_ttl(core, family_of(self.next_hop))
    }

    /// The state of the configuration that this was resolved with.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The neighbour, if it was looked up before.
    pub(crate) fn known_neighbour(&self) -> Option<&Arc<Neighbour>> {
        self.neighbour.as_ref()
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self.delivery, Delivery::Local(_))
    }

    /// Whether a packet comes back to us, perhaps besides leaving; `loops` says whether our members of its group want it.
    pub(crate) fn comes_back(&self, loops: bool) -> bool {
        match self.delivery {
            Delivery::Local(_) => true,
            Delivery::Unicast => self.interface.is_loopback(),
            Delivery::Multicast | Delivery::Broadcast => loops,
        }
    }
}

/// Linux sends what goes to the unspecified address to itself (RFC 1122 leaves it undefined).
fn specified(destination: IpAddr) -> IpAddr {
    match destination {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}

fn find(
    core: &Core,
    topology: &Topology,
    query: RouteQuery,
    origin: Origin,
    generation: u64,
) -> Result<Egress, RouteError> {
    let RouteQuery { destination, source, nic } = query;
    if let Some(local) = topology.local_address(destination)
        && nic.is_none_or(|nic| is_own_way(topology, nic, local))
    {
        return local_egress(topology, destination, source, local, generation);
    }
    let (delivery, hop) = match destination {
        IpAddr::V4(address) if address.is_multicast() => (Delivery::Multicast, None),
        IpAddr::V6(address) if address.is_multicast() => (Delivery::Multicast, None),
        IpAddr::V4(address) if topology.is_broadcast(address) => (Delivery::Broadcast, None),
        IpAddr::V4(_) | IpAddr::V6(_) => (Delivery::Unicast, Some(())),
    };
    let route = find_route(core, topology, query, origin)?;
    if let Some(route) = route.filter(|route| route.kind == RouteKind::Local) {
        let local = LocalAddress { nic: route.nic, state: AddressState::Preferred };
        let source = source.or(route.source);
        return local_egress(topology, destination, source, local, generation);
    }
    let entry = match (route, nic) {
        (Some(route), _) => topology.nics.get(&route.nic),
        // Linux takes a destination to be on the link when the socket is bound to a device without a route to it.
        (None, Some(nic)) => topology.nics.get(&nic),
        (None, None) if hop.is_none() => default_multicast_nic(topology, destination),
        (None, None) => None,
    };
    let entry = entry.ok_or(RouteError::NetworkUnreachable)?;
    let interface = &entry.interface;
    if !interface.is_up() {
        return Err(RouteError::NetworkDown);
    }
    let gateway = route.and_then(|route| route.gateway).filter(|_| hop.is_some());
    let next_hop = gateway.unwrap_or(destination);
    let hint = source
        .or(route.and_then(|route| route.source))
        .filter(|hint| source.is_some() || topology.local_address(*hint).is_some());
    let source = match hint {
        Some(source) => source,
        None => source::select(topology, entry, destination, next_hop).ok_or(RouteError::NoSource)?,
    };
    let mut mtu = route.and_then(|route| route.mtu).unwrap_or(u32::MAX).min(interface.mtu());
    if destination.is_ipv6() {
        mtu = mtu.min(interface.mtu_v6());
    }
    let interface = Arc::clone(interface);
    Ok(Egress {
        interface,
        next_hop,
        source,
        delivery,
        mtu,
        is_mtu_locked: false,
        neighbour: None,
        scope: scope_of(topology),
        generation,
    })
}

/// The route that rules, prefixes, metrics and the state of the NICs lead to.
fn find_route<'a>(
    core: &Core,
    topology: &'a Topology,
    query: RouteQuery,
    origin: Origin,
) -> Result<Option<&'a Route>, RouteError> {
    let RouteQuery { destination, source, nic } = query;
    let is_usable = |route: &Route| {
        !matches!(route.kind, RouteKind::Unicast | RouteKind::Local)
            || (nic.is_none_or(|nic| route.nic == nic)
                && topology.interface(route.nic).is_some_and(|interface| interface.is_up()))
    };
    // Linux's rules see the loopback device where a packet of our own comes from.
    let input_nic = origin.arrived_on.or_else(|| {
        let has_rules = !topology.rules.rules().is_empty();
        has_rules.then(|| topology.loopback()).flatten().map(|entry| entry.interface.id)
    });
    let key = RouteKey {
        destination,
        source,
        input_nic,
        output_nic: nic,
        mark: origin.mark,
        packet: origin.packet,
    };
    // RFC 4861 section 6.3.6: "Routers that are reachable or probably reachable [...] SHOULD be preferred over routers whose
    // reachability is unknown or suspect." One that does not answer is used when there is no other.
    let answers = |route: &Route| {
        let learned = route.gateway.filter(|_| route.origin == RouteOrigin::RouterAdvertisement);
        let interface = topology.interface(route.nic);
        let is_silent = |gateway| interface.is_some_and(|interface| interface.neighbours.has_failed(gateway));
        !learned.is_some_and(is_silent)
    };
    let lookup = |passes: &dyn Fn(&Route) -> bool| topology.rules.lookup(&topology.routes, &key, passes);
    let found = lookup(&|route| is_usable(route) && answers(route));
    let route = match found.or_else(|| lookup(&is_usable)) {
        Some(Found::Route(route)) => route,
        Some(Found::Refused(action)) => {
            return Err(match action {
                // fib4_rule_action, fib6_rule_action: not as a route that says so.
                RuleAction::Unreachable => RouteError::NetworkUnreachable,
                // They refuse nothing.
                RuleAction::Lookup(_) | RuleAction::Goto(_) | RuleAction::Nop => {
                    RouteError::NetworkUnreachable
                }
                RuleAction::Blackhole => RouteError::Blackhole,
                RuleAction::Prohibit => RouteError::Prohibited,
            });
        }
        None => return Ok(None),
    };
    match route.kind {
        RouteKind::Unicast if route.weight > 0 => {
            let hash = core.secrets.hash_pair(source.unwrap_or(destination), destination, 0);
            Ok(Some(share(topology, route, hash, is_usable)))
        }
        RouteKind::Unicast | RouteKind::Local => Ok(Some(route)),
        RouteKind::Blackhole => Err(RouteError::Blackhole),
        RouteKind::Unreachable => Err(RouteError::Unreachable),
        RouteKind::Prohibit => Err(RouteError::Prohibited),
    }
}

/// Picks one of equal routes by the hash of the addresses, so that a flow keeps its path (RFC 2992; Linux's
/// `fib_multipath_hash_policy` 0).
fn share<'a>(
    topology: &'a Topology,
    route: &'a Route,
    hash: u64,
    is_usable: impl Fn(&Route) -> bool,
) -> &'a Route {
    let siblings = || topology.routes.siblings(route).filter(|other| is_usable(other));
    let total: u64 = siblings().map(|other| u64::from(other.weight)).sum();
    let mut point = hash % total.max(1);
    for sibling in siblings() {
        match point.checked_sub(u64::from(sibling.weight)) {
            Some(rest) => point = rest,
            None => return sibling,
        }
    }
    route
}

/// A socket bound to a NIC reaches the addresses of that NIC, and all of ours through the loopback NIC.
fn is_own_way(topology: &Topology, nic: NicId, local: LocalAddress) -> bool {
    local.nic == nic || topology.interface(nic).is_some_and(|interface| interface.is_loopback())
}

fn local_egress(
    topology: &Topology,
    destination: IpAddr,
    source: Option<IpAddr>,
    local: LocalAddress,
    generation: u64,
) -> Result<Egress, RouteError> {
    let entry = topology
        .loopback()
        .or_else(|| topology.nics.get(&local.nic))
        .ok_or(RouteError::NetworkUnreachable)?;
    // A link-local address keeps its link; everything else is seen on the loopback NIC, as in Linux.
    let seen_on = match destination {
        IpAddr::V6(address) if address.is_unicast_link_local() => local.nic,
        IpAddr::V4(_) | IpAddr::V6(_) => entry.interface.id,
    };
    Ok(Egress {
        interface: Arc::clone(&entry.interface),
        next_hop: destination,
        source: source.unwrap_or_else(|| topology.source_for_own(destination)),
        delivery: Delivery::Local(seen_on),
        mtu: LOCAL_MTU,
        neighbour: None,
        is_mtu_locked: false,
        scope: scope_of(topology),
        generation,
    })
}

fn scope_of(topology: &Topology) -> Scope {
    if topology.rules.are_particular() { Scope::Kind } else { Scope::Ends }
}

/// Without a route, groups and broadcasts leave through the first NIC that has an address of the family.
fn default_multicast_nic(topology: &Topology, destination: IpAddr) -> Option<&NicEntry> {
    let has_family = |entry: &&NicEntry| {
        !entry.interface.is_loopback()
            && entry.interface.is_up()
            && entry.addresses.iter().any(|own| own.address().is_ipv4() == destination.is_ipv4())
    };
    let routed = topology.nics.values().find(has_family);
    routed.or_else(|| topology.nics.values().find(|entry| entry.interface.is_loopback()))
}

/// The MTU of Linux's loopback device.
const LOCAL_MTU: u32 = 65_536;
