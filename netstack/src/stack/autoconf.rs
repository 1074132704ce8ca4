//! The control plane of IPv6 autoconfiguration.

use std::net::IpAddr;

use crate::advertise::AdvertiseOptions;
use crate::autoconf::{AutoconfInfo, AutoconfOptions};
use crate::error::ConfigError;
use crate::ip::{Autoconf, RouterVoice};
use crate::neighbour::NudTimers;
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
        entry.interface.neighbours.change_timers_v6(|timers| *timers = NudTimers::default());
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

    /// Advertises a NIC as one of a router to its link, and answers those who ask. It says so for a time at which it is a
    /// default router only while it forwards IPv6, and begins once the NIC has a link-local address.
    pub fn start_advertising(&self, nic: NicId, options: AdvertiseOptions) -> Result<(), ConfigError> {
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        if interface.mac().is_none() || !options.is_valid() {
            return Err(ConfigError::Invalid);
        }
        // A change is told at once.
        interface.set_router_voice(Some(RouterVoice::start(&self.core, interface, options)));
        Ok(())
    }

    /// Ends it: the last advertisement takes the router away.
    pub fn stop_advertising(&self, nic: NicId) -> Result<(), ConfigError> {
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        let voice = interface.set_router_voice(None).ok_or(ConfigError::NotFound)?;
        let mut outbox = Outbox::default();
        voice.stop(&self.core, interface, &mut outbox);
        outbox.flush(&self.core);
        Ok(())
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
