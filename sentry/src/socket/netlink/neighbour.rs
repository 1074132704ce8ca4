//! `RTM_*NEIGH`: the neighbour table.

use std::net::IpAddr;
use std::sync::Arc;

use netstack::NicId;
use netstack::nic::NeighbourState;
use netstack::wire::ethernet::MacAddr;
use sentry_abi::netlink::*;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::netlink::address::{family_number, matches_family};
use crate::socket::netlink::message::{Attributes, Reply, Request};

/// `NUD_*`.
pub(in crate::socket) fn state_number(state: NeighbourState) -> u16 {
    match state {
        NeighbourState::Incomplete => NUD_INCOMPLETE,
        NeighbourState::Reachable => NUD_REACHABLE,
        NeighbourState::Stale => NUD_STALE,
        NeighbourState::Delay => NUD_DELAY,
        NeighbourState::Probe => NUD_PROBE,
        NeighbourState::Failed => NUD_FAILED,
        NeighbourState::Permanent => NUD_PERMANENT,
    }
}

pub(super) fn dump(namespace: &NetNamespace, request: &Request<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (filter, _) = request.split::<NdMsg>();
    for neighbour in namespace.stack().neighbours() {
        let index = neighbour.nic.index().cast_signed();
        let is_wanted = filter.ifindex == 0 || filter.ifindex == index;
        if !is_wanted || !matches_family(filter.family, neighbour.address) {
            continue;
        }
        let fixed = NdMsg {
            family: family_number(neighbour.address),
            ifindex: index,
            state: state_number(neighbour.state),
            kind: RTN_UNICAST,
            ..NdMsg::default()
        };
        reply.message(RTM_NEWNEIGH, &fixed, |builder| {
            builder.attr_ip(NDA_DST, neighbour.address);
            if let Some(mac) = neighbour.mac {
                builder.attr(NDA_LLADDR, &mac.0);
            }
        });
    }
    Ok(())
}

fn decode<'a>(request: &Request<'a>) -> Result<(NicId, IpAddr, Attributes<'a>), Errno> {
    let (fixed, attributes) = request.split_full::<NdMsg>()?;
    let nic = u32::try_from(fixed.ifindex).ok().and_then(NicId::from_index).ok_or(Errno::ENODEV)?;
    Ok((nic, attributes.address(NDA_DST).ok_or(Errno::EINVAL)?, attributes))
}

pub(super) fn add(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let (nic, address, attributes) = decode(request)?;
    let mac = attributes.find(NDA_LLADDR).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    let mac = MacAddr(mac.ok_or(Errno::EINVAL)?);
    namespace.stack().add_neighbour(nic, address, mac).map_err(|e| e.to_errno())
}

pub(super) fn remove(namespace: &Arc<NetNamespace>, request: &Request<'_>) -> Result<(), Errno> {
    let (nic, address, _) = decode(request)?;
    namespace.stack().remove_neighbour(nic, address).map_err(|_| Errno::ENOENT)
}
