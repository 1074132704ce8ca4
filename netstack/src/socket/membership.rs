//! Multicast memberships of sockets.

use std::net::IpAddr;
use std::sync::Arc;

use crate::error::MembershipError;
use crate::ip::{self, Cast, Egress, IpMeta, RouteQuery, unmapped};
use crate::nic::NicId;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::socket::datagram::DatagramEndpoint;
use crate::stack::Core;

/// Joins a group.
pub(super) fn join(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    nic: Option<NicId>,
) -> Result<(), MembershipError> {
    let (group, nic) = resolve(core, endpoint, group, nic)?;
    {
        let mut state = endpoint.lock();
        if state.memberships.contains(&(group, nic)) {
            return Err(MembershipError::AlreadyMember);
        }
        if state.memberships.len() >= MAX_MEMBERSHIPS {
            return Err(MembershipError::TooMany);
        }
        state.memberships.push((group, nic));
    }
    let topology = core.topology.load();
    let interface = topology.interface(nic).ok_or(MembershipError::NoSuchNic)?;
    if interface.join(group) {
        let mut outbox = Outbox::default();
        ip::report_joined(core, interface, group, &mut outbox);
        outbox.flush(core);
    }
    Ok(())
}

/// Leaves a group.
pub(super) fn leave(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    nic: Option<NicId>,
) -> Result<(), MembershipError> {
    let group = unmapped(group);
    let left = {
        let mut state = endpoint.lock();
        let index = state
            .memberships
            .iter()
            .position(|&(joined, on)| joined == group && nic.is_none_or(|nic| nic == on));
        state.memberships.remove(index.ok_or(MembershipError::NotMember)?)
    };
    leave_interface(core, left);
    Ok(())
}

/// Leaves all groups, when the socket closes.
pub(super) fn leave_all(core: &Arc<Core>, endpoint: &DatagramEndpoint) {
    let memberships = std::mem::take(&mut endpoint.lock().memberships);
    for membership in memberships {
        leave_interface(core, membership);
    }
}

fn leave_interface(core: &Arc<Core>, (group, nic): (IpAddr, NicId)) {
    let topology = core.topology.load();
    let Some(interface) = topology.interface(nic) else { return };
    if interface.leave(group) {
        let mut outbox = Outbox::default();
        ip::report_left(core, interface, group, &mut outbox);
        outbox.flush(core);
    }
}

fn resolve(
    core: &Core,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    nic: Option<NicId>,
) -> Result<(IpAddr, NicId), MembershipError> {
    let group = unmapped(group);
    if !group.is_multicast() || (endpoint.family == Family::V4 && group.is_ipv6()) {
        return Err(MembershipError::NotMulticast);
    }
    let nic = match nic.or(endpoint.lock().options.bound_nic) {
        Some(nic) => nic,
        None => {
            let query = RouteQuery { destination: group, source: None, nic: None };
            Egress::resolve(core, query).map_err(|_| MembershipError::NoSuchNic)?.interface.id
        }
    };
    match core.topology.load().interface(nic) {
        Some(_) => Ok((group, nic)),
        None => Err(MembershipError::NoSuchNic),
    }
}

/// Tells whether a socket takes a packet to a group or broadcast address (Linux's `ip_mc_sf_allow`).
pub(super) fn wants(endpoint: &DatagramEndpoint, ip: &IpMeta) -> bool {
    if ip.cast != Cast::Multicast {
        return true;
    }
    let state = endpoint.lock();
    let is_member = state.memberships.contains(&(ip.destination, ip.nic));
    is_member
        || (state.options.multicast_all
            && !state.memberships.iter().any(|(group, _)| *group == ip.destination))
}

/// Linux's `net.ipv4.igmp_max_memberships`.
const MAX_MEMBERSHIPS: usize = 20;
