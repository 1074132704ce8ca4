//! The shell of multicast routing: packets for groups on their way past the router's table.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::{self, options};
use netstack_wire::ipv6::{self, Extensions};
use netstack_wire::membership;

use crate::filter::{self, Passage};
use crate::ip::icmp_error::{self, IcmpReason};
use crate::ip::{Egress, Fragmenting, Origin, OutputError, RouteQuery, Rx, Transit, forward};
use crate::multicast_route::{
    Added, Arrival, Decision, Entrance, LIFETIME, MulticastRoute, MulticastRouteError, Pending, Replace,
    Reporting, Table, Upcall, UpcallKind, UpcallSink, Vif, VifId, Waiting,
};
use crate::nic::NicId;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::route::PacketFacts;
use crate::socket;
use crate::stack::Core;
use crate::sync::{Mutex, RwLock};
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// The multicast routing of a stack and family. While it is off, packets for groups cost one relaxed load.
pub(crate) struct MulticastForwarding {
    is_active: AtomicBool,
    family: Family,
    state: RwLock<State>,
    /// Locked with `state` held, so that no packet begins to wait after its route was made.
    pending: Mutex<Pending>,
    slot: TimerSlot,
}

struct State {
    table: Table,
    sink: Option<Arc<dyn UpcallSink>>,
    sends_wrong_packet: bool,
    /// Stands for PIM registers where rules look at the packets in them.
    register_nic: Option<NicId>,
}

impl MulticastForwarding {
    pub(crate) fn new(family: Family) -> Arc<Self> {
        let state =
            State { table: Table::new(family), sink: None, sends_wrong_packet: false, register_nic: None };
        Arc::new(Self {
            is_active: AtomicBool::new(false),
            family,
            state: RwLock::new(state),
            pending: Mutex::default(),
            slot: TimerSlot::default(),
        })
    }

    /// Sets the NIC that stands for PIM registers.
    pub(crate) fn set_register_nic(&self, nic: Option<NicId>) {
        self.state.write().register_nic = nic;
    }

    /// The NIC that stands for PIM registers.
    pub(crate) fn register_nic(&self) -> Option<NicId> {
        self.state.read().register_nic
    }

