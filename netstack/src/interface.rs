//! A NIC as the stack works with it: its link, its neighbours, its groups and its counters.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::sync::RwLock;
use netstack_wire::ethernet::MacAddr;

use crate::forward::ForwardEndpoint;
use crate::ip::{Autoconf, Groups, RouterVoice};
use crate::link::sniffer::Direction;
use crate::link::{Capabilities, CapabilityCell, FrameTap, Link, Medium};
use crate::monitor::{PacketMonitor, Seen};
use crate::neighbour::NeighbourCache;
use crate::nic::NicId;
use crate::options::Family;
use crate::packet::Packet;
use crate::stack::Core;
use crate::stats::{NicCounters, PerThread};

/// The live part of a NIC. Addresses are in the [`Topology`](crate::topology::Topology).
pub(crate) struct Interface {
    pub(crate) id: NicId,
    name: RwLock<Arc<str>>,
    pub(crate) link: Arc<dyn Link>,
    /// As the link says; the station's address is in `station`.
    medium: Medium,
    station: AtomicU64,
    capabilities: CapabilityCell,
    /// See [`Link::is_queue`].
    pub(crate) is_queue: bool,
    mtu: AtomicU32,
    /// What a router says is the link's MTU for IPv6.
    mtu_v6: AtomicU32,
    /// What a router says is the hop limit to use; zero if none did.
    hop_limit: AtomicU8,
    is_up: AtomicBool,
    /// Whether there is a tap, so that asking costs one load.
    is_tapped: AtomicBool,
    tap: RwLock<Option<Arc<dyn FrameTap>>>,
    /// Whether there is a forwarder, so that asking costs one load.
    accepts_any: AtomicBool,
    forwarder: RwLock<Option<Arc<ForwardEndpoint>>>,
    /// The multicast groups that sockets or the stack itself joined.
    pub(crate) groups: Groups,
    pub(crate) neighbours: NeighbourCache,
    autoconf: RwLock<Option<Arc<Autoconf>>>,
    router_voice: RwLock<Option<Arc<RouterVoice>>>,
    pub(crate) counters: PerThread<NicCounters>,
}

impl Interface {
    pub(crate) fn new(id: NicId, name: &str, link: Arc<dyn Link>) -> Self {
        let mtu = u32::try_from(link.mtu()).unwrap_or(u32::MAX);
        let station = if let Medium::Ethernet(mac) = link.medium() { pack(mac) } else { 0 };
        Self {
            id,
            name: RwLock::new(name.into()),
            medium: link.medium(),
            station: AtomicU64::new(station),
            capabilities: CapabilityCell::new(link.capabilities()),
            is_queue: link.is_queue(),
            link,
            mtu: AtomicU32::new(mtu),
            mtu_v6: AtomicU32::new(u32::MAX),
            hop_limit: AtomicU8::new(0),
            is_up: AtomicBool::new(true),
            is_tapped: AtomicBool::new(false),
            tap: RwLock::default(),
            accepts_any: AtomicBool::new(false),
            forwarder: RwLock::default(),
            groups: Groups::new(id),
            neighbours: NeighbourCache::default(),
            autoconf: RwLock::default(),
            router_voice: RwLock::default(),
            counters: PerThread::default(),
        }
    }

