//! Multicast memberships: `struct ip_mreq`, `ip_mreqn`, `ip_mreq_source` and `ipv6_mreq` (ip(7), ipv6(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{IPPROTO_IP as IP, IPPROTO_IPV6 as IPV6};
use netstack::NicId;
use netstack::error::MembershipError;

use super::value::field;
use super::{Row, Subject, write_only};
use crate::descriptor::Kind;
use crate::errno::Errno;
use crate::frame::nic_of;

/// Calls a method on whatever socket can be a member.
macro_rules! member {
    ($socket:expr, $method:ident($($argument:expr),*)) => {{
        let result: Result<(), MembershipError> = match &$socket.kind {
            Kind::Udp(socket) => socket.$method($($argument),*),
            Kind::Raw(socket, _) => socket.$method($($argument),*),
            // As Linux answers for streams.
            Kind::Tcp(_) => return Err(Errno(libc::EPROTO)),
            Kind::Ping(_) => return Err(Errno(libc::ENOPROTOOPT)),
        };
        Ok(result?)
    }};
}

pub(super) const ROWS: &[Row] = &[
    write_only(IP, libc::IP_ADD_MEMBERSHIP, |socket, value| {
        let (group, nic) = group_v4(socket, value)?;
        member!(socket, join_group(group, nic))
    }),
    write_only(IP, libc::IP_DROP_MEMBERSHIP, |socket, value| {
        let (group, nic) = group_v4(socket, value)?;
        member!(socket, leave_group(group, nic))
    }),
    write_only(IP, libc::IP_ADD_SOURCE_MEMBERSHIP, |socket, value| {
        let (group, source, nic) = group_and_source(socket, value)?;
        member!(socket, add_source(group, source, nic))
    }),
    write_only(IP, libc::IP_DROP_SOURCE_MEMBERSHIP, |socket, value| {
        let (group, source, nic) = group_and_source(socket, value)?;
        member!(socket, drop_source(group, source, nic))
    }),
    write_only(IP, libc::IP_BLOCK_SOURCE, |socket, value| {
        let (group, source, nic) = group_and_source(socket, value)?;
        member!(socket, block_source(group, source, nic))
    }),
    write_only(IP, libc::IP_UNBLOCK_SOURCE, |socket, value| {
        let (group, source, nic) = group_and_source(socket, value)?;
        member!(socket, unblock_source(group, source, nic))
    }),
    write_only(IPV6, libc::IPV6_ADD_MEMBERSHIP, |socket, value| {
        let (group, nic) = group_v6(socket, value)?;
        member!(socket, join_group(group, nic))
    }),
    write_only(IPV6, libc::IPV6_DROP_MEMBERSHIP, |socket, value| {
        let (group, nic) = group_v6(socket, value)?;
        member!(socket, leave_group(group, nic))
    }),
];

/// The group, and the interface that is named by number or by one of its addresses.
fn group_v4(socket: &Subject<'_>, value: &[u8]) -> Result<(IpAddr, Option<NicId>), Errno> {
    let group = Ipv4Addr::from(field::<4>(value, 0)?);
    let address = Ipv4Addr::from(field::<4>(value, 4)?);
    let nic = match field(value, 8).map_or(0, u32::from_ne_bytes) {
        0 => named_by(socket, address)?,
        index => Some(nic_of(socket.handle, index)?),
    };
    Ok((group.into(), nic))
}

fn group_and_source(socket: &Subject<'_>, value: &[u8]) -> Result<(IpAddr, IpAddr, Option<NicId>), Errno> {
    let [group, interface, source] = [0, 4, 8].map(|at| field::<4>(value, at).map(Ipv4Addr::from));
    Ok((group?.into(), source?.into(), named_by(socket, interface?)?))
}

fn group_v6(socket: &Subject<'_>, value: &[u8]) -> Result<(IpAddr, Option<NicId>), Errno> {
    let group = Ipv6Addr::from(field::<16>(value, 0)?);
    let nic = match u32::from_ne_bytes(field(value, 16)?) {
        0 => None,
        index => Some(nic_of(socket.handle, index)?),
    };
    Ok((group.into(), nic))
}

fn named_by(socket: &Subject<'_>, address: Ipv4Addr) -> Result<Option<NicId>, Errno> {
    if address.is_unspecified() {
        return Ok(None);
    }
    nic_with(socket, address).map(Some).ok_or(Errno(libc::ENODEV))
}

/// The interface that has an address.
pub(super) fn nic_with(socket: &Subject<'_>, address: Ipv4Addr) -> Option<NicId> {
    let nics = socket.handle.stack.nics();
    let has = |nic: &&netstack::nic::NicInfo| nic.addresses.iter().any(|had| had.address() == address);
    nics.iter().find(has).map(|nic| nic.id)
}
