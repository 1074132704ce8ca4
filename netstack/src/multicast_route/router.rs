//! The handle of a routing program, and what it hears.

use std::net::IpAddr;
use std::sync::Arc;

use super::table::{MulticastRoute, MulticastRouteError, Replace, RouteInfo, Vif, VifId, VifInfo};
use crate::ip::MulticastForwarding;
use crate::nic::NicId;
use crate::options::Family;
use crate::packet::Packet;
use crate::stack::{Core, Stack};

/// Makes a stack route packets for groups, for as long as it lives; there is one per family at a time.
///
/// ```
/// use std::sync::Arc;
///
/// use netstack::multicast_route::{MulticastRoute, MulticastRouter, Thresholds, Upcall, Vif, VifId};
/// use netstack::options::Family;
/// use netstack::{NicId, Stack};
///
/// fn flood(stack: &Stack, from: NicId, to: NicId) -> Option<MulticastRouter> {
///     let router = MulticastRouter::new(stack, Family::V4, Arc::new(|upcall: &Upcall<'_>| {
///         println!("{} -> {}: {:?}", upcall.source, upcall.group, upcall.kind);
///         Ok(())
///     }));
///     let (router, first, second) = (router.ok()?, VifId::new(0)?, VifId::new(1)?);
///     router.add_vif(first, Vif::Nic(from)).ok()?;
///     router.add_vif(second, Vif::Nic(to)).ok()?;
///     let route = MulticastRoute {
///         source: "0.0.0.0".parse().ok()?,
///         group: "239.1.2.3".parse().ok()?,
///         parent: first,
///         outputs: Thresholds::default().with(second, 1),
///     };
///     router.add_route(route).ok()?;
///     Some(router)
/// }
/// ```
pub struct MulticastRouter {
    core: Arc<Core>,
    forwarding: Arc<MulticastForwarding>,
}

/// What the routing program is told.
pub struct Upcall<'a> {
    /// Why.
    pub kind: UpcallKind,
    /// Where the packet came in; for [`UpcallKind::WholePacket`] the virtual interface that stands for the program.
    pub vif: VifId,
    /// The NIC where it came in.
    pub nic: NicId,
    /// Who sent it.
    pub source: IpAddr,
    /// The group.
    pub group: IpAddr,
    /// The packet, from the IP header on.
    pub packet: &'a Packet,
}

/// Why the routing program is told of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpcallKind {
    /// There is no route; the packet waits ten seconds for one (`IGMPMSG_NOCACHE`).
    NoRoute,
    /// It came in where its route leads out (`IGMPMSG_WRONGVIF`).
    WrongVif,
    /// It leaves through [`Vif::Register`] (`IGMPMSG_WHOLEPKT`).
    WholePacket,
    /// The packet that came the wrong way (`IGMPMSG_WRVIFWHOLE`).
    WholeWrongVif,
}

/// The program had no room for an upcall; the packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for an upcall")]
pub struct Refused;

