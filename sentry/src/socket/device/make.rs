//! Making devices.

use std::sync::{Arc, Weak};

use netstack::NicId;
use netstack::link::Link;
use netstack::link::bridge::Bridge;
use netstack::link::veth::VethLink;
use netstack::link::vlan::VlanTrunk;
use netstack::wire::ethernet::MacAddr;
use parking_lot::Mutex;

use super::dummy::DummyLink;
use super::{Device, Kind};
use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::tun::{TunDevice, TunKind};

/// A device to be made.
pub(in crate::socket) struct Spec<'a> {
    /// Where.
    pub(in crate::socket) namespace: &'a Arc<NetNamespace>,
    /// Its name; one is made up if there is none.
    pub(in crate::socket) name: Option<&'a str>,
    /// Its number, if that is free.
    pub(in crate::socket) index: Option<NicId>,
    /// Its station address; one is made up if there is none.
    pub(in crate::socket) mac: Option<MacAddr>,
    /// Its MTU, where not the usual one.
    pub(in crate::socket) mtu: Option<u32>,
    /// What it is to be.
    pub(in crate::socket) kind: SpecKind<'a>,
}

/// What a device is to be.
pub(in crate::socket) enum SpecKind<'a> {
    /// `dummy`.
    Dummy,
    /// `bridge`.
    Bridge,
    /// `veth`, with its other end, whose kind is not looked at.
    Veth(Box<Spec<'a>>),
    /// `vlan` with an id on an interface of `namespace`.
    Vlan { id: u16, namespace: &'a Arc<NetNamespace>, below: NicId },
    /// `tun` or `tap`, with its features (`IFF_*`).
    Tun { is_tap: bool, flags: u32 },
}

/// Makes a device, and the other end of a pair. The caller holds the lock of changes and announces.
///
/// # Errors
/// `EEXIST` for names that are taken, `EINVAL` for what makes no sense.
pub(in crate::socket) fn make(spec: &Spec<'_>) -> Result<Arc<Device>, Errno> {
    let mac = spec.mac()?;
    match &spec.kind {
        SpecKind::Dummy => spec.add(Arc::new(DummyLink(mac)), Kind::Dummy),
        SpecKind::Bridge => {
            let bridge = Bridge::new(USUAL_MTU);
            let port = bridge.add_port(mac);
            let device = spec.add(port.clone(), Kind::Bridge { bridge: bridge.clone(), port })?;
            // Down, as every new device.
            bridge.set_on(false);
            device.attach();
            Ok(device)
        }
        SpecKind::Veth(peer) => make_pair(spec, mac, peer),
        SpecKind::Vlan { id, namespace, below } => {
            let below = device_of(namespace, *below)?;
            let trunk = trunk_of(&below)?;
            let mac = if spec.mac.is_some() { mac } else { station(&below).unwrap_or(mac) };
            let link = trunk.add(*id, mac).map_err(|e| e.to_errno())?;
            let kind = Kind::Vlan { link: link.clone(), below: Arc::downgrade(&below) };
            let device = spec.add(link, kind)?;
            device.attach();
            Ok(device)
        }
        SpecKind::Tun { is_tap, flags } => {
            let kind = if *is_tap { TunKind::Tap(mac) } else { TunKind::Tun };
            let link = TunDevice::new(kind, *flags);
            let device = spec.add(link.clone(), Kind::Tun { link })?;
            device.attach();
            Ok(device)
        }
    }
}

/// `veth_newlink`: the other end comes first.
fn make_pair(spec: &Spec<'_>, mac: MacAddr, peer: &Spec<'_>) -> Result<Arc<Device>, Errno> {
    let [near, far] = VethLink::pair(USUAL_MTU, [mac, peer.mac()?]);
    let kind = |link: &Arc<VethLink>| Kind::Veth { link: link.clone(), peer: Mutex::default() };
    let other = peer.add(far.clone(), kind(&far))?;
    let own = match spec.add(near.clone(), kind(&near)) {
        Ok(own) => own,
        Err(errno) => {
            super::change::unlink(&other);
            return Err(errno);
        }
    };
    for (device, peer) in [(&own, &other), (&other, &own)] {
        if let Kind::Veth { peer: slot, .. } = &device.kind {
            *slot.lock() = Arc::downgrade(peer);
        }
        device.attach();
    }
    Ok(own)
}

impl Spec<'_> {
    fn mac(&self) -> Result<MacAddr, Errno> {
        let mac = self.mac.map_or_else(random_mac, Ok)?;
        // "Cannot assign requested address" (eth_validate_addr).
        if mac.is_unicast() && mac != MacAddr::ZERO { Ok(mac) } else { Err(Errno::EADDRNOTAVAIL) }
    }

    /// Adds a link to the stack, down, and what is known about it to the namespace.
    fn add(&self, link: Arc<dyn Link>, kind: Kind) -> Result<Arc<Device>, Errno> {
        let stack = self.namespace.stack();
        if stack.nics().len() >= MAX_DEVICES {
            return Err(Errno::ENFILE);
        }
        let base = match &kind {
            Kind::Given | Kind::Dummy => "dummy",
            Kind::Veth { .. } => "veth",
            Kind::Bridge { .. } => "bridge",
            Kind::Vlan { .. } => "vlan",
            Kind::Tun { link } if link.kind() == TunKind::Tun => "tun",
            Kind::Tun { .. } => "tap",
        };
        let name = match self.name {
            Some(name) => free_name(self.namespace, name)?,
            None => free_name(self.namespace, &format!("{base}%d"))?,
        };
        let nic = stack.add_nic_at(self.index, &name, link, false).map_err(|e| e.to_errno())?;
        if let Some(mtu) = self.mtu
            && let Err(error) = stack.set_nic_mtu(nic, mtu)
        {
            let _ = stack.remove_nic(nic);
            return Err(error.to_errno());
        }
        let device = Device::new(kind, self.namespace, nic);
        self.namespace.devices().insert(nic, device.clone());
        Ok(device)
    }
}