    /// Whether packets for groups may have to be routed.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        // Who sets it does not expect packets that are already here to be routed.
        self.is_active.load(Ordering::Relaxed)
    }

    /// Begins to route; false if it has begun.
    pub(crate) fn begin(&self, sink: Arc<dyn UpcallSink>) -> bool {
        let mut state = self.state.write();
        if state.sink.is_some() {
            return false;
        }
        state.sink = Some(sink);
        self.is_active.store(true, Ordering::Relaxed);
        true
    }

    /// Ends it, with everything forgotten.
    pub(crate) fn end(&self) {
        let fresh = State {
            table: Table::new(self.family),
            sink: None,
            sends_wrong_packet: false,
            register_nic: None,
        };
        let (before, waiting) = {
            let mut state = self.state.write();
            self.is_active.store(false, Ordering::Relaxed);
            (std::mem::replace(&mut *state, fresh), std::mem::take(&mut *self.pending.lock()))
        };
        // The sink is foreign code: not under the locks.
        drop((before, waiting));
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        read(&self.state.read().table)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.state.write().table)
    }

    pub(crate) fn set_reporting(&self, reporting: Reporting) {
        let mut state = self.state.write();
        let Reporting { is_on, everywhere, with_packet } = reporting;
        (state.table.reports_wrong_vif, state.table.reports_any_vif) = (is_on, everywhere);
        state.sends_wrong_packet = with_packet;
    }

    pub(crate) fn unresolved(&self) -> Vec<(IpAddr, IpAddr)> {
        self.pending.lock().flows()
    }

    pub(crate) fn clear_routes(&self) {
        let waiting = {
            let mut state = self.state.write();
            state.table.clear_routes();
            std::mem::take(&mut *self.pending.lock())
        };
        drop(waiting);
    }

    /// Adds a route, and sends what waited for it.
    pub(crate) fn add_route(
        self: &Arc<Self>,
        core: &Arc<Core>,
        route: MulticastRoute,
        replace: Replace,
    ) -> Result<(), MulticastRouteError> {
        let waiting = {
            let mut state = self.state.write();
            state.table.add_route(route, replace)?;
            self.pending.lock().take(route.source, route.group)
        };
        let mut outbox = Outbox::default();
        let now = core.clock.now();
        for packet in waiting {
            self.route(core, packet, now, &mut outbox);
        }
        outbox.flush(core);
        Ok(())
    }

    /// Sends a packet where the table says, or lets it wait.
    fn route(self: &Arc<Self>, core: &Arc<Core>, packet: Waiting, now: Instant, outbox: &mut Outbox) {
        let Waiting { transit, nic, entrance, .. } = &packet;
        let arrival = Arrival {
            nic: *nic,
            source: transit.source,
            group: transit.destination,
            ttl: transit.ttl(),
            len: transit.len(),
            entrance: *entrance,
            now,
        };
        let state = self.state.read();
        let Some(sink) = state.sink.clone() else { return };
        match state.table.decide(&arrival) {
            Decision::Forward(outputs) => {
                let register = state.table.register_vif();
                drop(state);
                self.forward(core, packet, &outputs, &sink, register, outbox);
            }
            Decision::WrongVif { report } => {
                let with_packet = state.sends_wrong_packet;
                drop(state);
                core.counters.multicast_wrong_vif.increment();
                let Some(vif) = report else { return };
                let packet = packet.transit.into_packet();
                let kinds = [Some(UpcallKind::WrongVif), with_packet.then_some(UpcallKind::WholeWrongVif)];
                for kind in kinds.into_iter().flatten() {
                    tell(core, &sink, kind, vif, &arrival, &packet);
                }
            }
            Decision::NoRoute(vif) => {
                let copy = packet.transit.clone();
                let added = self.pending.lock().add(now, arrival.source, arrival.group, packet);
                drop(state);
                self.after_adding(core, added, vif, &arrival, copy, &sink);
            }
            Decision::Ignored => {}
        }
    }

    fn after_adding(
        self: &Arc<Self>,
        core: &Arc<Core>,
        added: Added,
        vif: VifId,
        arrival: &Arrival,
        copy: Transit,
        sink: &Arc<dyn UpcallSink>,
    ) {
        match added {
            Added::Queued => {}
            Added::Dropped => core.counters.multicast_unresolved_drops.increment(),
            Added::First => {
                let packet = copy.into_packet();
                if !tell(core, sink, UpcallKind::NoRoute, vif, arrival, &packet) {
                    // Nobody will make a route for it: as Linux, the next packet asks again.
                    let forgotten = self.pending.lock().take(arrival.source, arrival.group);
                    core.counters.multicast_unresolved_drops.add(forgotten.len() as u64);
                }
                core.timers.arm(self, Some(arrival.now + LIFETIME));
            }
        }
    }

    fn forward(
        &self,
        core: &Arc<Core>,
        packet: Waiting,
        outputs: &[(VifId, Vif)],
        sink: &Arc<dyn UpcallSink>,
        register: Option<VifId>,
        outbox: &mut Outbox,
    ) {
        let Waiting { transit, mut passage, nic, entrance } = packet;
        for &(id, vif) in outputs {
            let len = transit.len();
            let is_out = match vif {
                Vif::Register => {
                    let arrival = Arrival {
                        nic,
                        source: transit.source,
                        group: transit.destination,
                        ttl: transit.ttl(),
                        len,
                        entrance,
                        now: core.clock.now(),
                    };
                    let packet = transit.clone().into_packet();
                    let register = register.unwrap_or(id);
                    tell(core, sink, UpcallKind::WholePacket, register, &arrival, &packet);
                    true
                }
                Vif::Nic(out) => {
                    let query = RouteQuery {
                        destination: transit.destination,
                        source: Some(transit.source),
                        nic: Some(out),
                    };
                    // ipmr_queue_xmit tells the rules no more than this.
                    let packet = PacketFacts { tos: transit.tos(), ..PacketFacts::default() };
                    let origin = Origin { mark: transit.packet.meta.mark, arrived_on: Some(nic), packet };
                    Egress::resolve_for(core, query, origin).is_ok_and(|mut egress| {
                        send(core, transit.clone(), passage.as_mut(), &mut egress, outbox)
                    })
                }
            };
            if is_out {
                self.state.read().table.count_out(id, len);
            }
        }
    }
}

/// Sends one copy; whether it went.
fn send(
    core: &Arc<Core>,
    mut transit: Transit,
    passage: Option<&mut Passage>,
    egress: &mut Egress,
    outbox: &mut Outbox,
) -> bool {
    transit.set_ttl(transit.ttl().saturating_sub(1));
    transit.packet.meta.is_forwarded = true;
    forward::record_options(core, egress, &mut transit);
    transit.loops = egress.interface.is_member(transit.destination);
    if let Some(passage) = passage
        && !filter::forward(core, passage, &mut transit, egress, outbox)
    {
        return false;
    }
    let policy = match transit.is_unfragmentable() {
        true => Fragmenting::Forbidden,
        false => Fragmenting::Allowed,
    };
    let may_not_fit = transit.len() > usize::try_from(egress.mtu).unwrap_or(usize::MAX);
    let kept = may_not_fit.then(|| transit.clone());
    match transit.send(core, egress, policy, outbox) {
        Ok(()) => {
            core.counters.ip_forw_datagrams.increment();
            true
        }
        Err(OutputError::TooLarge { mtu }) => {
            core.counters.ip_forward_too_big.increment();
            // RFC 4443 section 2.4 (e.3): "Packet Too Big [...] to allow Path MTU discovery to work for IPv6 multicast".
            // RFC 1112 section 7.2: IPv4 never answers a datagram for a group with an error.
            if let Some(kept) = kept.filter(|kept| !kept.is_v4()) {
                icmp_error::report(
                    core,
                    &kept.quote(),
                    kept.source,
                    None,
                    IcmpReason::TooBig { mtu },
                    outbox,
                );
            }
            false
        }
        Err(OutputError::HostUnreachable | OutputError::NetworkDown | OutputError::Filtered) => {
            core.counters.ip_out_discards.increment();
            false
        }
    }
}

