//! `dev`, `route`, `ipv6_route`, `if_inet6`, `arp`.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use netstack::link::Medium;
use netstack::nic::{NeighbourState, NicInfo};
use netstack::route::{Route, RouteKind, TableId};

use crate::socket::NetNamespace;
use crate::socket::netlink::listing_order;
use crate::socket::packet::hardware_type;

// Writing to a string does not fail, so the results of `writeln!` are dropped below.

pub(super) fn dev(namespace: &NetNamespace) -> String {
    let mut text = "Inter-|   Receive                                                |  Transmit\n face |bytes    \
                    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier \
                    compressed\n"
        .to_owned();
    for nic in namespace.stack().nics() {
        let s = &nic.stats;
        let rx_dropped = s.rx_dropped_down + s.rx_dropped_other_host + s.rx_dropped_unknown_protocol;
        let tx_dropped = s.tx_dropped_full + s.tx_dropped_down + s.tx_dropped_too_large;
        let _ = writeln!(
            text,
            "{:>6}: {:>7} {:>7} {:>4} {:>4} {:>4} {:>5} {:>10} {:>9} {:>8} {:>7} {:>4} {:>4} {:>4} {:>5} {:>7} {:>10}",
            nic.name,
            s.rx_bytes,
            s.rx_packets,
            s.rx_dropped_malformed,
            rx_dropped,
            0,
            0,
            0,
            s.rx_multicast,
            s.tx_bytes,
            s.tx_packets,
            s.tx_dropped_unresolved,
            tx_dropped,
            0,
            0,
            0,
            0
        );
    }
    text
}

/// `RTF_*`.
const ROUTE_UP: u32 = 1;
const ROUTE_GATEWAY: u32 = 2;
const ROUTE_HOST: u32 = 4;
const ROUTE_REJECT: u32 = 0x200;

/// The routes with the names of their interfaces, without those of the loopback, which Linux keeps in its local table.
fn routes(namespace: &NetNamespace) -> Vec<(Route, NicInfo)> {
    let nics = namespace.stack().nics();
    let named = |route: Route| {
        let nic = nics.iter().find(|nic| nic.id == route.nic)?;
        // What leads nowhere is kept with the loopback, and belongs to none.
        (nic.medium != Medium::Loopback || route.kind.leads_nowhere()).then(|| (route, nic.clone()))
    };
    let is_main = |route: &Route| route.table == TableId::MAIN;
    let mut routes: Vec<_> =
        namespace.stack().routes().into_iter().filter(is_main).filter_map(named).collect();
    routes.sort_by(|(a, _), (b, _)| listing_order(a, b));
    routes
}

/// `fib_flag_trans`.
fn flags(route: &Route) -> u32 {
    let destination = route.destination;
    let longest = if destination.address().is_ipv4() { 32 } else { 128 };
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    ROUTE_UP
        | flag(route.gateway.is_some(), ROUTE_GATEWAY)
        | flag(destination.prefix_len() == longest, ROUTE_HOST)
        | flag(matches!(route.kind, RouteKind::Unreachable | RouteKind::Prohibit), ROUTE_REJECT)
}

pub(super) fn route(namespace: &NetNamespace) -> String {
    let heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    let mut text = format!("{heading:<127}\n");
    for (route, nic) in routes(namespace) {
        let IpAddr::V4(destination) = route.destination.address() else { continue };
        let gateway = match route.gateway {
            Some(IpAddr::V4(v4)) => u32::from_le_bytes(v4.octets()),
            _ => 0,
        };
        let prefix = u32::from(route.destination.prefix_len().min(32));
        // Addresses are printed as the words that lie in memory.
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0).swap_bytes();
        let line = format!(
            "{}\t{:08X}\t{gateway:08X}\t{:04X}\t0\t0\t{}\t{mask:08X}\t0\t0\t0",
            if route.kind.leads_nowhere() { "*" } else { nic.name.as_str() },
            u32::from_le_bytes(destination.octets()),
            flags(&route),
            route.metric
        );
        let _ = writeln!(text, "{line:<127}");
    }
    text
}

fn bare_hex(address: Ipv6Addr) -> String {
    format!("{:032x}", address.to_bits())
}

pub(super) fn ipv6_route(namespace: &NetNamespace) -> String {
    let mut text = String::new();
    for (route, nic) in routes(namespace) {
        let IpAddr::V6(destination) = route.destination.address() else { continue };
        let gateway = match route.gateway {
            Some(IpAddr::V6(v6)) => v6,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let _ = writeln!(
            text,
            "{} {:02x} {} 00 {} {:08x} 00000001 00000000 {:08x} {:>8}",
            bare_hex(destination),
            route.destination.prefix_len(),
            bare_hex(Ipv6Addr::UNSPECIFIED),
            bare_hex(gateway),
            // Linux shows 1024 for routes without a metric.
            if route.metric == 0 { 1024 } else { route.metric },
            flags(&route),
            nic.name
        );
    }
    text
}

/// The scopes of `if_inet6`: `IPV6_ADDR_LOOPBACK`, `IPV6_ADDR_LINKLOCAL`, global.
fn scope(address: Ipv6Addr) -> u8 {
    match address {
        Ipv6Addr::LOCALHOST => 0x10,
        v6 if v6.is_unicast_link_local() => 0x20,
        _ => 0,
    }
}

pub(super) fn if_inet6(namespace: &NetNamespace) -> String {
    /// `IFA_F_PERMANENT`.
    const PERMANENT: u8 = 0x80;
    let mut text = String::new();
    for nic in namespace.stack().nics() {
        for own in &nic.addresses {
            let IpAddr::V6(address) = own.address() else { continue };
            let _ = writeln!(
                text,
                "{} {:02x} {:02x} {:02x} {PERMANENT:02x} {:>8}",
                bare_hex(address),
                nic.id.index(),
                own.cidr.prefix_len(),
                scope(address),
                nic.name
            );
        }
    }
    text
}

pub(super) fn arp(namespace: &NetNamespace) -> String {
    /// `ATF_COM` and `ATF_PERM`.
    const COMPLETE: u32 = 2;
    const PERMANENT: u32 = 4;
    let mut text =
        "IP address       HW type     Flags       HW address            Mask     Device\n".to_owned();
    for neighbour in namespace.stack().neighbours() {
        let IpAddr::V4(address) = neighbour.address else { continue };
        let Some(nic) = namespace.stack().nic(neighbour.nic) else { continue };
        let flags = match neighbour.state {
            NeighbourState::Incomplete | NeighbourState::Failed => 0,
            NeighbourState::Permanent => COMPLETE | PERMANENT,
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe => COMPLETE,
        };
        let mac = neighbour.mac.map_or([0; 6], |mac| mac.0).map(|b| format!("{b:02x}")).join(":");
        let address = address.to_string();
        let _ = writeln!(
            text,
            "{address:<16} {:<#10x}  {flags:<#10x}  {mac:<21} *        {}",
            hardware_type(&nic),
            nic.name
        );
    }
    text
}
