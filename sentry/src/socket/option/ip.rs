//! `SOL_IP` (`ip(7)`).

use std::net::{IpAddr, Ipv4Addr};

use netstack::NicId;
use netstack::options::{Family as IpFamily, PmtuDiscovery, SocketOptions};
use sentry_abi::inet::*;
use sentry_abi::socket::{SOL_IP, SOL_RAW};
use zerocopy::FromBytes;

use crate::errno::Errno;
use crate::socket::base::SocketType;
use crate::socket::inet::tag;
use crate::socket::inet::{InetSocket, Membership, Receive, decode_address, ip_options};
use crate::socket::option::value::{bytes, int_or_byte, object, of_bool, of_int, saturate};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_IP, IP_TOS, get_tos, set_tos),
    option!(SOL_IP, IP_TTL, get_ttl, set_ttl),
    option!(SOL_IP, IP_HDRINCL, get_header_included, set_header_included),
    option!(
        SOL_IP,
        IP_OPTIONS,
        get_options,
        set_options,
        Effect::Partial("not for streams; no source routes")
    ),
    option!(SOL_IP, IP_RECVOPTS, get_recv_options, set_recv_options),
    option!(SOL_IP, IP_RETOPTS, get_ret_options, set_ret_options),
    option!(SOL_IP, IP_UNICAST_IF, get_unicast_if, set_unicast_if),
    option!(SOL_RAW, ICMP_FILTER, get_icmp_filter, set_icmp_filter),
    option!(SOL_IP, IP_PKTINFO, get_pktinfo, set_pktinfo),
    option!(SOL_IP, IP_MTU_DISCOVER, get_mtu_discover, set_mtu_discover),
    option!(SOL_IP, IP_RECVERR, get_recverr, set_recverr),
    option!(SOL_IP, IP_RECVTTL, get_recv_ttl, set_recv_ttl),
    option!(SOL_IP, IP_RECVTOS, get_recv_tos, set_recv_tos),
    option!(SOL_IP, IP_RECVORIGDSTADDR, get_recv_original, set_recv_original),
    option!(SOL_IP, IP_MTU, get_mtu, -),
    option!(SOL_IP, IP_FREEBIND, get_freebind, set_freebind),
    option!(
        SOL_IP,
        IP_TRANSPARENT,
        get_transparent,
        set_transparent,
        Effect::Partial("no interception of traffic")
    ),
    option!(SOL_IP, IP_MULTICAST_IF, get_multicast_if, set_multicast_if),
    option!(SOL_IP, IP_MULTICAST_TTL, get_multicast_ttl, set_multicast_ttl),
    option!(SOL_IP, IP_MULTICAST_LOOP, get_multicast_loop, set_multicast_loop),
    option!(SOL_IP, IP_MULTICAST_ALL, get_multicast_all, set_multicast_all),
    option!(SOL_IP, IP_ADD_MEMBERSHIP, -, add_membership),
    option!(SOL_IP, IP_DROP_MEMBERSHIP, -, drop_membership),
    option!(SOL_IP, MCAST_JOIN_GROUP, -, join_group),
    option!(SOL_IP, MCAST_LEAVE_GROUP, -, leave_group),
    option!(SOL_IP, IP_MINTTL, get_min_ttl, set_min_ttl),
    option!(SOL_IP, IP_LOCAL_PORT_RANGE, get_port_range, set_port_range),
];

/// As Linux: only streams look at it.
fn get_min_ttl(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.inet()?.options().min_ttl.into())
}

fn set_min_ttl(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    let ttl = u8::try_from(int_or_byte(value)).map_err(|_| Errno::EINVAL)?;
    change(context, |options| options.min_ttl = ttl)
}

/// The first port in the lower half, the last in the upper one.
fn get_port_range(context: &Context<'_>) -> Result<Value, Errno> {
    let (first, last) = context.inet()?.options().port_range;
    Ok(bytes(&(u32::from(last) << 16 | u32::from(first))))
}

fn set_port_range(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let word = <[u8; 4]>::try_from(value).map_err(|_| Errno::EINVAL)?;
    let word = u32::from_ne_bytes(word);
    // The two halves.
    let (first, last) = ((word & 0xffff) as u16, (word >> 16) as u16);
    if first != 0 && last != 0 && first > last {
        return Err(Errno::EINVAL);
    }
    change(context, |options| options.port_range = (first, last))
}

