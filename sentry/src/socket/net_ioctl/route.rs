//! `SIOCADDRT` and `SIOCDELRT` (`route(8)`, `netdevice(7)`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use netstack::{IpCidr, NicId};
use sentry_abi::ifreq::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::socket::netlink::{self, OldRoute};
use crate::task::{Capabilities, CurrentTask};

/// Handles a request on a socket of a family.
///
/// # Errors
/// `EPERM`; as `route(8)` says.
pub(super) fn change(
    namespace: &Arc<NetNamespace>,
    task: &CurrentTask,
    family: u16,
    request: u32,
    addr: UserAddr,
) -> SysResult {
    if !namespace.grants(&task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let route = match family {
        AF_INET6 => decode_v6(&task.mm().read_obj(addr)?)?,
        _ => decode_v4(namespace, task, &task.mm().read_obj(addr)?, request)?,
    };
    match request {
        SIOCADDRT => netlink::add_route(namespace, route)?,
        _ => netlink::remove_route(namespace, route)?,
    }
    Ok(0)
}

/// `rtentry_to_fib_config`.
fn decode_v4(
    namespace: &NetNamespace,
    task: &CurrentTask,
    entry: &RtEntry,
    request: u32,
) -> Result<OldRoute, Errno> {
    let (family, destination) = split(entry.destination);
    if family != AF_INET {
        return Err(Errno::EAFNOSUPPORT);
    }
    let mut prefix_len = 32;
    if entry.flags & RTF_HOST == 0 {
        let (family, mask) = split(entry.mask);
        if family != AF_INET && (family != 0 || !mask.is_unspecified()) {
            return Err(Errno::EAFNOSUPPORT);
        }
        prefix_len = mask.to_bits().leading_ones();
        let is_mask = u32::MAX.checked_shl(32 - prefix_len).unwrap_or(0) == mask.to_bits();
        if !is_mask || destination.to_bits() & !mask.to_bits() != 0 {
            return Err(Errno::EINVAL);
        }
    }
    // At most 32.
    let prefix_len = u8::try_from(prefix_len).unwrap_or(32);
    let destination = IpCidr::new(IpAddr::V4(destination), prefix_len).ok_or(Errno::EINVAL)?;
    let mut route = OldRoute {
        destination,
        gateway: None,
        nic: None,
        metric: u32::try_from(i32::from(entry.metric) - 1).unwrap_or(0),
        mtu: None,
        is_rejecting: entry.flags & RTF_REJECT != 0,
    };
    if route.is_rejecting {
        return Ok(route);
    }
    if entry.device != 0 {
        route.nic = Some(device(namespace, task, UserAddr(entry.device))?);
    }
    let (family, gateway) = split(entry.gateway);
    route.gateway = Some(IpAddr::V4(gateway)).filter(|_| family == AF_INET && !gateway.is_unspecified());
    if request == SIOCADDRT && entry.flags & RTF_GATEWAY != 0 && route.gateway.is_none() {
        return Err(Errno::EINVAL);
    }
    if entry.flags & RTF_MTU != 0 {
        // The user's name for the field is rt_mss, which older systems took 40 off.
        route.mtu = u32::try_from(entry.mtu).ok();
    }
    Ok(route)
}

/// The device, or the one that has an alias like `eth0:1`.
fn device(namespace: &NetNamespace, task: &CurrentTask, addr: UserAddr) -> Result<NicId, Errno> {
    let mut name = [0; IFNAMSIZ];
    task.mm().read_bytes(addr, &mut name[..IFNAMSIZ - 1])?;
    let end = name.iter().position(|byte| *byte == 0 || *byte == b':').unwrap_or(IFNAMSIZ);
    let name = std::str::from_utf8(&name[..end]).map_err(|_| Errno::ENODEV)?;
    namespace.stack().nic_by_name(name).ok_or(Errno::ENODEV)
}

/// `rtmsg_to_fib6_config`.
fn decode_v6(entry: &In6RtMsg) -> Result<OldRoute, Errno> {
    let address = |bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes));
    let prefix_len = u8::try_from(entry.destination_len).map_err(|_| Errno::EINVAL)?;
    let gateway = Some(address(entry.gateway)).filter(|_| entry.flags & u32::from(RTF_GATEWAY) != 0);
    Ok(OldRoute {
        destination: IpCidr::new(address(entry.destination), prefix_len).ok_or(Errno::EINVAL)?.network(),
        gateway,
        nic: u32::try_from(entry.ifindex).ok().and_then(NicId::from_index),
        metric: entry.metric,
        mtu: None,
        is_rejecting: entry.flags & u32::from(RTF_REJECT) != 0,
    })
}

/// Family and address of a `struct sockaddr_in`.
fn split(bytes: [u8; 16]) -> (u16, Ipv4Addr) {
    let [a, b, _, _, address @ .., _, _, _, _, _, _, _, _] = bytes;
    (u16::from_ne_bytes([a, b]), Ipv4Addr::from(address))
}
