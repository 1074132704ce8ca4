//! Routers, prefixes and what follows from them, as a value.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use netstack_wire::ndp::{Preference, PrefixInformation, RouterAdvertisement};

use super::identifier::{Identity, address};
use super::prefix::{AutonomousPrefix, Kind, Until, is_over, until};
use super::{AutoconfAddress, AutoconfInfo, AutoconfOptions, RouterInfo};
use crate::cidr::IpCidr;
use crate::time::Instant;

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask for routers.
    Solicit,
    /// Begin duplicate detection for an address, and use it after that.
    AddAddress { address: Ipv6Addr, is_temporary: bool },
    /// New connections avoid an address, or use it again.
    SetDeprecated { address: Ipv6Addr, is_deprecated: bool },
    /// Take an address away.
    RemoveAddress(Ipv6Addr),
    /// Route a network, directly or through a router; replaces a route of the same kind.
    AddRoute { network: IpCidr, router: Option<Ipv6Addr>, preference: Preference },
    /// Route it no more.
    RemoveRoute { network: IpCidr, router: Option<Ipv6Addr> },
    /// Send no larger IPv6 packets.
    SetMtu(u32),
    /// Send with this hop limit.
    SetHopLimit(u8),
    /// A neighbour's confirmation counts for so long.
    SetReachable(Duration),
    /// Wait so long for a neighbour's answer.
    SetRetransmit(Duration),
}

/// The autoconfiguration of one NIC.
///
/// Order of calls: [`start`](Self::start) once, then inputs in any order; after each, perform the actions and look at
/// [`next_deadline`](Self::next_deadline).
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    options: AutoconfOptions,
    identity: Identity,
    link_local: Ipv6Addr,
    link_local_collisions: u8,
    solicitation: Option<Solicitation>,
    routers: Vec<Router>,
    routes: Vec<LearnedRoute>,
    on_link: Vec<(IpCidr, Until)>,
    autonomous: Vec<AutonomousPrefix>,
    dns_servers: Vec<(Ipv6Addr, Until)>,
    dns_search: Vec<(String, Until)>,
}

/// The next question and how long to wait after it (RFC 7559).
#[derive(Debug, Clone, Copy)]
struct Solicitation {
    at: Instant,
    interval: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Router {
    address: Ipv6Addr,
    preference: Preference,
    expires: Instant,
    is_managed: bool,
    has_other_config: bool,
}

#[derive(Debug, Clone, Copy)]
struct LearnedRoute {
    network: IpCidr,
    router: Ipv6Addr,
    preference: Preference,
    expires: Until,
}

impl Machine {
    pub(crate) fn new(options: AutoconfOptions, identity: Identity) -> Self {
        Self {
            options,
            identity,
            link_local: Ipv6Addr::UNSPECIFIED,
            link_local_collisions: 0,
            solicitation: None,
            routers: Vec::new(),
            routes: Vec::new(),
            on_link: Vec::new(),
            autonomous: Vec::new(),
            dns_servers: Vec::new(),
            dns_search: Vec::new(),
        }
    }

    /// The NIC came up.
    pub(crate) fn start(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.make_link_local(&mut actions);
        // RFC 4861 section 6.3.7: "a random amount of time between 0 and MAX_RTR_SOLICITATION_DELAY", and after the
        // link-local address can be used: the answer then needs no group.
        let delay = Duration::from_millis(self.identity.random_below(1000));
        self.solicitation = Some(Solicitation { at: now + DETECTION_TIME + delay, interval: FIRST_INTERVAL });
        actions
    }

