//! `SIOCSARP`, `SIOCDARP` and `SIOCGARP` (`arp(7)`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use netstack::NicId;
use netstack::nic::{NeighbourState, NicInfo};
use netstack::wire::ethernet::MacAddr;
use sentry_abi::ifreq::*;
use sentry_abi::socket::AF_INET;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::net_ioctl::name_bytes;
use crate::task::{Capabilities, CurrentTask};

/// Handles a request (`arp_ioctl`).
///
/// # Errors
/// `EPERM`, `ENXIO` for who is not known, `ENODEV`, `EINVAL`.
pub(super) fn ioctl(
    namespace: &Arc<NetNamespace>,
    task: &CurrentTask,
    request: u32,
    addr: UserAddr,
) -> SysResult {
    if request != SIOCGARP && !namespace.grants(&task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let mut entry: ArpReq = task.mm().read_obj(addr)?;
    let [a, b, _, _, address @ .., _, _, _, _, _, _, _, _] = entry.protocol_address;
    if u16::from_ne_bytes([a, b]) != AF_INET {
        return Err(Errno::EPFNOSUPPORT.into());
    }
    if entry.flags & ATF_PUBL != 0 || entry.flags & ATF_NETMASK != 0 {
        // DEVIATION: for whom else to answer is not kept, so that there is nobody to forget.
        let errno = if request == SIOCDARP { Errno::ENOENT } else { Errno::EOPNOTSUPP };
        return Err(errno.into());
    }
    let address = Ipv4Addr::from(address);
    let nic = device(namespace, &entry, address)?;
    match request {
        SIOCGARP => {
            let neighbours = namespace.stack().neighbours();
            let known = neighbours.iter().find(|known| known.nic == nic.id && known.address == address);
            let station = known.and_then(|known| known.mac).ok_or(Errno::ENXIO)?;
            let is_permanent = known.is_some_and(|known| known.state == NeighbourState::Permanent);
            entry.flags = ATF_COM | if is_permanent { ATF_PERM } else { 0 };
            entry.hardware_address = [0; 16];
            entry.hardware_address[..2].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
            entry.hardware_address[2..8].copy_from_slice(&station.0);
            entry.device = name_bytes(&nic.name);
            task.mm().write_obj(addr, &entry)?;
        }
        SIOCSARP => {
            let [a, b, station @ .., _, _, _, _, _, _, _, _] = entry.hardware_address;
            if ![0, ARPHRD_ETHER].contains(&u16::from_ne_bytes([a, b])) {
                return Err(Errno::EINVAL.into());
            }
            // DEVIATION: without ATF_PERM it is not forgotten either.
            let added = namespace.stack().add_neighbour(nic.id, address.into(), MacAddr(station));
            added.map_err(|e| e.to_errno())?;
        }
        _ => {
            namespace.stack().remove_neighbour(nic.id, address.into()).map_err(|_| Errno::ENXIO)?;
        }
    }
    Ok(0)
}

/// The interface that is named, or the one behind which the address is.
fn device(namespace: &Arc<NetNamespace>, entry: &ArpReq, address: Ipv4Addr) -> Result<NicInfo, Errno> {
    let stack = namespace.stack();
    let end = entry.device.iter().position(|byte| *byte == 0).unwrap_or(IFNAMSIZ);
    let nic: Option<NicId> = if end > 0 {
        let name = std::str::from_utf8(&entry.device[..end]).map_err(|_| Errno::ENODEV)?;
        Some(stack.nic_by_name(name).ok_or(Errno::ENODEV)?)
    } else {
        let nics = stack.nics();
        let is_near =
            |nic: &&NicInfo| nic.addresses.iter().any(|own| own.network().contains(IpAddr::V4(address)));
        nics.iter().find(is_near).map(|nic| nic.id)
    };
    nic.and_then(|nic| stack.nic(nic)).ok_or(Errno::ENETUNREACH)
}

const ARPHRD_ETHER: u16 = 1;
