//! Multicast memberships of sockets, with the sources they want (RFC 3678).

use std::net::IpAddr;
use std::sync::Arc;

use crate::error::MembershipError;
use crate::ip::{self, Cast, Egress, IpMeta, MemberId, RouteQuery, unmapped};
use crate::multicast::{FilterMode, SourceFilter};
use crate::nic::NicId;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::socket::datagram::DatagramEndpoint;
use crate::stack::Core;

/// One membership of a socket.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    group: IpAddr,
    nic: NicId,
    filter: SourceFilter,
    member: MemberId,
}

/// Joins a group, for all sources.
pub(super) fn join(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    nic: Option<NicId>,
) -> Result<(), MembershipError> {
    change(core, endpoint, group, nic, |before| match before {
        Some(_) => Err(MembershipError::AlreadyMember),
        None => Ok(SourceFilter::any()),
    })
}

/// Leaves a group, whatever its sources.
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
            .position(|joined| joined.group == group && nic.is_none_or(|nic| nic == joined.nic));
        state.memberships.remove(index.ok_or(MembershipError::NotMember)?)
    };
    apply(core, Membership { filter: SourceFilter::none(), ..left });
    Ok(())
}

/// Wants a source of a group in addition (`IP_ADD_SOURCE_MEMBERSHIP`).
pub(super) fn add_source(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    source: IpAddr,
    nic: Option<NicId>,
) -> Result<(), MembershipError> {
    change_source(core, endpoint, group, source, nic, FilterMode::Include, Source::Added)
}

/// Wants a source of a group no more (`IP_DROP_SOURCE_MEMBERSHIP`); the last one ends the membership.
pub(super) fn drop_source(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    source: IpAddr,
    nic: Option<NicId>,
) -> Result<(), MembershipError> {
    change_source(core, endpoint, group, source, nic, FilterMode::Include, Source::Removed)
}

/// Wants all sources of a group but this one (`IP_BLOCK_SOURCE`).
pub(super) fn block_source(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    source: IpAddr,
    nic: Option<NicId>,
) -> Result<(), MembershipError> {
    change_source(core, endpoint, group, source, nic, FilterMode::Exclude, Source::Added)
}

/// Undoes blocking (`IP_UNBLOCK_SOURCE`).
pub(super) fn unblock_source(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    source: IpAddr,
    nic: Option<NicId>,
) -> Result<(), MembershipError> {
    change_source(core, endpoint, group, source, nic, FilterMode::Exclude, Source::Removed)
}

/// Replaces the sources of a membership (`IP_MSFILTER`); none at all ends it.
pub(super) fn set_filter(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    nic: Option<NicId>,
    filter: SourceFilter,
) -> Result<(), MembershipError> {
    for source in &filter.sources {
        checked_source(group, *source)?;
    }
    change(core, endpoint, group, nic, |before| match before {
        None if filter.is_none() => Err(MembershipError::NotMember),
        _ => Ok(filter),
    })
}

/// The sources of a membership.
pub(super) fn filter(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    nic: Option<NicId>,
) -> Result<SourceFilter, MembershipError> {
    let (group, nic) = resolve(core, endpoint, group, nic)?;
    let state = endpoint.lock();
    let found = state.memberships.iter().find(|joined| (joined.group, joined.nic) == (group, nic));
    found.map(|joined| joined.filter.clone()).ok_or(MembershipError::NotMember)
}

/// Leaves all groups, when the socket closes.
pub(super) fn leave_all(core: &Arc<Core>, endpoint: &DatagramEndpoint) {
    let memberships = std::mem::take(&mut endpoint.lock().memberships);
    for membership in memberships {
        apply(core, Membership { filter: SourceFilter::none(), ..membership });
    }
}

/// Changes what a socket wants of a group; `change` gets what it wanted, if it is a member.
fn change(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    nic: Option<NicId>,
    change: impl FnOnce(Option<SourceFilter>) -> Result<SourceFilter, MembershipError>,
) -> Result<(), MembershipError> {
    let (group, nic) = resolve(core, endpoint, group, nic)?;
    let changed = {
        let mut state = endpoint.lock();
        let index = state.memberships.iter().position(|joined| (joined.group, joined.nic) == (group, nic));
        let filter = change(index.map(|index| state.memberships[index].filter.clone()))?;
        if filter.sources.len() > MAX_SOURCES {
            return Err(MembershipError::TooMany);
        }
        match index {
            Some(index) => {
                state.memberships[index].filter = filter;
                let changed = state.memberships[index].clone();
                if changed.filter.is_none() {
                    state.memberships.remove(index);
                }
                changed
            }
            None if state.memberships.len() >= MAX_MEMBERSHIPS => return Err(MembershipError::TooMany),
            None => {
                let joined = Membership { group, nic, filter, member: core.next_member() };
                state.memberships.push(joined.clone());
                joined
            }
        }
    };
    apply(core, changed);
    Ok(())
}

/// What happens to a source in the list of a membership.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Added,
    Removed,
}

/// Adds a source to the list of a membership of that mode, or removes it. Who wants only some sources becomes a member with
/// the first of them.
fn change_source(
    core: &Arc<Core>,
    endpoint: &DatagramEndpoint,
    group: IpAddr,
    source: IpAddr,
    nic: Option<NicId>,
    mode: FilterMode,
    what: Source,
) -> Result<(), MembershipError> {
    let source = checked_source(group, source)?;
    change(core, endpoint, group, nic, |before| {
        let is_first = what == Source::Added && mode == FilterMode::Include;
        let first = is_first.then(SourceFilter::none);
        let mut filter = before.or(first).ok_or(MembershipError::NotMember)?;
        if filter.mode != mode {
            return Err(MembershipError::WrongMode);
        }
        // Linux answers EADDRNOTAVAIL to a source that is there already.
        let (is_changed, refusal) = match what {
            Source::Added => (filter.sources.insert(source), MembershipError::SourceExists),
            Source::Removed => (filter.sources.remove(&source), MembershipError::NoSuchSource),
        };
        if is_changed { Ok(filter) } else { Err(refusal) }
    })
}

/// Tells the NIC what a socket wants.
fn apply(core: &Arc<Core>, Membership { group, nic, filter, member }: Membership) {
    let topology = core.topology.load();
    let Some(interface) = topology.interface(nic) else { return };
    let mut outbox = Outbox::default();
    ip::set_membership(core, interface, group, member, filter, &mut outbox);
    outbox.flush(core);
}

fn checked_source(group: IpAddr, source: IpAddr) -> Result<IpAddr, MembershipError> {
    let (group, source) = (unmapped(group), unmapped(source));
    let is_host = group.is_ipv4() == source.is_ipv4() && !source.is_multicast() && !source.is_unspecified();
    if is_host { Ok(source) } else { Err(MembershipError::InvalidSource) }
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
    let mut of_group = state.memberships.iter().filter(|joined| joined.group == ip.destination).peekable();
    // Without a membership of its own a socket gets what others joined, if it asks for that.
    if of_group.peek().is_none() {
        return match ip.destination {
            IpAddr::V4(_) => state.options.multicast_all,
            IpAddr::V6(_) => state.options.multicast_all_v6,
        };
    }
    let allows = |joined: &Membership| joined.nic == ip.nic && joined.filter.allows(ip.source);
    of_group.any(allows)
}

/// Linux's `net.ipv4.igmp_max_memberships`.
const MAX_MEMBERSHIPS: usize = 20;
/// Bounds one filter; Linux's `net.ipv4.igmp_max_msf` is 10 and `net.ipv6.mld_max_msf` 64.
const MAX_SOURCES: usize = 64;