    /// A router advertised itself; `from` is its link-local address.
    pub(crate) fn on_advertisement(
        &mut self,
        now: Instant,
        from: Ipv6Addr,
        advertisement: &RouterAdvertisement,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let RouterAdvertisement {
            hop_limit,
            is_managed: _,
            has_other_config: _,
            lifetime_s,
            reachable_ms,
            retransmit_ms,
            source_mac: _,
            mtu,
            preference: _,
            prefixes,
            routes,
            dns_servers,
            dns_search,
        } = advertisement;
        if *hop_limit != 0 {
            actions.push(Action::SetHopLimit(*hop_limit));
        }
        // RFC 4861 section 6.3.4, within Linux's bounds: nobody shall make us ask all the time, or never.
        let bounded = |ms: u32| Duration::from_millis(ms.into()).clamp(MIN_TIMER, MAX_TIMER);
        if *reachable_ms != 0 {
            actions.push(Action::SetReachable(bounded(*reachable_ms)));
        }
        if *retransmit_ms != 0 {
            actions.push(Action::SetRetransmit(bounded(*retransmit_ms)));
        }
        if let Some(mtu) = mtu.filter(|&mtu| mtu >= MIN_MTU) {
            actions.push(Action::SetMtu(mtu));
        }
        self.note_router(now, from, advertisement, &mut actions);
        if *lifetime_s != 0 {
            // RFC 7559 section 2.1: solicitations end with the first answer of a default router.
            self.solicitation = None;
        }
        for information in prefixes.iter().take(MAX_PREFIXES) {
            self.note_prefix(now, information, &mut actions);
        }
        for route in routes.iter().take(MAX_PREFIXES) {
            let network = IpCidr::new(IpAddr::V6(route.prefix), route.prefix_len).map(IpCidr::network);
            let Some(network) = network else { continue };
            self.note_route(now, network, from, route.preference, route.lifetime_s, &mut actions);
        }
        for (server, lifetime_s) in dns_servers {
            note(&mut self.dns_servers, now, *server, *lifetime_s);
        }
        for (domain, lifetime_s) in dns_search {
            note(&mut self.dns_search, now, domain.clone(), *lifetime_s);
        }
        actions
    }

    /// Duplicate detection found that another node has an address; false if it is none of these.
    pub(crate) fn on_duplicate(&mut self, now: Instant, duplicate: Ipv6Addr) -> Option<Vec<Action>> {
        let mut actions = Vec::new();
        if duplicate == self.link_local {
            self.link_local_collisions += 1;
            // RFC 7217 section 6: after some tries the NIC stays without; somebody else has to look.
            if self.link_local_collisions <= MAX_COLLISIONS {
                actions.push(Action::RemoveAddress(duplicate));
                self.make_link_local(&mut actions);
            }
            return Some(actions);
        }
        let Self { autonomous, identity, .. } = self;
        let is_ours =
            autonomous.iter_mut().any(|prefix| prefix.on_duplicate(now, duplicate, identity, &mut actions));
        is_ours.then_some(actions)
    }

    /// Does what is due.
    pub(crate) fn on_timer(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(solicitation) = &mut self.solicitation
            && solicitation.at <= now
        {
            actions.push(Action::Solicit);
            // RFC 7559 section 2: doubled up to an hour, with up to a tenth more or less.
            let interval = solicitation.interval;
            let jitter = self.identity.random_below(u64::try_from(interval.as_millis()).unwrap_or(1) / 5);
            solicitation.at = now + (interval - interval / 10) + Duration::from_millis(jitter);
            solicitation.interval = (interval * 2).min(LAST_INTERVAL);
        }
        self.routers.retain(|router| {
            let lives = router.expires > now;
            if !lives {
                let network = IpCidr::DEFAULT_V6;
                actions.push(Action::RemoveRoute { network, router: Some(router.address) });
            }
            lives
        });
        if self.routers.is_empty() && self.solicitation.is_none() && !actions.is_empty() {
            // RFC 7559 section 2.1 leaves it open; without a router, asking again costs little.
            self.solicitation = Some(Solicitation { at: now, interval: FIRST_INTERVAL });
        }
        self.routes.retain(|route| {
            let lives = !is_over(route.expires, now);
            if !lives {
                actions.push(Action::RemoveRoute { network: route.network, router: Some(route.router) });
            }
            lives
        });
        self.on_link.retain(|&(network, until)| {
            let lives = !is_over(until, now);
            if !lives {
                actions.push(Action::RemoveRoute { network, router: None });
            }
            lives
        });
        let Self { autonomous, identity, .. } = self;
        autonomous.retain_mut(|prefix| prefix.on_timer(now, identity, &mut actions));
        self.dns_servers.retain(|(_, until)| !is_over(*until, now));
        self.dns_search.retain(|(_, until)| !is_over(*until, now));
        actions
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let solicitation = self.solicitation.map(|solicitation| solicitation.at);
        let routers = self.routers.iter().map(|router| router.expires);
        let routes = self.routes.iter().filter_map(|route| route.expires);
        let on_link = self.on_link.iter().filter_map(|(_, until)| *until);
        let addresses = self.autonomous.iter().filter_map(AutonomousPrefix::next_deadline);
        let servers = self.dns_servers.iter().filter_map(|(_, until)| *until);
        let domains = self.dns_search.iter().filter_map(|(_, until)| *until);
        solicitation
            .into_iter()
            .chain(routers)
            .chain(routes)
            .chain(on_link)
            .chain(addresses)
            .chain(servers)
            .chain(domains)
            .min()
    }

