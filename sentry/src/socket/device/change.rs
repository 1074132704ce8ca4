//! Changing devices: up and down, ports of bridges, moves to other namespaces, the end. The caller holds the lock of changes.

use std::sync::Arc;

use netstack::NicId;
use netstack::link::Link;
use netstack::nic::NicInfo;
use netstack::wire::ethernet::MacAddr;
use sentry_abi::netlink::RTM_NEWLINK;

use super::dummy::DummyLink;
use super::make::{device_of, free_name, nobody};
use super::{Device, Kind, Port, address, routes};
use crate::errno::Errno;
use crate::socket::inet::ToErrno;
use crate::socket::{NetNamespace, netlink};

/// Turns an interface on or off, with what follows from that for it and for what is connected to it.
///
/// # Errors
/// `ENODEV`.
pub(in crate::socket) fn set_up(namespace: &Arc<NetNamespace>, nic: &NicInfo, up: bool) -> Result<(), Errno> {
    let stack = namespace.stack();
    if nic.is_up != up {
        stack.set_nic_up(nic.id, up).map_err(|e| e.to_errno())?;
        match up {
            true => routes::went_up(namespace, nic),
            false => routes::went_down(namespace, nic),
        }
    }
    let Some(device) = namespace.devices().get(nic.id) else {
        if up && nic.medium == netstack::link::Medium::Loopback {
            address::give_loopback(namespace, nic);
        }
        return Ok(());
    };
    if let Kind::Bridge { bridge, .. } = &device.kind {
        bridge.set_on(up);
    }
    if let Some(tun) = device.tun() {
        tun.set_on(up);
    }
    device.settle();
    if nic.is_up != up {
        tell_connected(&device);
    }
    Ok(())
}

/// Tells in their namespaces that the carriers of those that depend on a device may have changed.
fn tell_connected(device: &Arc<Device>) {
    let peer = if let Kind::Veth { .. } = device.kind { device.other() } else { None };
    let above = peer.into_iter().chain(device.bridge()).chain(device.lans());
    for device in above.collect::<Vec<_>>() {
        device.settle();
        if let Some((namespace, nic)) = device.place() {
            netlink::announce_link(&namespace, nic, RTM_NEWLINK);
        }
        // A carrier of a pair that is a port is that of its bridge.
        for above in device.bridge().into_iter().chain(device.lans()) {
            above.settle();
            if let Some((namespace, nic)) = above.place() {
                netlink::announce_link(&namespace, nic, RTM_NEWLINK);
            }
        }
    }
}

impl Device {
    /// Gives or takes the link-local address.
    fn settle(&self) {
        if let Kind::Given = self.kind {
            return;
        }
        let Some((namespace, nic)) = self.place() else { return };
        address::settle_link_local(&namespace, nic, self.is_up() && self.has_carrier());
    }
}

/// Makes a device a port of the bridge with the number `master` in its namespace, or of none.
///
/// # Errors
/// `EINVAL` for what cannot be a port or is no bridge, `ELOOP` for a bridge as a port, `EBUSY` for one that is a port already.
pub(in crate::socket) fn set_master(
    namespace: &Arc<NetNamespace>,
    nic: NicId,
    master: Option<NicId>,
) -> Result<(), Errno> {
    let device = device_of(namespace, nic)?;
    let Some(master) = master else {
        let bridge = device.bridge();
        // Dropped without the lock of the port: the bridge is told.
        let port = device.port.lock().take();
        drop(port);
        if let Some((namespace, nic)) = bridge.and_then(|bridge| bridge.place()) {
            netlink::announce_link(&namespace, nic, RTM_NEWLINK);
        }
        return Ok(());
    };
    let master = namespace.devices().get(master).ok_or(Errno::EINVAL)?;
    let Kind::Bridge { bridge, .. } = &master.kind else { return Err(Errno::EOPNOTSUPP) };
    if let Some(current) = device.bridge() {
        if Arc::ptr_eq(&current, &master) {
            return Ok(());
        }
        set_master(namespace, nic, None)?;
    }
    // br_add_if: "Don't allow bridging of bridges".
    if let Kind::Bridge { .. } = device.kind {
        return Err(Errno::ELOOP);
    }
    if device.trunk.lock().strong_count() > 0 {
        return Err(Errno::EBUSY);
    }
    let member = bridge.add_member(namespace.stack(), nic).map_err(|_| Errno::EINVAL)?;
    *device.port.lock() = Some(Port { bridge: Arc::downgrade(&master), _member: member });
    follow_ports(&master);
    master.settle();
    if let Some((namespace, nic)) = master.place() {
        netlink::announce_link(&namespace, nic, RTM_NEWLINK);
    }
    Ok(())
}

