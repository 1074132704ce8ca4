//! The neighbours of one NIC: a bounded table, one lock per neighbour, and a published station address for senders.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, RwLock};
use netstack_wire::ethernet::MacAddr;

use super::{Advertisement, Nud, NudAction, NudTimers};
use crate::interface::Interface;
use crate::ip;
use crate::nic::{NeighbourInfo, NeighbourState, NicId};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// The neighbours of one NIC.
#[derive(Default)]
pub(crate) struct NeighbourCache {
    entries: RwLock<HashMap<IpAddr, Arc<Neighbour>>>,
    /// What a router said about IPv6.
    timers_v6: Mutex<NudTimers>,
}

/// One neighbour.
pub(crate) struct Neighbour {
    address: IpAddr,
    interface: Weak<Interface>,
    /// [`PUBLISHED`] and the station address, while senders need not tell the machine; otherwise zero.
    published: AtomicU64,
    slot: TimerSlot,
    inner: Mutex<Inner>,
}

struct Inner {
    nud: Nud,
    /// IP packets that wait for the address.
    waiting: VecDeque<Packet>,
}

/// What to do with a packet for a neighbour.
pub(crate) enum Resolution {
    /// Send it to this station.
    Known(MacAddr, Packet),
    /// It waits in the cache.
    Queued,
    /// The neighbour does not answer; the packet comes back.
    Unreachable(Packet),
}

impl NeighbourCache {
    /// The entry for `address`; a new one is asked for right away.
    pub(crate) fn lookup_or_begin(
        &self,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        address: IpAddr,
        outbox: &mut Outbox,
    ) -> Arc<Neighbour> {
        if let Some(found) = self.entries.read().get(&address) {
            return Arc::clone(found);
        }
        let (nud, action) = Nud::begin(core.clock.now(), self.timers_of(address));
        let (neighbour, is_new) = self.insert(interface, address, nud);
        if is_new {
            neighbour.perform(core, interface, action, outbox);
            let deadline = neighbour.inner.lock().nud.next_deadline();
            core.timers.arm(&neighbour, deadline);
        }
        neighbour
    }

