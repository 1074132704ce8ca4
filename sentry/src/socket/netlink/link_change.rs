//! `RTM_NEWLINK`, `RTM_SETLINK` and `RTM_DELLINK`: making, changing and removing interfaces.

use std::sync::Arc;

use netstack::NicId;
use netstack::nic::NicInfo;
use netstack::wire::ethernet::MacAddr;
use sentry_abi::ifreq::IfFlags;
use sentry_abi::netlink::*;
use zerocopy::FromBytes;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::device::{self, Spec, SpecKind};
use crate::socket::inet::ToErrno;
use crate::socket::netlink::link;
use crate::socket::netlink::message::{Attributes, Request};
use crate::socket::netlink::namespace_id::{self, Named};
use crate::task::{Capabilities, Task};

/// Makes an interface, or changes one that there is (`rtnl_newlink`, `rtnl_setlink`).
pub(super) fn change(
    namespace: &Arc<NetNamespace>,
    request: &Request<'_>,
    task: Option<&Task>,
) -> Result<(), Errno> {
    let (info, attributes) = request.split_full::<IfInfoMsg>()?;
    namespace.check_configurable()?;
    let _changes = device::lock();
    let is_named = info.index > 0 || attributes.find(IFLA_IFNAME).is_some();
    let creates = request.has(NLM_F_CREATE) && request.header.kind == RTM_NEWLINK;
    if !is_named && !creates && attributes.find(IFLA_ALT_IFNAME).is_none() {
        // The first is how ip-link(8) finds out whether interfaces can be made.
        return Err(if request.header.kind == RTM_NEWLINK { Errno::ENODEV } else { Errno::EINVAL });
    }
    match link::find(namespace, &info, attributes) {
        Ok(_) if creates && request.has(NLM_F_EXCL) => Err(Errno::EEXIST),
        Ok(nic) => set(namespace, nic, &info, attributes, task),
        Err(_) if creates => make(namespace, &info, attributes, task),
        Err(errno) => Err(errno),
    }
}

/// Removes an interface.
pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let (info, attributes) = request.split_full::<IfInfoMsg>()?;
    namespace.check_configurable()?;
    let _changes = device::lock();
    let nic = link::find(namespace, &info, attributes)?;
    device::remove_nic(namespace, nic.id)
}

/// The namespace that attributes name, in which the caller must be an administrator as well.
fn target(
    namespace: &Arc<NetNamespace>,
    attributes: Attributes<'_>,
    task: Option<&Task>,
) -> Result<Option<Arc<NetNamespace>>, Errno> {
    let number = |kind| attributes.u32(kind).map(u32::cast_signed);
    let named = number(IFLA_NET_NS_PID)
        .map(Named::Process)
        .or_else(|| number(IFLA_NET_NS_FD).map(Named::Descriptor))
        .or_else(|| number(IFLA_TARGET_NETNSID).map(Named::Id));
    let Some(named) = named else { return Ok(None) };
    let target = namespace_id::resolve(namespace, named, task)?;
    let may = |task: &Task| target.grants(&task.creds(), Capabilities::NET_ADMIN);
    if task.is_some_and(may) { Ok(Some(target)) } else { Err(Errno::EPERM) }
}

