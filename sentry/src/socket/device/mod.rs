//! Network devices that guests make (`ip-link(8)`): pairs, bridges, virtual LANs, dummies, tunnels into programs. Each is a link of the stack of
//! the namespace that it is in, and can move to another one.
//!
//! One lock orders all changes, as Linux's RTNL does; looking takes the short locks of single objects only.

mod address;
mod change;
mod details;
mod dummy;
mod ids;
mod make;
mod routes;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use netstack::NicId;
use netstack::link::bridge::{Bridge, BridgeMember, BridgePort};
use netstack::link::veth::VethLink;
use netstack::link::vlan::{VlanLink, VlanTrunk};
use parking_lot::{Mutex, MutexGuard};

use crate::socket::NetNamespace;
use crate::socket::tun::TunDevice;

pub(in crate::socket) use change::{
    abandon, carrier_changed, left, move_to, remove_nic, rename, set_mac, set_master, set_up,
};
pub use details::{LinkDetails, Lower, Master};
pub(in crate::socket) use ids::PeerIds;
pub(in crate::socket) use make::{Spec, SpecKind, make};
pub(in crate::socket) use routes::lost_address;

/// Orders changes of devices in all namespaces.
static CHANGES: Mutex<()> = Mutex::new(());

/// Held by who changes devices. Namespaces may end meanwhile, which needs it as well, but on another thread.
pub(in crate::socket) fn lock() -> MutexGuard<'static, ()> {
    CHANGES.lock()
}

/// The devices of a namespace that are more than NICs.
#[derive(Default)]
pub(in crate::socket) struct Devices {
    by_nic: Mutex<BTreeMap<NicId, Arc<Device>>>,
}

impl Devices {
    /// What a NIC is, if anything is known about it.
    pub(in crate::socket) fn get(&self, nic: NicId) -> Option<Arc<Device>> {
        self.by_nic.lock().get(&nic).cloned()
    }

    fn insert(&self, nic: NicId, device: Arc<Device>) {
        self.by_nic.lock().insert(nic, device);
    }

    fn remove(&self, nic: NicId) -> Option<Arc<Device>> {
        self.by_nic.lock().remove(&nic)
    }

    /// All of them.
    fn all(&self) -> Vec<Arc<Device>> {
        self.by_nic.lock().values().cloned().collect()
    }
}

/// A device.
pub(in crate::socket) struct Device {
    kind: Kind,
    place: Mutex<Place>,
    /// What makes it a port of a bridge.
    port: Mutex<Option<Port>>,
    /// What carries the virtual LANs on top of it.
    trunk: Mutex<Weak<VlanTrunk>>,
}

/// Where a device is now.
#[derive(Clone)]
struct Place {
    /// Weak: the namespace owns the device.
    namespace: Weak<NetNamespace>,
    nic: NicId,
}

struct Port {
    bridge: Weak<Device>,
    /// Taken, never read: it ends with being a port.
    _member: Arc<BridgeMember>,
}

/// What a device is.
enum Kind {
    /// There from the start, or the loopback.
    Given,
    /// Takes everything and does nothing.
    Dummy,
    /// One end of a pair.
    Veth { link: Arc<VethLink>, peer: Mutex<Weak<Device>> },
    /// A bridge, whose own port the namespace's stack is at.
    Bridge { bridge: Arc<Bridge>, port: Arc<BridgePort> },
    /// A virtual LAN on another device.
    Vlan { link: Arc<VlanLink>, below: Weak<Device> },
    /// One whose other end is a program.
    Tun { link: Arc<TunDevice> },
}

impl Device {
    fn new(kind: Kind, namespace: &Arc<NetNamespace>, nic: NicId) -> Arc<Self> {
        Arc::new(Self {
            kind,
            place: Mutex::new(Place { namespace: Arc::downgrade(namespace), nic }),
            port: Mutex::default(),
            trunk: Mutex::default(),
        })
    }

    /// Where it is; `None` while its namespace ends.
    pub(in crate::socket) fn place(&self) -> Option<(Arc<NetNamespace>, NicId)> {
        let place = self.place.lock().clone();
        Some((place.namespace.upgrade()?, place.nic))
    }

    /// Where the other end of a pair is.
    pub(in crate::socket) fn peer_place(&self) -> Option<(Arc<NetNamespace>, NicId)> {
        self.other()?.place()
    }

