//! The shell of autoconfiguration: sends router solicitations, takes advertisements and applies what follows.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};

use crate::sync::Mutex;
use netstack_wire::ethernet::MacAddr;
use netstack_wire::ndp::{NdpRepr, Preference, RouterAdvertisement};

use crate::autoconf::{Action, AutoconfInfo, AutoconfOptions, Identity, Machine};
use crate::cidr::IpCidr;
use crate::interface::Interface;
use crate::ip::{Rx, ndp, source};
use crate::nic::{AddressOrigin, AddressState, InterfaceAddress};
use crate::outbox::Outbox;
use crate::route::{Route, RouteOrigin};
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// The autoconfiguration of one NIC with its lock and timer.
pub(crate) struct Autoconf {
    machine: Mutex<Machine>,
    interface: Weak<Interface>,
    slot: TimerSlot,
}

impl Autoconf {
    /// Starts on a NIC.
    pub(crate) fn start(
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        options: AutoconfOptions,
        outbox: &mut Outbox,
    ) -> Arc<Self> {
        let name = interface
            .name()
            .bytes()
            .fold(0_u64, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
        let identity = Identity {
            secret: options.stable_secret.unwrap_or_else(|| core.secrets.stable_key()),
            interface: name,
            random: core.secrets.random(),
        };
        let autoconf = Arc::new(Self {
            machine: Mutex::new(Machine::new(options, identity)),
            interface: Arc::downgrade(interface),
            slot: TimerSlot::default(),
        });
        autoconf.step(core, interface, outbox, |machine| machine.start(core.clock.now()));
        autoconf
    }

    pub(crate) fn info(&self) -> AutoconfInfo {
        self.machine.lock().info()
    }

    /// Another node has an address; false if it is none that was made here.
    pub(super) fn on_duplicate(
        self: &Arc<Self>,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        address: Ipv6Addr,
        outbox: &mut Outbox,
    ) -> bool {
        let actions = self.machine.lock().on_duplicate(core.clock.now(), address);
        let is_ours = actions.is_some();
        self.step(core, interface, outbox, |_| actions.unwrap_or_default());
        is_ours
    }

    /// Lets the machine make a step and does what it says.
    fn step(
        self: &Arc<Self>,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        outbox: &mut Outbox,
        step: impl FnOnce(&mut Machine) -> Vec<Action>,
    ) {
        let (actions, deadline) = {
            let mut machine = self.machine.lock();
            let actions = step(&mut machine);
            (actions, machine.next_deadline())
        };
        for action in actions {
            perform(core, interface, action, outbox);
        }
        core.timers.arm(self, deadline);
    }
}

impl TimerTarget for Autoconf {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        let Some(interface) = self.interface.upgrade() else { return };
        let is_running = interface.autoconf().is_some_and(|current| Arc::ptr_eq(&current, &self));
        if is_running {
            self.step(core, &interface, outbox, |machine| machine.on_timer(now));
        }
    }
}

/// Takes a router advertisement that passed RFC 4861 section 6.1.2 but for its source.
pub(super) fn on_advertisement(rx: &mut Rx<'_>, from: IpAddr, advertisement: &RouterAdvertisement) {
    // "IP Source Address is a link-local address."
    let IpAddr::V6(from) = from else { return };
    if !from.is_unicast_link_local() {
        return rx.core.counters.icmp_in_errors.increment();
    }
    let (core, interface, now) = (rx.core, rx.interface, rx.now);
    let Some(autoconf) = interface.autoconf() else {
        return core.counters.router_advertisements_ignored.increment();
    };
    // RFC 4861 section 6.2: a router does not configure itself from other routers' advertisements.
    if rx.topology.nics.get(&interface.id).is_some_and(|entry| entry.options.forwards_v6) {
        return core.counters.router_advertisements_ignored.increment();
    }
    if let Some(mac) = advertisement.source_mac.filter(|mac| mac.is_unicast()) {
        // A router that was silent is back.
        if interface.neighbours.has_failed(IpAddr::V6(from)) {
            core.topology.invalidate();
        }
        interface.neighbours.on_solicitation(core, interface, IpAddr::V6(from), mac, rx.outbox);
    }
    autoconf.step(core, interface, rx.outbox, |machine| machine.on_advertisement(now, from, advertisement));
}