/// Takes upcalls, on whatever thread carries the packet and with no lock held. It must not block.
pub trait UpcallSink: Send + Sync {
    /// Takes one.
    fn upcall(&self, upcall: &Upcall<'_>) -> Result<(), Refused>;
}

impl<F> UpcallSink for F
where
    F: Fn(&Upcall<'_>) -> Result<(), Refused> + Send + Sync,
{
    fn upcall(&self, upcall: &Upcall<'_>) -> Result<(), Refused> {
        self(upcall)
    }
}

impl MulticastRouter {
    /// Begins to route packets for groups of a family; [`MulticastRouteError::InUse`] if that is done already.
    ///
    /// Messages of group members that are not for us (IGMP reports to the group they are about) come to raw sockets with
    /// [`RawSocket::set_router_alert`](crate::RawSocket::set_router_alert), those of MLD to any raw socket for ICMPv6.
    pub fn new(
        stack: &Stack,
        family: Family,
        sink: Arc<dyn UpcallSink>,
    ) -> Result<Self, MulticastRouteError> {
        let core = Arc::clone(&stack.core);
        let forwarding = Arc::clone(core.multicast_forwarding(family));
        if !forwarding.begin(sink) {
            return Err(MulticastRouteError::InUse);
        }
        Ok(Self { core, forwarding })
    }

    /// Makes a router that no packets come to: a table beside the one that routes (`MRT_TABLE`).
    pub fn aside(stack: &Stack, family: Family, sink: Arc<dyn UpcallSink>) -> Self {
        let forwarding = MulticastForwarding::new(family);
        // A fresh one routes for nobody yet.
        let _ = forwarding.begin(sink);
        Self { core: Arc::clone(&stack.core), forwarding }
    }

    /// Makes a NIC, or the program itself, a virtual interface.
    pub fn add_vif(&self, id: VifId, vif: Vif) -> Result<(), MulticastRouteError> {
        if let Vif::Nic(nic) = vif
            && self.core.topology.load().interface(nic).is_none()
        {
            return Err(MulticastRouteError::NoSuchVif);
        }
        self.forwarding.change(|table| table.add_vif(id, vif))
    }

    /// Names the NIC that the packets in PIM register messages seem to have come in through, for rules; the one that the messages
    /// came in through for `None`. It carries no frames itself.
    pub fn set_register_nic(&self, nic: Option<NicId>) {
        self.forwarding.set_register_nic(nic);
    }

    /// Undoes [`add_vif`](Self::add_vif). Routes stay, and lead elsewhere only.
    pub fn remove_vif(&self, id: VifId) -> Result<(), MulticastRouteError> {
        self.forwarding.change(|table| table.remove_vif(id))
    }

    /// Adds a route, or changes that of the same source and group; what waited for it is sent.
    pub fn add_route(&self, route: MulticastRoute) -> Result<(), MulticastRouteError> {
        self.forwarding.add_route(&self.core, route, Replace::Any)
    }

    /// The same, but leaves routes of the same source and group with another parent alone (`MRT_ADD_MFC_PROXY`).
    pub fn add_proxy_route(&self, route: MulticastRoute) -> Result<(), MulticastRouteError> {
        self.forwarding.add_route(&self.core, route, Replace::SameParent)
    }

    /// Removes a route: that with the given parent, or else the first.
    pub fn remove_route(
        &self,
        source: IpAddr,
        group: IpAddr,
        parent: Option<VifId>,
    ) -> Result<(), MulticastRouteError> {
        self.forwarding.change(|table| table.remove_route(source, group, parent))
    }

    /// Removes all routes, and drops what waits for some.
    pub fn clear_routes(&self) {
        self.forwarding.clear_routes();
    }

    /// Removes all virtual interfaces.
    pub fn clear_vifs(&self) {
        self.forwarding.change(super::table::Table::clear_vifs);
    }

    /// Reports packets that came in where their route leads out (`MRT_ASSERT`), or with
    /// [`Reporting::everywhere`], through any virtual interface but the parent (`MRT_PIM`).
    pub fn report_wrong_vif(&self, reporting: Reporting) {
        self.forwarding.set_reporting(reporting);
    }

    /// The virtual interfaces.
    pub fn vifs(&self) -> Vec<VifInfo> {
        self.forwarding.read(super::table::Table::vifs)
    }

    /// One virtual interface.
    pub fn vif(&self, id: VifId) -> Option<VifInfo> {
        self.forwarding.read(|table| table.vif(id))
    }

    /// The routes, in no order.
    pub fn routes(&self) -> Vec<RouteInfo> {
        self.forwarding.read(super::table::Table::routes)
    }

    /// The route of exactly that source and group.
    pub fn route(&self, source: IpAddr, group: IpAddr) -> Option<RouteInfo> {
        self.forwarding.read(|table| table.route(source, group))
    }

    /// The sources and groups whose packets wait for a route.
    pub fn unresolved(&self) -> Vec<(IpAddr, IpAddr)> {
        self.forwarding.unresolved()
    }
}

/// Which packets that came the wrong way are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reporting {
    /// Any at all (`MRT_ASSERT`).
    pub is_on: bool,
    /// Also those that came in where the route does not lead out (`MRT_PIM`).
    pub everywhere: bool,
    /// The program gets the packet, too ([`UpcallKind::WholeWrongVif`]).
    pub with_packet: bool,
}

impl Drop for MulticastRouter {
    fn drop(&mut self) {
        self.forwarding.end();
    }
}

impl std::fmt::Debug for MulticastRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MulticastRouter").field("vifs", &self.vifs()).finish_non_exhaustive()
    }
}