    /// The entry for `address`, if there is one.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Arc<Neighbour>> {
        self.entries.read().get(&address).cloned()
    }

    /// Changes the times of IPv6 neighbours as a router says.
    pub(crate) fn change_timers_v6(&self, change: impl FnOnce(&mut NudTimers)) {
        let timers = {
            let mut timers = self.timers_v6.lock();
            change(&mut timers);
            *timers
        };
        let entries: Vec<_> = self.entries.read().values().cloned().collect();
        for neighbour in entries.iter().filter(|neighbour| neighbour.address.is_ipv6()) {
            neighbour.inner.lock().nud.set_timers(timers);
        }
    }

    /// Whether a neighbour was asked for and did not answer.
    pub(crate) fn has_failed(&self, address: IpAddr) -> bool {
        let found = self.entries.read().get(&address).cloned();
        found.is_some_and(|neighbour| neighbour.inner.lock().nud.state() == NeighbourState::Failed)
    }

    fn timers_of(&self, address: IpAddr) -> NudTimers {
        match address {
            IpAddr::V4(_) => NudTimers::default(),
            IpAddr::V6(_) => *self.timers_v6.lock(),
        }
    }

    /// An advertisement came. Unknown senders are not noted (RFC 4861 section 7.2.5: "no entry exists, [...] silently
    /// discarded").
    pub(crate) fn on_advertisement(
        &self,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        address: IpAddr,
        advertisement: Advertisement,
        outbox: &mut Outbox,
    ) {
        let found = self.entries.read().get(&address).cloned();
        let Some(neighbour) = found else { return };
        let now = core.clock.now();
        neighbour.change(core, interface, outbox, |nud| nud.on_advertisement(now, advertisement));
    }

    /// Somebody asked for our address and told its own.
    pub(crate) fn on_solicitation(
        &self,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        address: IpAddr,
        mac: MacAddr,
        outbox: &mut Outbox,
    ) {
        let (neighbour, is_new) = self.insert(interface, address, Nud::learned(mac, self.timers_of(address)));
        if !is_new {
            neighbour.change(core, interface, outbox, |nud| nud.on_solicitation(mac));
        }
    }

    /// Sets an entry for good.
    pub(crate) fn set_permanent(
        &self,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        address: IpAddr,
        mac: MacAddr,
        outbox: &mut Outbox,
    ) {
        let (neighbour, _) = self.insert(interface, address, Nud::permanent(mac));
        neighbour.change(core, interface, outbox, |nud| {
            *nud = Nud::permanent(mac);
            true
        });
    }

    /// The station address of a neighbour, if it is known.
    pub(crate) fn known_mac(&self, address: IpAddr) -> Option<MacAddr> {
        let found = self.entries.read().get(&address).cloned();
        found.and_then(|neighbour| neighbour.inner.lock().nud.mac())
    }

    pub(crate) fn remove(&self, address: IpAddr) -> bool {
        let removed = self.entries.write().remove(&address);
        if let Some(neighbour) = &removed {
            neighbour.retire();
        }
        removed.is_some()
    }

    /// How many packets wait for an address.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.read().values().map(|neighbour| neighbour.inner.lock().waiting.len()).sum()
    }

    pub(crate) fn list(&self, nic: NicId) -> Vec<NeighbourInfo> {
        let entries = self.entries.read();
        let describe = |neighbour: &Arc<Neighbour>| {
            let inner = neighbour.inner.lock();
            let (mac, state) = (inner.nud.mac(), inner.nud.state());
            NeighbourInfo { nic, address: neighbour.address, mac, state }
        };
        entries.values().map(describe).collect()
    }

    /// Inserts an entry unless there is one; the flag says whether it is new.
    fn insert(&self, interface: &Arc<Interface>, address: IpAddr, nud: Nud) -> (Arc<Neighbour>, bool) {
        let mut entries = self.entries.write();
        if let Some(found) = entries.get(&address) {
            return (Arc::clone(found), false);
        }
        if entries.len() >= MAX_ENTRIES {
            evict(&mut entries);
        }
        let neighbour = Arc::new(Neighbour {
            address,
            interface: Arc::downgrade(interface),
            published: AtomicU64::new(0),
            slot: TimerSlot::default(),
            inner: Mutex::new(Inner { nud, waiting: VecDeque::new() }),
        });
        neighbour.publish(&neighbour.inner.lock().nud);
        entries.insert(address, Arc::clone(&neighbour));
        (neighbour, true)
    }
}

impl Neighbour {
    /// The station address, if a sender may use it without further ado.
    pub(crate) fn published_mac(&self) -> Option<MacAddr> {
        let value = self.published.load(Ordering::Acquire);
        (value & PUBLISHED != 0).then(|| {
            let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
            MacAddr([a, b, c, d, e, f])
        })
    }

