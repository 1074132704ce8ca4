//! The sources of multicast memberships (RFC 3678): the calls for IPv4 by address, and those for both families by
//! interface.

use std::net::{IpAddr, Ipv4Addr};

use netstack::NicId;
use netstack::error::MembershipError;
use netstack::multicast::{FilterMode, SourceFilter};
use netstack::options::Family as IpFamily;
use sentry_abi::inet::*;
use sentry_abi::socket::{AF_INET, AF_INET6, SOL_IP, SOL_IPV6};

use crate::errno::Errno;
use crate::socket::inet::{self, Protocol, ToErrno, decode_address};
use crate::socket::option::ip::interface;
use crate::socket::option::value::object;
use crate::socket::option::{Context, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_IP, IP_UNBLOCK_SOURCE, -, unblock_v4),
    option!(SOL_IP, IP_BLOCK_SOURCE, -, block_v4),
    option!(SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, -, add_v4),
    option!(SOL_IP, IP_DROP_SOURCE_MEMBERSHIP, -, drop_v4),
    option!(SOL_IP, IP_MSFILTER, get_filter_v4, set_filter_v4),
    option!(SOL_IP, MCAST_BLOCK_SOURCE, -, block),
    option!(SOL_IP, MCAST_UNBLOCK_SOURCE, -, unblock),
    option!(SOL_IP, MCAST_JOIN_SOURCE_GROUP, -, add),
    option!(SOL_IP, MCAST_LEAVE_SOURCE_GROUP, -, remove),
    option!(SOL_IP, MCAST_MSFILTER, get_filter, set_filter),
    option!(SOL_IPV6, MCAST_BLOCK_SOURCE, -, block),
    option!(SOL_IPV6, MCAST_UNBLOCK_SOURCE, -, unblock),
    option!(SOL_IPV6, MCAST_JOIN_SOURCE_GROUP, -, add),
    option!(SOL_IPV6, MCAST_LEAVE_SOURCE_GROUP, -, remove),
    option!(SOL_IPV6, MCAST_MSFILTER, get_filter, set_filter),
];

/// What is done about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Drop,
    Block,
    Unblock,
}

/// A membership, as calls name it.
#[derive(Debug, Clone, Copy)]
struct Place {
    group: IpAddr,
    nic: Option<NicId>,
}

/// A method that UDP and raw sockets have; the only ones with memberships.
macro_rules! member {
    ($context:expr, $s:ident => $e:expr) => {
        match $context.inet()?.protocol() {
            Protocol::Udp($s) => $e,
            Protocol::Raw($s) => $e,
            // Linux: "inet_sk(sk)->is_icsk" says EPROTO.
            Protocol::Tcp(_) => return Err(Errno::EPROTO.into()),
            Protocol::Ping(_) => return Err(Errno::EOPNOTSUPP.into()),
        }
    };
}

fn change(context: &Context<'_>, at: Place, source: IpAddr, change: Change) -> Result<(), Errno> {
    let Place { group, nic } = at;
    let done = member!(context, s => match change {
        Change::Add => s.add_source(group, source, nic),
        Change::Drop => s.drop_source(group, source, nic),
        Change::Block => s.block_source(group, source, nic),
        Change::Unblock => s.unblock_source(group, source, nic),
    });
    done.map_err(errno)
}

/// ip_mc_source, ip_mc_msfilter: `EINVAL` "not joined".
fn errno(error: MembershipError) -> Errno {
    match error {
        MembershipError::NotMember => Errno::EINVAL,
        error => error.to_errno(),
    }
}

fn current(context: &Context<'_>, at: Place) -> Result<SourceFilter, MembershipErrno> {
    let found = member!(context, s => s.source_filter(at.group, at.nic));
    found.map_err(MembershipErrno::Stack)
}

/// An error of a look at a membership: the two directions call it differently.
enum MembershipErrno {
    Stack(MembershipError),
    Other(Errno),
}

impl From<Errno> for MembershipErrno {
    fn from(errno: Errno) -> Self {
        Self::Other(errno)
    }
}

