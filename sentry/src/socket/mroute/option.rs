//! `MRT_*` and `MRT6_*`: how a routing program says what it wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::NicId;
use netstack::multicast_route::{
    MAX_VIFS, MulticastRoute, MulticastRouteError, Reporting, RouteInfo, Thresholds, Vif, VifId,
};
use netstack::options::Family;
use sentry_abi::inet::{IPPROTO_ICMPV6, IPPROTO_IGMP};
use sentry_abi::mroute::*;
use sentry_abi::socket::{SOL_IP, SOL_IPV6};
use zerocopy::FromBytes;

use crate::errno::Errno;
use crate::socket::base::SocketType;
use crate::socket::inet::InetSocket;
use crate::socket::mroute::device::RegisterDevice;
use crate::socket::mroute::shown::{self, ShownRoute};
use crate::socket::mroute::state::{Active, Given, MulticastRouting};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};
use crate::socket::{NetNamespace, netlink};
use crate::task::Capabilities;

const NO_TUNNELS: Effect = Effect::Partial("no tunnels (VIFF_TUNNEL)");

const NO_RULES: Effect = Effect::Partial("no rules lead packets to other tables than the default one");

pub(in crate::socket) const ROWS: &[OptionRow] = &[
    option!(SOL_IP, MRT_INIT, -, init),
    option!(SOL_IP, MRT_DONE, -, done),
    option!(SOL_IP, MRT_ADD_VIF, -, add_vif, NO_TUNNELS),
    option!(SOL_IP, MRT_DEL_VIF, -, remove_vif),
    option!(SOL_IP, MRT_ADD_MFC, -, add_route),
    option!(SOL_IP, MRT_DEL_MFC, -, remove_route),
    option!(SOL_IP, MRT_ADD_MFC_PROXY, -, add_proxy_route),
    option!(SOL_IP, MRT_DEL_MFC_PROXY, -, remove_proxy_route),
    option!(SOL_IP, MRT_VERSION, get_version, -),
    option!(SOL_IP, MRT_ASSERT, get_assert, set_assert),
    option!(SOL_IP, MRT_PIM, get_pim, set_pim),
    option!(SOL_IP, MRT_TABLE, -, set_table, NO_RULES),
    option!(SOL_IP, MRT_FLUSH, -, flush),
    option!(SOL_IPV6, MRT6_INIT, -, init),
    option!(SOL_IPV6, MRT6_DONE, -, done),
    option!(SOL_IPV6, MRT6_ADD_MIF, -, add_mif),
    option!(SOL_IPV6, MRT6_DEL_MIF, -, remove_mif),
    option!(SOL_IPV6, MRT6_ADD_MFC, -, add_route),
    option!(SOL_IPV6, MRT6_DEL_MFC, -, remove_route),
    option!(SOL_IPV6, MRT6_ADD_MFC_PROXY, -, add_proxy_route),
    option!(SOL_IPV6, MRT6_DEL_MFC_PROXY, -, remove_proxy_route),
    option!(SOL_IPV6, MRT6_VERSION, get_version, -),
    option!(SOL_IPV6, MRT6_ASSERT, get_assert, set_assert),
    option!(SOL_IPV6, MRT6_PIM, get_pim, set_pim),
    option!(SOL_IPV6, MRT6_TABLE, -, set_table, NO_RULES),
    option!(SOL_IPV6, MRT6_FLUSH, -, flush),
];

/// The raw socket for the protocol of group members, which alone can route.
fn socket<'a>(context: &Context<'a>) -> Result<&'a InetSocket, Errno> {
    let inet = context.inet()?;
    let base = context.socket.base();
    let protocol = match inet.ip_family() {
        Family::V4 => IPPROTO_IGMP,
        Family::V6 => IPPROTO_ICMPV6,
    };
    if base.kind == SocketType::Raw && base.protocol == protocol { Ok(inet) } else { Err(Errno::EOPNOTSUPP) }
}

fn routing<'a>(context: &Context<'a>) -> &'a MulticastRouting {
    context.namespace.multicast_routing()
}

