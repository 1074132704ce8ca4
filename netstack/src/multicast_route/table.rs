//! The table of a multicast router: virtual interfaces and routes, and what they say about a packet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

use crate::cidr::family_of;
use crate::ip::unspecified_like;
use crate::multicast_route::Entrance;
use crate::nic::NicId;
use crate::options::Family;
use crate::time::Instant;

/// How many virtual interfaces a router has at most (Linux's `MAXVIFS` and `MAXMIFS`).
pub const MAX_VIFS: usize = 32;

/// The number of a virtual interface, below [`MAX_VIFS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VifId(u8);

impl VifId {
    /// The virtual interface of that number; `None` if it is too large.
    pub fn new(number: usize) -> Option<Self> {
        u8::try_from(number).ok().filter(|&number| usize::from(number) < MAX_VIFS).map(Self)
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a virtual interface stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vif {
    /// A NIC.
    Nic(NicId),
    /// The routing program: packets that leave this way come to it whole, to be sent on in PIM register messages
    /// (`VIFF_REGISTER`).
    Register,
}

/// Through which virtual interfaces the packets of a route leave: those with a threshold, if their TTL or hop limit is
/// greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thresholds([u8; MAX_VIFS]);

impl Thresholds {
    /// Adds a way out. Thresholds of 0 and 255 mean that nothing leaves, as in `mfcc_ttls`.
    pub fn with(mut self, vif: VifId, threshold: u8) -> Self {
        self.0[vif.index()] = if threshold == u8::MAX { 0 } else { threshold };
        self
    }

    /// The ways out with their thresholds.
    pub fn iter(&self) -> impl Iterator<Item = (VifId, u8)> {
        let all = (0_u8..).zip(self.0);
        all.filter(|&(_, threshold)| threshold != 0).map(|(number, threshold)| (VifId(number), threshold))
    }

    fn get(&self, vif: VifId) -> Option<u8> {
        Some(self.0[vif.index()]).filter(|&threshold| threshold != 0)
    }
}

/// Where packets from a source for a group come in and leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MulticastRoute {
    /// The source; unspecified for all sources ("(*,G)").
    pub source: IpAddr,
    /// The group; unspecified, together with the source, for all groups.
    pub group: IpAddr,
    /// Where they come in.
    pub parent: VifId,
    /// Where they leave.
    pub outputs: Thresholds,
}

/// What a route carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteCounts {
    /// Packets that matched it.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Those that came through another virtual interface than its parent.
    pub wrong_vif: u64,
}

/// What a virtual interface carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VifCounts {
    /// Packets that came in and were routed.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets that left.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

/// A virtual interface at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VifInfo {
    /// Its number.
    pub id: VifId,
    /// What it stands for.
    pub vif: Vif,
    /// What it carried.
    pub counts: VifCounts,
}

/// A route at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// The route.
    pub route: MulticastRoute,
    /// What it carried.
    pub counts: RouteCounts,
    /// When a packet matched it last.
    pub last_used: Option<Instant>,
}

/// Why the table was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MulticastRouteError {
    /// The virtual interface exists, or another router routes the family.
    #[error("in use already")]
    InUse,
    /// There is no such virtual interface or NIC.
    #[error("no such interface")]
    NoSuchVif,
    /// There is no such route.
    #[error("no such route")]
    NotFound,
    /// The group is none, or of another family.
    #[error("not a group of the family")]
    NotMulticast,
    /// There are too many routes.
    #[error("too many routes")]
    Full,
}

/// What is looked at of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Where it came in, or for our own, where it left.
    pub(crate) nic: NicId,
    pub(crate) source: IpAddr,
    pub(crate) group: IpAddr,
    pub(crate) ttl: u8,
    /// Of the whole packet.
    pub(crate) len: usize,
    pub(crate) entrance: Entrance,
    pub(crate) now: Instant,
}

