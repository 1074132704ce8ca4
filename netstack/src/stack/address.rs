//! Addresses of NICs: adding, trying, changing and removing them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::cidr::IpCidr;
use crate::error::ConfigError;
use crate::interface::Interface;
use crate::ip;
use crate::nic::{AddressState, InterfaceAddress, NicId};
use crate::outbox::Outbox;
use crate::route::Route;
use crate::stack::{Core, Stack};

impl Stack {
    /// Gives a NIC an address, with the route to its network. It is used at once.
    pub fn add_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), ConfigError> {
        self.add_interface_address(nic, InterfaceAddress::new(cidr))
    }

    /// The same with all that can be said about an address. A [tentative](AddressState::Tentative) one is tried first.
    pub fn add_interface_address(&self, nic: NicId, own: InterfaceAddress) -> Result<(), ConfigError> {
        let is_same_family = |peer: IpAddr| peer.is_ipv4() == own.address().is_ipv4();
        if !own.peer.is_none_or(is_same_family) {
            return Err(ConfigError::Invalid);
        }
        let mut outbox = Outbox::default();
        let added = match own.state {
            AddressState::Tentative => self.core.begin_address(nic, own, &mut outbox),
            _ => self.core.insert_address(nic, own, &mut outbox).map(drop),
        };
        outbox.flush(&self.core);
        added
    }

    /// Changes whether an address is preferred, and the metric of the route to its network. One that is still tried, or that
    /// others have, stays so.
    pub fn change_interface_address(
        &self,
        nic: NicId,
        address: IpAddr,
        is_preferred: bool,
        route_metric: Option<u32>,
    ) -> Result<(), ConfigError> {
        self.core.topology.modify(|topology| {
            let entry = topology.nics.get_mut(&nic).ok_or(ConfigError::NoSuchNic)?;
            let own = entry.addresses.iter_mut().find(|own| own.address() == address);
            let own = own.ok_or(ConfigError::NotFound)?;
            own.state = match (own.state, is_preferred) {
                (AddressState::Preferred, false) => AddressState::Deprecated,
                (AddressState::Deprecated, true) => AddressState::Preferred,
                (other, _) => other,
            };
            if own.route_metric == route_metric {
                return Ok(());
            }
            let before = connected(own, nic);
            own.route_metric = route_metric;
            let after = connected(own, nic);
            topology.routes.remove(|route| before.as_ref() == Some(route));
            if let Some(after) = after {
                topology.routes.add(after);
            }
            Ok(())
        })
    }

    /// The same for an address that others might have. An IPv6 address is used once duplicate detection (RFC 4862 section
    /// 5.4) found nobody, a second later; an IPv4 address after the probes of RFC 5227, six seconds later, and is
    /// announced and defended from then on. Watch its state in [`nic`](Self::nic).
    pub fn add_tentative_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), ConfigError> {
        let own = InterfaceAddress { state: AddressState::Tentative, ..InterfaceAddress::new(cidr) };
        self.add_interface_address(nic, own)
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
        let address = own.address();
        let interface = self.topology.modify(|topology| {
            let entry = topology.nics.get_mut(&nic).ok_or(ConfigError::NoSuchNic)?;
            if entry.addresses.iter().any(|other| other.address() == address) {
                return Err(ConfigError::Exists);
            }
            entry.addresses.push(own);
            let interface = Arc::clone(&entry.interface);
            if let Some(route) = connected(&own, nic) {
                topology.routes.add(route);
            }
            Ok(interface)
        })?;
        if let IpAddr::V6(address) = address {
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
            let network = removed.network();
            // Another address in the same network keeps the network reachable.
            let heir = entry.addresses.iter().find(|own| own.network() == network).copied();
            let count = topology.routes.remove(|route| route.nic == nic && route.source == Some(address));
            if let Some(route) = heir.filter(|_| count > 0).and_then(|heir| connected(&heir, nic)) {
                topology.routes.add(route);
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

/// The route to an address's network, if there is to be one.
fn connected(own: &InterfaceAddress, nic: NicId) -> Option<Route> {
    let route = Route::connected(own.network(), nic);
    own.route_metric.map(|metric| Route { source: Some(own.address()), metric, ..route })
}
