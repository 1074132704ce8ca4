//! The control plane: what an administrator does to a stack.

use std::net::IpAddr;
use std::sync::Arc;

use netstack_wire::ethernet::MacAddr;

use crate::cidr::IpCidr;
use crate::error::ConfigError;
use crate::interface::Interface;
use crate::link::{Capabilities, FrameTap, Link, LoopbackLink};
use crate::monitor::PacketMonitor;
use crate::nic::{NeighbourInfo, NicId, NicInfo, NicOptions};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::socket;
use crate::stack::Stack;
use crate::topology::NicEntry;

impl Stack {
    /// Adds a NIC on a link, up and without addresses.
    pub fn add_nic(&self, name: &str, link: Arc<dyn Link>) -> Result<NicId, ConfigError> {
        self.add_nic_at(None, name, link, true)
    }

    /// Adds a NIC with that number, or the next one if it is taken, up or down.
    pub fn add_nic_at(
        &self,
        wanted: Option<NicId>,
        name: &str,
        link: Arc<dyn Link>,
        is_up: bool,
    ) -> Result<NicId, ConfigError> {
        if name.is_empty() {
            return Err(ConfigError::Invalid);
        }
        self.core.topology.modify(|topology| {
            if topology.nics.values().any(|entry| &*entry.interface.name() == name) {
                return Err(ConfigError::Exists);
            }
            let id = topology.allocate_nic_id(wanted).ok_or(ConfigError::Invalid)?;
            let interface = Arc::new(Interface::new(id, name, link));
            interface.set_up(is_up);
            topology.rules.attach(id, name);
            topology
                .nics
                .insert(id, NicEntry { interface, addresses: Vec::new(), options: NicOptions::default() });
            Ok(id)
        })
    }

    /// Removes a NIC with its addresses, routes and neighbours. Its link is dropped when the last packet has left it.
    pub fn remove_nic(&self, nic: NicId) -> Result<(), ConfigError> {
        self.core.topology.modify(|topology| {
            topology.nics.remove(&nic).ok_or(ConfigError::NoSuchNic)?;
            topology.routes.remove(|route| route.nic == nic);
            topology.rules.detach(nic);
            Ok(())
        })?;
        // They would keep its link.
        self.core.ways.clear();
        Ok(())
    }

    /// The NICs in the order of their numbers.
    pub fn nics(&self) -> Vec<NicInfo> {
        self.core.topology.load().nics.values().map(describe).collect()
    }

    /// One NIC.
    pub fn nic(&self, nic: NicId) -> Option<NicInfo> {
        self.core.topology.load().nics.get(&nic).map(describe)
    }

    /// The NIC with that name.
    pub fn nic_by_name(&self, name: &str) -> Option<NicId> {
        let topology = self.core.topology.load();
        topology.nics.iter().find(|(_, entry)| &*entry.interface.name() == name).map(|(&id, _)| id)
    }

    /// Turns a NIC on or off. A NIC that is down neither sends nor receives.
    pub fn set_nic_up(&self, nic: NicId, is_up: bool) -> Result<(), ConfigError> {
        self.change_nic(nic, |entry| {
            entry.interface.set_up(is_up);
            Ok(())
        })
    }