impl Arrival {
    fn entered_through(&self) -> Vif {
        match self.entrance {
            Entrance::Link | Entrance::Own => Vif::Nic(self.nic),
            Entrance::Register => Vif::Register,
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It leaves through these.
    Forward(SmallVec<[(VifId, Vif); 8]>),
    /// It came the wrong way; the program wants to hear of it, if `report` is set.
    WrongVif { report: Option<VifId> },
    /// No route: it waits for one.
    NoRoute(VifId),
    /// It came through no virtual interface, or must not be routed.
    Ignored,
}

/// Virtual interfaces and routes.
#[derive(Debug)]
pub(crate) struct Table {
    family: Family,
    vifs: [Option<VifState>; MAX_VIFS],
    /// Routes of the same source and group differ by their parents, and only wildcards have several.
    routes: HashMap<(IpAddr, IpAddr), SmallVec<[RouteState; 1]>>,
    count: usize,
    /// Whether packets that come the wrong way are reported (`MRT_ASSERT`).
    pub(crate) reports_wrong_vif: bool,
    /// Whether they are reported also where they could not leave (`MRT_PIM`).
    pub(crate) reports_any_vif: bool,
}

#[derive(Debug)]
struct VifState {
    vif: Vif,
    packets_in: AtomicU64,
    bytes_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
}

#[derive(Debug)]
struct RouteState {
    parent: VifId,
    outputs: Thresholds,
    packets: AtomicU64,
    bytes: AtomicU64,
    wrong_vif: AtomicU64,
    /// When a packet matched it last, in nanoseconds of the stack's time; zero for never.
    used_at: AtomicU64,
    /// When the program was last told of a packet that came the wrong way; zero for never.
    reported_at: AtomicU64,
}

impl Table {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            vifs: std::array::from_fn(|_| None),
            routes: HashMap::new(),
            count: 0,
            reports_wrong_vif: false,
            reports_any_vif: false,
        }
    }

    pub(crate) fn add_vif(&mut self, id: VifId, vif: Vif) -> Result<(), MulticastRouteError> {
        // As Linux: a NIC may be several, the program only one.
        let is_second_register = vif == Vif::Register && self.register_vif().is_some();
        if self.vifs[id.index()].is_some() || is_second_register {
            return Err(MulticastRouteError::InUse);
        }
        let zero = || AtomicU64::new(0);
        self.vifs[id.index()] = Some(VifState {
            vif,
            packets_in: zero(),
            bytes_in: zero(),
            packets_out: zero(),
            bytes_out: zero(),
        });
        Ok(())
    }

    pub(crate) fn remove_vif(&mut self, id: VifId) -> Result<(), MulticastRouteError> {
        self.vifs[id.index()].take().map(drop).ok_or(MulticastRouteError::NoSuchVif)
    }

    /// Adds a route, or changes the one of its source and group. With [`Replace::SameParent`] only one with the same
    /// parent is changed.
    pub(crate) fn add_route(
        &mut self,
        route: MulticastRoute,
        replace: Replace,
    ) -> Result<(), MulticastRouteError> {
        let MulticastRoute { source, group, parent, outputs } = route;
        let is_of_family = family_of(source) == self.family && family_of(group) == self.family;
        if !is_of_family || !(group.is_multicast() || group.is_unspecified()) {
            return Err(MulticastRouteError::NotMulticast);
        }
        let (vifs, is_full) = (&self.vifs, self.count >= MAX_ROUTES);
        // As Linux: a way out that does not exist when the route is made is none.
        let existing = outputs.iter().filter(|(vif, _)| vifs[vif.index()].is_some());
        let outputs = existing.fold(Thresholds::default(), |outputs, (vif, ttl)| outputs.with(vif, ttl));
        let of_pair = self.routes.entry((source, group)).or_default();
        let found = of_pair.iter_mut().find(|old| replace == Replace::Any || old.parent == parent);
        if let Some(old) = found {
            (old.parent, old.outputs) = (parent, outputs);
            return Ok(());
        }
        if is_full {
            if of_pair.is_empty() {
                self.routes.remove(&(source, group));
            }
            return Err(MulticastRouteError::Full);
        }
        let zero = || AtomicU64::new(0);
        of_pair.push(RouteState {
            parent,
            outputs,
            packets: zero(),
            bytes: zero(),
            wrong_vif: zero(),
            used_at: zero(),
            reported_at: zero(),
        });
        self.count += 1;
        Ok(())
    }

