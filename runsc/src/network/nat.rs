//! The way out: forwarding and address translation on the host for one sandbox.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use serde::{Deserialize, Serialize};

use crate::log;
use crate::network::forwarding::{self, Forwarding};
use crate::network::netlink::{self, Netlink};
use crate::network::scrape;

/// Rules that were made on the host for one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nat {
    tool: Tool,
    /// Host end of the sandbox's pair.
    inside: String,
    /// Address of the sandbox.
    source: IpAddr,
    /// Device of the default route.
    outside: String,
    /// Of packets that come back.
    forwarding: Forwarding,
}

/// Program that changes the packet filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Tool {
    Nft,
    Iptables,
}

/// How the way out turned out.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The sandbox reaches what the host reaches.
    Open,
    /// The host itself has no way out.
    NoDefaultRoute,
    /// Neither nft(8) nor iptables(8) is there, or it failed.
    NoTool,
}

impl Nat {
    /// Opens the way out for the sandbox at `source` behind the host interface `inside`. Before anything is changed,
    /// `note` gets what [`Nat::close`] has to be called on, so that it can be found if we are killed. `root` is the
    /// state directory.
    pub(crate) fn open<E: From<io::Error>>(
        root: &Path,
        inside: &str,
        source: IpAddr,
        mut note: impl FnMut(&Self) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let Some(outside) = default_device()? else {
            return Ok(Outcome::NoDefaultRoute);
        };
        let forwarding = Forwarding::new(root, &outside, inside)?;
        for tool in [Tool::Nft, Tool::Iptables] {
            let nat = Self {
                tool,
                inside: inside.to_owned(),
                source,
                outside: outside.clone(),
                forwarding: forwarding.clone(),
            };
            note(&nat)?;
            if nat.rules(Change::Add).iter().all(|rule| run(rule)) {
                // Without it the guest only reaches the host. The sandbox's own device takes its switch along.
                let _ = fs::write(forwarding::switch(inside), "1");
                if let Err(error) = nat.forwarding.switch_on() {
                    log::warning(&format!("switch forwarding by {outside} on: {error}"));
                }
                return Ok(Outcome::Open);
            }
            // Part of the rules may be in force.
            nat.close();
        }
        Ok(Outcome::NoTool)
    }

    /// Removes the rules. Forwarding is left on where it was on, and where other sandboxes need it.
    pub(crate) fn close(&self) {
        for rule in self.rules(Change::Remove) {
            run(&rule);
        }
        if let Err(error) = self.forwarding.switch_off() {
            log::warning(&format!("switch forwarding by {} off: {error}", self.outside));
        }
    }

    fn rules(&self, change: Change) -> Vec<Vec<String>> {
        match self.tool {
            Tool::Nft => self.nft_rules(change),
            Tool::Iptables => self.iptables_rules(change),
        }
    }

    /// A table of its own: one command removes it with all that is in it.
    fn nft_rules(&self, change: Change) -> Vec<Vec<String>> {
        let Self { inside, source, outside, .. } = self;
        let table = format!("ip runsc-{inside}");
        let script = match change {
            Change::Add => format!(
                "add table {table}; \
                 add chain {table} post {{ type nat hook postrouting priority srcnat; }}; \
                 add rule {table} post ip saddr {source} oifname \"{outside}\" masquerade"
            ),
            Change::Remove => format!("delete table {table}"),
        };
        vec![vec!["nft".to_owned(), script]]
    }

    fn iptables_rules(&self, change: Change) -> Vec<Vec<String>> {
        let Self { inside, source, outside, .. } = self;
        let (append, insert) = match change {
            Change::Add => ("-A", "-I"),
            Change::Remove => ("-D", "-D"),
        };
        [
            format!("iptables -w -t nat {append} POSTROUTING -s {source} -o {outside} -j MASQUERADE"),
            format!("iptables -w {insert} FORWARD -i {inside} -o {outside} -j ACCEPT"),
            format!("iptables -w {insert} FORWARD -i {outside} -o {inside} -j ACCEPT"),
        ]
        .iter()
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
}

/// Largest packet of the device that the default route leaves by.
pub(crate) fn default_mtu() -> io::Result<Option<u32>> {
    let Some(name) = default_device()? else {
        return Ok(None);
    };
    Ok(Netlink::open()?.link_named(&name)?.as_ref().map(scrape::mtu))
}

/// Name of the device that the IPv4 default route leaves by.
fn default_device() -> io::Result<Option<String>> {
    let mut netlink = Netlink::open()?;
    let index = netlink.routes(AddressFamily::Inet)?.iter().find_map(default_route_device);
    let Some(index) = index else {
        return Ok(None);
    };
    let links = netlink.links()?;
    let link = links.iter().find(|link| link.header.index == index);
    Ok(link.and_then(netlink::link_name).map(str::to_owned))
}

fn default_route_device(route: &RouteMessage) -> Option<u32> {
    if route.header.destination_prefix_length != 0 {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn run(command: &[String]) -> bool {
    let [program, args @ ..] = command else {
        return false;
    };
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(tool: Tool) -> Nat {
        Nat {
            tool,
            inside: "ve-1".to_owned(),
            source: "10.1.2.2".parse().unwrap(),
            outside: "eth0".to_owned(),
            forwarding: Forwarding::new(Path::new("/none"), "eth0", "ve-1").unwrap(),
        }
    }

    #[test]
    fn iptables_removes_exactly_what_it_added() {
        let nat = nat(Tool::Iptables);
        let removed: Vec<String> = nat.rules(Change::Remove).iter().map(|rule| rule.join(" ")).collect();
        let added: Vec<String> = nat
            .rules(Change::Add)
            .iter()
            .map(|rule| rule.join(" ").replace(" -A ", " -D ").replace(" -I ", " -D "))
            .collect();
        assert_eq!(added, removed);
    }

    #[test]
    fn nft_keeps_everything_in_one_table() {
        let rules = nat(Tool::Nft).rules(Change::Remove);
        assert_eq!(rules, [["nft", "delete table ip runsc-ve-1"]]);
    }
}
