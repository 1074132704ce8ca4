//! `ioctl(2)` on `/dev/net/tun` (`__tun_chr_ioctl`).

use std::sync::Arc;

use netstack::nic::NicInfo;
use netstack::wire::ethernet::MacAddr;
use sentry_abi::ifreq::{IFNAMSIZ, IfReq, SIOCGIFHWADDR, SIOCSIFHWADDR};
use sentry_abi::netlink::RTM_NEWLINK;
use sentry_abi::tun::*;

use super::device::{FEATURES, TunDevice};
use super::file::TunFile;
use super::filter::Stations;
use crate::bpf;
use crate::errno::{Errno, SysResult};
use crate::fs::nsfs;
use crate::mm::UserAddr;
use crate::socket::device::{self, Spec, SpecKind};
use crate::socket::net_ioctl::{name_bytes, put_station, set_station};
use crate::socket::netlink::announce_link;
use crate::socket::packet::vnet_header::PLAIN_LEN;
use crate::socket::{Backing, NetNamespace};
use crate::task::{Capabilities, CurrentTask};

/// Handles a request.
///
/// # Errors
/// `EBADFD` where a device is needed and there is none, `EINVAL` for requests that no device knows.
pub(super) fn ioctl(file: &TunFile, task: &mut CurrentTask, request: u32, arg: u64) -> SysResult {
    let addr = UserAddr(arg);
    match request {
        TUNGETFEATURES => return put(task, addr, IFF_TUN | IFF_TAP | FEATURES),
        TUNSETQUEUE => return set_queue(file, task, addr),
        TUNSETIFF => return set_interface(file, task, addr),
        TUNSETIFINDEX => {
            if file.device().is_some() {
                return Err(Errno::EPERM.into());
            }
            file.set_wanted_index(task.mm().read_obj(addr)?);
            return Ok(0);
        }
        SIOCGSKNS => return namespace(task, file.namespace()),
        _ => {}
    }
    let device = file.device().ok_or(Errno::EBADFD)?;
    let (home, nic) = device.place().ok_or(Errno::EBADFD)?;
    let nic = home.stack().nic(nic).ok_or(Errno::EBADFD)?;
    match request {
        TUNGETIFF => get_interface(file, task, &device, &nic, addr),
        // All that there were to set is always so.
        TUNSETNOCSUM | TUNSETDEBUG => Ok(0),
        TUNSETPERSIST => {
            device.change(|settings| settings.is_persistent = arg != 0);
            Ok(0)
        }
        TUNSETOWNER => {
            let owner = task.creds().user_ns.uid(args_id(arg)).ok_or(Errno::EINVAL)?;
            device.change(|settings| settings.owner = Some(owner));
            Ok(0)
        }
        TUNSETGROUP => {
            let group = task.creds().user_ns.gid(args_id(arg)).ok_or(Errno::EINVAL)?;
            device.change(|settings| settings.group = Some(group));
            Ok(0)
        }
        TUNSETLINK if nic.is_up => Err(Errno::EBUSY.into()),
        TUNSETLINK => {
            // dev->type is a short.
            let chosen = u16::try_from(arg & 0xffff).ok();
            device.change(|settings| settings.hardware_type = chosen);
            Ok(0)
        }
        TUNSETOFFLOAD => {
            device.set_offload(u32::try_from(arg).map_err(|_| Errno::EINVAL)?)?;
            Ok(0)
        }
        TUNSETTXFILTER if device.flags() & IFF_TAP != 0 => set_stations(task, &device, addr),
        TUNATTACHFILTER if device.flags() & IFF_TAP != 0 => attach_filter(task, &device, addr),
        TUNDETACHFILTER if device.flags() & IFF_TAP != 0 => {
            device.change_filters(|filters| filters.program = None);
            Ok(0)
        }
        TUNGETFILTER if device.flags() & IFF_TAP != 0 => {
            task.mm().write_bytes(addr, &device.settings().program)?;
            Ok(0)
        }
        SIOCGIFHWADDR => {
            let mut request: IfReq = task.mm().read_obj(addr)?;
            put_station(&home, &nic, &mut request);
            task.mm().write_obj(addr, &request)?;
            Ok(0)
        }
        SIOCSIFHWADDR => {
            set_station(&home, &nic, &task.mm().read_obj(addr)?)?;
            announce_link(&home, nic.id, RTM_NEWLINK);
            Ok(0)
        }
        TUNGETSNDBUF => put(task, addr, device.settings().send_buffer.cast_unsigned()),
        TUNSETSNDBUF => {
            let size = int(task, addr)?;
            if size <= 0 {
                return Err(Errno::EINVAL.into());
            }
            // What is written is received at once, so that there is never anything in it.
            device.change(|settings| settings.send_buffer = size);
            Ok(0)
        }
        TUNGETVNETHDRSZ => put(task, addr, u32::try_from(device.vnet_len()).map_err(|_| Errno::EINVAL)?),
        TUNSETVNETHDRSZ => {
            let len = usize::try_from(int(task, addr)?).ok().filter(|len| *len >= PLAIN_LEN);
            device.set_vnet_len(len.ok_or(Errno::EINVAL)?);
            Ok(0)
        }
        TUNGETVNETLE => put(task, addr, device.settings().is_little_endian.into()),
        TUNSETVNETLE => {
            let is_on = int(task, addr)? != 0;
            device.change(|settings| settings.is_little_endian = is_on);
            Ok(0)
        }
        TUNSETCARRIER => {
            let has_carrier = int(task, addr)? != 0;
            let _changes = device::lock();
            device.set_carrier(has_carrier);
            device::carrier_changed(&home, nic.id);
            Ok(0)
        }
        TUNGETDEVNETNS => namespace(task, &home),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Ids are passed by value.
fn args_id(arg: u64) -> u32 {
    (arg & u64::from(u32::MAX)) as u32
}

fn put(task: &CurrentTask, addr: UserAddr, value: u32) -> SysResult {
    task.mm().write_obj(addr, &value)?;
    Ok(0)
}

fn int(task: &CurrentTask, addr: UserAddr) -> Result<i32, Errno> {
    task.mm().read_obj(addr)
}

/// A descriptor of a namespace (`open_related_ns`).
fn namespace(task: &CurrentTask, namespace: &Arc<NetNamespace>) -> SysResult {
    if !namespace.grants(&task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    nsfs::install(task, &nsfs::Namespace::Net(namespace.clone()))
}

/// The flags of a request: a short.
fn flags_of(request: &IfReq) -> u32 {
    u16::from_ne_bytes([request.data[0], request.data[1]]).into()
}

fn put_flags(request: &mut IfReq, flags: u32) {
    request.data[..2].copy_from_slice(&flags.to_ne_bytes()[..2]);
}

/// `TUNSETIFF`: attaches the file to a device, which is made if there is none of that name (`tun_set_iff`).
fn set_interface(file: &TunFile, task: &CurrentTask, addr: UserAddr) -> SysResult {
    let mut request: IfReq = task.mm().read_obj(addr)?;
    if file.device().is_some() {
        return Err(Errno::EEXIST.into());
    }
    let namespace = file.namespace();
    if namespace.backing() == Backing::Host {
        // Interfaces of the host are not the sandbox's to make.
        return Err(Errno::EPERM.into());
    }
    let flags = flags_of(&request);
    if flags & IFF_NAPI_FRAGS != 0 {
        if !task.creds().has(Capabilities::NET_ADMIN) {
            return Err(Errno::EPERM.into());
        }
        if flags & IFF_NAPI == 0 || flags & (IFF_TUN | IFF_TAP) != IFF_TAP {
            return Err(Errno::EINVAL.into());
        }
    }
    let len = request.name[..IFNAMSIZ - 1].iter().position(|byte| *byte == 0).unwrap_or(IFNAMSIZ - 1);
    let name = std::str::from_utf8(&request.name[..len]).map_err(|_| Errno::EINVAL)?.to_owned();
    let _changes = device::lock();
    let device = match namespace.stack().nic_by_name(&name) {
        Some(nic) => {
            let device = device::tun(namespace, nic).ok_or(Errno::EINVAL)?;
            join(file, task, &device, flags)?;
            device
        }
        None => make(file, task, &name, flags)?,
    };
    device.set_carrier(flags & IFF_NO_CARRIER == 0);
    file.set_device(device.clone());
    let (home, nic) = device.place().ok_or(Errno::EINVAL)?;
    device::carrier_changed(&home, nic);
    let nic = home.stack().nic(nic).ok_or(Errno::EINVAL)?;
    request.name = name_bytes(&nic.name);
    task.mm().write_obj(addr, &request)?;
    Ok(0)
}

/// Attaches a file to a device that is there.
fn join(file: &TunFile, task: &CurrentTask, device: &TunDevice, flags: u32) -> Result<(), Errno> {
    if flags & IFF_TUN_EXCL != 0 {
        return Err(Errno::EBUSY);
    }
    // Who asks for both gets a tun.
    let kind = if flags & IFF_TUN != 0 { IFF_TUN } else { flags & IFF_TAP };
    if device.flags() & (IFF_TUN | IFF_TAP) != kind
        || device.has(IFF_MULTI_QUEUE) != (flags & IFF_MULTI_QUEUE != 0)
    {
        return Err(Errno::EINVAL);
    }
    if !device.admits(file.namespace(), &task.creds()) {
        return Err(Errno::EPERM);
    }
    file.queue().clear();
    device.add_file(file.queue())?;
    if device.file_count() == 1 {
        device.set_features(flags);
        if flags & IFF_VNET_HDR == 0 {
            // What the file before could finish, nobody could tell this one about.
            device.set_offload(0)?;
        }
    }
    Ok(())
}

fn make(file: &TunFile, task: &CurrentTask, name: &str, flags: u32) -> Result<Arc<TunDevice>, Errno> {
    let namespace = file.namespace();
    if !namespace.grants(&task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    let is_tap = match flags & (IFF_TUN | IFF_TAP) {
        0 => return Err(Errno::EINVAL),
        kind => kind & IFF_TUN == 0,
    };
    let spec = Spec {
        namespace,
        name: Some(name).filter(|name| !name.is_empty()),
        index: file.wanted_index(),
        mac: None,
        mtu: None,
        kind: SpecKind::Tun { is_tap, flags },
    };
    let made = device::make(&spec)?;
    let (_, nic) = made.place().ok_or(Errno::EINVAL)?;
    let device = device::tun(namespace, nic).ok_or(Errno::EINVAL)?;
    file.queue().clear();
    // A new one has room.
    device.add_file(file.queue())?;
    announce_link(namespace, nic, RTM_NEWLINK);
    Ok(device)
}

/// `TUNGETIFF`.
fn get_interface(
    file: &TunFile,
    task: &CurrentTask,
    device: &TunDevice,
    nic: &NicInfo,
    addr: UserAddr,
) -> SysResult {
    let mut request: IfReq = task.mm().read_obj(addr)?;
    request.name = name_bytes(&nic.name);
    // The socket behind the file never has a filter of its own.
    let resting = if device.is_resting(file.queue()) { IFF_DETACH_QUEUE } else { 0 };
    put_flags(&mut request, device.flags() | IFF_NOFILTER | resting);
    task.mm().write_obj(addr, &request)?;
    Ok(0)
}

/// `TUNSETQUEUE` (`tun_set_queue`).
fn set_queue(file: &TunFile, task: &CurrentTask, addr: UserAddr) -> SysResult {
    let request: IfReq = task.mm().read_obj(addr)?;
    let device = file.device().ok_or(Errno::EINVAL)?;
    let _changes = device::lock();
    match flags_of(&request) {
        flags if flags & IFF_ATTACH_QUEUE != 0 => {
            if !device.is_resting(file.queue()) {
                return Err(Errno::EINVAL.into());
            }
            if !device.admits(file.namespace(), &task.creds()) {
                return Err(Errno::EPERM.into());
            }
            device.set_resting(file.queue(), false)?;
        }
        flags if flags & IFF_DETACH_QUEUE != 0 => device.set_resting(file.queue(), true)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    if let Some((home, nic)) = device.place() {
        announce_link(&home, nic, RTM_NEWLINK);
    }
    Ok(0)
}

/// `TUNSETTXFILTER` (`update_filter`): stations, the first eight of which may be single ones.
fn set_stations(task: &CurrentTask, device: &TunDevice, addr: UserAddr) -> SysResult {
    // struct tun_filter: flags and a number of addresses.
    let head: [u16; 2] = task.mm().read_obj(addr)?;
    let mut bytes = vec![0; usize::from(head[1]) * 6];
    task.mm().read_bytes(addr.checked_add(4)?, &mut bytes)?;
    let (stations, _) = bytes.as_chunks::<6>();
    let exact = stations.len().min(MAX_EXACT);
    let has_hashed_station = stations[exact..].iter().any(|station| MacAddr(*station).is_unicast());
    if stations.is_empty() || has_hashed_station {
        device.change_filters(|filters| filters.stations = None);
        return Ok(0);
    }
    let wanted =
        Stations { wanted: stations.iter().copied().collect(), all_groups: head[0] & TUN_FLT_ALLMULTI != 0 };
    device.change_filters(|filters| filters.stations = Some(wanted));
    Ok(exact as u64)
}

/// `TUNATTACHFILTER`.
fn attach_filter(task: &CurrentTask, device: &TunDevice, addr: UserAddr) -> SysResult {
    let mut fprog = [0; bpf::FPROG_LEN];
    task.mm().read_bytes(addr, &mut fprog)?;
    let program = bpf::read_program(task.mm(), &fprog)?;
    device.change(|settings| settings.program = fprog);
    device.change_filters(|filters| filters.program = Some(program));
    Ok(0)
}

/// `FLT_EXACT_COUNT`.
const MAX_EXACT: usize = 8;