    /// Removes a route; the first of the pair unless the parent is given.
    pub(crate) fn remove_route(
        &mut self,
        source: IpAddr,
        group: IpAddr,
        parent: Option<VifId>,
    ) -> Result<(), MulticastRouteError> {
        let of_pair = self.routes.get_mut(&(source, group)).ok_or(MulticastRouteError::NotFound)?;
        let at = of_pair.iter().position(|route| parent.is_none_or(|parent| route.parent == parent));
        of_pair.remove(at.ok_or(MulticastRouteError::NotFound)?);
        if of_pair.is_empty() {
            self.routes.remove(&(source, group));
        }
        self.count -= 1;
        Ok(())
    }

    pub(crate) fn clear_routes(&mut self) {
        self.routes.clear();
        self.count = 0;
    }

    pub(crate) fn clear_vifs(&mut self) {
        self.vifs = std::array::from_fn(|_| None);
    }

    /// The virtual interface that stands for the program.
    pub(crate) fn register_vif(&self) -> Option<VifId> {
        self.number_of(Vif::Register)
    }

    fn number_of(&self, wanted: Vif) -> Option<VifId> {
        // The last of several, as `ipmr_find_vif` looks from the end.
        let at = self.vifs.iter().rposition(|slot| slot.as_ref().is_some_and(|state| state.vif == wanted));
        at.and_then(VifId::new)
    }

    pub(crate) fn vif(&self, id: VifId) -> Option<VifInfo> {
        let state = self.vifs[id.index()].as_ref()?;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = VifCounts {
            packets_in: get(&state.packets_in),
            bytes_in: get(&state.bytes_in),
            packets_out: get(&state.packets_out),
            bytes_out: get(&state.bytes_out),
        };
        Some(VifInfo { id, vif: state.vif, counts })
    }

    pub(crate) fn vifs(&self) -> Vec<VifInfo> {
        (0..MAX_VIFS).filter_map(VifId::new).filter_map(|id| self.vif(id)).collect()
    }

    pub(crate) fn routes(&self) -> Vec<RouteInfo> {
        let all = self.routes.iter().flat_map(|(&(source, group), of_pair)| {
            of_pair.iter().map(move |state| state.info(source, group))
        });
        all.collect()
    }

    /// The route of exactly that source and group.
    pub(crate) fn route(&self, source: IpAddr, group: IpAddr) -> Option<RouteInfo> {
        self.find(source, group).map(|state| state.info(source, group))
    }

    fn find(&self, source: IpAddr, group: IpAddr) -> Option<&RouteState> {
        self.routes.get(&(source, group)).and_then(|of_pair| of_pair.first())
    }

    /// A route for all groups that the virtual interface is part of.
    fn find_for_all(&self, vif: VifId) -> Option<&RouteState> {
        let any = self.any();
        let of_pair = self.routes.get(&(any, any))?;
        of_pair.iter().find(|route| route.outputs.get(vif).is_some())
    }

    /// A route for all sources of the group that the virtual interface is part of.
    fn find_for_sources(&self, group: IpAddr, vif: VifId) -> Option<&RouteState> {
        let of_group = self.routes.get(&(self.any(), group)).filter(|_| !group.is_unspecified());
        for route in of_group.into_iter().flatten() {
            if route.outputs.get(vif).is_some() {
                return Some(route);
            }
            // Its parent may be the way up of a tree for all groups that this one is part of.
            let tree = self.find_for_all(route.parent);
            if tree.is_some_and(|tree| tree.outputs.get(vif).is_some()) {
                return Some(route);
            }
        }
        self.find_for_all(vif)
    }

    fn any(&self) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Decides about a packet, and counts it.
    pub(crate) fn decide(&self, packet: &Arrival) -> Decision {
        let arrived = self.number_of(packet.entered_through());
        if let Some(route) = self.find(packet.source, packet.group) {
            return self.follow(route, Wildcard::None, arrived, packet);
        }
        let Some(vif) = arrived else { return Decision::Ignored };
        let Some(route) = self.find_for_sources(packet.group, vif) else { return Decision::NoRoute(vif) };
        let any = unspecified_like(packet.group);
        let of_group = self.routes.get(&(any, packet.group));
        let is_of_group = of_group.into_iter().flatten().any(|other| std::ptr::eq(other, route));
        let wildcard = if is_of_group { Wildcard::Source } else { Wildcard::All };
        self.follow(route, wildcard, arrived, packet)
    }