/// Works on what the routing program has made: for its socket, and for who may configure the network.
fn change<T>(context: &Context<'_>, work: impl FnOnce(&mut Active) -> Result<T, Errno>) -> Result<T, Errno> {
    let inet = socket(context)?;
    let may = routing(context).is_owner(inet)
        || context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN);
    if !may {
        return Err(Errno::EACCES);
    }
    // Linux lets an administrator set up what then does nothing, without a program.
    routing(context).with_table_of(inet, |_, active| work(active)).ok_or(Errno::EACCES)?
}

/// As [`change`], and tells of the route that `work` found gone or new afterwards.
fn change_route(
    context: &Context<'_>,
    tell: fn(&NetNamespace, &ShownRoute),
    work: impl FnOnce(&mut Active) -> Result<Option<RouteInfo>, Errno>,
) -> Result<(), Errno> {
    let inet = socket(context)?;
    let stack = context.namespace.stack();
    let may = routing(context).is_owner(inet)
        || context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN);
    if !may {
        return Err(Errno::EACCES);
    }
    let changed = routing(context).with_table_of(inet, |number, active| {
        let info = work(active)?;
        Ok::<_, Errno>(info.map(|info| ShownRoute::new(stack, number, active, &info)))
    });
    if let Some(shown) = changed.ok_or(Errno::EACCES)?? {
        tell(context.namespace, &shown);
    }
    Ok(())
}

/// `MRT_TABLE`.
fn set_table(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let inet = socket(context)?;
    if !routing(context).is_owner(inet)
        && !context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN)
    {
        return Err(Errno::EACCES);
    }
    routing(context).choose(inet, exact(context, value)?)
}

/// A struct, which has to have exactly its size for IPv4 and at least that for IPv6.
fn exact<T: FromBytes>(context: &Context<'_>, value: &[u8]) -> Result<T, Errno> {
    let is_right = match socket(context)?.ip_family() {
        Family::V4 => value.len() == size_of::<T>(),
        Family::V6 => value.len() >= size_of::<T>(),
    };
    let read = T::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if is_right { Ok(read.0) } else { Err(Errno::EINVAL) }
}

fn init(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let _: i32 = exact(context, value)?;
    routing(context).begin(socket(context)?)
}

fn done(context: &Context<'_>, _: &[u8]) -> Result<(), Errno> {
    if shown::end(socket(context)?) { Ok(()) } else { Err(Errno::EACCES) }
}

fn vif_id(number: u16) -> Result<VifId, Errno> {
    VifId::new(number.into()).ok_or(Errno::ENFILE)
}

fn nic_by_index(context: &Context<'_>, index: u32) -> Result<NicId, Errno> {
    let nic = NicId::from_index(index).filter(|&nic| context.namespace.stack().nic(nic).is_some());
    nic.ok_or(Errno::EADDRNOTAVAIL)
}

fn nic_by_address(context: &Context<'_>, address: Ipv4Addr) -> Result<NicId, Errno> {
    let nics = context.namespace.stack().nics();
    let owner = nics.iter().find(|nic| nic.addresses.iter().any(|own| own.address() == IpAddr::V4(address)));
    owner.map(|nic| nic.id).ok_or(Errno::EADDRNOTAVAIL)
}

fn add_vif(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change(context, |active| {
        let VifCtl { vifi, flags, local, remote, .. } = exact(context, value)?;
        let id = vif_id(vifi)?;
        if active.router.vif(id).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        let vif = match flags {
            VIFF_USE_IFINDEX => Vif::Nic(nic_by_index(context, u32::from_ne_bytes(local))?),
            0 => Vif::Nic(nic_by_address(context, Ipv4Addr::from(local))?),
            VIFF_REGISTER => Vif::Register,
            // As where Linux has no module for such tunnels.
            VIFF_TUNNEL => return Err(Errno::ENOBUFS),
            _ => return Err(Errno::EINVAL),
        };
        make_vif(context, active, id, vif, Given { flags, local, remote })
    })
}