fn change(context: &Context<'_>, change: impl FnOnce(&mut SocketOptions)) -> Result<(), Errno> {
    context.inet()?.change_options(change);
    Ok(())
}

fn has_receive(context: &Context<'_>, switch: Receive) -> Result<Value, Errno> {
    of_bool(context.inet()?.receive_switches().get().contains(switch))
}

fn set_receive(context: &Context<'_>, switch: Receive, value: &[u8]) -> Result<(), Errno> {
    context.inet()?.receive_switches().set(switch, int_or_byte(value) != 0);
    Ok(())
}

fn get_tos(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.inet()?.options().tos.into())
}

/// The two bits of explicit congestion notification, which belong to TCP on a stream (`__ip_sock_set_tos`).
pub(super) const ECN_MASK: u8 = 3;

fn set_tos(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    // The upper bits are cut off, as Linux stores a byte.
    let tos = (int_or_byte(value) & 0xff) as u8;
    let base = context.socket.base();
    let old = context.inet()?.options().tos;
    let tos = if base.kind == SocketType::Stream { (tos & !ECN_MASK) | (old & ECN_MASK) } else { tos };
    if tos == old {
        return Ok(());
    }
    // __ip_sock_set_tos: what the priority was set to is forgotten.
    let priority = tag::priority_of_tos(tos);
    base.set_priority(priority.cast_signed());
    change(context, |options| {
        options.tos = tos;
        options.priority = priority;
    })
}

/// Linux's `ip_default_ttl`.
const DEFAULT_TTL: u8 = 64;

fn get_ttl(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.inet()?.options().ttl.unwrap_or(DEFAULT_TTL).into())
}

fn set_ttl(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    let ttl = match int_or_byte(value) {
        -1 => None,
        n @ 1..=255 => Some(u8::try_from(n).map_err(|_| Errno::EINVAL)?),
        _ => return Err(Errno::EINVAL),
    };
    change(context, |options| options.ttl = ttl)
}

fn get_header_included(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.options().header_included)
}

fn set_header_included(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if context.socket.base().kind != SocketType::Raw {
        return Err(Errno::ENOPROTOOPT);
    }
    change(context, |options| options.header_included = int_or_byte(value) != 0)
}

fn get_options(context: &Context<'_>) -> Result<Value, Errno> {
    let options = context.inet()?.options().ip_options;
    Ok(options.map_or_else(Value::new, |options| Value::from_slice(options.as_slice())))
}

fn set_options(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let inet = context.inet()?;
    if value.is_empty() && inet.options().ip_options.is_none() {
        return Ok(());
    }
    let options = ip_options::parse(value)?;
    change(context, |all| all.ip_options = options)
}

fn get_recv_options(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::OPTIONS)
}

fn set_recv_options(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::OPTIONS, value)
}

fn get_ret_options(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::OPTIONS_ECHOED)
}

fn set_ret_options(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::OPTIONS_ECHOED, value)
}

/// The index is in network order, and an interface that packets are bound to does not change.
fn get_unicast_if(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.inet()?.notes().unicast_nic(IpFamily::V4).cast_signed().to_be())
}

fn set_unicast_if(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let word = <[u8; 4]>::try_from(value).map_err(|_| Errno::EINVAL)?;
    set_unicast_nic(context, u32::from_be_bytes(word), IpFamily::V4)
}

pub(super) fn set_unicast_nic(context: &Context<'_>, index: u32, family: IpFamily) -> Result<(), Errno> {
    let inet = context.inet()?;
    if let Some(nic) = NicId::from_index(index) {
        context.namespace.stack().nic(nic).ok_or(Errno::EADDRNOTAVAIL)?;
        if inet.options().bound_nic.is_some_and(|bound| bound != nic) {
            return Err(Errno::EINVAL);
        }
    }
    inet.notes().set_unicast_nic(family, index);
    Ok(())
}

fn get_icmp_filter(context: &Context<'_>) -> Result<Value, Errno> {
    let raw = context.inet()?.raw().ok_or(Errno::ENOPROTOOPT)?;
    Ok(bytes(&raw.icmp6_filter().0[0]))
}