    fn follow(
        &self,
        route: &RouteState,
        wildcard: Wildcard,
        arrived: Option<VifId>,
        packet: &Arrival,
    ) -> Decision {
        let len = u64::try_from(packet.len).unwrap_or(u64::MAX);
        add(&route.packets, 1);
        add(&route.bytes, len);
        route.used_at.store(packet.now.as_nanos(), Ordering::Relaxed);
        // What comes down from the tree for all groups is right for a route of a group that hangs on it.
        let is_from_tree = wildcard != Wildcard::None
            && arrived.is_some_and(|vif| {
                let tree = self.find_for_all(route.parent);
                tree.is_some_and(|tree| tree.outputs.get(vif).is_some())
            });
        let parent = self.vifs[route.parent.index()].as_ref();
        let is_from_parent = parent.is_some_and(|parent| parent.vif == packet.entered_through());
        if !is_from_tree && !is_from_parent {
            return self.wrong_vif(route, arrived, packet);
        }
        if let Some(parent) = parent {
            add(&parent.packets_in, 1);
            add(&parent.bytes_in, len);
        }
        let mut out = SmallVec::new();
        let mut leave = |vif: VifId| {
            let Some(state) = &self.vifs[vif.index()] else { return };
            out.push((vif, state.vif));
        };
        let passes = |threshold: u8| packet.ttl > threshold;
        if wildcard == Wildcard::All {
            // From the branches up the tree; the other way round needs a route of the group.
            let up = route.outputs.get(route.parent).filter(|_| arrived != Some(route.parent));
            if up.is_some_and(passes) {
                leave(route.parent);
            }
            return Decision::Forward(out);
        }
        for (vif, threshold) in route.outputs.iter() {
            let goes_back = wildcard == Wildcard::Source && arrived == Some(vif);
            if passes(threshold) && !goes_back {
                leave(vif);
            }
        }
        Decision::Forward(out)
    }

    fn wrong_vif(&self, route: &RouteState, arrived: Option<VifId>, packet: &Arrival) -> Decision {
        if packet.entrance == Entrance::Own {
            // A socket of ours sends through another interface than the route has it from: that is no mistake of a
            // router's.
            return Decision::Ignored;
        }
        add(&route.wrong_vif, 1);
        let wanted = arrived.filter(|&vif| {
            self.reports_wrong_vif && (self.reports_any_vif || route.outputs.get(vif).is_some())
        });
        let report = wanted.filter(|_| route.may_report(packet.now));
        Decision::WrongVif { report }
    }

    /// A packet left through a virtual interface.
    pub(crate) fn count_out(&self, vif: VifId, len: usize) {
        if let Some(state) = &self.vifs[vif.index()] {
            add(&state.packets_out, 1);
            add(&state.bytes_out, u64::try_from(len).unwrap_or(u64::MAX));
        }
    }
}

/// Which routes [`Table::add_route`] changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    /// That of the source and group, whatever its parent (`MRT_ADD_MFC`).
    Any,
    /// Only one with the same parent (`MRT_ADD_MFC_PROXY`).
    SameParent,
}

/// What a route leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wildcard {
    None,
    Source,
    All,
}

impl RouteState {
    fn info(&self, source: IpAddr, group: IpAddr) -> RouteInfo {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RouteInfo {
            route: MulticastRoute { source, group, parent: self.parent, outputs: self.outputs },
            counts: RouteCounts {
                packets: get(&self.packets),
                bytes: get(&self.bytes),
                wrong_vif: get(&self.wrong_vif),
            },
            last_used: Some(get(&self.used_at)).filter(|&at| at != 0).map(Instant::from_nanos),
        }
    }

    /// Whether the last report is long enough ago; then this is one.
    fn may_report(&self, now: Instant) -> bool {
        let interval = u64::try_from(REPORT_INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        let (last, now) = (self.reported_at.load(Ordering::Relaxed), now.as_nanos().max(1));
        let is_due = last == 0 || now.saturating_sub(last) > interval;
        // Of two threads one reports.
        is_due && self.reported_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Counters are values of their own, each only ever growing.
fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Linux's `MFC_ASSERT_THRESH`.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);
/// Bounds what a routing program can make us keep.
const MAX_ROUTES: usize = 65_536;
