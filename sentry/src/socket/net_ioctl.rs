//! `ioctl(2)` on sockets: interface requests (`netdevice(7)`) for every family, the rest to the family.

mod neighbour;
mod route;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use netstack::link::Medium;
use netstack::nic::{InterfaceAddress, NicInfo};
use netstack::options::Family as IpFamily;
use netstack::wire::ethernet::MacAddr;
use netstack::{IpCidr, NicId};
use sentry_abi::ifreq::*;
use sentry_abi::netlink::RTM_NEWLINK;
use sentry_abi::socket::{AF_INET, AF_INET6, SIOCGSTAMP, SIOCGSTAMPNS};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::socket::file::SocketFile;
use crate::socket::inet::{ToErrno, decode_address, encode_address};
use crate::socket::netlink::{self, OnExisting, announce_link};
use crate::socket::{Backing, NetNamespace, device, host};
use crate::task::{Capabilities, CurrentTask};
use crate::vfs::File;

/// Handles a request on `socket`.
///
/// # Errors
/// `ENOTTY` for requests that no socket knows; as `netdevice(7)`.
pub(super) fn ioctl(
    socket: &SocketFile,
    task: &mut CurrentTask,
    file: &File,
    request: u32,
    arg: u64,
) -> SysResult {
    let addr = UserAddr(arg);
    if socket.namespace().backing() == Backing::Host
        && let Some(result) = host::ioctl(task, request, addr)
    {
        return result;
    }
    let family = socket.socket().base().family;
    match request {
        SIOCGIFCONF => list_interfaces(socket.namespace(), task, addr),
        SIOCGIFNAME => get_name(socket.namespace(), task, addr),
        SIOCGIFFLAGS | SIOCGIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR | SIOCGIFNETMASK | SIOCGIFMETRIC
        | SIOCGIFMTU | SIOCGIFHWADDR | SIOCGIFINDEX | SIOCGIFTXQLEN | SIOCGIFMAP => {
            get_attribute(socket.namespace(), task, request, addr)
        }
        SIOCADDRT | SIOCDELRT => route::change(socket.namespace(), task, family, request, addr),
        SIOCGARP | SIOCSARP | SIOCDARP => neighbour::ioctl(socket.namespace(), task, request, addr),
        SIOCSIFADDR | SIOCDIFADDR if family == AF_INET6 => change_v6(socket.namespace(), task, request, addr),
        SIOCSIFFLAGS | SIOCSIFADDR | SIOCSIFNETMASK | SIOCSIFMTU | SIOCSIFDSTADDR | SIOCSIFBRDADDR
        | SIOCSIFNAME | SIOCSIFHWADDR => set_attribute(socket.namespace(), task, request, addr),
        SIOCETHTOOL => ethtool(socket.namespace(), task, addr),
        // Nothing was ever stamped for this call (sock_get_timestamp).
        SIOCGSTAMP | SIOCGSTAMPNS => Err(Errno::ENOENT.into()),
        _ => socket.socket().ioctl(task, file, request, arg),
    }
}

/// The flags of an interface as `SIOCGIFFLAGS` and `RTM_GETLINK` show them.
pub(super) fn if_flags(namespace: &NetNamespace, nic: &NicInfo) -> IfFlags {
    let mut flags = match nic.medium {
        Medium::Loopback => IfFlags::LOOPBACK,
        Medium::Ethernet(_) => IfFlags::BROADCAST | IfFlags::MULTICAST,
        Medium::Ip => IfFlags::POINTOPOINT | IfFlags::NOARP | IfFlags::MULTICAST,
    };
    let device = namespace.devices().get(nic.id);
    if device.as_ref().is_some_and(|device| device.is_dummy()) {
        flags = flags.difference(IfFlags::MULTICAST) | IfFlags::NOARP;
    }
    if nic.is_up {
        flags |= IfFlags::UP;
        if device.is_none_or(|device| device.has_carrier()) {
            flags |= IfFlags::RUNNING | IfFlags::LOWER_UP;
        }
    }
    flags
}

/// The station address; the loopback has one of zeros.
pub(super) fn station(nic: &NicInfo) -> Option<[u8; 6]> {
    match nic.medium {
        Medium::Ethernet(mac) => Some(mac.0),
        Medium::Loopback => Some([0; 6]),
        Medium::Ip => None,
    }
}