/// `struct icmp_filter`: the types below 32, of which a shorter value replaces the first (`raw_seticmpfilter`).
fn set_icmp_filter(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let raw = context.inet()?.raw().ok_or(Errno::ENOPROTOOPT)?;
    let mut filter = raw.icmp6_filter();
    filter.0[0] = replace_beginning(filter.0[0], value);
    raw.set_icmp6_filter(filter);
    Ok(())
}

/// A word of a filter with its first bytes replaced.
pub(super) fn replace_beginning(word: u32, value: &[u8]) -> u32 {
    let mut bytes = word.to_ne_bytes();
    bytes.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    u32::from_ne_bytes(bytes)
}

fn get_pktinfo(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::PKTINFO)
}

fn set_pktinfo(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::PKTINFO, value)
}

fn get_recv_ttl(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::TTL)
}

fn set_recv_ttl(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::TTL, value)
}

fn get_recv_tos(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::TOS)
}

fn set_recv_tos(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::TOS, value)
}

fn get_recv_original(context: &Context<'_>) -> Result<Value, Errno> {
    has_receive(context, Receive::ORIGINAL_DESTINATION)
}

fn set_recv_original(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_receive(context, Receive::ORIGINAL_DESTINATION, value)
}

fn get_recverr(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.options().error_queue)
}

fn set_recverr(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change(context, |options| options.error_queue = int_or_byte(value) != 0)
}

/// `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER` have the same values.
pub(super) fn get_mtu_discover(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(match context.inet()?.options().pmtu_discovery {
        PmtuDiscovery::Dont => IP_PMTUDISC_DONT,
        PmtuDiscovery::Want => IP_PMTUDISC_WANT,
        PmtuDiscovery::Do => IP_PMTUDISC_DO,
        PmtuDiscovery::Probe => IP_PMTUDISC_PROBE,
        PmtuDiscovery::Interface => IP_PMTUDISC_INTERFACE,
        PmtuDiscovery::Omit => IP_PMTUDISC_OMIT,
    })
}

pub(super) fn set_mtu_discover(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let discovery = match int_or_byte(value) {
        IP_PMTUDISC_DONT => PmtuDiscovery::Dont,
        IP_PMTUDISC_WANT => PmtuDiscovery::Want,
        IP_PMTUDISC_DO => PmtuDiscovery::Do,
        IP_PMTUDISC_PROBE => PmtuDiscovery::Probe,
        IP_PMTUDISC_INTERFACE => PmtuDiscovery::Interface,
        IP_PMTUDISC_OMIT => PmtuDiscovery::Omit,
        _ => return Err(Errno::EINVAL),
    };
    change(context, |options| options.pmtu_discovery = discovery)
}

/// The MTU of the interface that a connected socket sends through.
pub(super) fn get_mtu(context: &Context<'_>) -> Result<Value, Errno> {
    let inet = context.inet()?;
    inet.peer().ok_or(Errno::ENOTCONN)?;
    let local = inet.local().ip().to_canonical();
    let nics = context.namespace.stack().nics();
    let nic = nics.iter().find(|nic| nic.addresses.iter().any(|own| own.address() == local));
    of_int(nic.map_or(Err(Errno::ENOTCONN), |nic| Ok(saturate(nic.mtu)))?)
}

pub(super) fn get_freebind(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.options().free_bind)
}

pub(super) fn set_freebind(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    change(context, |options| options.free_bind = int_or_byte(value) != 0)
}

pub(super) fn get_transparent(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.options().transparent)
}

pub(super) fn set_transparent(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let creds = context.task.creds();
    let may = [Capabilities::NET_ADMIN, Capabilities::NET_RAW]
        .iter()
        .any(|cap| context.namespace.grants(&creds, *cap));
    if !value.is_empty() && int_or_byte(value) != 0 && !may {
        return Err(Errno::EPERM);
    }
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    change(context, |options| options.transparent = int_or_byte(value) != 0)
}

fn get_multicast_if(context: &Context<'_>) -> Result<Value, Errno> {
    let source = context.inet()?.options().multicast_source.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ok(bytes(&source.octets()))
}

