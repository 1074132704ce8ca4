//! Addresses of NICs: adding, trying, changing and removing them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::cidr::IpCidr;
use crate::error::ConfigError;
use crate::interface::Interface;
use crate::ip;
use crate::nic::{AddressOrigin, AddressState, InterfaceAddress, NicId};
use crate::outbox::Outbox;
use crate::route::Route;
use crate::stack::{Core, Stack};

impl Stack {
    /// Gives a NIC an address, with the route to its network. It is used at once.
    pub fn add_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), ConfigError> {
        let own = InterfaceAddress { cidr, state: AddressState::Preferred, origin: AddressOrigin::Manual };
        let mut outbox = Outbox::default();
        let added = self.core.insert_address(nic, own, &mut outbox);
        outbox.flush(&self.core);
        added.map(drop)
    }

    /// The same for an address that others might have. An IPv6 address is used once duplicate detection (RFC 4862 section
    /// 5.4) found nobody, a second later; an IPv4 address after the probes of RFC 5227, six seconds later, and is
    /// announced and defended from then on. Watch its state in [`nic`](Self::nic).
    pub fn add_tentative_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), ConfigError> {
        let own = InterfaceAddress { cidr, state: AddressState::Tentative, origin: AddressOrigin::Manual };
        let mut outbox = Outbox::default();
        let begun = self.core.begin_address(nic, own, &mut outbox);
        outbox.flush(&self.core);
        begun
    }

    /// Takes an address from a NIC, with the routes that depend on it.
    pub fn remove_address(&self, nic: NicId, address: IpAddr) -> Result<(), ConfigError> {
        let mut outbox = Outbox::default();
        let removed = self.core.drop_address(nic, address, &mut outbox);
        outbox.flush(&self.core);
        removed
    }
}

impl Core {
    /// Adds an address and starts to look whether others have it.
    pub(crate) fn begin_address(
        self: &Arc<Self>,
        nic: NicId,
        own: InterfaceAddress,
        outbox: &mut Outbox,
    ) -> Result<(), ConfigError> {
        let interface = self.insert_address(nic, own, outbox)?;
        match own.address() {
            IpAddr::V4(address) => {
                let guard = ip::AddressGuard::begin(self, &interface, address);
                self.guards.lock().insert((nic, address), guard);
            }
            IpAddr::V6(address) => {
                let detection = ip::begin_detection(self, &interface, address, outbox);
                self.detections.lock().push(detection);
            }
        }
        Ok(())
    }

    fn insert_address(
        self: &Arc<Self>,
        nic: NicId,
        own: InterfaceAddress,
        outbox: &mut Outbox,
    ) -> Result<Arc<Interface>, ConfigError> {
        let cidr = own.cidr;
        let interface = self.topology.modify(|topology| {
            let entry = topology.nics.get_mut(&nic).ok_or(ConfigError::NoSuchNic)?;
            if entry.addresses.iter().any(|other| other.address() == cidr.address()) {
                return Err(ConfigError::Exists);
            }
            entry.addresses.push(own);
            let interface = Arc::clone(&entry.interface);
            // RFC 4861 section 6.3.4: that an address was made of a prefix does not make it on-link; routers say that.
            if matches!(own.origin, AddressOrigin::Manual | AddressOrigin::LinkLocal) {
                topology.routes.add(Route { source: Some(cidr.address()), ..Route::connected(cidr, nic) });
            }
            Ok(interface)
        })?;
        if let IpAddr::V6(address) = cidr.address() {
            ip::join_group(self, &interface, ip::solicited_group(address), outbox);
        }
        Ok(interface)
    }

    /// Removes an address with the routes that depend on it.
    pub(crate) fn drop_address(
        self: &Arc<Self>,
        nic: NicId,
        address: IpAddr,
        outbox: &mut Outbox,
    ) -> Result<(), ConfigError> {
        let interface = self.topology.modify(|topology| {
            let entry = topology.nics.get_mut(&nic).ok_or(ConfigError::NoSuchNic)?;
            let index = entry.addresses.iter().position(|own| own.address() == address);
            let removed = entry.addresses.remove(index.ok_or(ConfigError::NotFound)?);
            let network = removed.cidr.network();
            // Another address in the same network keeps the network reachable.
            let heir = entry.addresses.iter().find(|own| own.cidr.network() == network).copied();
            let count = topology.routes.remove(|route| route.nic == nic && route.source == Some(address));
            if let Some(heir) = heir.filter(|_| count > 0) {
                topology.routes.add(Route { source: Some(heir.address()), ..Route::connected(network, nic) });
            }
            Ok(topology.interface(nic).map(Arc::clone))
        })?;
        match (interface, address) {
            (Some(interface), IpAddr::V6(address)) => {
                self.detections.lock().retain(|detection| !detection.is_for(address));
                ip::leave_group(self, &interface, ip::solicited_group(address), outbox);
            }
            (_, IpAddr::V4(address)) => drop(self.guards.lock().remove(&(nic, address))),
            (None, IpAddr::V6(_)) => {}
        }
        Ok(())
    }

    /// Another node has an address that we are about to use, or use.
    pub(crate) fn on_duplicate_address(
        self: &Arc<Self>,
        interface: &Arc<Interface>,
        address: IpAddr,
        outbox: &mut Outbox,
    ) {
        let changed = self.change_address(interface.id, address, |state| match state {
            AddressState::Tentative => AddressState::Duplicated,
            // RFC 4862 section 5.4.4 leaves it open; Linux goes on using it.
            other => other,
        });
        if changed == Some((AddressState::Tentative, AddressState::Duplicated)) {
            self.counters.duplicate_addresses.increment();
            ip::on_duplicate(self, interface, address, outbox);
        }
    }

    /// Duplicate detection has ended; true if the address is now in use.
    pub(crate) fn finish_detection(&self, nic: NicId, address: IpAddr) -> bool {
        self.detections.lock().retain(|detection| IpAddr::V6(detection.address()) != address);
        let changed = self.change_address(nic, address, |state| match state {
            AddressState::Tentative => AddressState::Preferred,
            other => other,
        });
        changed.is_some_and(|(_, after)| after == AddressState::Preferred)
    }

    /// Changes an address's state; returns the one before and the one after.
    pub(crate) fn change_address(
        &self,
        nic: NicId,
        address: IpAddr,
        change: impl FnOnce(AddressState) -> AddressState,
    ) -> Option<(AddressState, AddressState)> {
        let changed = self.topology.modify(|topology| {
            let addresses = topology.nics.get_mut(&nic).map(|entry| &mut entry.addresses);
            let own =
                addresses.and_then(|addresses| addresses.iter_mut().find(|own| own.address() == address));
            let own = own.ok_or(())?;
            let before = own.state;
            own.state = change(before);
            Ok::<_, ()>((before, own.state))
        });
        changed.ok()
    }
}
