//! The ways out that connections found lately.
//!
//! Connections to and from one host come in runs, and the first thing that each wants to know is what the one before has found
//! out: the route, the neighbour, and whether packets from there come in through the same interface and are for us. A way is
//! found anew every second and after any change of the configuration, so what is remembered is never older than that.
//! The table has a fixed size, and who comes last stays: strangers can push others out, who then ask again.

use std::net::IpAddr;
use std::sync::Arc;

use crate::error::RouteError;
use crate::interface::Interface;
use crate::ip::{Egress, Origin, RouteQuery};
use crate::nic::NicId;
use crate::route::PacketFacts;
use crate::stack::Core;
use crate::sync::BriefMutex;
use crate::time::{Instant, nanos_of};
use core::time::Duration;

/// The table.
pub(crate) struct Ways {
    slots: Box<[BriefMutex<Slot>]>,
}

/// For one host: the way whose source was to be found, and the one from a given source.
type Slot = [Option<Way>; 2];

struct Way {
    source: Option<IpAddr>,
    destination: IpAddr,
    egress: Egress,
    found_at: Instant,
}

impl Ways {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| BriefMutex::default()).collect() }
    }

    /// The way to a destination for packets without a mark, through whatever NIC. `packet` is asked only when there is none
    /// to remember.
    pub(crate) fn find(
        &self,
        core: &Core,
        source: Option<IpAddr>,
        destination: IpAddr,
        now: Instant,
        packet: impl FnOnce() -> PacketFacts,
    ) -> Result<Egress, RouteError> {
        let kind = usize::from(source.is_some());
        let slot = self.slot(destination);
        let known = {
            let ways = slot.lock();
            let way = ways[kind].as_ref().filter(|way| way.is_for(source, destination));
            let is_fresh = |way: &&Way| {
                way.egress.is_current(core) && now.nanos_since(way.found_at) < nanos_of(LIFETIME)
            };
            way.filter(is_fresh).map(|way| way.egress.clone())
        };
        if let Some(mut egress) = known {
            if egress.learn_neighbour() {
                Self::note_neighbour(slot, kind, &egress);
            }
            return Ok(egress);
        }
        let query = RouteQuery { destination, source, nic: None };
        let egress = Egress::resolve_for(core, query, Origin::of(packet()))?;
        if egress.is_particular() {
            return Ok(egress);
        }
        let mut way = Way { source, destination, egress: egress.clone(), found_at: now };
        let old = {
            let mut ways = slot.lock();
            if let Some(old) = ways[kind].as_ref().filter(|old| old.is_for(source, destination)) {
                way.egress.inherit_way_in(&old.egress);
            }
            // Whoever has removed a NIC since then looks here afterwards.
            if way.egress.is_current(core) { ways[kind].replace(way) } else { None }
        };
        // It may hold the last reference to an interface.
        drop(old);
        Ok(egress)
    }

    /// Those who come next need not look for the neighbour.
    #[cold]
    #[inline(never)]
    fn note_neighbour(slot: &BriefMutex<Slot>, kind: usize, egress: &Egress) {
        let mut ways = slot.lock();
        if let Some(way) = &mut ways[kind] {
            way.egress.share_neighbour(egress);
        }
    }

    /// A packet from `remote` to `local` came through `interface` and is for us, by the configuration of `generation`.
    pub(crate) fn note_way_in(
        &self,
        local: IpAddr,
        remote: IpAddr,
        interface: &Arc<Interface>,
        generation: u64,
    ) {
        let slot = self.slot(remote);
        let is_between = |way: &Way| way.destination == remote && way.egress.source == local;
        let mut ways = slot.lock();
        let is_news = |way: &&mut Way| is_between(way) && !way.egress.was_way_in(generation);
        for way in ways.iter_mut().flatten().filter(is_news) {
            way.egress.note_way_in(interface, generation);
        }
    }

    /// Shows `look` the interface with the number `nic` if packets from `remote` to `local` were seen to come in there and
    /// nothing has changed since. Whoever looks asks for no other way meanwhile.
    pub(crate) fn look_in<T>(
        &self,
        core: &Core,
        (local, remote): (IpAddr, IpAddr),
        nic: NicId,
        look: impl FnOnce(&Interface) -> Option<T>,
    ) -> Option<T> {
        let ways = self.slot(remote).lock();
        let is_it = |way: &&Way| {
            way.destination == remote && way.egress.source == local && way.egress.is_way_in(core, nic)
        };
        ways.iter().flatten().find(is_it).and_then(|way| look(&way.egress.interface))
    }

    /// Forgets all: an interface is to go away.
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            let old = std::mem::take(&mut *slot.lock());
            drop(old);
        }
    }

    fn slot(&self, host: IpAddr) -> &BriefMutex<Slot> {
        let word = match host {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // The upper and the lower half.
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64 ^ address.to_bits() as u64,
        };
        // The upper bits of the product, which all others reach. Below SLOTS.
        &self.slots[(word.wrapping_mul(FACTOR) >> 32) as usize % SLOTS]
    }
}

impl Way {
    #[inline]
    fn is_for(&self, source: Option<IpAddr>, destination: IpAddr) -> bool {
        self.destination == destination && self.source == source
    }
}

/// Some 10 KiB for a stack.
const SLOTS: usize = 32;
/// Bounds what no generation counts: path MTUs that expire, and routers that fall silent.
const LIFETIME: Duration = Duration::from_secs(1);
/// The golden ratio in 64 bits, an odd number without structure.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
#[path = "ways_tests.rs"]
mod tests;
