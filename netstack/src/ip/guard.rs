//! Guards of IPv4 addresses: the shell of address conflict detection (RFC 5227).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::Mutex;

use crate::interface::Interface;
use crate::ip::arp;
use crate::neighbour::{ConflictAction, ConflictDetection, PROBE_SPREAD, PROBE_WAIT};
use crate::outbox::Outbox;
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// Looks after one address.
pub(crate) struct AddressGuard {
    machine: Mutex<ConflictDetection>,
    interface: Weak<Interface>,
    address: Ipv4Addr,
    slot: TimerSlot,
}

impl AddressGuard {
    /// Starts to probe for an address that is tentative.
    pub(crate) fn begin(core: &Arc<Core>, interface: &Arc<Interface>, address: Ipv4Addr) -> Arc<Self> {
        let delay = random(core, PROBE_WAIT);
        let machine = ConflictDetection::begin(core.clock.now(), delay);
        let deadline = machine.next_deadline();
        let guard = Arc::new(Self {
            machine: Mutex::new(machine),
            interface: Arc::downgrade(interface),
            address,
            slot: TimerSlot::default(),
        });
        core.timers.arm(&guard, deadline);
        guard
    }

    /// Another station has the address, or wants it.
    pub(super) fn on_conflict(
        self: &Arc<Self>,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        outbox: &mut Outbox,
    ) {
        core.counters.arp_conflicts.increment();
        let action = self.machine.lock().on_conflict(core.clock.now());
        self.perform(core, interface, action, outbox);
    }

    fn perform(
        &self,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        action: ConflictAction,
        outbox: &mut Outbox,
    ) {
        let address = IpAddr::V4(self.address);
        match action {
            ConflictAction::None => {}
            ConflictAction::Probe => arp::probe(interface, self.address, outbox),
            ConflictAction::BeginUse => {
                if core.finish_detection(interface.id, address) {
                    arp::announce_own(interface, self.address, outbox);
                }
            }
            ConflictAction::Announce => arp::announce_own(interface, self.address, outbox),
            ConflictAction::Lose => core.on_duplicate_address(interface, address, outbox),
        }
    }
}

impl TimerTarget for AddressGuard {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        let Some(interface) = self.interface.upgrade() else { return };
        let jitter = random(core, PROBE_SPREAD);
        let (action, deadline) = {
            let mut machine = self.machine.lock();
            (machine.on_timer(now, jitter), machine.next_deadline())
        };
        self.perform(core, &interface, action, outbox);
        core.timers.arm(&self, deadline);
    }
}

fn random(core: &Core, below: Duration) -> Duration {
    let bound = u32::try_from(below.as_micros()).unwrap_or(u32::MAX);
    Duration::from_micros(u64::from(core.secrets.random_below(bound.max(1))))
}
