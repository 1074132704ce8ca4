//! The shell of a router's advertisements: sends them, and takes solicitations.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};

use crate::sync::Mutex;
use netstack_wire::ethernet::MacAddr;
use netstack_wire::ipv6;
use netstack_wire::ndp::{NdpRepr, RouterAdvertisement};

use crate::advertise::{AdvertiseOptions, Advertiser};
use crate::interface::Interface;
use crate::ip::{IpMeta, Rx, ndp, source};
use crate::outbox::Outbox;
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// The advertiser of one NIC with its lock and timer.
pub(crate) struct RouterVoice {
    machine: Mutex<Advertiser>,
    advertisement: RouterAdvertisement,
    interface: Weak<Interface>,
    slot: TimerSlot,
}

impl RouterVoice {
    /// Starts on a NIC.
    pub(crate) fn start(
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        options: AdvertiseOptions,
    ) -> Arc<Self> {
        let machine = Mutex::new(Advertiser::new(&options, core.clock.now()));
        let voice = Arc::new(Self {
            machine,
            advertisement: options.advertisement,
            interface: Arc::downgrade(interface),
            slot: TimerSlot::default(),
        });
        voice.arm(core);
        voice
    }

    /// Says for the last time that this is a router: for no time at all (RFC 4861 section 6.2.5).
    pub(crate) fn stop(&self, core: &Core, interface: &Arc<Interface>, outbox: &mut Outbox) {
        self.say(core, interface, 0, outbox);
    }

    fn arm(self: &Arc<Self>, core: &Arc<Core>) {
        let deadline = self.machine.lock().next_deadline();
        core.timers.arm(self, Some(deadline));
    }

    fn say(&self, core: &Core, interface: &Arc<Interface>, lifetime_s: u16, outbox: &mut Outbox) {
        let topology = core.topology.load();
        let Some(entry) = topology.nics.get(&interface.id) else { return };
        let all_nodes = IpAddr::V6(ipv6::ALL_NODES);
        // Section 6.1.2: "IP Source Address is a link-local address." Without one there is nothing to say yet.
        let own = match source::select(&topology, entry, all_nodes, all_nodes) {
            Some(IpAddr::V6(own)) if own.is_unicast_link_local() => own,
            _ => return,
        };
        // Section 6.2.3: a lifetime of zero where it is no default router.
        let lifetime_s = if entry.options.forwards_v6 { lifetime_s } else { 0 };
        let advertisement =
            RouterAdvertisement { lifetime_s, source_mac: interface.mac(), ..self.advertisement.clone() };
        let station = MacAddr::of_multicast_v6(ipv6::ALL_NODES);
        let message = NdpRepr::RouterAdvertisement(advertisement);
        ndp::send(interface, own, ipv6::ALL_NODES, station, &message, outbox);
        core.counters.router_advertisements_sent.increment();
    }
}

impl TimerTarget for RouterVoice {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        let Some(interface) = self.interface.upgrade() else { return };
        let is_running = interface.router_voice().is_some_and(|current| Arc::ptr_eq(&current, &self));
        if !is_running {
            return;
        }
        if self.machine.lock().on_timer(now, core.secrets.random()) {
            self.say(core, &interface, self.advertisement.lifetime_s, outbox);
        }
        self.arm(core);
    }
}

/// Takes a router solicitation that passed RFC 4861 section 6.1.1 but for its source.
pub(super) fn on_solicitation(rx: &mut Rx<'_>, ip: &IpMeta, source_mac: Option<MacAddr>) {
    // "If the IP source address is the unspecified address, there is no source link-layer address option".
    let is_nowhere = ip.source == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if is_nowhere && source_mac.is_some() {
        return rx.core.counters.icmp_in_errors.increment();
    }
    let (core, interface) = (rx.core, rx.interface);
    let Some(voice) = interface.router_voice() else { return };
    if let Some(mac) = source_mac.filter(|mac| mac.is_unicast()) {
        interface.neighbours.on_solicitation(core, interface, ip.source, mac, rx.outbox);
    }
    voice.machine.lock().on_solicitation(rx.now, core.secrets.random());
    voice.arm(core);
}