    /// What its link does by itself.
    #[inline]
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities.get()
    }

    pub(crate) fn set_capabilities(&self, capabilities: Capabilities) {
        self.capabilities.set(capabilities);
    }

    pub(crate) fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    pub(crate) fn set_mtu(&self, mtu: u32) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// The MTU for packets of IPv6 if a router told one; otherwise no limit.
    pub(crate) fn mtu_v6(&self) -> u32 {
        self.mtu_v6.load(Ordering::Relaxed)
    }

    pub(crate) fn set_mtu_v6(&self, mtu: u32) {
        self.mtu_v6.store(mtu, Ordering::Relaxed);
    }

    /// The hop limit that a router told, if one did.
    pub(crate) fn hop_limit(&self) -> Option<u8> {
        match self.hop_limit.load(Ordering::Relaxed) {
            0 => None,
            hop_limit => Some(hop_limit),
        }
    }

    /// The TTL or hop limit of packets for which nobody asked for another: what a router said, or the stack's.
    pub(crate) fn default_ttl(&self, core: &Core, family: Family) -> u8 {
        match family {
            Family::V4 => core.default_ttl(),
            Family::V6 => self.hop_limit().unwrap_or(DEFAULT_HOP_LIMIT),
        }
    }

    pub(crate) fn set_hop_limit(&self, hop_limit: u8) {
        self.hop_limit.store(hop_limit, Ordering::Relaxed);
    }

    /// The NIC's autoconfiguration, if it is on.
    pub(crate) fn autoconf(&self) -> Option<Arc<Autoconf>> {
        self.autoconf.read().clone()
    }

    /// Sets or ends it, and returns what was there.
    pub(crate) fn set_autoconf(&self, autoconf: Option<Arc<Autoconf>>) -> Option<Arc<Autoconf>> {
        std::mem::replace(&mut *self.autoconf.write(), autoconf)
    }

    /// What advertises the NIC's router, if anything does.
    pub(crate) fn router_voice(&self) -> Option<Arc<RouterVoice>> {
        self.router_voice.read().clone()
    }

    /// Sets or ends it, and returns what was there.
    pub(crate) fn set_router_voice(&self, voice: Option<Arc<RouterVoice>>) -> Option<Arc<RouterVoice>> {
        std::mem::replace(&mut *self.router_voice.write(), voice)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.medium == Medium::Loopback
    }

    /// Tells a monitor of a packet.
    pub(crate) fn tell(
        &self,
        monitor: &dyn PacketMonitor,
        direction: Direction,
        packet: &Packet,
        discarded: &[&'static str],
    ) {
        let (nic, medium) = (self.id, self.medium());
        monitor.packet(&Seen { nic, interface: &self.name(), medium, direction, packet, discarded });
    }

    /// The name now.
    pub(crate) fn name(&self) -> Arc<str> {
        self.name.read().clone()
    }

    pub(crate) fn set_name(&self, name: &str) {
        *self.name.write() = name.into();
    }

    /// What the link carries, with the station's address now.
    #[inline]
    pub(crate) fn medium(&self) -> Medium {
        match self.medium {
            // One value of its own: who changes it makes everybody resolve anew.
            Medium::Ethernet(_) => Medium::Ethernet(unpack(self.station.load(Ordering::Relaxed))),
            other @ (Medium::Ip | Medium::Loopback) => other,
        }
    }

    /// Changes the station's address.
    pub(crate) fn set_mac(&self, mac: MacAddr) {
        self.station.store(pack(mac), Ordering::Relaxed);
    }

    /// Who takes the frames of the link before the network layer, if anybody does.
    #[inline]
    pub(crate) fn tap(&self) -> Option<Arc<dyn FrameTap>> {
        if !self.is_tapped.load(Ordering::Relaxed) {
            return None;
        }
        self.tap.read().clone()
    }

    /// Sets or ends it, and returns what was there.
    pub(crate) fn set_tap(&self, tap: Option<Arc<dyn FrameTap>>) -> Option<Arc<dyn FrameTap>> {
        let mut current = self.tap.write();
        self.is_tapped.store(tap.is_some(), Ordering::Relaxed);
        std::mem::replace(&mut *current, tap)
    }

    pub(crate) fn mac(&self) -> Option<MacAddr> {
        match self.medium() {
            Medium::Ethernet(mac) => Some(mac),
            Medium::Ip | Medium::Loopback => None,
        }
    }

    /// Tells whether packets for all unicast addresses are taken.
    pub(crate) fn accepts_any(&self) -> bool {
        self.accepts_any.load(Ordering::Relaxed)
    }

    /// The forwarder, if there is one.
    pub(crate) fn forwarder(&self) -> Option<Arc<ForwardEndpoint>> {
        self.forwarder.read().clone()
    }

    /// Sets the forwarder; false if there is one.
    pub(crate) fn set_forwarder(&self, endpoint: &Arc<ForwardEndpoint>) -> bool {
        let mut forwarder = self.forwarder.write();
        if forwarder.is_some() {
            return false;
        }
        *forwarder = Some(Arc::clone(endpoint));
        self.accepts_any.store(true, Ordering::Relaxed);
        true
    }

    /// Takes the forwarder away again.
    pub(crate) fn clear_forwarder(&self, endpoint: &Arc<ForwardEndpoint>) {
        let mut forwarder = self.forwarder.write();
        if forwarder.as_ref().is_some_and(|own| Arc::ptr_eq(own, endpoint)) {
            *forwarder = None;
            self.accepts_any.store(false, Ordering::Relaxed);
        }
    }

    /// Tells whether packets to `group` are wanted.
    pub(crate) fn is_member(&self, group: IpAddr) -> bool {
        self.groups.contains(group)
    }
}

/// The six bytes of an address in a word.
fn pack(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[inline]
fn unpack(word: u64) -> MacAddr {
    let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
    MacAddr([a, b, c, d, e, f])
}

/// RFC 1700, "IP time to live parameter"; routers may say otherwise (RFC 4861 section 6.3.4).
const DEFAULT_HOP_LIMIT: u8 = 64;
