//! Forwarding: what a router does with packets for others (RFC 1812 section 5, RFC 8200 section 3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack_wire::icmpv4;
use netstack_wire::icmpv6;
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::options::{self, Overflow};
use netstack_wire::ipv6::{self, Extensions};

use crate::error::RouteError;
use crate::filter;
use crate::ip::icmp_error::{self, IcmpReason};
use crate::ip::input_v6::{Verdict, check_options};
use crate::ip::{
    Delivery, Egress, Fragmenting, Origin, OutputError, RouteQuery, Rx, Transit, input_v4, redirect,
};
use crate::nic::{NicOptions, ReversePath};
use crate::packet::{AddressedTo, Packet};
use crate::stack::Core;

/// Takes a packet, checked by input, that is not for us.
pub(super) fn input(rx: &mut Rx<'_>, packet: Packet) {
    let counters = &rx.core.counters;
    let options = rx.topology.nics.get(&rx.interface.id).map(|entry| entry.options).unwrap_or_default();
    if !(options.forwards_v4 || options.forwards_v6) {
        return counters.ip_in_not_ours.increment();
    }
    // RFC 1812 section 5.3.4: frames to groups and broadcasts of the link are not for unicast forwarding.
    let is_for_station = packet.meta.addressed_to == AddressedTo::Host;
    let Some(transit) = Transit::new(packet) else {
        return counters.ip_in_header_errors.increment();
    };
    let forwards = if transit.is_v4() { options.forwards_v4 } else { options.forwards_v6 };
    if !forwards || !is_for_station {
        return counters.ip_in_not_ours.increment();
    }
    forward(rx, &options, transit, None);
}

/// Forwards a packet that came to our station, on a NIC that forwards; past the rules if there are any.
pub(super) fn forward(
    rx: &mut Rx<'_>,
    options: &NicOptions,
    mut transit: Transit,
    mut passage: Option<filter::Passage>,
) {
    if !is_forwardable(rx, &transit) || !has_right_path(rx, options, &transit) {
        return;
    }
    if transit.ttl() <= 1 {
        rx.core.counters.ip_forward_expired.increment();
        return refuse(rx, as_sent(&passage, &transit), IcmpReason::TtlExceeded);
    }
    let Some(mut egress) = route(rx, &transit, as_sent(&passage, &transit)) else { return };
    if egress.interface.id == rx.interface.id && options.sends_redirects {
        redirect::tell(rx, &egress, &transit);
    }
    transit.set_ttl(transit.ttl() - 1);
    record_options(rx.core, &egress, &mut transit);
    let policy = match transit.is_unfragmentable() {
        true => Fragmenting::Forbidden,
        false => Fragmenting::Allowed,
    };
    if let Some(passage) = &mut passage
        && !filter::forward(rx.core, passage, &mut transit, &egress, rx.outbox)
    {
        return;
    }
    // Kept for the error only when there may be one.
    let may_not_fit = transit.len() > usize::try_from(egress.mtu).unwrap_or(usize::MAX);
    let kept = may_not_fit.then(|| as_sent(&passage, &transit).clone());
    match transit.send(rx.core, &mut egress, policy, rx.outbox) {
        Ok(()) => rx.core.counters.ip_forw_datagrams.increment(),
        Err(OutputError::TooLarge { mtu }) => {
            rx.core.counters.ip_forward_too_big.increment();
            if let Some(transit) = kept {
                refuse(rx, &transit, IcmpReason::TooBig { mtu });
            }
        }
        // The resolution reports to the sender when it fails; here it has failed before.
        Err(OutputError::HostUnreachable | OutputError::NetworkDown | OutputError::Filtered) => {
            rx.core.counters.ip_out_discards.increment();
        }
    }
}

/// Writes the address that the packet leaves from, and the time, into options that ask for them (RFC 1812 section 5.3.13).
pub(super) fn record_options(core: &Core, egress: &Egress, transit: &mut Transit) {
    let (source, destination) = (transit.source, transit.destination);
    let options = transit.options_mut();
    if options.is_empty() {
        return;
    }
    let Some(IpAddr::V4(own)) = egress.own_address(core, destination) else { return };
    let topology = core.topology.load();
    let mut stamp = input_v4::stamp(core, &topology, own);
    // As Linux (`fib_compute_spec_dst`): the time goes with the address that the sender knows us by.
    let towards_sender = RouteQuery { destination: source, source: None, nic: None };
    if let Ok(Egress { source: IpAddr::V4(known), .. }) = Egress::resolve(core, towards_sender) {
        stamp.time_address = known;
    }
    // What does not fit wholly was refused when the packet came.
    options::record(options, &stamp, Overflow::Counted);
}