fn add_mif(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change(context, |active| {
        let Mif6Ctl { mifi, flags, index, .. } = exact(context, value)?;
        let id = vif_id(mifi)?;
        if active.router.vif(id).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        let vif = match flags {
            0 => Vif::Nic(nic_by_index(context, index.into())?),
            MIFF_REGISTER => Vif::Register,
            _ => return Err(Errno::EINVAL),
        };
        make_vif(context, active, id, vif, Given { flags, ..Given::default() })
    })
}

fn make_vif(
    context: &Context<'_>,
    active: &mut Active,
    id: VifId,
    vif: Vif,
    given: Given,
) -> Result<(), Errno> {
    active.router.add_vif(id, vif).map_err(errno)?;
    if vif == Vif::Register {
        let family = context.inet()?.ip_family();
        active.register = RegisterDevice::new(context.namespace.stack(), family, active.table);
        active.router.set_register_nic(active.register.as_ref().map(RegisterDevice::nic));
    }
    active.vifs[usize::from(id.number())] = Some(given);
    Ok(())
}

fn errno(error: MulticastRouteError) -> Errno {
    match error {
        MulticastRouteError::InUse => Errno::EADDRINUSE,
        MulticastRouteError::NoSuchVif => Errno::EADDRNOTAVAIL,
        MulticastRouteError::NotFound => Errno::ENOENT,
        MulticastRouteError::NotMulticast => Errno::EINVAL,
        MulticastRouteError::Full => Errno::ENOMEM,
    }
}

fn remove(active: &mut Active, number: u16) -> Result<(), Errno> {
    // Linux looks whether there is one of that number; there is none beyond the last.
    let id = VifId::new(number.into()).ok_or(Errno::EADDRNOTAVAIL)?;
    let was = active.router.vif(id).map(|info| info.vif);
    active.router.remove_vif(id).map_err(errno)?;
    if was == Some(Vif::Register) {
        active.register = None;
    }
    active.vifs[usize::from(id.number())] = None;
    Ok(())
}

fn remove_vif(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change(context, |active| {
        let vif: VifCtl = exact(context, value)?;
        let id = vif_id(vif.vifi)?;
        remove(active, id.number().into())
    })
}

fn remove_mif(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change(context, |active| remove(active, exact(context, value)?))
}

/// The route that `struct mfcctl` or `struct mf6cctl` describes; its parent as given.
fn route(context: &Context<'_>, value: &[u8]) -> Result<(MulticastRoute, u16), Errno> {
    let (source, group, parent, outputs): (IpAddr, IpAddr, u16, Thresholds) =
        match socket(context)?.ip_family() {
            Family::V4 => {
                let MfcCtl { origin, group, parent, ttls, .. } = exact(context, value)?;
                let ways = ids().zip(ttls).filter(|&(_, ttl)| ttl != 0);
                let outputs = ways.fold(Thresholds::default(), |all, (id, ttl)| all.with(id, ttl));
                (Ipv4Addr::from(origin).into(), Ipv4Addr::from(group).into(), parent, outputs)
            }
            Family::V6 => {
                let Mf6cCtl { origin, group, parent, outputs, .. } = exact(context, value)?;
                // Only the first word has numbers below the limit.
                let ways = ids().filter(|id| outputs[0] & (1 << id.number()) != 0);
                let outputs = ways.fold(Thresholds::default(), |all, id| all.with(id, 1));
                let address = |given: SockAddrIn6| IpAddr::V6(Ipv6Addr::from(given.address));
                (address(origin), address(group), parent, outputs)
            }
        };
    let first = VifId::new(0).ok_or(Errno::ENFILE)?;
    let parent_id = VifId::new(parent.into()).unwrap_or(first);
    Ok((MulticastRoute { source, group, parent: parent_id, outputs }, parent))
}

fn ids() -> impl Iterator<Item = VifId> {
    (0..MAX_VIFS).filter_map(VifId::new)
}

fn add_route(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_route(context, netlink::announce_multicast, |active| {
        let (route, parent) = route(context, value)?;
        vif_id(parent)?;
        active.router.add_route(route).map_err(errno)?;
        Ok(find(active, &route, Some(route.parent)))
    })
}