fn perform(core: &Arc<Core>, interface: &Arc<Interface>, action: Action, outbox: &mut Outbox) {
    let nic = interface.id;
    match action {
        Action::Solicit => solicit(core, interface, outbox),
        Action::AddAddress { address, is_temporary } => {
            let Some(cidr) = IpCidr::new(IpAddr::V6(address), 64) else { return };
            let origin = match (address.is_unicast_link_local(), is_temporary) {
                (true, _) => AddressOrigin::LinkLocal,
                (false, false) => AddressOrigin::Autoconf,
                (false, true) => AddressOrigin::Temporary,
            };
            // RFC 4861 section 6.3.4: that an address was made of a prefix does not make it on-link; routers say that.
            let route_metric = (origin == AddressOrigin::LinkLocal).then_some(0);
            let state = AddressState::Tentative;
            let own = InterfaceAddress { state, origin, route_metric, ..InterfaceAddress::new(cidr) };
            // The address may be there already, set by hand: then it stays what it is.
            let _ = core.begin_address(nic, own, outbox);
        }
        Action::SetDeprecated { address, is_deprecated } => {
            let _ = core.change_address(nic, IpAddr::V6(address), |state| match (state, is_deprecated) {
                (AddressState::Preferred, true) => AddressState::Deprecated,
                (AddressState::Deprecated, false) => AddressState::Preferred,
                (other, _) => other,
            });
        }
        Action::RemoveAddress(address) => {
            let _ = core.drop_address(nic, IpAddr::V6(address), outbox);
        }
        Action::AddRoute { network, router, preference } => {
            let gateway = router.map(IpAddr::V6);
            let _ = core.topology.modify(|topology| {
                topology.routes.remove(|route| is_learned(route, interface, network, gateway));
                let route = Route {
                    gateway,
                    metric: metric(gateway, preference),
                    origin: RouteOrigin::RouterAdvertisement,
                    ..Route::connected(network, nic)
                };
                topology.routes.add(route);
                Ok::<_, ()>(())
            });
        }
        Action::RemoveRoute { network, router } => {
            let gateway = router.map(IpAddr::V6);
            let _ = core.topology.modify(|topology| {
                topology.routes.remove(|route| is_learned(route, interface, network, gateway));
                Ok::<_, ()>(())
            });
        }
        Action::SetMtu(mtu) => {
            if interface.mtu_v6() != mtu {
                interface.set_mtu_v6(mtu);
                core.topology.invalidate();
            }
        }
        Action::SetHopLimit(hop_limit) => interface.set_hop_limit(hop_limit),
        Action::SetReachable(time) => {
            interface.neighbours.change_timers_v6(|timers| timers.reachable = time);
        }
        Action::SetRetransmit(time) => {
            interface.neighbours.change_timers_v6(|timers| timers.retransmit = time);
        }
    }
}

fn is_learned(route: &Route, interface: &Interface, network: IpCidr, gateway: Option<IpAddr>) -> bool {
    route.origin == RouteOrigin::RouterAdvertisement
        && (route.nic, route.destination, route.gateway) == (interface.id, network, gateway)
}

/// Linux's metrics of what the kernel learned: 256 for networks on the link, about 1024 for routes through routers.
fn metric(gateway: Option<IpAddr>, preference: Preference) -> u32 {
    match (gateway, preference) {
        (None, _) => 256,
        (Some(_), Preference::High) => 1023,
        (Some(_), Preference::Medium) => 1024,
        (Some(_), Preference::Low) => 1025,
    }
}

/// RFC 4861 section 4.1: from the link-local address with our station, or from nowhere without it.
fn solicit(core: &Core, interface: &Arc<Interface>, outbox: &mut Outbox) {
    let topology = core.topology.load();
    let Some(entry) = topology.nics.get(&interface.id) else { return };
    let all_routers = IpAddr::V6(ALL_ROUTERS);
    let own = match source::select(&topology, entry, all_routers, all_routers) {
        Some(IpAddr::V6(own)) => Some(own),
        _ => None,
    };
    let question = NdpRepr::RouterSolicitation { source_mac: own.and_then(|_| interface.mac()) };
    let station = MacAddr::of_multicast_v6(ALL_ROUTERS);
    ndp::send(interface, own.unwrap_or(Ipv6Addr::UNSPECIFIED), ALL_ROUTERS, station, &question, outbox);
}

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