/// The MTU of a bridge is the least of its ports' (`br_mtu_auto_adjust`).
fn follow_ports(bridge: &Device) {
    let Some((namespace, nic)) = bridge.place() else { return };
    let mtu = |port: Arc<Device>| {
        let (namespace, nic) = port.place()?;
        Some(namespace.stack().nic(nic)?.mtu)
    };
    if let Some(least) = bridge.ports().into_iter().filter_map(mtu).min() {
        // It is that of an interface, so it is one.
        let _ = namespace.stack().set_nic_mtu(nic, least);
    }
}

/// Gives an interface another name.
///
/// # Errors
/// `EINVAL` for what is no name, `EEXIST` for one that is taken.
pub(in crate::socket) fn rename(
    namespace: &Arc<NetNamespace>,
    nic: &NicInfo,
    name: &str,
) -> Result<(), Errno> {
    if nic.name == name {
        return Ok(());
    }
    let name = free_name(namespace, name)?;
    namespace.stack().rename_nic(nic.id, &name).map_err(|e| e.to_errno())
}

/// Gives an interface another station address.
///
/// # Errors
/// `EADDRNOTAVAIL` for what is none of a station, `EOPNOTSUPP` for what has none or a fixed one.
pub(in crate::socket) fn set_mac(
    namespace: &Arc<NetNamespace>,
    nic: &NicInfo,
    mac: MacAddr,
) -> Result<(), Errno> {
    let device = namespace.devices().get(nic.id);
    let device = device.filter(|device| !matches!(device.kind, Kind::Given)).ok_or(Errno::EOPNOTSUPP)?;
    if nic.mac().is_none() {
        return Err(Errno::EOPNOTSUPP);
    }
    if !mac.is_unicast() || mac == MacAddr::ZERO {
        return Err(Errno::EADDRNOTAVAIL);
    }
    address::settle_link_local(namespace, nic.id, false);
    namespace.stack().set_nic_mac(nic.id, mac).map_err(|e| e.to_errno())?;
    device.settle();
    Ok(())
}

/// Moves an interface to another namespace, under another name if one is given. It arrives down and without addresses.
///
/// # Errors
/// `EINVAL` for what stays where it is, `EEXIST` where there is one of that name.
pub(in crate::socket) fn move_to(
    from: &Arc<NetNamespace>,
    nic: &NicInfo,
    to: &Arc<NetNamespace>,
    name: Option<&str>,
) -> Result<NicId, Errno> {
    let device = from.devices().get(nic.id).ok_or(Errno::EINVAL)?;
    let mac = nic.mac();
    let link: Arc<dyn Link> = match &device.kind {
        // Who reads them serves the first namespace; bridges are of one (NETIF_F_NETNS_LOCAL).
        Kind::Given | Kind::Bridge { .. } => return Err(Errno::EINVAL),
        Kind::Dummy => Arc::new(DummyLink(mac.ok_or(Errno::EINVAL)?)),
        Kind::Veth { link, .. } => link.clone(),
        Kind::Vlan { link, .. } => link.clone(),
        Kind::Tun { link } => link.clone(),
    };
    let name = free_name(to, name.unwrap_or(&nic.name))?;
    set_master(from, nic.id, None)?;
    for lan in device.lans() {
        remove(&lan);
    }
    let gone = netlink::link_gone(from, nic);
    from.stack().remove_nic(nic.id).map_err(|e| e.to_errno())?;
    from.devices().remove(nic.id);
    let id = to.stack().add_nic_at(Some(nic.id), &name, link, false).map_err(|e| e.to_errno())?;
    // As it was.
    let _ = to.stack().set_nic_mtu(id, nic.mtu);
    let _ = to.stack().set_nic_capabilities(id, nic.capabilities);
    if let Some(tun) = device.tun() {
        tun.set_on(false);
    }
    if let Some(mac) = mac {
        let _ = to.stack().set_nic_mac(id, mac);
    }
    {
        let mut place = device.place.lock();
        place.namespace = Arc::downgrade(to);
        place.nic = id;
    }
    to.devices().insert(id, device.clone());
    device.attach();
    gone.send(from);
    netlink::announce_link(to, id, RTM_NEWLINK);
    tell_connected(&device);
    Ok(id)
}