    /// What was learned so far.
    pub(crate) fn info(&self) -> AutoconfInfo {
        let mut routers: Vec<_> = self
            .routers
            .iter()
            .map(|&Router { address, preference, expires, .. }| RouterInfo { address, preference, expires })
            .collect();
        routers.sort_by_key(|router| std::cmp::Reverse(router.preference));
        let made = self.autonomous.iter().flat_map(|prefix| &prefix.addresses);
        let addresses = made.map(|made| AutoconfAddress {
            address: made.address,
            is_temporary: matches!(made.kind, Kind::Temporary { .. }),
            preferred_until: made.preferred_until,
            valid_until: made.valid_until,
        });
        AutoconfInfo {
            routers,
            addresses: addresses.collect(),
            prefixes: self.on_link.clone(),
            dns_servers: self.dns_servers.iter().map(|(server, _)| *server).collect(),
            dns_search: self.dns_search.iter().map(|(domain, _)| domain.clone()).collect(),
            is_managed: self.routers.iter().any(|router| router.is_managed),
            has_other_config: self.routers.iter().any(|router| router.has_other_config),
        }
    }

    fn make_link_local(&mut self, actions: &mut Vec<Action>) {
        let identifier = self.identity.stable(LINK_LOCAL, self.link_local_collisions);
        self.link_local = address(LINK_LOCAL, identifier);
        actions.push(Action::AddAddress { address: self.link_local, is_temporary: false });
    }

    fn note_router(
        &mut self,
        now: Instant,
        from: Ipv6Addr,
        advertisement: &RouterAdvertisement,
        actions: &mut Vec<Action>,
    ) {
        let known = self.routers.iter().position(|router| router.address == from);
        if advertisement.lifetime_s == 0 {
            if let Some(index) = known {
                self.routers.remove(index);
                actions.push(Action::RemoveRoute { network: IpCidr::DEFAULT_V6, router: Some(from) });
            }
            return;
        }
        let router = Router {
            address: from,
            preference: advertisement.preference,
            expires: now + Duration::from_secs(u64::from(advertisement.lifetime_s)),
            is_managed: advertisement.is_managed,
            has_other_config: advertisement.has_other_config,
        };
        let is_new = match known {
            Some(index) => {
                let before = std::mem::replace(&mut self.routers[index], router);
                before.preference != router.preference
            }
            None if self.routers.len() >= MAX_ROUTERS => false,
            None => {
                self.routers.push(router);
                true
            }
        };
        if is_new {
            let preference = router.preference;
            actions.push(Action::AddRoute { network: IpCidr::DEFAULT_V6, router: Some(from), preference });
        }
    }

    fn note_route(
        &mut self,
        now: Instant,
        network: IpCidr,
        router: Ipv6Addr,
        preference: Preference,
        lifetime_s: u32,
        actions: &mut Vec<Action>,
    ) {
        let known = self.routes.iter().position(|route| route.network == network && route.router == router);
        if lifetime_s == 0 {
            if let Some(index) = known {
                self.routes.remove(index);
                actions.push(Action::RemoveRoute { network, router: Some(router) });
            }
            return;
        }
        let route = LearnedRoute { network, router, preference, expires: until(now, lifetime_s) };
        let changes = match known {
            Some(index) => std::mem::replace(&mut self.routes[index], route).preference != preference,
            None if self.routes.len() >= MAX_ROUTES => false,
            None => {
                self.routes.push(route);
                true
            }
        };
        if changes {
            actions.push(Action::AddRoute { network, router: Some(router), preference });
        }
    }