    /// The other end of a pair, or what a virtual LAN is on.
    fn other(&self) -> Option<Arc<Self>> {
        match &self.kind {
            Kind::Veth { peer, .. } => peer.lock().upgrade(),
            Kind::Vlan { below, .. } => below.upgrade(),
            Kind::Given | Kind::Dummy | Kind::Bridge { .. } | Kind::Tun { .. } => None,
        }
    }

    /// The name of its kind (`IFLA_INFO_KIND`).
    fn kind_name(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Given => None,
            Kind::Dummy => Some("dummy"),
            Kind::Veth { .. } => Some("veth"),
            Kind::Bridge { .. } => Some("bridge"),
            Kind::Vlan { .. } => Some("vlan"),
            Kind::Tun { .. } => Some("tun"),
        }
    }

    /// Whether the NIC is up.
    fn is_up(&self) -> bool {
        self.place().and_then(|(namespace, nic)| namespace.stack().nic(nic)).is_some_and(|nic| nic.is_up)
    }

    /// Whether what is sent gets anywhere.
    pub(in crate::socket) fn has_carrier(&self) -> bool {
        match &self.kind {
            Kind::Given | Kind::Dummy => true,
            Kind::Tun { link } => link.has_carrier(),
            Kind::Veth { .. } => self.other().is_some_and(|peer| peer.is_up()),
            Kind::Vlan { .. } => self.other().is_some_and(|below| below.is_up() && below.has_carrier()),
            Kind::Bridge { .. } => {
                let ports = self.ports();
                // One that never had a port has a carrier until it knows better; Linux's does as well.
                ports.is_empty() || ports.iter().any(|port| port.is_up() && port.has_carrier())
            }
        }
    }

    /// Whether it does nothing.
    pub(in crate::socket) fn is_dummy(&self) -> bool {
        matches!(self.kind, Kind::Dummy)
    }

    /// The ports of a bridge.
    fn ports(&self) -> Vec<Arc<Self>> {
        let Some((namespace, _)) = self.place() else { return Vec::new() };
        let mut all = namespace.devices().all();
        all.retain(|device| device.bridge().is_some_and(|bridge| std::ptr::eq(&raw const *bridge, self)));
        all
    }

    /// The virtual LANs on top of it.
    fn lans(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let Some((namespace, _)) = self.place() else { return Vec::new() };
        // Those that moved elsewhere are found by their link.
        let mut all = namespace.devices().all();
        all.retain(
            |device| matches!(&device.kind, Kind::Vlan { below, .. } if below.ptr_eq(&Arc::downgrade(self))),
        );
        all
    }

    /// The bridge that it is a port of.
    fn bridge(&self) -> Option<Arc<Self>> {
        self.port.lock().as_ref()?.bridge.upgrade()
    }

    fn master(&self) -> Option<Master> {
        let (namespace, nic) = self.bridge()?.place()?;
        Some(Master { nic, name: namespace.stack().nic(nic)?.name })
    }

    /// What an interface of `namespace` shows as `IFLA_LINK`.
    fn lower(&self, namespace: &Arc<NetNamespace>) -> Option<Lower> {
        let (home, nic) = self.other()?.place()?;
        let is_elsewhere = !Arc::ptr_eq(&home, namespace);
        Some(Lower { nic, namespace: is_elsewhere.then(|| namespace.peer_ids().of(&home)) })
    }

    fn vlan_id(&self) -> Option<u16> {
        match &self.kind {
            Kind::Vlan { link, .. } => Some(link.id()),
            Kind::Given | Kind::Dummy | Kind::Veth { .. } | Kind::Bridge { .. } | Kind::Tun { .. } => None,
        }
    }

    fn tun(&self) -> Option<&Arc<TunDevice>> {
        match &self.kind {
            Kind::Tun { link } => Some(link),
            Kind::Given | Kind::Dummy | Kind::Veth { .. } | Kind::Bridge { .. } | Kind::Vlan { .. } => None,
        }
    }
}

/// The tunnel device that an interface is, if it is one.
pub(in crate::socket) fn tun(namespace: &Arc<NetNamespace>, nic: NicId) -> Option<Arc<TunDevice>> {
    namespace.devices().get(nic)?.tun().cloned()
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("kind", &self.kind_name()).finish_non_exhaustive()
    }
}