/// Ends a device that a guest made, with the other end of a pair and what is on top of it.
///
/// # Errors
/// `EOPNOTSUPP` for what guests did not make.
pub(in crate::socket) fn remove_nic(namespace: &Arc<NetNamespace>, nic: NicId) -> Result<(), Errno> {
    let device = namespace.devices().get(nic);
    let device = device.filter(|device| !matches!(device.kind, Kind::Given)).ok_or(Errno::EOPNOTSUPP)?;
    remove(&device);
    Ok(())
}

/// The same for a device.
fn remove(device: &Arc<Device>) {
    for lan in device.lans() {
        remove(&lan);
    }
    if let Kind::Bridge { .. } = device.kind {
        for port in device.ports() {
            let port_gone = port.port.lock().take();
            drop(port_gone);
            if let Some((namespace, nic)) = port.place() {
                netlink::announce_link(&namespace, nic, RTM_NEWLINK);
            }
        }
    }
    let peer = match &device.kind {
        Kind::Veth { peer, .. } => std::mem::replace(&mut *peer.lock(), nobody()).upgrade(),
        Kind::Given | Kind::Dummy | Kind::Bridge { .. } | Kind::Vlan { .. } | Kind::Tun { .. } => None,
    };
    let bridge = device.bridge();
    unlink(device);
    if let Some((namespace, nic)) = bridge.and_then(|bridge| bridge.place()) {
        netlink::announce_link(&namespace, nic, RTM_NEWLINK);
    }
    if let Some(peer) = peer {
        if let Kind::Veth { peer: back, .. } = &peer.kind {
            *back.lock() = nobody();
        }
        remove(&peer);
    }
}

/// The carrier of a device may have changed.
pub(in crate::socket) fn carrier_changed(namespace: &Arc<NetNamespace>, nic: NicId) {
    let Some(device) = namespace.devices().get(nic) else { return };
    device.settle();
    netlink::announce_link(namespace, nic, RTM_NEWLINK);
    tell_connected(&device);
}

/// Nobody is at the other end of a tunnel any more, which ends it unless it is to stay.
pub(in crate::socket) fn left(namespace: &Arc<NetNamespace>, nic: NicId, stays: bool) {
    match namespace.devices().get(nic) {
        Some(device) if !stays => remove(&device),
        _ => carrier_changed(namespace, nic),
    }
}

/// Takes a device out of its namespace.
pub(super) fn unlink(device: &Device) {
    let port = device.port.lock().take();
    drop(port);
    let Some((namespace, nic)) = device.place() else { return };
    let Some(info) = namespace.stack().nic(nic) else { return };
    let gone = netlink::link_gone(&namespace, &info);
    // It was there a moment ago, and only who holds the lock removes any.
    let _ = namespace.stack().remove_nic(nic);
    let removed = namespace.devices().remove(nic);
    gone.send(&namespace);
    if let Some(tun) = device.tun() {
        tun.end();
    }
    drop(removed);
}

/// Takes apart what a namespace that has ended leaves: the other ends of its pairs end with it.
pub(in crate::socket) fn abandon(devices: Vec<Arc<Device>>) {
    let _lock = super::lock();
    for device in devices {
        if let Kind::Veth { peer, .. } = &device.kind {
            let peer = std::mem::replace(&mut *peer.lock(), nobody()).upgrade();
            if let Some(peer) = peer {
                remove(&peer);
            }
        }
        if let Some(tun) = device.tun() {
            tun.end();
        }
        for lan in device.lans() {
            remove(&lan);
        }
    }
}

impl super::Devices {
    /// All of them, for who takes them apart.
    pub(in crate::socket) fn take_all(&self) -> Vec<Arc<Device>> {
        std::mem::take(&mut *self.by_nic.lock()).into_values().collect()
    }
}
