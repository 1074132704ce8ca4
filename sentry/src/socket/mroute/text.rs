//! `/proc/net/ip_mr_vif`, `ip_mr_cache` and their counterparts of IPv6.

use std::fmt::Write;
use std::net::IpAddr;

use netstack::multicast_route::{MulticastRouter, RouteInfo, Vif, VifId};
use netstack::options::Family;

use crate::socket::NetNamespace;

// Writing to a string does not fail, so the results of `writeln!` are dropped below.

pub(in crate::socket) fn vifs_v4(namespace: &NetNamespace) -> String {
    let heading = "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags Local    Remote\n";
    vifs(namespace, Family::V4, heading)
}

pub(in crate::socket) fn vifs_v6(namespace: &NetNamespace) -> String {
    vifs(namespace, Family::V6, "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags\n")
}

fn vifs(namespace: &NetNamespace, family: Family, heading: &str) -> String {
    let mut text = heading.to_owned();
    namespace.multicast_routing().with(family, |active| {
        for vif in active.router.vifs() {
            let number = vif.id.number();
            let given = active.vifs[usize::from(number)].unwrap_or_default();
            let name = match (vif.vif, family) {
                (Vif::Nic(nic), _) => namespace.stack().nic(nic).map_or("none".to_owned(), |nic| nic.name),
                (Vif::Register, Family::V4) => "pimreg".to_owned(),
                (Vif::Register, Family::V6) => "pim6reg".to_owned(),
            };
            let counts = vif.counts;
            let _ = write!(
                text,
                "{number:>2} {name:<10} {:>8} {:>7}  {:>8} {:>7} {:05X}",
                counts.bytes_in, counts.packets_in, counts.bytes_out, counts.packets_out, given.flags
            );
            if family == Family::V4 {
                // Addresses are printed as the words that lie in memory.
                let (local, remote) = (u32::from_ne_bytes(given.local), u32::from_ne_bytes(given.remote));
                let _ = write!(text, " {local:08X} {remote:08X}");
            }
            text.push('\n');
        }
    });
    text
}

pub(in crate::socket) fn cache_v4(namespace: &NetNamespace) -> String {
    let heading = "Group    Origin   Iif     Pkts    Bytes    Wrong Oifs\n";
    cache(namespace, Family::V4, heading)
}

pub(in crate::socket) fn cache_v6(namespace: &NetNamespace) -> String {
    let heading = "Group                            Origin                           Iif      Pkts  Bytes     Wrong  Oifs\n";
    cache(namespace, Family::V6, heading)
}

fn cache(namespace: &NetNamespace, family: Family, heading: &str) -> String {
    let mut text = heading.to_owned();
    namespace.multicast_routing().with(family, |active| {
        let mut routes = active.router.routes();
        routes.sort_by_key(|info| (info.route.group, info.route.source, info.route.parent));
        for info in routes {
            route(&mut text, &active.router, &info);
        }
        for (source, group) in active.router.unresolved() {
            let _ = writeln!(text, "{} {} {:<3} {:>8} {:>8} {:>8}", word(group), word(source), -1, 0, 0, 0);
        }
    });
    text
}

fn route(text: &mut String, router: &MulticastRouter, info: &RouteInfo) {
    let RouteInfo { route, counts, last_used: _ } = info;
    let _ = write!(
        text,
        "{} {} {:<3} {:>8} {:>8} {:>8}",
        word(route.group),
        word(route.source),
        route.parent.number(),
        counts.packets,
        counts.bytes,
        counts.wrong_vif
    );
    let exists = |id: VifId| router.vif(id).is_some();
    for (id, threshold) in route.outputs.iter().filter(|&(id, _)| exists(id)) {
        let _ = write!(text, " {:>2}:{threshold:<3}", id.number());
    }
    text.push('\n');
}

/// An address as Linux prints it here: of IPv4 the word that lies in memory, of IPv6 all its digits.
fn word(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08X}", u32::from_ne_bytes(v4.octets())),
        IpAddr::V6(v6) => v6.segments().map(|part| format!("{part:04x}")).join(":"),
    }
}
