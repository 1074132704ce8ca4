//! A NIC as the stack works with it: its link, its neighbours, its groups and its counters.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use crate::sync::RwLock;
use netstack_wire::ethernet::MacAddr;

use crate::forward::ForwardEndpoint;
use crate::ip::{Autoconf, Groups, RouterVoice};
use crate::link::{Capabilities, Link, Medium};
use crate::neighbour::NeighbourCache;
use crate::nic::NicId;
use crate::options::Family;
use crate::stack::Core;
use crate::stats::{NicCounters, PerThread};

/// The live part of a NIC. Addresses are in the [`Topology`](crate::topology::Topology).
pub(crate) struct Interface {
    pub(crate) id: NicId,
    pub(crate) name: String,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) medium: Medium,
    pub(crate) capabilities: Capabilities,
    /// See [`Link::is_queue`].
    pub(crate) is_queue: bool,
    mtu: AtomicU32,
    /// What a router says is the link's MTU for IPv6.
    mtu_v6: AtomicU32,
    /// What a router says is the hop limit to use; zero if none did.
    hop_limit: AtomicU8,
    is_up: AtomicBool,
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
    pub(crate) fn new(id: NicId, name: String, link: Arc<dyn Link>) -> Self {
        let mtu = u32::try_from(link.mtu()).unwrap_or(u32::MAX);
        Self {
            id,
            name,
            medium: link.medium(),
            capabilities: link.capabilities(),
            is_queue: link.is_queue(),
            link,
            mtu: AtomicU32::new(mtu),
            mtu_v6: AtomicU32::new(u32::MAX),
            hop_limit: AtomicU8::new(0),
            is_up: AtomicBool::new(true),
            accepts_any: AtomicBool::new(false),
            forwarder: RwLock::default(),
            groups: Groups::new(id),
            neighbours: NeighbourCache::default(),
            autoconf: RwLock::default(),
            router_voice: RwLock::default(),
            counters: PerThread::default(),
        }
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

    pub(crate) fn mac(&self) -> Option<MacAddr> {
        match self.medium {
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

/// RFC 1700, "IP time to live parameter"; routers may say otherwise (RFC 4861 section 6.3.4).
const DEFAULT_HOP_LIMIT: u8 = 64;