/// Answers `SIOCGIFHWADDR`: the hardware type and the station.
pub(super) fn put_station(namespace: &Arc<NetNamespace>, nic: &NicInfo, request: &mut IfReq) {
    let details = namespace.link_details(nic);
    request.data = [0; 24];
    request.data[..2].copy_from_slice(&details.hardware_type.to_ne_bytes());
    if let Some(station) = details.address {
        request.data[2..8].copy_from_slice(&station);
    }
}

/// `SIOCSIFHWADDR`. The caller announces.
pub(super) fn set_station(
    namespace: &Arc<NetNamespace>,
    nic: &NicInfo,
    request: &IfReq,
) -> Result<(), Errno> {
    let [_, _, a, b, c, d, e, f, ..] = request.data;
    let _changes = device::lock();
    device::set_mac(namespace, nic, MacAddr([a, b, c, d, e, f]))
}

fn read_request(task: &CurrentTask, addr: UserAddr) -> Result<IfReq, Errno> {
    task.mm().read_obj(addr)
}

/// The interface that a request names. `eth0:1` is an alias of `eth0`.
fn find(namespace: &NetNamespace, request: &IfReq) -> Result<NicInfo, Errno> {
    let end = request.name.iter().position(|b| *b == 0 || *b == b':').unwrap_or(IFNAMSIZ);
    let name = std::str::from_utf8(&request.name[..end]).map_err(|_| Errno::ENODEV)?;
    let stack = namespace.stack();
    stack.nic_by_name(name).and_then(|id| stack.nic(id)).ok_or(Errno::ENODEV)
}

/// An IPv4 address as `struct sockaddr` in a request.
fn put_v4(request: &mut IfReq, address: Ipv4Addr) {
    let bytes = encode_address(IpFamily::V4, SocketAddr::new(IpAddr::V4(address), 0));
    request.data[..bytes.len()].copy_from_slice(&bytes);
}

fn netmask(cidr: IpCidr) -> Ipv4Addr {
    let bits = u32::MAX.checked_shl(32 - u32::from(cidr.prefix_len().min(32))).unwrap_or(0);
    Ipv4Addr::from_bits(bits)
}

fn get_attribute(
    namespace: &Arc<NetNamespace>,
    task: &CurrentTask,
    request: u32,
    addr: UserAddr,
) -> SysResult {
    let mut ifreq = read_request(task, addr)?;
    let nic = find(namespace, &ifreq)?;
    ifreq.data = [0; 24];
    let v4 = || {
        let mut all = nic.addresses.iter();
        all.find(|own| own.address().is_ipv4()).ok_or(Errno::EADDRNOTAVAIL)
    };
    let own = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    match request {
        SIOCGIFFLAGS => {
            // ifr_flags is a short: the flags above do not fit and are not shown.
            let flags = (if_flags(namespace, &nic).bits() & 0xffff) as u16;
            ifreq.data[..2].copy_from_slice(&flags.to_ne_bytes());
        }
        SIOCGIFADDR => put_v4(&mut ifreq, own(v4()?.address())),
        SIOCGIFDSTADDR => {
            let address = v4()?;
            put_v4(&mut ifreq, own(address.peer.unwrap_or(address.address())));
        }
        SIOCGIFBRDADDR => put_v4(&mut ifreq, v4()?.broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED)),
        SIOCGIFNETMASK => put_v4(&mut ifreq, netmask(v4()?.cidr)),
        SIOCGIFMTU => ifreq.data[..4].copy_from_slice(&nic.mtu.to_ne_bytes()),
        SIOCGIFINDEX => ifreq.data[..4].copy_from_slice(&nic.id.index().to_ne_bytes()),
        SIOCGIFTXQLEN => {
            let len = namespace.link_details(&nic).queue_len();
            ifreq.data[..4].copy_from_slice(&len.to_ne_bytes());
        }
        SIOCGIFHWADDR => put_station(namespace, &nic, &mut ifreq),
        // SIOCGIFMETRIC is always zero (dev_ifsioc), and so is the map of a device without hardware.
        _ => {}
    }
    task.mm().write_obj(addr, &ifreq)?;
    Ok(0)
}

