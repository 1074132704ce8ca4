//! A NIC as the stack works with it: its link, its neighbours, its groups and its counters.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use netstack_wire::ethernet::MacAddr;
use parking_lot::RwLock;

use crate::link::{Capabilities, Link, Medium};
use crate::nic::NicId;
use crate::stats::NicCounters;

/// The live part of a NIC. Addresses are in the [`Topology`](crate::topology::Topology).
pub(crate) struct Interface {
    pub(crate) id: NicId,
    pub(crate) name: String,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) medium: Medium,
    pub(crate) capabilities: Capabilities,
    mtu: AtomicU32,
    is_up: AtomicBool,
    /// The multicast groups that sockets or the stack itself joined, with how often.
    pub(crate) groups: RwLock<HashMap<IpAddr, usize>>,
    pub(crate) counters: NicCounters,
}

impl Interface {
    pub(crate) fn new(id: NicId, name: String, link: Arc<dyn Link>) -> Self {
        let mtu = u32::try_from(link.mtu()).unwrap_or(u32::MAX);
        Self {
            id,
            name,
            medium: link.medium(),
            capabilities: link.capabilities(),
            link,
            mtu: AtomicU32::new(mtu),
            is_up: AtomicBool::new(true),
            groups: RwLock::default(),
            counters: NicCounters::default(),
        }
    }

    pub(crate) fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    pub(crate) fn set_mtu(&self, mtu: u32) {
        self.mtu.store(mtu, Ordering::Relaxed);
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

    /// Tells whether packets to `group` are wanted.
    pub(crate) fn is_member(&self, group: IpAddr) -> bool {
        self.groups.read().contains_key(&group)
    }
}
