//! The control plane of IPv6 autoconfiguration.

use std::net::IpAddr;

use crate::autoconf::{AutoconfInfo, AutoconfOptions};
use crate::error::ConfigError;
use crate::ip::Autoconf;
use crate::nic::{AddressOrigin, NicId};
use crate::outbox::Outbox;
use crate::route::RouteOrigin;
use crate::stack::Stack;

impl Stack {
    /// Lets a NIC configure itself for IPv6: a link-local address, then addresses, routes, MTU and hop limit as routers
    /// advertise them. A NIC that forwards IPv6 only gets the link-local address.
    pub fn start_autoconf(&self, nic: NicId, options: AutoconfOptions) -> Result<(), ConfigError> {
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        if interface.mac().is_none() || interface.autoconf().is_some() {
            return Err(if interface.mac().is_none() { ConfigError::Invalid } else { ConfigError::Exists });
        }
        let mut outbox = Outbox::default();
        let autoconf = Autoconf::start(&self.core, interface, options, &mut outbox);
        interface.set_autoconf(Some(autoconf));
        outbox.flush(&self.core);
        Ok(())
    }

    /// Ends it, and takes away what it made.
    pub fn stop_autoconf(&self, nic: NicId) -> Result<(), ConfigError> {
        let topology = self.core.topology.load();
        let entry = topology.nics.get(&nic).ok_or(ConfigError::NoSuchNic)?;
        if entry.interface.set_autoconf(None).is_none() {
            return Err(ConfigError::NotFound);
        }
        let mut outbox = Outbox::default();
        for own in entry.addresses.iter().filter(|own| own.origin != AddressOrigin::Manual) {
            let _ = self.core.drop_address(nic, own.address(), &mut outbox);
        }
        outbox.flush(&self.core);
        entry.interface.set_mtu_v6(u32::MAX);
        entry.interface.set_hop_limit(0);
        self.core.topology.modify(|topology| {
            topology
                .routes
                .remove(|route| route.nic == nic && route.origin == RouteOrigin::RouterAdvertisement);
            Ok(())
        })
    }

    /// What a NIC learned from routers; `None` if it does not configure itself.
    pub fn autoconf(&self, nic: NicId) -> Option<AutoconfInfo> {
        let topology = self.core.topology.load();
        let autoconf = topology.interface(nic)?.autoconf()?;
        Some(autoconf.info())
    }

    /// Tells everybody on the link that an address is ours: an ARP announcement, or an unsolicited advertisement.
    pub fn announce_address(&self, nic: NicId, address: IpAddr) -> Result<(), ConfigError> {
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        if topology.local_address(address).is_none_or(|local| local.nic != nic) {
            return Err(ConfigError::NotFound);
        }
        let mut outbox = Outbox::default();
        crate::ip::announce(interface, address, &mut outbox);
        outbox.flush(&self.core);
        Ok(())
    }
}