/// The interface that an `ip_mreqn`, an `ip_mreq` or an address names; an unspecified one is `None`.
pub(super) fn interface(context: &Context<'_>, index: i32, local: Ipv4Addr) -> Result<Option<NicId>, Errno> {
    let stack = context.namespace.stack();
    if let Some(nic) = u32::try_from(index).ok().and_then(NicId::from_index) {
        return if stack.nic(nic).is_some() { Ok(Some(nic)) } else { Err(Errno::ENODEV) };
    }
    if local.is_unspecified() {
        return Ok(None);
    }
    let nics = stack.nics();
    let owner = nics.iter().find(|nic| nic.addresses.iter().any(|own| own.address() == IpAddr::V4(local)));
    owner.map(|nic| Some(nic.id)).ok_or(Errno::ENODEV)
}

/// `ip_mreqn`, or the shorter `ip_mreq` without an index.
fn membership(value: &[u8]) -> Result<IpMreqn, Errno> {
    if let Ok((request, _)) = IpMreqn::read_from_prefix(value) {
        return Ok(request);
    }
    let request: [[u8; 4]; 2] = object(value)?;
    Ok(IpMreqn { group: request[0], local: request[1], ifindex: 0 })
}

fn set_multicast_if(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if context.socket.base().kind == SocketType::Stream {
        return Err(Errno::EINVAL);
    }
    let request = match value.len() {
        0..4 => return Err(Errno::EINVAL),
        4..8 => IpMreqn { group: [0; 4], local: object(value)?, ifindex: 0 },
        _ => membership(value)?,
    };
    let local = Ipv4Addr::from(request.local);
    let nic = interface(context, request.ifindex, local).map_err(|_| Errno::EADDRNOTAVAIL)?;
    change(context, |options| {
        options.multicast_nic = nic;
        options.multicast_source = (!local.is_unspecified()).then_some(local);
    })
}

fn get_multicast_ttl(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.inet()?.options().multicast_ttl.into())
}

fn set_multicast_ttl(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if context.socket.base().kind == SocketType::Stream || value.is_empty() {
        return Err(Errno::EINVAL);
    }
    let ttl = match int_or_byte(value) {
        -1 => 1,
        n => u8::try_from(n).map_err(|_| Errno::EINVAL)?,
    };
    change(context, |options| options.multicast_ttl = ttl)
}

fn get_multicast_loop(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.options().multicast_loop)
}

fn set_multicast_loop(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    change(context, |options| options.multicast_loop = int_or_byte(value) != 0)
}

fn get_multicast_all(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.options().multicast_all)
}

fn set_multicast_all(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.is_empty() || !(0..=1).contains(&int_or_byte(value)) {
        return Err(Errno::EINVAL);
    }
    change(context, |options| options.multicast_all = int_or_byte(value) != 0)
}

fn change_membership(context: &Context<'_>, value: &[u8], how: Membership) -> Result<(), Errno> {
    let inet: &InetSocket = context.inet()?;
    if inet.tcp().is_some() {
        return Err(Errno::EPROTO);
    }
    let request = membership(value)?;
    let group = Ipv4Addr::from(request.group);
    // ip_mc_join_group looks at the group first, ip_mc_leave_group at neither before it finds the membership.
    if how == Membership::Join && !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let nic = interface(context, request.ifindex, Ipv4Addr::from(request.local));
    let missing = if group.is_multicast() { Errno::ENODEV } else { Errno::EADDRNOTAVAIL };
    inet.change_membership(IpAddr::V4(group), nic.map_err(|_| missing)?, how)
}

fn add_membership(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_membership(context, value, Membership::Join)
}

fn drop_membership(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_membership(context, value, Membership::Leave)
}

/// `struct group_req`: an interface, padding, a `sockaddr_storage`.
pub(super) fn change_group(context: &Context<'_>, value: &[u8], how: Membership) -> Result<(), Errno> {
    let inet = context.inet()?;
    if value.len() < GROUP_REQUEST_LEN {
        return Err(Errno::EINVAL);
    }
    let index: u32 = object(value)?;
    let address = &value[8..];
    let (family, refusal) = match context.option.0 {
        SOL_IP => (IpFamily::V4, Errno::EINVAL),
        _ => (IpFamily::V6, Errno::EADDRNOTAVAIL),
    };
    let group = decode_address(family, address).ok().flatten().ok_or(refusal)?;
    inet.change_membership(group.ip(), NicId::from_index(index), how)
}

/// `sizeof(struct group_req)`.
const GROUP_REQUEST_LEN: usize = 136;

fn join_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_group(context, value, Membership::Join)
}

fn leave_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_group(context, value, Membership::Leave)
}
