//! The next hops of a route: one, or several that share the flows (`RTA_MULTIPATH`).

use std::net::IpAddr;

use netstack::link::Medium;
use netstack::route::{Route, RouteKind};
use netstack::{NicId, Stack};
use sentry_abi::netlink::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder};

/// Where a route leads. What a request does not say is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextHop {
    pub(super) gateway: Option<IpAddr>,
    pub(super) nic: Option<NicId>,
    /// Its share of the flows; zero for one that is alone.
    pub(super) weight: u8,
}

/// The next hops of a request, of which there is at least one.
pub(super) fn decode(attributes: &Attributes<'_>) -> Result<Vec<NextHop>, Errno> {
    let Some(mut rest) = attributes.find(RTA_MULTIPATH) else {
        let nic = attributes.u32(RTA_OIF).and_then(NicId::from_index);
        return Ok(vec![NextHop { gateway: attributes.address(RTA_GATEWAY), nic, weight: 0 }]);
    };
    let mut next_hops = Vec::new();
    while !rest.is_empty() {
        let (header, _) = RtNextHop::read_from_prefix(rest).map_err(|_| Errno::EINVAL)?;
        let len = usize::from(header.len);
        let own = rest.get(size_of::<RtNextHop>()..len).ok_or(Errno::EINVAL)?;
        rest = rest.get(nl_align(len)..).unwrap_or(&[]);
        let nic = u32::try_from(header.index).ok().and_then(NicId::from_index);
        let gateway = Attributes::within(own).address(RTA_GATEWAY);
        // rtnh_hops is the weight less one; 255 is refused (fib_get_nhs).
        let weight = header.hops.checked_add(1).ok_or(Errno::EINVAL)?;
        next_hops.push(NextHop { gateway, nic, weight });
    }
    if next_hops.is_empty() { Err(Errno::EINVAL) } else { Ok(next_hops) }
}

/// Adds those of one route to its description.
pub(super) fn describe(together: &[Route], builder: &mut Builder) {
    builder.nest(RTA_MULTIPATH, |builder| {
        for route in together {
            let mut own = Builder::default();
            if let Some(gateway) = route.gateway {
                own.attr_ip(RTA_GATEWAY, gateway);
            }
            let own = own.finish();
            let header = RtNextHop {
                // A header and an address.
                len: u16::try_from(size_of::<RtNextHop>() + own.len()).unwrap_or(u16::MAX),
                flags: 0,
                hops: route.weight.saturating_sub(1),
                index: i32::try_from(route.nic.index()).unwrap_or(i32::MAX),
            };
            builder.raw(header.as_bytes());
            builder.raw(&own);
        }
    });
}

impl NextHop {
    /// The interface: the one that was named, or that of the gateway's network. What leads nowhere has the loopback's.
    pub(super) fn nic(&self, stack: &Stack, kind: RouteKind) -> Result<NicId, Errno> {
        match (self.nic, self.gateway) {
            (Some(nic), _) => Ok(nic),
            (None, _) if kind.leads_nowhere() => {
                let nics = stack.nics();
                let loopback = nics.iter().find(|nic| nic.medium == Medium::Loopback);
                loopback.map(|nic| nic.id).ok_or(Errno::ENODEV)
            }
            (None, Some(gateway)) => {
                let routes = stack.routes();
                let direct = routes.iter().find(|r| r.gateway.is_none() && r.destination.contains(gateway));
                // ip6_route_check_nh, fib_check_nh.
                let unreachable = if gateway.is_ipv6() { Errno::EHOSTUNREACH } else { Errno::ENETUNREACH };
                direct.map(|r| r.nic).ok_or(unreachable)
            }
            (None, None) => Err(Errno::ENODEV),
        }
    }

    /// Whether it is a route's, as far as was said.
    pub(super) fn is_of(&self, route: &Route) -> bool {
        (self.gateway.is_none() || route.gateway == self.gateway)
            && self.nic.is_none_or(|nic| route.nic == nic)
    }
}