fn get_name(namespace: &NetNamespace, task: &CurrentTask, addr: UserAddr) -> SysResult {
    let mut ifreq = read_request(task, addr)?;
    let (index, _) = i32::read_from_prefix(&ifreq.data).map_err(|_| Errno::EINVAL)?;
    let id = u32::try_from(index).ok().and_then(NicId::from_index).ok_or(Errno::ENODEV)?;
    let nic = namespace.stack().nic(id).ok_or(Errno::ENODEV)?;
    ifreq.name = name_bytes(&nic.name);
    task.mm().write_obj(addr, &ifreq)?;
    Ok(0)
}

/// A name as requests have it.
pub(super) fn name_bytes(name: &str) -> [u8; IFNAMSIZ] {
    let mut bytes = [0; IFNAMSIZ];
    let len = name.len().min(IFNAMSIZ - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

/// `SIOCGIFCONF`: the IPv4 addresses of all interfaces, or the size of that list.
fn list_interfaces(namespace: &NetNamespace, task: &CurrentTask, addr: UserAddr) -> SysResult {
    let mut conf: IfConf = task.mm().read_obj(addr)?;
    let mut requests = Vec::new();
    for nic in namespace.stack().nics() {
        for own in &nic.addresses {
            let IpAddr::V4(v4) = own.address() else { continue };
            let mut ifreq = IfReq { name: name_bytes(&nic.name), data: [0; 24] };
            put_v4(&mut ifreq, v4);
            requests.push(ifreq);
        }
    }
    let size = size_of::<IfReq>();
    if conf.buf == 0 {
        conf.len = i32::try_from(requests.len() * size).map_err(|_| Errno::EINVAL)?;
    } else {
        let room = usize::try_from(conf.len).map_err(|_| Errno::EINVAL)? / size;
        requests.truncate(room);
        task.mm().write_bytes(UserAddr(conf.buf), requests.as_bytes())?;
        conf.len = i32::try_from(requests.len() * size).map_err(|_| Errno::EINVAL)?;
    }
    task.mm().write_obj(addr, &conf)?;
    Ok(0)
}

fn set_attribute(
    namespace: &Arc<NetNamespace>,
    task: &CurrentTask,
    request: u32,
    addr: UserAddr,
) -> SysResult {
    let ifreq = read_request(task, addr)?;
    if !namespace.grants(&task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let nic = find(namespace, &ifreq)?;
    let stack = namespace.stack();
    match request {
        SIOCSIFFLAGS => {
            let up = ifreq.data[0] & 1 != 0;
            let _changes = device::lock();
            device::set_up(namespace, &nic, up)?;
        }
        SIOCSIFNAME => {
            let end = ifreq.data.iter().position(|byte| *byte == 0).unwrap_or(IFNAMSIZ).min(IFNAMSIZ - 1);
            let name = std::str::from_utf8(&ifreq.data[..end]).map_err(|_| Errno::EINVAL)?;
            let _changes = device::lock();
            device::rename(namespace, &nic, name)?;
        }
        SIOCSIFHWADDR => set_station(namespace, &nic, &ifreq)?,
        SIOCSIFMTU => {
            let (mtu, _) = u32::read_from_prefix(&ifreq.data).map_err(|_| Errno::EINVAL)?;
            stack.set_nic_mtu(nic.id, mtu).map_err(|e| e.to_errno())?;
        }
        _ => set_v4(namespace, &nic, request, &ifreq)?,
    }
    announce_link(namespace, nic.id, RTM_NEWLINK);
    Ok(0)
}

/// `ifconfig`'s way: one IPv4 address, with the mask of its class until that is set (`devinet_ioctl`).
fn set_v4(namespace: &Arc<NetNamespace>, nic: &NicInfo, request: u32, ifreq: &IfReq) -> Result<(), Errno> {
    let stack = namespace.stack();
    let given = decode_address(IpFamily::V4, &ifreq.data[..16])?.ok_or(Errno::EINVAL)?;
    if ifreq.data[..2] != AF_INET.to_ne_bytes() {
        return Err(Errno::EINVAL);
    }
    let IpAddr::V4(given) = given.ip() else { return Err(Errno::EINVAL) };
    let old = nic.addresses.iter().find(|own| own.address().is_ipv4()).copied();
    let is_broadcast_link = nic.mac().is_some();
    let whole = |cidr: IpCidr| InterfaceAddress {
        broadcast: cidr.broadcast().filter(|_| is_broadcast_link),
        ..InterfaceAddress::new(cidr)
    };
    let new = if request == SIOCSIFADDR {
        let class = match given.octets()[0] {
            _ if !is_broadcast_link && nic.medium != Medium::Loopback => 32,
            0..128 => 8,
            128..192 => 16,
            _ => 24,
        };
        let cidr = IpCidr::new(IpAddr::V4(given), class).ok_or(Errno::EINVAL)?;
        // No address at all takes the one away.
        (!given.is_unspecified()).then(|| whole(cidr))
    } else {
        let old = old.ok_or(Errno::EADDRNOTAVAIL)?;
        Some(match request {
            SIOCSIFNETMASK => {
                let ones = given.to_bits().leading_ones();
                if u32::MAX.checked_shl(32 - ones).unwrap_or(0) != given.to_bits() {
                    return Err(Errno::EINVAL);
                }
                // At most 32.
                let prefix_len = u8::try_from(ones).unwrap_or(32);
                let cidr = IpCidr::new(old.address(), prefix_len).ok_or(Errno::EINVAL)?;
                InterfaceAddress { peer: old.peer, ..whole(cidr) }
            }
            SIOCSIFDSTADDR => {
                let peer = Some(IpAddr::V4(given)).filter(|peer| *peer != old.address());
                InterfaceAddress { peer, ..old }
            }
            _ => InterfaceAddress { broadcast: Some(given), ..old },
        })
    };
    if let Some(old) = old {
        stack.remove_address(nic.id, old.address()).map_err(|e| e.to_errno())?;
        device::lost_address(namespace, nic.id);
    }
    match new {
        Some(new) => stack.add_interface_address(nic.id, new).map_err(|e| e.to_errno()),
        None => Ok(()),
    }
}

/// `SIOCSIFADDR` and `SIOCDIFADDR` of IPv6.
fn change_v6(namespace: &Arc<NetNamespace>, task: &CurrentTask, request: u32, addr: UserAddr) -> SysResult {
    if !namespace.grants(&task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let wanted: In6IfReq = task.mm().read_obj(addr)?;
    let nic = u32::try_from(wanted.ifindex).ok().and_then(NicId::from_index).ok_or(Errno::ENODEV)?;
    let prefix_len = u8::try_from(wanted.prefix_len).map_err(|_| Errno::EINVAL)?;
    let cidr = IpCidr::new(IpAddr::from(wanted.address), prefix_len).ok_or(Errno::EINVAL)?;
    let own = InterfaceAddress::new(cidr);
    match request {
        SIOCSIFADDR => netlink::add_address(namespace, nic, own, OnExisting::Refuse)?,
        _ => netlink::remove_address(namespace, nic, &own, Some(own.network()))?,
    }
    Ok(0)
}

/// The few things that programs ask of `SIOCETHTOOL`: link state, and features that are off.
fn ethtool(namespace: &NetNamespace, task: &CurrentTask, addr: UserAddr) -> SysResult {
    let ifreq = read_request(task, addr)?;
    let nic = find(namespace, &ifreq)?;
    let (data, _) = u64::read_from_prefix(&ifreq.data).map_err(|_| Errno::EINVAL)?;
    let data = UserAddr(data);
    let command: u32 = task.mm().read_obj(data)?;
    let value = match command {
        ETHTOOL_GLINK => u32::from(nic.is_up),
        ETHTOOL_GTSO | ETHTOOL_GGSO => u32::from(nic.capabilities.gso_max_v4 > 0),
        ETHTOOL_GTXCSUM => u32::from(nic.capabilities.tx_checksum),
        ETHTOOL_GRXCSUM => u32::from(nic.capabilities.rx_checksum_trusted),
        ETHTOOL_GGRO => 0,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    // struct ethtool_value: the command, then the answer.
    task.mm().write_obj(data.checked_add(4)?, &value)?;
    Ok(0)
}
