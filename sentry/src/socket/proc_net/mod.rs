//! The texts of `/proc/net` (`proc_pid_net(5)`), made from the stack's and the sockets' state when read.

mod filter_lists;
mod host;
mod inet;
mod interface;
mod local;
mod statistics;

use std::sync::Arc;

use netstack::options::Family;

use crate::fs::proc::NetFolder;
use crate::socket::{NetNamespace, mroute};

pub use host::HostFiles;

/// Makes the contents of a file.
pub type NetText = Box<dyn Fn() -> String + Send + Sync>;
/// A file of `/proc/net`: its name, and what makes its contents. It does not keep the namespace alive.
pub type NetFile = (&'static str, NetText);

/// The files of a namespace.
#[must_use]
pub fn files(namespace: &Arc<NetNamespace>) -> Vec<NetFile> {
    match namespace.host_files() {
        Some(files) => host::files(namespace, files),
        None => own_files(namespace),
    }
}

fn own_files(namespace: &Arc<NetNamespace>) -> Vec<NetFile> {
    type Render = fn(&NetNamespace) -> String;
    let table: [(&'static str, Render); 26] = [
        ("arp", interface::arp),
        ("dev", interface::dev),
        ("if_inet6", interface::if_inet6),
        ("ipv6_route", interface::ipv6_route),
        ("ip6_flowlabel", local::ip6_flowlabel),
        ("ip6_tables_matches", local::ip6_tables_matches),
        ("ip6_tables_names", local::ip6_tables_names),
        ("ip6_tables_targets", local::ip6_tables_targets),
        ("ip_tables_matches", local::ip_tables_matches),
        ("ip6_mr_cache", mroute::cache_v6),
        ("ip6_mr_vif", mroute::vifs_v6),
        ("ip_mr_cache", mroute::cache_v4),
        ("ip_mr_vif", mroute::vifs_v4),
        ("ip_tables_names", local::ip_tables_names),
        ("ip_tables_targets", local::ip_tables_targets),
        ("netstat", statistics::netstat),
        ("nf_conntrack", local::nf_conntrack),
        ("packet", local::packet),
        ("raw", inet::raw),
        ("raw6", inet::raw6),
        ("route", interface::route),
        ("snmp", statistics::snmp),
        ("tcp", inet::tcp),
        ("tcp6", inet::tcp6),
        ("udp", inet::udp),
        ("udp6", inet::udp6),
    ];
    let unix: (&'static str, Render) = ("unix", local::unix);
    let of = |(name, render): (&'static str, Render)| -> NetFile {
        let namespace = Arc::downgrade(namespace);
        (name, Box::new(move || namespace.upgrade().map(|namespace| render(&namespace)).unwrap_or_default()))
    };
    table.into_iter().chain([unix]).map(of).collect()
}

/// The folders of a namespace.
#[must_use]
pub fn folders(namespace: &Arc<NetNamespace>) -> Vec<(&'static str, Box<dyn NetFolder>)> {
    // The files of the host take the place of these.
    if namespace.host_files().is_some() {
        return Vec::new();
    }
    let limits = |family| Box::new(filter_lists::HashLimits(Arc::downgrade(namespace), family));
    vec![
        ("ip6t_hashlimit", limits(Family::V6)),
        ("ipt_hashlimit", limits(Family::V4)),
        ("xt_recent", Box::new(filter_lists::Recent(Arc::downgrade(namespace)))),
    ]
}

#[cfg(test)]
#[path = "proc_net_tests.rs"]
mod tests;