/// Tells the routing program; whether it took it.
fn tell(
    core: &Core,
    sink: &Arc<dyn UpcallSink>,
    kind: UpcallKind,
    vif: VifId,
    arrival: &Arrival,
    packet: &Packet,
) -> bool {
    let upcall = Upcall { kind, vif, nic: arrival.nic, source: arrival.source, group: arrival.group, packet };
    let is_taken = sink.upcall(&upcall).is_ok();
    if is_taken {
        core.counters.multicast_upcalls.increment();
    }
    is_taken
}

impl TimerTarget for MulticastForwarding {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, _: &mut Outbox) {
        let (expired, deadline) = {
            let mut pending = self.pending.lock();
            (pending.expire(now), pending.next_deadline())
        };
        core.counters.multicast_unresolved_drops.add(expired.len() as u64);
        core.timers.arm(&self, deadline);
    }
}

/// Whether a packet for a group, checked by input, is to be looked at by [`input`].
#[inline]
pub(super) fn concerns(rx: &Rx<'_>, group: IpAddr, packet: &Packet) -> bool {
    group.is_multicast()
        && rx.core.multicast_forwarding(crate::cidr::family_of(group)).is_active()
        && is_wide(group)
        && !packet.meta.is_forwarded
}

/// Whether it is a group whose packets are routed.
pub(super) fn is_wide_group(address: IpAddr) -> bool {
    address.is_multicast() && is_wide(address)
}

/// What goes beyond a link: not 224.0.0.0/24 (RFC 5771 section 4), nor IPv6 scopes up to the link's.
fn is_wide(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[..3] != [224, 0, 0],
        IpAddr::V6(group) => group.octets()[1] & 0xf > 2,
    }
}

/// Whether our own sockets get the packet, too, though we are no member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locally {
    /// They do: it is for routers.
    Yes,
    /// Only as members.
    AsMembers,
    /// It was taken.
    Taken,
}

/// Routes a packet for a group, whose IP header is at its `l3_offset`. `is_member`: it is for our own sockets, too.
pub(super) fn input(rx: &mut Rx<'_>, packet: &Packet, passage: Option<Passage>, is_member: bool) -> Locally {
    let Some(transit) = Transit::new(packet.clone()) else {
        rx.core.counters.ip_in_header_errors.increment();
        return Locally::AsMembers;
    };
    match transit.is_v4() {
        // Messages to routers about groups (RFC 2113). IGMPv1, and what leaves the option out, is meant as well.
        true if !is_member => {
            let has_alert = options::has_router_alert(&transit.l3()[ipv4::MIN_HEADER_LEN..]);
            if (has_alert || transit.protocol == Protocol::IGMP)
                && socket::raw::deliver_alert(rx, &transit, packet)
            {
                return Locally::Taken;
            }
        }
        true => {}
        false if is_mld_for_routers(&transit) => return Locally::Yes,
        false => {}
    }
    let family = crate::cidr::family_of(transit.source);
    let entrance = if rx.is_looped { Entrance::Own } else { Entrance::Link };
    let waiting = Waiting { transit, passage, nic: rx.interface.id, entrance };
    let forwarding = Arc::clone(rx.core.multicast_forwarding(family));
    forwarding.route(rx.core, waiting, rx.now, rx.outbox);
    Locally::AsMembers
}

/// Routes a packet that came in a message to the routing program.
pub(super) fn route_registered(rx: &mut Rx<'_>, transit: Transit, passage: Option<Passage>) {
    let forwarding = Arc::clone(rx.core.multicast_forwarding(crate::cidr::family_of(transit.source)));
    let waiting = Waiting { transit, passage, nic: rx.interface.id, entrance: Entrance::Register };
    forwarding.route(rx.core, waiting, rx.now, rx.outbox);
}

/// Whether hop-by-hop options say that a packet of MLD is for routers (RFC 2711; Linux's `ip6_mc_input` then always
/// shows it to us).
fn is_mld_for_routers(transit: &Transit) -> bool {
    let l3 = transit.l3();
    if transit.protocol != Protocol::ICMPV6 || l3[ipv6::NEXT_HEADER_OFFSET] != Protocol::HOP_BY_HOP.0 {
        return false;
    }
    let mut chain = Extensions::new(Protocol::HOP_BY_HOP, &l3[ipv6::HEADER_LEN..]);
    let Some(Ok(extension)) = chain.next() else { return false };
    let has_alert = ipv6::options(extension.bytes)
        .filter_map(Result::ok)
        .any(|(_, kind, value)| kind == ipv6::OPTION_ROUTER_ALERT && value == ROUTER_ALERT_MLD);
    has_alert && transit.transport().first().copied().is_some_and(membership::is_mld_kind)
}

/// The value of a router alert for MLD (RFC 2711 section 2.1).
const ROUTER_ALERT_MLD: &[u8] = &[0, 0];