fn replace(context: &Context<'_>, at: Place, filter: SourceFilter) -> Result<(), Errno> {
    // Setting a filter does not join.
    let is_leaving = filter.is_none();
    match current(context, at) {
        Ok(_) => {}
        Err(MembershipErrno::Stack(MembershipError::NotMember)) if is_leaving => {
            return Err(Errno::EADDRNOTAVAIL);
        }
        Err(MembershipErrno::Stack(error)) => return Err(errno(error)),
        Err(MembershipErrno::Other(errno)) => return Err(errno),
    }
    member!(context, s => s.set_source_filter(at.group, at.nic, filter)).map_err(errno)
}

fn mode(number: u32) -> Result<FilterMode, Errno> {
    match number {
        MCAST_EXCLUDE => Ok(FilterMode::Exclude),
        MCAST_INCLUDE => Ok(FilterMode::Include),
        _ => Err(Errno::EINVAL),
    }
}

fn number(mode: FilterMode) -> u32 {
    match mode {
        FilterMode::Exclude => MCAST_EXCLUDE,
        FilterMode::Include => MCAST_INCLUDE,
    }
}

/// `struct ip_mreq_source`: group, interface, source.
fn change_v4(context: &Context<'_>, value: &[u8], how: Change) -> Result<(), Errno> {
    if value.len() != 12 {
        return Err(Errno::EINVAL);
    }
    let [group, local, source]: [[u8; 4]; 3] = object(value)?;
    check_group(group)?;
    let nic = interface(context, 0, Ipv4Addr::from(local))?;
    let at = Place { group: IpAddr::V4(group.into()), nic };
    change(context, at, IpAddr::V4(source.into()), how)
}

/// ip_mc_source and its relatives look at the group first.
fn check_group(group: [u8; 4]) -> Result<(), Errno> {
    if Ipv4Addr::from(group).is_multicast() { Ok(()) } else { Err(Errno::EINVAL) }
}

fn add_v4(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_v4(context, value, Change::Add)
}

fn drop_v4(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_v4(context, value, Change::Drop)
}

fn block_v4(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_v4(context, value, Change::Block)
}

fn unblock_v4(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_v4(context, value, Change::Unblock)
}

/// `struct ip_msfilter`: group, interface, mode, number of sources, sources.
fn set_filter_v4(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let ([group, local], [kind, count]): ([[u8; 4]; 2], [u32; 2]) =
        (object(value)?, object(value.get(8..).unwrap_or_default())?);
    // net.ipv4.igmp_max_msf.
    if count > MAX_SOURCES {
        return Err(Errno::ENOBUFS);
    }
    check_group(group)?;
    // Checked above: a handful.
    let bytes = context.read_buffer(16 + 4 * count as usize)?;
    let source = |bytes: &[u8]| IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]));
    let sources = bytes[16..].chunks_exact(4).map(source).collect();
    let at = Place { group: IpAddr::V4(group.into()), nic: interface(context, 0, local.into())? };
    replace(context, at, SourceFilter { mode: mode(kind)?, sources })
}

/// As many sources as the guest has room for, and how many there are.
fn get_filter_v4(context: &Context<'_>) -> Result<Value, Errno> {
    let asked = context.read_buffer(16)?;
    let ([group, local], [_, room]): ([[u8; 4]; 2], [u32; 2]) = (object(&asked)?, object(&asked[8..])?);
    check_group(group)?;
    let at = Place { group: IpAddr::V4(group.into()), nic: interface(context, 0, local.into())? };
    let filter = read(context, at)?;
    let mut value = Value::from_slice(&asked[..8]);
    value.extend(number(filter.mode).to_ne_bytes());
    value.extend(u32::try_from(filter.sources.len()).unwrap_or(u32::MAX).to_ne_bytes());
    for source in filter.sources.iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
        if let IpAddr::V4(source) = source {
            value.extend(source.octets());
        }
    }
    Ok(value)
}

fn read(context: &Context<'_>, at: Place) -> Result<SourceFilter, Errno> {
    current(context, at).map_err(|error| match error {
        MembershipErrno::Stack(error) => error.to_errno(),
        MembershipErrno::Other(errno) => errno,
    })
}