fn make(
    namespace: &Arc<NetNamespace>,
    info: &IfInfoMsg,
    attributes: Attributes<'_>,
    task: Option<&Task>,
) -> Result<(), Errno> {
    let link_info = attributes.find(IFLA_LINKINFO).map(Attributes::within);
    let kind = link_info.and_then(|info| info.str(IFLA_INFO_KIND)).ok_or(Errno::EOPNOTSUPP)?;
    let data = link_info.and_then(|info| info.find(IFLA_INFO_DATA)).map(Attributes::within);
    let home = target(namespace, attributes, task)?.unwrap_or_else(|| namespace.clone());
    let peer_home;
    let kind = match kind {
        "dummy" => SpecKind::Dummy,
        "bridge" => SpecKind::Bridge,
        "veth" => {
            let peer = data.and_then(|data| data.find(VETH_INFO_PEER));
            let (fixed, peer) = match peer {
                Some(bytes) => {
                    let (fixed, rest) = IfInfoMsg::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
                    (fixed, Attributes::within(rest))
                }
                None => (IfInfoMsg::default(), Attributes::within(&[])),
            };
            peer_home = target(namespace, peer, task)?.unwrap_or_else(|| namespace.clone());
            SpecKind::Veth(Box::new(spec(&peer_home, &fixed, peer, SpecKind::Dummy)?))
        }
        "vlan" => {
            let data = data.ok_or(Errno::EINVAL)?;
            let id = data.find(IFLA_VLAN_ID).and_then(|bytes| bytes.get(..2)).ok_or(Errno::EINVAL)?;
            let protocol = data.find(IFLA_VLAN_PROTOCOL).and_then(|bytes| bytes.get(..2));
            if protocol.is_some_and(|protocol| protocol != [0x81, 0x00]) {
                return Err(Errno::EPROTONOSUPPORT);
            }
            let below = attributes.u32(IFLA_LINK).and_then(NicId::from_index).ok_or(Errno::EINVAL)?;
            SpecKind::Vlan { id: u16::from_ne_bytes([id[0], id[1]]), namespace, below }
        }
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let is_pair = matches!(kind, SpecKind::Veth(_));
    let made = device::make(&spec(&home, info, attributes, kind)?)?;
    let (home, nic) = made.place().ok_or(Errno::ENODEV)?;
    if let Some((home, peer)) = made.peer_place().filter(|_| is_pair) {
        link::announce(&home, peer, RTM_NEWLINK);
    }
    let finish = || {
        if let Some(master) = attributes.u32(IFLA_MASTER).and_then(NicId::from_index) {
            device::set_master(&home, nic, Some(master))?;
        }
        if info.flags & IfFlags::UP.bits() != 0 {
            let nic = home.stack().nic(nic).ok_or(Errno::ENODEV)?;
            device::set_up(&home, &nic, true)?;
        }
        Ok(())
    };
    if let Err(errno) = finish() {
        device::remove_nic(&home, nic)?;
        return Err(errno);
    }
    link::announce(&home, nic, RTM_NEWLINK);
    Ok(())
}

/// What a message says of an interface to be made.
fn spec<'a>(
    namespace: &'a Arc<NetNamespace>,
    info: &IfInfoMsg,
    attributes: Attributes<'a>,
    kind: SpecKind<'a>,
) -> Result<Spec<'a>, Errno> {
    if info.index < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Spec {
        namespace,
        name: attributes.str(IFLA_IFNAME),
        index: NicId::from_index(info.index.unsigned_abs()),
        mac: attributes.find(IFLA_ADDRESS).map(station).transpose()?,
        mtu: attributes.u32(IFLA_MTU),
        kind,
    })
}

fn station(bytes: &[u8]) -> Result<MacAddr, Errno> {
    <[u8; 6]>::try_from(bytes).map(MacAddr).map_err(|_| Errno::EINVAL)
}

/// `do_setlink`.
fn set(
    namespace: &Arc<NetNamespace>,
    nic: NicInfo,
    info: &IfInfoMsg,
    attributes: Attributes<'_>,
    task: Option<&Task>,
) -> Result<(), Errno> {
    for (kind, _) in attributes {
        match kind {
            // The name that found it, masks of what to report, and what has no effect.
            IFLA_IFNAME | IFLA_ALT_IFNAME | IFLA_EXT_MASK | IFLA_TXQLEN | IFLA_GROUP => {}
            IFLA_MTU | IFLA_ADDRESS | IFLA_MASTER => {}
            IFLA_NET_NS_PID | IFLA_NET_NS_FD | IFLA_TARGET_NETNSID => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
    }
    let new_name = attributes.str(IFLA_IFNAME).filter(|_| info.index > 0);
    let (namespace, nic) = match target(namespace, attributes, task)? {
        Some(target) if !Arc::ptr_eq(&target, namespace) => {
            let id = device::move_to(namespace, &nic, &target, new_name)?;
            let nic = target.stack().nic(id).ok_or(Errno::ENODEV)?;
            (&target.clone(), nic)
        }
        _ => (namespace, nic),
    };
    let stack = namespace.stack();
    if let Some(mac) = attributes.find(IFLA_ADDRESS) {
        device::set_mac(namespace, &nic, station(mac)?)?;
    }
    if let Some(mtu) = attributes.u32(IFLA_MTU) {
        stack.set_nic_mtu(nic.id, mtu).map_err(|e| e.to_errno())?;
    }
    if let Some(name) = new_name {
        device::rename(namespace, &nic, name)?;
    }
    if let Some(master) = attributes.u32(IFLA_MASTER) {
        device::set_master(namespace, nic.id, NicId::from_index(master))?;
    }
    let up = IfFlags::UP.bits();
    // A change mask of zero means all flags, of which only this one can be changed here.
    if (info.change == 0 && info.flags != 0) || info.change & up != 0 {
        device::set_up(namespace, &nic, info.flags & up != 0)?;
    }
    link::announce(namespace, nic.id, RTM_NEWLINK);
    Ok(())
}