    /// Resolves the neighbour for an IP packet.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        packet: Packet,
        outbox: &mut Outbox,
    ) -> Resolution {
        let (resolution, action, deadline) = {
            let mut inner = self.inner.lock();
            let action = inner.nud.on_send(core.clock.now());
            self.publish(&inner.nud);
            let resolution = match (inner.nud.mac(), action) {
                (Some(mac), _) => Resolution::Known(mac, packet),
                (None, NudAction::Fail) => Resolution::Unreachable(packet),
                (None, _) => {
                    if inner.waiting.len() >= MAX_WAITING {
                        // The newest are worth most: a waiting SYN is repeated, so the old one goes.
                        inner.waiting.pop_front();
                        interface.counters.tx_dropped_resolution_queue.increment();
                    }
                    inner.waiting.push_back(packet);
                    Resolution::Queued
                }
            };
            (resolution, action, inner.nud.next_deadline())
        };
        if action != NudAction::Fail {
            self.perform(core, interface, action, outbox);
        }
        core.timers.arm(self, deadline);
        resolution
    }

    /// Tells whether an upper layer's progress would spare a probe.
    pub(crate) fn wants_confirmation(&self) -> bool {
        self.published.load(Ordering::Relaxed) & UNCONFIRMED != 0
    }

    /// An upper layer made progress through this neighbour.
    pub(crate) fn confirm(&self, now: Instant) {
        let mut inner = self.inner.lock();
        inner.nud.on_confirmation(now);
        self.publish(&inner.nud);
    }

    /// Applies a change; if it says that the address became known, sends what waits.
    fn change(
        self: &Arc<Self>,
        core: &Arc<Core>,
        interface: &Arc<Interface>,
        outbox: &mut Outbox,
        change: impl FnOnce(&mut Nud) -> bool,
    ) {
        let (waiting, mac, deadline) = {
            let mut inner = self.inner.lock();
            let became_known = change(&mut inner.nud);
            self.publish(&inner.nud);
            let waiting = if became_known { std::mem::take(&mut inner.waiting) } else { VecDeque::new() };
            (waiting, inner.nud.mac(), inner.nud.next_deadline())
        };
        core.timers.arm(self, deadline);
        if let Some(mac) = mac {
            for packet in waiting {
                ip::send_to_station(interface, mac, packet, outbox);
            }
        }
    }

    fn perform(&self, core: &Arc<Core>, interface: &Arc<Interface>, action: NudAction, outbox: &mut Outbox) {
        match action {
            NudAction::None => {}
            NudAction::SolicitAll => ip::solicit(core, interface, self.address, None, outbox),
            NudAction::SolicitStation(mac) => {
                ip::solicit(core, interface, self.address, Some(mac), outbox);
            }
            NudAction::Fail => {
                interface.counters.neighbour_failures.increment();
                // It may have been a router: those who send through it find another.
                if self.address.is_ipv6() && interface.autoconf().is_some() {
                    core.topology.invalidate();
                }
                let waiting = std::mem::take(&mut self.inner.lock().waiting);
                for packet in waiting {
                    interface.counters.tx_dropped_unresolved.increment();
                    ip::report_unreachable_neighbour(core, interface, packet, outbox);
                }
            }
        }
    }

    /// Publishes the station address or withdraws it. Called with the lock held.
    fn publish(&self, nud: &Nud) {
        let address =
            nud.mac().map_or(0, |MacAddr([a, b, c, d, e, f])| u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        let value = match nud.state() {
            NeighbourState::Reachable | NeighbourState::Permanent => PUBLISHED | address,
            NeighbourState::Delay | NeighbourState::Probe => PUBLISHED | UNCONFIRMED | address,
            NeighbourState::Stale | NeighbourState::Incomplete | NeighbourState::Failed => 0,
        };
        self.published.store(value, Ordering::Release);
    }

    /// Removed from the cache: whoever still holds it has to ask the cache again.
    fn retire(&self) {
        self.published.store(RETIRED, Ordering::Release);
    }

    /// Tells whether the entry was removed from the cache.
    pub(crate) fn is_retired(&self) -> bool {
        self.published.load(Ordering::Acquire) == RETIRED
    }
}

impl TimerTarget for Neighbour {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        let Some(interface) = self.interface.upgrade() else { return };
        if self.is_retired() {
            return;
        }
        let (action, deadline) = {
            let mut inner = self.inner.lock();
            let action = inner.nud.on_timer(now);
            self.publish(&inner.nud);
            (action, inner.nud.next_deadline())
        };
        self.perform(core, &interface, action, outbox);
        core.timers.arm(&self, deadline);
    }
}

/// Makes room for one entry: a failed or stale one if there is any, else whichever comes first. What the user has set
/// stays, and is not counted on to be little.
fn evict(entries: &mut HashMap<IpAddr, Arc<Neighbour>>) {
    let idle = entries.iter().find(|(_, neighbour)| !neighbour.inner.lock().nud.is_quiet());
    let is_own = |neighbour: &Neighbour| neighbour.inner.lock().nud.state() != NeighbourState::Permanent;
    let any = || entries.iter().find(|(_, neighbour)| is_own(neighbour));
    let victim = idle.or_else(any).map(|(&address, _)| address);
    if let Some(neighbour) = victim.and_then(|address| entries.remove(&address)) {
        neighbour.retire();
    }
}

const PUBLISHED: u64 = 1 << 63;
const RETIRED: u64 = 1 << 62;
/// In use, but not confirmed lately.
const UNCONFIRMED: u64 = 1 << 61;

/// As the reference has it; Linux starts to collect at 512 as well (`gc_thresh2`).
const MAX_ENTRIES: usize = 512;
/// Packets that wait for one neighbour; Linux's default limit of 212992 bytes is about as many.
const MAX_WAITING: usize = 128;