    fn note_prefix(&mut self, now: Instant, information: &PrefixInformation, actions: &mut Vec<Action>) {
        let network = IpCidr::new(IpAddr::V6(information.prefix), information.prefix_len);
        let Some(network) = network.map(IpCidr::network) else { return };
        let IpAddr::V6(prefix) = network.address() else { return };
        // RFC 4862 section 5.5.3 (b): "If the prefix is the link-local prefix, silently ignore".
        if prefix.is_unicast_link_local() || prefix.is_multicast() {
            return;
        }
        if information.is_on_link {
            self.note_on_link(now, network, information.valid_s, actions);
        }
        // (c): "If the preferred lifetime is greater than the valid lifetime, silently ignore"; (d): identifiers have 64
        // bits.
        let is_sane = information.preferred_s <= information.valid_s && information.prefix_len == 64;
        if !information.is_autonomous || !is_sane {
            return;
        }
        let information = PrefixInformation { prefix, ..*information };
        let has_room = self.autonomous.len() < MAX_PREFIXES;
        match self.autonomous.iter_mut().find(|known| known.prefix == prefix) {
            Some(known) => known.refresh(now, &information, actions),
            None if information.valid_s == 0 || !has_room => {}
            None => {
                let temporary = self.options.temporary;
                let made = AutonomousPrefix::new(now, &information, temporary, &mut self.identity, actions);
                self.autonomous.push(made);
            }
        }
    }

    /// RFC 4861 section 6.3.4.
    fn note_on_link(&mut self, now: Instant, network: IpCidr, valid_s: u32, actions: &mut Vec<Action>) {
        let known = self.on_link.iter().position(|(known, _)| *known == network);
        match (known, valid_s) {
            (Some(index), 0) => {
                self.on_link.remove(index);
                actions.push(Action::RemoveRoute { network, router: None });
            }
            (Some(index), _) => self.on_link[index].1 = until(now, valid_s),
            (None, 0) => {}
            (None, _) if self.on_link.len() >= MAX_PREFIXES => {}
            (None, _) => {
                self.on_link.push((network, until(now, valid_s)));
                actions.push(Action::AddRoute { network, router: None, preference: Preference::Medium });
            }
        }
    }
}

/// Notes a value with its lifetime; zero takes it away (RFC 8106 section 5.1).
fn note<T: PartialEq>(list: &mut Vec<(T, Until)>, now: Instant, value: T, lifetime_s: u32) {
    list.retain(|(known, _)| *known != value);
    if lifetime_s != 0 && list.len() < MAX_DNS {
        list.push((value, until(now, lifetime_s)));
    }
}

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
/// Bounds of what a router can say about neighbours; the upper one is RFC 4861's MAX_REACHABLE_TIME.
const MIN_TIMER: Duration = Duration::from_millis(10);
const MAX_TIMER: Duration = Duration::from_secs(3600);
/// RFC 8200 section 5.
const MIN_MTU: u32 = 1280;
/// As long as duplicate detection takes.
const DETECTION_TIME: Duration = Duration::from_secs(1);
/// RFC 7559 section 2: IRT and MRT.
const FIRST_INTERVAL: Duration = Duration::from_secs(4);
const LAST_INTERVAL: Duration = Duration::from_secs(3600);
/// RFC 7217 section 7.
const MAX_COLLISIONS: u8 = 3;
/// Bounds what a hostile neighbour can make us keep; Linux's `accept_ra` has similar limits (`max_addresses` 16).
const MAX_ROUTERS: usize = 16;
const MAX_PREFIXES: usize = 16;
const MAX_ROUTES: usize = 64;
const MAX_DNS: usize = 8;