/// An address in a `struct sockaddr_storage`.
///
/// # Errors
/// `EADDRNOTAVAIL` when it is of another family than the option's level.
fn storage(context: &Context<'_>, bytes: &[u8]) -> Result<IpAddr, Errno> {
    let (family, number) = match context.option.0 {
        SOL_IP => (IpFamily::V4, AF_INET),
        _ => (IpFamily::V6, AF_INET6),
    };
    let is_right = bytes.get(..2).is_some_and(|given| given == number.to_ne_bytes());
    let address = decode_address(family, bytes).ok().flatten().filter(|_| is_right);
    address.map(|address| address.ip()).ok_or(Errno::EADDRNOTAVAIL)
}

/// The interface and the group that `struct group_source_req` and `struct group_filter` begin with.
fn place(context: &Context<'_>, bytes: &[u8]) -> Result<Place, Errno> {
    let index: u32 = object(bytes)?;
    let group = storage(context, bytes.get(8..).ok_or(Errno::EINVAL)?)?;
    let nic = NicId::from_index(index);
    if nic.is_some_and(|nic| context.namespace.stack().nic(nic).is_none()) {
        return Err(Errno::ENODEV);
    }
    Ok(Place { group, nic })
}

/// `struct group_source_req`: interface, group, source.
fn change_any(context: &Context<'_>, value: &[u8], how: Change) -> Result<(), Errno> {
    if value.len() != 8 + 2 * STORAGE_LEN {
        return Err(Errno::EINVAL);
    }
    let at = place(context, value)?;
    change(context, at, storage(context, &value[8 + STORAGE_LEN..])?, how)
}

fn add(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_any(context, value, Change::Add)
}

fn remove(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_any(context, value, Change::Drop)
}

fn block(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_any(context, value, Change::Block)
}

fn unblock(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    change_any(context, value, Change::Unblock)
}

/// `struct group_filter`: interface, group, mode, number of sources, sources.
fn set_filter(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let [kind, count]: [u32; 2] = object(value.get(8 + STORAGE_LEN..).unwrap_or_default())?;
    if count > MAX_SOURCES_V6 {
        return Err(Errno::ENOBUFS);
    }
    // Checked above.
    let bytes = context.read_buffer(GROUP_FILTER_LEN + STORAGE_LEN * count as usize)?;
    let at = match place(context, &bytes) {
        // ip6_mc_msfilter looks at the group only.
        Err(Errno::EADDRNOTAVAIL) if context.option.0 == SOL_IPV6 => return Err(Errno::EINVAL),
        at => at?,
    };
    let sources = bytes[GROUP_FILTER_LEN..].chunks_exact(STORAGE_LEN);
    let sources = sources.map(|source| storage(context, source));
    let sources = sources.collect::<Result<_, _>>()?;
    replace(context, at, SourceFilter { mode: mode(kind)?, sources })
}

fn get_filter(context: &Context<'_>) -> Result<Value, Errno> {
    let asked = context.read_buffer(GROUP_FILTER_LEN)?;
    let [_, room]: [u32; 2] = object(&asked[8 + STORAGE_LEN..])?;
    let at = match place(context, &asked) {
        Err(Errno::EADDRNOTAVAIL) if context.option.0 == SOL_IP => return Err(Errno::EINVAL),
        at => at?,
    };
    let filter = read(context, at)?;
    let mut value = Value::from_slice(&asked[..8 + STORAGE_LEN]);
    value.extend(number(filter.mode).to_ne_bytes());
    value.extend(u32::try_from(filter.sources.len()).unwrap_or(u32::MAX).to_ne_bytes());
    let family = if at.group.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
    for source in filter.sources.iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
        let start = value.len();
        value.extend(inet::encode_address(family, (*source, 0).into()));
        value.resize(start + STORAGE_LEN, 0);
    }
    Ok(value)
}

/// `sizeof(struct sockaddr_storage)`.
const STORAGE_LEN: usize = 128;
/// `GROUP_FILTER_SIZE(0)`.
const GROUP_FILTER_LEN: usize = 8 + STORAGE_LEN + 8;
/// `net.ipv4.igmp_max_msf`.
const MAX_SOURCES: u32 = 10;
/// `net.ipv6.mld_max_msf`.
const MAX_SOURCES_V6: u32 = 64;
/// `<linux/in.h>`.
const MCAST_EXCLUDE: u32 = 0;
const MCAST_INCLUDE: u32 = 1;