fn add_proxy_route(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_route(context, netlink::announce_multicast, |active| {
        let (route, parent) = route(context, value)?;
        vif_id(parent)?;
        active.router.add_proxy_route(route).map_err(errno)?;
        Ok(find(active, &route, Some(route.parent)))
    })
}

fn remove_route(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_route(context, netlink::announce_multicast_gone, |active| {
        let (route, _) = route(context, value)?;
        let before = find(active, &route, None);
        active.router.remove_route(route.source, route.group, None).map_err(errno)?;
        Ok(before)
    })
}

fn remove_proxy_route(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_route(context, netlink::announce_multicast_gone, |active| {
        let (route, _) = route(context, value)?;
        let before = find(active, &route, Some(route.parent));
        active.router.remove_route(route.source, route.group, Some(route.parent)).map_err(errno)?;
        Ok(before)
    })
}

/// The route of that source and group, and of that parent if it is given.
fn find(active: &Active, route: &MulticastRoute, parent: Option<VifId>) -> Option<RouteInfo> {
    let first = active.router.route(route.source, route.group)?;
    if parent.is_none_or(|parent| first.route.parent == parent) {
        return Some(first);
    }
    // Only wildcards have several.
    let is_it = |info: &RouteInfo| {
        let other = &info.route;
        (other.source, other.group) == (route.source, route.group) && Some(other.parent) == parent
    };
    active.router.routes().into_iter().find(is_it)
}

fn get_version(context: &Context<'_>) -> Result<Value, Errno> {
    socket(context)?;
    Ok(Value::from_slice(&MRT_API_VERSION.to_ne_bytes()))
}

fn reporting(context: &Context<'_>) -> Result<Reporting, Errno> {
    let inet = socket(context)?;
    Ok(routing(context).with_table_of(inet, |_, active| active.reporting).unwrap_or_default())
}

fn get_assert(context: &Context<'_>) -> Result<Value, Errno> {
    Ok(Value::from_slice(&i32::from(reporting(context)?.is_on).to_ne_bytes()))
}

fn get_pim(context: &Context<'_>) -> Result<Value, Errno> {
    Ok(Value::from_slice(&i32::from(reporting(context)?.everywhere).to_ne_bytes()))
}

fn set_reporting(active: &mut Active, reporting: Reporting) {
    active.reporting = reporting;
    active.router.report_wrong_vif(reporting);
}

fn set_assert(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change(context, |active| {
        let on: i32 = exact(context, value)?;
        set_reporting(active, Reporting { is_on: on != 0, ..active.reporting });
        Ok(())
    })
}

/// Also switches the reports of `MRT_ASSERT`.
fn set_pim(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change(context, |active| {
        let on: i32 = exact(context, value)?;
        let with_packet = on == i32::from(IGMPMSG_WRVIFWHOLE);
        if (on != 0) != active.reporting.everywhere {
            set_reporting(active, Reporting { is_on: on != 0, everywhere: on != 0, with_packet });
        }
        Ok(())
    })
}

/// Linux tells what an administrator made from what the program did; here the program made all.
fn flush(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let mut gone = Vec::new();
    let (inet, stack) = (socket(context)?, context.namespace.stack());
    change(context, |active| {
        let what: u32 = exact(context, value)?;
        if what & MRT_FLUSH_VIFS != 0 {
            active.router.clear_vifs();
            active.vifs = [None; MAX_VIFS];
            active.register = None;
        }
        if what & MRT_FLUSH_MFC != 0 {
            gone = active.router.routes();
            active.router.clear_routes();
        }
        Ok(())
    })?;
    let shown = routing(context).with_table_of(inet, |number, active| {
        let show = |info| ShownRoute::new(stack, number, active, info);
        gone.iter().map(show).collect::<Vec<_>>()
    });
    for route in shown.unwrap_or_default() {
        netlink::announce_multicast_gone(context.namespace, &route);
    }
    Ok(())
}
