//! The control plane's data: NICs, addresses and routes, published as immutable snapshots.
//!
//! Readers take an `Arc` of the current snapshot (one short read lock) and work on a consistent view; writers copy,
//! change and publish. Each publication has a new generation number, which lets endpoints keep a resolved route until
//! anything changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::{Mutex, RwLock};

use crate::interface::Interface;
use crate::nic::{AddressState, InterfaceAddress, NicId, NicOptions};
use crate::plain_hash::PlainMap;
use crate::route::{RouteTable, RuleList};

/// One consistent view of the configuration.
#[derive(Clone, Default)]
pub(crate) struct Topology {
    pub(crate) nics: BTreeMap<NicId, NicEntry>,
    pub(crate) routes: RouteTable,
    pub(crate) rules: RuleList,
    last_nic_index: u32,
    /// Derived: all addresses of the stack.
    local: PlainMap<IpAddr, LocalAddress>,
    /// Derived: directed broadcast addresses.
    broadcasts: PlainMap<Ipv4Addr, NicId>,
}

/// A NIC and its addresses.
#[derive(Clone)]
pub(crate) struct NicEntry {
    pub(crate) interface: Arc<Interface>,
    pub(crate) addresses: Vec<InterfaceAddress>,
    pub(crate) options: NicOptions,
}

/// To whom a local address belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalAddress {
    pub(crate) nic: NicId,
    pub(crate) state: AddressState,
}

impl Topology {
    pub(crate) fn interface(&self, nic: NicId) -> Option<&Arc<Interface>> {
        self.nics.get(&nic).map(|entry| &entry.interface)
    }

    /// The loopback NIC.
    pub(crate) fn loopback(&self) -> Option<&NicEntry> {
        self.nics.values().find(|entry| entry.interface.is_loopback())
    }

    /// A number for a new NIC: the wanted one if no NIC has it, otherwise one never used before; `None` after 2^32 of them.
    pub(crate) fn allocate_nic_id(&mut self, wanted: Option<NicId>) -> Option<NicId> {
        let free = wanted.filter(|id| !self.nics.contains_key(id) && id.index() < MAX_WANTED);
        let index = free.map_or_else(|| self.last_nic_index.checked_add(1), |id| Some(id.index()))?;
        self.last_nic_index = self.last_nic_index.max(index);
        NicId::from_index(index)
    }

    /// The owner of a usable address of ours. All of 127.0.0.0/8 is ours where the loopback network is configured
    /// (RFC 1122 section 3.2.1.3).
    pub(crate) fn local_address(&self, address: IpAddr) -> Option<LocalAddress> {
        let found = self.local.get(&address).copied();
        let found =
            if address.is_loopback() { found.or_else(|| self.loopback_alias(address)) } else { found };
        found.filter(|local| local.state.is_usable())
    }

    /// The record of an address in whatever state.
    pub(crate) fn any_address(&self, address: IpAddr) -> Option<LocalAddress> {
        self.local.get(&address).copied()
    }

    /// The source address of packets to an address of ours: that address, or for one that is merely in the loopback's
    /// network, the loopback's own (its route's preferred source in Linux).
    pub(crate) fn source_for_own(&self, address: IpAddr) -> IpAddr {
        if !address.is_loopback() || self.local.contains_key(&address) {
            return address;
        }
        self.loopback_home(address).map_or(address, |(_, own)| own)
    }

    fn loopback_alias(&self, address: IpAddr) -> Option<LocalAddress> {
        let (nic, _) = self.loopback_home(address)?;
        Some(LocalAddress { nic, state: AddressState::Preferred })
    }

    /// The NIC and the address in whose network an address of the loopback is.
    fn loopback_home(&self, address: IpAddr) -> Option<(NicId, IpAddr)> {
        self.nics.iter().find_map(|(&nic, entry)| {
            let is_home = |own: &&InterfaceAddress| own.address().is_loopback() && own.cidr.contains(address);
            entry.addresses.iter().find(is_home).map(|own| (nic, own.address()))
        })
    }

    /// Tells whether the address is a broadcast address on some NIC.
    pub(crate) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        address == Ipv4Addr::BROADCAST || self.broadcasts.contains_key(&address)
    }

    fn rebuild(&mut self) {
        self.local.clear();
        self.broadcasts.clear();
        for (&nic, entry) in &self.nics {
            for address in &entry.addresses {
                let local = LocalAddress { nic, state: address.state };
                self.local.entry(address.address()).or_insert(local);
                let broadcasts = [address.network().broadcast(), address.broadcast];
                self.broadcasts.extend(broadcasts.into_iter().flatten().map(|broadcast| (broadcast, nic)));
            }
        }
    }
}

/// Wanted numbers leave as many for those that are given out.
const MAX_WANTED: u32 = 1 << 31;

/// The current snapshot and the right to replace it.
#[derive(Default)]
pub(crate) struct TopologyCell {
    current: RwLock<Arc<Topology>>,
    /// Serialises writers; readers never wait for the copying.
    writer: Mutex<()>,
    generation: AtomicU64,
}

impl TopologyCell {
    pub(crate) fn load(&self) -> Arc<Topology> {
        Arc::clone(&self.current.read())
    }

    /// The number of changes so far. Read it *before* loading: then a stale number only costs a needless look-up.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes everybody resolve their routes again, though the configuration is the same.
    pub(crate) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes the configuration. `change` works on a copy, which is dropped if it fails.
    pub(crate) fn modify<T, E>(&self, change: impl FnOnce(&mut Topology) -> Result<T, E>) -> Result<T, E> {
        let _writer = self.writer.lock();
        let mut next = Topology::clone(&self.current.read());
        let result = change(&mut next)?;
        next.rebuild();
        let next = Arc::new(next);
        let previous = std::mem::replace(&mut *self.current.write(), next);
        self.generation.fetch_add(1, Ordering::AcqRel);
        // May be the last reference to an interface, whose link's drop is foreign code: not under the lock.
        drop(previous);
        Ok(result)
    }
}