/// The packet as its sender knows it, for errors about it.
fn as_sent<'a>(passage: &'a Option<filter::Passage>, transit: &'a Transit) -> &'a Transit {
    passage.as_ref().and_then(filter::Passage::before).unwrap_or(transit)
}

/// Finds the way out, or tells the sender that there is none.
fn route(rx: &mut Rx<'_>, transit: &Transit, as_sent: &Transit) -> Option<Egress> {
    let query = RouteQuery { destination: transit.destination, source: Some(transit.source), nic: None };
    let packet = transit.facts(&rx.topology.rules);
    let origin = Origin { mark: transit.packet.meta.mark, arrived_on: Some(rx.interface.id), packet };
    let code = match Egress::resolve_for(rx.core, query, origin) {
        Ok(egress) if egress.delivery == Delivery::Unicast && !egress.interface.is_loopback() => {
            return Some(egress);
        }
        Ok(_) => None,
        Err(RouteError::NetworkUnreachable | RouteError::NoSource | RouteError::NetworkDown) => {
            Some((icmpv4::NET_UNREACHABLE, icmpv6::NO_ROUTE))
        }
        Err(RouteError::Unreachable) => Some((icmpv4::HOST_UNREACHABLE, icmpv6::ADDRESS_UNREACHABLE)),
        Err(RouteError::Prohibited) => Some((icmpv4::PROHIBITED, icmpv6::PROHIBITED)),
        Err(RouteError::Blackhole) => None,
    };
    rx.core.counters.ip_in_no_routes.increment();
    if let Some((v4, v6)) = code {
        let code = if transit.is_v4() { v4 } else { v6 };
        refuse(rx, as_sent, IcmpReason::Unreachable { code });
    }
    None
}

/// Addresses that no router may carry, and hop-by-hop options.
fn is_forwardable(rx: &mut Rx<'_>, transit: &Transit) -> bool {
    let is_sane = match (transit.source, transit.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            is_routable_v4(source) && is_routable_v4(destination)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            // RFC 4291 section 2.5.6: "Routers must not forward any packets with Link-Local source or destination
            // addresses to other links."
            if source.is_unicast_link_local() && is_routable_v6(destination) {
                rx.core.counters.ip_in_martians.increment();
                refuse(rx, transit, IcmpReason::Unreachable { code: icmpv6::BEYOND_SCOPE });
                return false;
            }
            is_routable_v6(source) && is_routable_v6(destination)
        }
        _ => false,
    };
    if !is_sane {
        rx.core.counters.ip_in_martians.increment();
        return false;
    }
    transit.is_v4() || has_known_hop_by_hop(rx, transit)
}

/// RFC 5735 and RFC 1812 section 5.3.7: what is this network, this host, class E, or a group, is martian.
fn is_routable_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

fn is_routable_v6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local())
}

/// RFC 8200 section 4.3: hop-by-hop options are for every node on the way.
fn has_known_hop_by_hop(rx: &mut Rx<'_>, transit: &Transit) -> bool {
    let l3 = transit.l3();
    if l3[ipv6::NEXT_HEADER_OFFSET] != Protocol::HOP_BY_HOP.0 {
        return true;
    }
    let mut chain = Extensions::new(Protocol::HOP_BY_HOP, &l3[ipv6::HEADER_LEN..]);
    let Some(Ok(extension)) = chain.next() else { return false };
    match check_options(&extension) {
        Verdict::Next | Verdict::Fragment(_) => true,
        Verdict::Drop => {
            rx.core.counters.ip_in_header_errors.increment();
            false
        }
        Verdict::Report { reason, .. } => {
            rx.core.counters.ip_in_header_errors.increment();
            refuse(rx, transit, reason);
            false
        }
    }
}

/// RFC 3704: whether the source is believed.
fn has_right_path(rx: &mut Rx<'_>, options: &NicOptions, transit: &Transit) -> bool {
    if options.reverse_path == ReversePath::Off {
        return true;
    }
    let query = RouteQuery { destination: transit.source, source: Some(transit.destination), nic: None };
    let packet = transit.facts(&rx.topology.rules).reversed();
    let origin = Origin { mark: transit.packet.meta.mark, arrived_on: Some(rx.interface.id), packet };
    let is_right = Egress::resolve_for(rx.core, query, origin).is_ok_and(|way| {
        !way.is_local() && (options.reverse_path == ReversePath::Loose || way.interface.id == rx.interface.id)
    });
    if !is_right {
        rx.core.counters.ip_reverse_path_filter.increment();
    }
    is_right
}

/// Tells the sender why its packet goes no further.
pub(super) fn refuse(rx: &mut Rx<'_>, transit: &Transit, reason: IcmpReason) {
    let quoted = transit.quote();
    icmp_error::report(rx.core, &quoted, transit.source, None, reason, rx.outbox);
}