    /// Changes the largest IP packet that a NIC sends. IPv4 needs 68 bytes (RFC 791); IPv6 stops working on a NIC below
    /// 1280 (RFC 8200 section 5).
    pub fn set_nic_mtu(&self, nic: NicId, mtu: u32) -> Result<(), ConfigError> {
        if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
            return Err(ConfigError::Invalid);
        }
        self.change_nic(nic, |entry| {
            entry.interface.set_mtu(mtu);
            Ok(())
        })
    }

    /// Gives a NIC another name.
    pub fn rename_nic(&self, nic: NicId, name: &str) -> Result<(), ConfigError> {
        if name.is_empty() {
            return Err(ConfigError::Invalid);
        }
        self.core.topology.modify(|topology| {
            let is_taken = |(id, entry): (&NicId, &NicEntry)| *id != nic && &*entry.interface.name() == name;
            if topology.nics.iter().any(is_taken) {
                return Err(ConfigError::Exists);
            }
            topology.nics.get(&nic).ok_or(ConfigError::NoSuchNic)?.interface.set_name(name);
            topology.rules.attach(nic, name);
            Ok(())
        })
    }

    /// Gives a NIC another station address. Its neighbours are asked for again.
    pub fn set_nic_mac(&self, nic: NicId, mac: MacAddr) -> Result<(), ConfigError> {
        if !mac.is_unicast() {
            return Err(ConfigError::Invalid);
        }
        self.change_nic(nic, |entry| {
            entry.interface.mac().ok_or(ConfigError::Invalid)?;
            entry.interface.set_mac(mac);
            Ok(())
        })?;
        self.core.ways.clear();
        Ok(())
    }

    /// Changes what the link of a NIC does by itself. Packets that were made before may still ask the link for more, or for
    /// less, than that.
    pub fn set_nic_capabilities(&self, nic: NicId, capabilities: Capabilities) -> Result<(), ConfigError> {
        self.change_nic(nic, |entry| {
            entry.interface.set_capabilities(capabilities);
            Ok(())
        })
    }

    /// Sets who takes the frames of a NIC before the stack, or ends that, and returns who did.
    pub fn set_frame_tap(
        &self,
        nic: NicId,
        tap: Option<Arc<dyn FrameTap>>,
    ) -> Result<Option<Arc<dyn FrameTap>>, ConfigError> {
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        let previous = interface.set_tap(tap);
        // What is known about senders behind the NIC is not asked for any more.
        self.core.topology.invalidate();
        self.core.ways.clear();
        Ok(previous)
    }

    /// Sets who is told of each packet and of what became of it ([`monitor`](crate::monitor)), or ends that, and returns
    /// who was.
    pub fn set_packet_monitor(
        &self,
        monitor: Option<Arc<dyn PacketMonitor>>,
    ) -> Option<Arc<dyn PacketMonitor>> {
        self.core.packet_sockets.set_monitor(monitor)
    }

    /// Sends whole frames through a NIC, as its stack would: shown to packet sockets, and cut up where its link does not
    /// take super-segments. Frames for a NIC that is gone are dropped.
    pub fn transmit(&self, nic: NicId, frames: &mut Vec<Packet>) {
        let topology = self.core.topology.load();
        let Some(interface) = topology.interface(nic) else { return frames.clear() };
        let mut outbox = Outbox::default();
        for frame in frames.drain(..) {
            for frame in socket::frames_for_link(interface, frame) {
                outbox.send(interface, frame);
            }
        }
        outbox.flush(&self.core);
    }

    /// Makes the loopback NIC.
    pub(super) fn add_loopback(&self) {
        // The stack is new, so neither the name nor the addresses can be taken.
        let Ok(nic) = self.add_nic("lo", Arc::new(LoopbackLink)) else { return };
        for address in [IpCidr::LOOPBACK_V4, IpCidr::LOOPBACK_V6] {
            let _ = self.add_address(nic, address);
        }
    }

    /// Sets a neighbour's station address for good.
    pub fn add_neighbour(&self, nic: NicId, address: IpAddr, mac: MacAddr) -> Result<(), ConfigError> {
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        if !mac.is_unicast() || address.is_multicast() || address.is_unspecified() {
            return Err(ConfigError::Invalid);
        }
        let mut outbox = Outbox::default();
        interface.neighbours.set_permanent(&self.core, interface, address, mac, &mut outbox);
        outbox.flush(&self.core);
        Ok(())
    }

    /// Forgets a neighbour.
    pub fn remove_neighbour(&self, nic: NicId, address: IpAddr) -> Result<(), ConfigError> {
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        if interface.neighbours.remove(address) { Ok(()) } else { Err(ConfigError::NotFound) }
    }

    /// All neighbours.
    pub fn neighbours(&self) -> Vec<NeighbourInfo> {
        let topology = self.core.topology.load();
        topology.nics.iter().flat_map(|(&nic, entry)| entry.interface.neighbours.list(nic)).collect()
    }

    pub(super) fn change_nic(
        &self,
        nic: NicId,
        change: impl FnOnce(&mut NicEntry) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        self.core
            .topology
            .modify(|topology| change(topology.nics.get_mut(&nic).ok_or(ConfigError::NoSuchNic)?))
    }
}

fn describe(entry: &NicEntry) -> NicInfo {
    let NicEntry { interface, addresses, options } = entry;
    NicInfo {
        id: interface.id,
        name: interface.name().as_ref().to_owned(),
        medium: interface.medium(),
        capabilities: interface.capabilities(),
        mtu: interface.mtu(),
        is_up: interface.is_up(),
        addresses: addresses.clone(),
        options: *options,
        stats: interface.counters.snapshot(),
    }
}

/// RFC 791: "Every internet module must be able to forward a datagram of 68 octets without further fragmentation."
const MIN_MTU: u32 = 68;

/// The largest IPv4 packet, rounded up: Linux's loopback has it, and nothing on any link is larger.
const MAX_MTU: u32 = 65_536;