impl Device {
    /// Tells the link where its frames go now.
    pub(super) fn attach(&self) {
        let Some((namespace, nic)) = self.place() else { return };
        let stack = namespace.stack();
        match &self.kind {
            Kind::Given | Kind::Dummy => {}
            Kind::Veth { link, .. } => link.attach(stack, nic),
            Kind::Bridge { port, .. } => port.attach(stack, nic),
            Kind::Vlan { link, .. } => link.attach(stack, nic),
            Kind::Tun { link } => link.attach(&namespace, nic),
        }
    }
}

/// What is known about an interface that exists, from now on if nothing was.
///
/// # Errors
/// `ENODEV`.
pub(in crate::socket) fn device_of(namespace: &Arc<NetNamespace>, nic: NicId) -> Result<Arc<Device>, Errno> {
    if let Some(device) = namespace.devices().get(nic) {
        return Ok(device);
    }
    namespace.stack().nic(nic).ok_or(Errno::ENODEV)?;
    let device = Device::new(Kind::Given, namespace, nic);
    namespace.devices().insert(nic, device.clone());
    Ok(device)
}

/// What carries the virtual LANs of a device.
fn trunk_of(below: &Arc<Device>) -> Result<Arc<VlanTrunk>, Errno> {
    let mut trunk = below.trunk.lock();
    if let Some(trunk) = trunk.upgrade() {
        return Ok(trunk);
    }
    // DEVIATION: a port of a bridge cannot carry virtual LANs of its own.
    if below.bridge().is_some() {
        return Err(Errno::EBUSY);
    }
    let (namespace, nic) = below.place().ok_or(Errno::ENODEV)?;
    let new = VlanTrunk::new(namespace.stack(), nic).map_err(|e| e.to_errno())?;
    *trunk = Arc::downgrade(&new);
    Ok(new)
}

fn station(device: &Device) -> Option<MacAddr> {
    let (namespace, nic) = device.place()?;
    namespace.stack().nic(nic)?.mac()
}

/// A name that can be used; `%d` stands for the first number that makes it one (`dev_alloc_name`).
///
/// # Errors
/// `EINVAL` for what is no name, `EEXIST` for one that is taken.
pub(super) fn free_name(namespace: &NetNamespace, wanted: &str) -> Result<String, Errno> {
    check_name(wanted)?;
    let is_free = |name: &str| namespace.stack().nic_by_name(name).is_none();
    match wanted.split_once('%') {
        None if is_free(wanted) => Ok(wanted.to_owned()),
        None => Err(Errno::EEXIST),
        Some((before, after)) => {
            let after = after.strip_prefix('d').filter(|rest| !rest.contains('%')).ok_or(Errno::EINVAL)?;
            let mut names = (0..=MAX_DEVICES).map(|number| format!("{before}{number}{after}"));
            names.find(|name| is_free(name)).ok_or(Errno::ENFILE)
        }
    }
}

/// `dev_valid_name`.
fn check_name(name: &str) -> Result<(), Errno> {
    let is_bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace();
    if name.is_empty() || name.len() >= IFNAMSIZ || name == "." || name == ".." || name.bytes().any(is_bad) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// An address that nobody was given (`eth_random_addr`).
fn random_mac() -> Result<MacAddr, Errno> {
    let mut bytes = [0; 6];
    sentry_hostio::random::fill(&mut bytes).map_err(|_| Errno::EAGAIN)?;
    // Of one station, and not of a manufacturer.
    bytes[0] = bytes[0] & 0xfe | 2;
    Ok(MacAddr(bytes))
}

/// A device that is nowhere any more, for the other end of a pair.
pub(super) fn nobody() -> Weak<Device> {
    Weak::new()
}

/// `ETH_DATA_LEN`.
const USUAL_MTU: usize = 1500;
const IFNAMSIZ: usize = 16;
/// What a namespace holds at most: who lists them is answered from memory, and each costs some KiB.
const MAX_DEVICES: usize = 4096;
